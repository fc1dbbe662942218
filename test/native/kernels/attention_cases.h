// What the attention tests share: sequences, shapes, and the float64 reference.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "buffers.h"

namespace threefold::test::attention {

using namespace buffers;

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

// The emulated device is slow: of many cases, numbered, each runs in one of its three orders.
inline bool takes(size_t number) {
  return test_device()->on_cpu() || (number + size_t(test_device() - test_devices().data())) % 3 == 0;
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

// --- float64 reference -----------------------------------------------------------------------------------------------

struct Reference {
  Values out, lse, dqkv;         // [T, N D], [T, N], [T, (N + 2G) D]
  Values out_terms, dqkv_terms;  // the sums of the absolute values of what each element of out and dqkv is a sum of
};

// check_close() where the device multiplies 16-bit elements by tensor cores: these round one factor of each term of a sum
// (P in P V, P and dS in the gradients) to 16 bits, which may move the sum by that share of the terms.
inline void check_sums(const std::string& what, const Buffer& got, Values want, const Values& terms, double relative, double absolute) {
  double share = test_device()->on_cpu() || got.view.dtype == DType::f32 ? 0 : got.view.dtype == DType::bf16 ? 0x1p-8 : 0x1p-11;
  for (size_t i = 0; i < want.size(); ++i) want[i] += std::clamp(got.get(int64_t(i)) - want[i], -share * terms[i], share * terms[i]);
  check_close(what, got, want, relative, absolute);
}

// The slopes of ALiBi as its paper gives them for a power of two, and for 6 heads as its authors' code does.
inline double reference_slope(int64_t head, int64_t heads) {
  if (heads == 6) return std::vector<double>{1.0 / 4, 1.0 / 16, 1.0 / 64, 1.0 / 256, 1.0 / 2, 1.0 / 8}[head];
  if (heads == 3) return std::vector<double>{1.0 / 16, 1.0 / 256, 1.0 / 4}[head];
  return std::pow(2.0, -8.0 * double(head + 1) / double(heads));
}

// Plain softmax attention with its gradient for `dout` [T, N D] (empty: none). `given` is the output the backward is
// told, which storage may have rounded. keep(token, position, head, key): the factor of dropout.
inline Reference reference(const AttentionShape& s, const std::vector<int64_t>& lengths, const Values& qkv,
                           const Values& dout = {}, const Values& given = {},
                           const std::function<double(int64_t, int64_t, int64_t, int64_t)>& keep = {}) {
  int64_t d = s.head_dim, ld = s.row(), tokens = total(lengths), start = 0;
  size_t gradients = dout.empty() ? 0 : size_t(tokens * ld);
  Reference r{Values(tokens * s.heads * d), Values(tokens * s.heads), Values(gradients), Values(tokens * s.heads * d), Values(gradients)};
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
        Values factor(i + 1, 1);
        for (int64_t j = 0; keep && j <= i; ++j) factor[j] = keep(start + i, i, h, j);
        for (int64_t j = 0; j <= i; ++j) {
          const double* v = &qkv[(start + j) * ld + vc];
          p[j] /= sum;
          for (int64_t c = 0; c < d; ++c) {
            r.out[row * d + c] += p[j] * factor[j] * v[c];
            r.out_terms[row * d + c] += std::abs(p[j] * factor[j] * v[c]);
          }
        }
        if (dout.empty()) continue;
        const double *go = &dout[row * d], *o = given.empty() ? &r.out[row * d] : &given[row * d];
        double delta = 0;
        for (int64_t c = 0; c < d; ++c) delta += go[c] * o[c];
        for (int64_t j = 0; j <= i; ++j) {
          const double *k = &qkv[(start + j) * ld + kc], *v = &qkv[(start + j) * ld + vc];
          double *dq = &r.dqkv[(start + i) * ld + h * d], *dk = &r.dqkv[(start + j) * ld + kc], dp = 0;
          double* dv = &r.dqkv[(start + j) * ld + vc];
          for (int64_t c = 0; c < d; ++c) dp += factor[j] * go[c] * v[c];
          double ds = p[j] * (dp - delta) * slope[j] * s.scale;
          for (int64_t c = 0; c < d; ++c) {
            dq[c] += ds * k[c];
            dk[c] += ds * q[c];
            dv[c] += p[j] * factor[j] * go[c];
            r.dqkv_terms[(start + i) * ld + h * d + c] += std::abs(ds * k[c]);
            r.dqkv_terms[(start + j) * ld + kc + c] += std::abs(ds * q[c]);
            r.dqkv_terms[(start + j) * ld + vc + c] += std::abs(p[j] * factor[j] * go[c]);
          }
        }
      }
    }
    start += length;
  }
  return r;
}

}  // namespace threefold::test::attention
