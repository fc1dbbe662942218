// The attention ops by storage: fp32 by plain arithmetic, 16-bit elements by tensor cores.
#pragma once

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device/attention.h"
#include "kernels/cuda/device/element.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launch.h"

namespace threefold::cuda {

// Calls f with the smallest compiled head size that holds D, as a std::integral_constant.
template <typename F>
void with_head_size(int64_t d, F&& f) {
  if (d <= 64) return f(std::integral_constant<int, 64>{});
  if (d <= 96) return f(std::integral_constant<int, 96>{});
  if (d <= 128) return f(std::integral_constant<int, 128>{});
  f(std::integral_constant<int, 256>{});
}

void attention_forward_fp32(Exec&, const AttentionForward&);
template <typename T>
void attention_forward_mma(Exec&, const AttentionForward&);

// Query heads of one key/value head that one block of decode takes.
template <typename T>
constexpr int kDecodeRows = sizeof(T) == 4 ? 8 : 16;

// How decode is cut: `splits` blocks of the grid for each sequence and key/value head, each taking every splits-th span.
struct Cut {
  int spans, splits;
};
void attention_decode_fp32(Exec&, const AttentionDecode&, Cut, float* partials);
template <typename T>
void attention_decode_mma(Exec&, const AttentionDecode&, Cut, float* partials);

// stats [N, T, 2]: each row's lse in log 2 units and its sum of dout * out.
void attention_backward_fp32(Exec&, const AttentionBackward&, const float2* stats);

// What the two kernels of backward are given.
template <typename T>
struct BackwardInputs {
  const T *qkv, *dout;  // [T, row], [T, N D]
  const float2* stats;  // [N, T]
  const int32_t* starts;  // [B + 1]
  int sequences;
  int64_t tokens;
  bool packed;
};
template <typename T>
void attention_backward_queries(Exec&, const AttentionBackward&, const BackwardInputs<T>&);  // dQ
template <typename T>
void attention_backward_keys(Exec&, const AttentionBackward&, const BackwardInputs<T>&);     // dK and dV

}  // namespace threefold::cuda
