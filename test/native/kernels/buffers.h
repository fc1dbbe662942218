// What all kernel tests share: buffers of any dtype, a machine to run on, random values, a comparison with float64.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "core/rng.h"
#include "device.h"
#include "shared_memory.h"

namespace threefold::test::buffers {

using Values = std::vector<double>;

// Memory with a view. Starts as NaN (or -1 for int32), so that what a kernel fails to write shows.
struct Buffer {
  SharedVector<char> bytes;
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
  Values values() const {
    Values v(view.numel());
    for (size_t i = 0; i < v.size(); ++i) v[i] = get(int64_t(i));
    return v;
  }
  // The same bits in elements [begin, begin + n) and in other's [other_begin, ...).
  bool same(int64_t begin, const Buffer& other, int64_t other_begin, int64_t n) const {
    int64_t size = size_of(view.dtype);
    return !std::memcmp(bytes.data() + begin * size, other.bytes.data() + other_begin * size, n * size);
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

struct Machine {
  ThreadPool pool;
  Allocator allocator{shared_memory()};
  Exec ex{pool, allocator};
  explicit Machine(int threads) : pool(threads) {}
};

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
  std::snprintf(text, sizeof text, "%s %s: %lld off by up to %.3g bounds, got %.9g, want %.9g", test_device()->name.c_str(),
                name_of(got.view.dtype), (long long)count, worst, got.get(bad), want[bad]);
  record(what.c_str(), int(bad), text);
}

}  // namespace threefold::test::buffers
