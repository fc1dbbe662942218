// What the tests of row-wise ops share: machines of 1, 2 and 3 threads that must agree to the
// bit, and float64 finite differences as the reference for gradients.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "buffers.h"

namespace threefold::test::op_cases {

using namespace buffers;

inline Values random_ids(uint64_t seed, int64_t n, int64_t bound) {
  Values v(n);
  for (int64_t i = 0; i < n; ++i) v[i] = double(philox_at(seed, 8, uint64_t(i))[0] % uint64_t(bound));
  return v;
}
// The first r of a shuffled 0..n-1.
inline Values random_rows(uint64_t seed, int64_t n, int64_t r) {
  Values v(n);
  for (int64_t i = 0; i < n; ++i) v[i] = double(i);
  for (int64_t i = n - 1; i > 0; --i) std::swap(v[i], v[philox_at(seed, 9, uint64_t(i))[0] % uint64_t(i + 1)]);
  v.resize(r);
  return v;
}

inline Machine& machine(int threads) {
  static Machine one(1), two(2), three(3);
  return threads == 1 ? one : threads == 2 ? two : three;
}

// Runs f(ex), which returns the buffers it wrote, on 1, 2 and 3 threads: they must agree to the bit and give back all
// workspace.
template <typename F>
std::vector<Buffer> run(F f) {
  std::vector<Buffer> first = f(machine(1).ex);
  CHECK_EQ(machine(1).allocator.stats().total, 0);
  for (int threads : {2, 3}) {
    std::vector<Buffer> again = f(machine(threads).ex);
    for (size_t i = 0; i < first.size(); ++i) CHECK(same_bits(first[i], again[i]));
    CHECK_EQ(machine(threads).allocator.stats().total, 0);
  }
  return first;
}

// How many checks fail in `body`: for tests that a check can fail.
inline int failure_count(const std::function<void()>& body) { return failures_of(body).count; }


// Bounds for a value stored in `dtype`: half a unit in the last place of bf16 or fp16, and `absolute` for fp32 arithmetic.
inline double relative_of(DType dtype) { return dtype == DType::bf16 ? 1.01 / 256 : dtype == DType::f16 ? 1.01 / 2048 : 2e-6; }
// Half of the smallest step of fp16, of which subnormal numbers are multiples; the other types reach far lower.
inline double smallest_of(DType dtype) { return dtype == DType::f16 ? 0x1p-25 : 0; }

// d f / d x by central differences in float64.
inline Values gradient(Values x, const std::function<double(const Values&)>& f) {
  constexpr double kStep = 1e-4;
  Values g(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    double keep = x[i];
    x[i] = keep + kStep;
    double up = f(x);
    x[i] = keep - kStep;
    g[i] = (up - f(x)) / (2 * kStep);
    x[i] = keep;
  }
  return g;
}
inline double inner(const Values& a, const Values& b) {
  double s = 0;
  for (size_t i = 0; i < a.size(); ++i) s += a[i] * b[i];
  return s;
}
inline Values plus(Values a, const Values& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

// The message f fails with, or "".
template <typename F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}
inline bool has(const std::string& message, const char* part) { return message.find(part) != std::string::npos; }

}  // namespace threefold::test::op_cases
