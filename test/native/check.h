// A small test harness: TEST(name) { CHECK(...); } registers itself; main.cc runs all.
#pragma once

#include <cmath>
#include <exception>
#include <functional>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

namespace threefold::test {

struct Case {
  const char* name;
  void (*body)();
};
inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
// Failures of the running test; only the first few are kept in words.
struct Failures {
  int count = 0;
  std::string text;
};
inline Failures& failures() {
  static Failures f;
  return f;
}
inline void record(const char* file, int line, const std::string& what) {
  Failures& f = failures();
  if (++f.count <= 5) f.text += std::string("  ") + file + ":" + std::to_string(line) + ": " + what + "\n";
}
// What a body would have recorded, without recording it: for tests of the checks themselves.
inline Failures failures_of(const std::function<void()>& body) {
  Failures before = failures();
  failures() = {};
  body();
  Failures found = failures();
  failures() = before;
  return found;
}
template <typename A, typename B>
bool equal(const A& a, const B& b) {
  if constexpr (std::is_integral_v<A> && std::is_integral_v<B>)  // an int against a size_t is no warning here
    return static_cast<long long>(a) == static_cast<long long>(b);
  else
    return a == b;
}
template <typename A, typename B>
void check_eq(const char* file, int line, const char* text, const A& got, const B& want) {
  if (equal(got, want)) return;
  std::ostringstream s;
  s.precision(9);
  s << text << ": got " << got << ", want " << want;
  record(file, line, s.str());
}
// NaN is near nothing; an infinity is near itself.
inline void check_near(const char* file, int line, const char* text, double got, double want, double bound) {
  if (got == want || std::abs(got - want) <= bound) return;
  std::ostringstream s;
  s.precision(9);
  s << text << ": got " << got << ", want " << want << " within " << bound << " (off by " << std::abs(got - want) << ")";
  record(file, line, s.str());
}
template <typename Body>
void check_throws(const char* file, int line, const char* text, const std::string& part, Body body) {
  try {
    body();
  } catch (const std::exception& e) {
    if (std::string(e.what()).find(part) == std::string::npos)
      record(file, line, std::string(text) + ": threw \"" + e.what() + "\", want \"" + part + "\" in it");
    return;
  }
  record(file, line, std::string(text) + ": threw nothing, want \"" + part + "\"");
}

}  // namespace threefold::test

#define TEST(name)                                                                                        \
  static void test_##name();                                                                              \
  [[maybe_unused]] static const bool registered_##name =                                                  \
      (threefold::test::cases().push_back({#name, test_##name}), true);                                   \
  static void test_##name()
#define CHECK(condition)                                                       \
  do {                                                                         \
    if (!(condition)) threefold::test::record(__FILE__, __LINE__, #condition); \
  } while (0)
#define CHECK_EQ(got, want) threefold::test::check_eq(__FILE__, __LINE__, #got, got, want)
#define CHECK_NEAR(got, want, bound) threefold::test::check_near(__FILE__, __LINE__, #got, got, want, bound)
// The expression throws, and `part` stands in its message.
#define CHECK_THROWS(expression, part) \
  threefold::test::check_throws(__FILE__, __LINE__, #expression, part, [&] { (void)(expression); })
