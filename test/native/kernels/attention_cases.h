// What the attention tests share: buffers of any dtype, a machine to run on, and the float64 reference.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "core/rng.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/isa.h"

namespace threefold::test::attention {

using Values = std::vector<double>;

struct Machine {
  ThreadPool pool;
  Allocator allocator;
  Exec ex{pool, allocator};
  explicit Machine(int threads) : pool(threads) {}
};

// Memory with a view. Starts as NaN (or -1 for int32), so that what a kernel fails to write shows.
struct Buffer {
  std::vector<char> bytes;
  View view;
  Buffer(DType dtype, Shape shape) : bytes(shape.numel() * size_of(dtype), char(0xff)), view{bytes.data(), dtype, shape} {}
  Buffer(DType dtype, Shape shape, const Values& values) : Buffer(dtype, shape) {
    for (size_t i = 0; i < values.size(); ++i) set(i, values[i]);
  }
  Buffer(const Buffer& b) : bytes(b.bytes), view{bytes.data(), b.view.dtype, b.view.shape} {}
  Buffer(Buffer&&) = default;
  Buffer& operator=(Buffer&&) = default;
  void set(int64_t i, double x) {
    if (view.dtype == DType::f32) view.f32()[i] = float(x);
    if (view.dtype == DType::bf16) view.as<bf16>()[i] = to_bf16(float(x));
    if (view.dtype == DType::i32) view.i32()[i] = int32_t(x);
  }
  double get(int64_t i) const {
    if (view.dtype == DType::f32) return view.f32()[i];
    if (view.dtype == DType::bf16) return to_float(view.as<bf16>()[i]);
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

// Uniform in [-1, 1), exact in bf16.
inline Values random_values(uint64_t seed, int64_t n) {
  Values v(n);
  for (int64_t i = 0; i < n; ++i)
    v[i] = to_float(to_bf16(2 * uniform_from(philox_at(seed, 7, uint64_t(i) / 4)[i % 4]) - 1));
  return v;
}

inline Buffer starts_of(const std::vector<int64_t>& lengths) {
  Buffer b(DType::i32, {int64_t(lengths.size()) + 1});
  int64_t at = 0;
  b.set(0, 0);
  for (size_t i = 0; i < lengths.size(); ++i) b.set(int64_t(i) + 1, double(at += lengths[i]));
  return b;
}
inline int64_t total(const std::vector<int64_t>& lengths) {
  int64_t sum = 0;
  for (int64_t n : lengths) sum += n;
  return sum;
}

inline AttentionShape shape_of(int64_t heads, int64_t kv_heads, int64_t d) {
  return {heads, kv_heads, d, float(1 / std::sqrt(double(d)))};
}

// Every |got - want| is within relative * |want| + absolute; NaN is not.
inline void check_close(const char* what, const Buffer& got, const Values& want, double relative, double absolute) {
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
  record(what, int(bad), std::string(cpu::isa().name) + " " + name_of(got.view.dtype) + " " + got.view.shape.text() + ": " +
                             std::to_string(count) + " elements off, got " + std::to_string(got.get(bad)) + ", want " +
                             std::to_string(want[bad]));
}

// The message an op fails with, or "".
template <typename F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}
inline bool names(const std::string& message, const char* operand) { return message.find(operand) != std::string::npos; }

// Runs f on every instruction set this CPU has, and goes back to the one in use.
template <typename F>
void for_each_isa(F&& f) {
  const char* before = cpu::isa().name;
  for (const char* name : cpu::available_isas()) {
    cpu::select_isa(name);
    f();
  }
  cpu::select_isa(before);
}

// --- float64 reference -----------------------------------------------------------------------------------------------

struct Reference {
  Values out, lse, dqkv;  // [T, N D], [T, N], [T, (N + 2G) D]
};

// The slopes of ALiBi as its paper gives them for a power of two, and for 6 heads as its authors' code does.
inline double reference_slope(int64_t head, int64_t heads) {
  if (heads == 6) return std::vector<double>{1.0 / 4, 1.0 / 16, 1.0 / 64, 1.0 / 256, 1.0 / 2, 1.0 / 8}[head];
  if (heads == 3) return std::vector<double>{1.0 / 16, 1.0 / 256, 1.0 / 4}[head];
  return std::pow(2.0, -8.0 * double(head + 1) / double(heads));
}

// Plain softmax attention with its gradient for `dout` [T, N D] (empty: none). `given` is the output the backward is
// told, which storage may have rounded.
inline Reference reference(const AttentionShape& s, const std::vector<int64_t>& lengths, const Values& qkv,
                           const Values& dout = {}, const Values& given = {}) {
  int64_t d = s.head_dim, ld = s.row(), tokens = total(lengths), start = 0;
  Reference r{Values(tokens * s.heads * d), Values(tokens * s.heads), Values(dout.empty() ? 0 : tokens * ld)};
  Values p;
  for (int64_t length : lengths) {
    for (int64_t h = 0; h < s.heads; ++h) {
      int64_t g = h / (s.heads / s.kv_heads), kc = (s.heads + g) * d, vc = kc + s.kv_heads * d;
      for (int64_t i = 0; i < length; ++i) {
        int64_t row = (start + i) * s.heads + h;
        const double* q = &qkv[(start + i) * ld + h * d];
        double max = -INFINITY, sum = 0;
        p.assign(i + 1, 0);
        Values slope(i + 1, 1);  // of the softcap
        for (int64_t j = 0; j <= i; ++j) {
          const double* k = &qkv[(start + j) * ld + kc];
          for (int64_t c = 0; c < d; ++c) p[j] += q[c] * k[c];
          p[j] *= s.scale;
          if (s.softcap > 0) {
            double t = std::tanh(p[j] / s.softcap);
            p[j] = s.softcap * t;
            slope[j] = 1 - t * t;
          }
          if (s.alibi) p[j] += reference_slope(h, s.heads) * double(j - i);
          if (s.window > 0 && i - j >= s.window) p[j] = -INFINITY;
          max = std::max(max, p[j]);
        }
        for (double& x : p) sum += x = std::exp(x - max);
        r.lse[row] = max + std::log(sum);
        for (int64_t j = 0; j <= i; ++j) {
          const double* v = &qkv[(start + j) * ld + vc];
          p[j] /= sum;
          for (int64_t c = 0; c < d; ++c) r.out[row * d + c] += p[j] * v[c];
        }
        if (dout.empty()) continue;
        const double *go = &dout[row * d], *o = given.empty() ? &r.out[row * d] : &given[row * d];
        double delta = 0;
        for (int64_t c = 0; c < d; ++c) delta += go[c] * o[c];
        for (int64_t j = 0; j <= i; ++j) {
          const double *k = &qkv[(start + j) * ld + kc], *v = &qkv[(start + j) * ld + vc];
          double *dq = &r.dqkv[(start + i) * ld + h * d], *dk = &r.dqkv[(start + j) * ld + kc], dp = 0;
          double* dv = &r.dqkv[(start + j) * ld + vc];
          for (int64_t c = 0; c < d; ++c) dp += go[c] * v[c];
          double ds = p[j] * (dp - delta) * slope[j] * s.scale;
          for (int64_t c = 0; c < d; ++c) {
            dq[c] += ds * k[c];
            dk[c] += ds * q[c];
            dv[c] += p[j] * go[c];
          }
        }
      }
    }
    start += length;
  }
  return r;
}

}  // namespace threefold::test::attention
