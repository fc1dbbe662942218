// What the tests of row-wise ops share: buffers of any dtype, machines of 1, 2 and 3 threads that must agree to the
// bit, and float64 finite differences as the reference for gradients.
#pragma once

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "check.h"
#include "core/rng.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/isa.h"

namespace threefold::test::ops {

using Values = std::vector<double>;

// Memory with a view. Starts as NaN (or -1 for int32), so that what a kernel fails to write shows.
struct Buffer {
  std::vector<char> bytes;
  View view;
  Buffer(DType dtype, Shape shape)
      : bytes(shape.numel() * size_of(dtype) + 64, char(0xff)), view{bytes.data(), dtype, shape} {}
  Buffer(DType dtype, Shape shape, const Values& values) : Buffer(dtype, shape) {
    for (size_t i = 0; i < values.size(); ++i) set(int64_t(i), values[i]);
  }
  Buffer(const Buffer& b) : bytes(b.bytes), view{bytes.data(), b.view.dtype, b.view.shape} {}
  Buffer(Buffer&&) = default;
  Buffer& operator=(Buffer&&) = default;
  void set(int64_t i, double x) {
    if (view.dtype == DType::f32) view.f32()[i] = float(x);
    if (view.dtype == DType::bf16) view.as<bf16>()[i] = to_bf16(float(x));
    if (view.dtype == DType::f16) view.as<f16>()[i] = to_f16(float(x));
    if (view.dtype == DType::i32) view.i32()[i] = int32_t(x);
  }
  double get(int64_t i) const {
    if (view.dtype == DType::f32) return view.f32()[i];
    if (view.dtype == DType::bf16) return to_float(view.as<bf16>()[i]);
    if (view.dtype == DType::f16) return to_float(view.as<f16>()[i]);
    return view.i32()[i];
  }
};
inline bool same_bits(const Buffer& a, const Buffer& b) { return a.bytes == b.bytes; }

// Uniform in [-scale, scale), exact in bf16 when scale is a power of two.
inline Values random_values(uint64_t seed, int64_t n, double scale = 1) {
  Values v(n);
  for (int64_t i = 0; i < n; ++i)
    v[i] = scale * to_float(to_bf16(2 * uniform_from(philox_at(seed, 7, uint64_t(i) / 4)[i % 4]) - 1));
  return v;
}
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

struct Machine {
  ThreadPool pool;
  Allocator allocator;
  Exec ex{pool, allocator};
  explicit Machine(int threads) : pool(threads) {}
};
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

// Every |got - want| is within relative * |want| + absolute; NaN is not.
inline void check_close(const std::string& what, const Buffer& got, const Values& want, double relative, double absolute) {
  CHECK_EQ(got.view.numel(), int64_t(want.size()));
  int64_t bad = -1, count = 0;
  double worst = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    double over = std::abs(got.get(int64_t(i)) - want[i]) / (relative * std::abs(want[i]) + absolute);
    if (over <= 1) continue;
    ++count;
    if (bad < 0 || !(over <= worst)) bad = int64_t(i), worst = over;
  }
  if (bad < 0) return;
  char text[300];
  std::snprintf(text, sizeof text, "%s %s: %lld off by up to %.3g bounds, got %.9g, want %.9g", cpu::isa().name,
                name_of(got.view.dtype), (long long)count, worst, got.get(bad), want[bad]);
  record(what.c_str(), int(bad), text);
}

// Bounds for a value stored in `dtype`: half a unit in the last place of bf16, and `absolute` for fp32 arithmetic.
inline double relative_of(DType dtype) { return dtype == DType::bf16 ? 1.01 / 256 : 2e-6; }

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

// Runs f(dtype) on every instruction set this CPU has, in fp32 and bf16 storage.
template <typename F>
void for_each_isa(F&& f) {
  const char* before = cpu::isa().name;
  for (const char* name : cpu::available_isas()) {
    cpu::select_isa(name);
    f(DType::f32);
    f(DType::bf16);
  }
  cpu::select_isa(before);
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

}  // namespace threefold::test::ops
