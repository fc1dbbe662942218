// A small test harness: TEST(name) { CHECK(...); } registers itself; main.cc runs all.
#pragma once

#include <cmath>
#include <functional>
#include <sstream>
#include <string>
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
inline int failures_of(const std::function<void()>& body) {
  Failures before = failures();
  failures() = {};
  body();
  int n = failures().count;
  failures() = before;
  return n;
}
template <typename A, typename B>
void check_eq(const char* file, int line, const char* text, const A& got, const B& want) {
  if (got == want) return;
  std::ostringstream s;
  s.precision(9);
  s << text << ": got " << got << ", want " << want;
  record(file, line, s.str());
}
inline void check_near(const char* file, int line, const char* text, double got, double want, double bound) {
  if (std::abs(got - want) <= bound) return;
  std::ostringstream s;
  s.precision(9);
  s << text << ": got " << got << ", want " << want << " within " << bound;
  record(file, line, s.str());
}

}  // namespace threefold::test

#define TEST(name)                                                                              \
  static void test_##name();                                                                    \
  static const bool registered_##name = (threefold::test::cases().push_back({#name, test_##name}), true); \
  static void test_##name()
#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) threefold::test::record(__FILE__, __LINE__, #condition); \
  } while (0)
#define CHECK_EQ(got, want) threefold::test::check_eq(__FILE__, __LINE__, #got, got, want)
#define CHECK_NEAR(got, want, bound) threefold::test::check_near(__FILE__, __LINE__, #got, got, want, bound)
