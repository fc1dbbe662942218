// Tiles in shared memory as the operands of the tensor cores, and what attention does with a tile of scores in registers.
// In a 16 x 8 tile of sums lane l holds, with g = l / 4 and q = l % 4: (g, 2q), (g, 2q + 1), (g + 8, 2q), (g + 8, 2q + 1).
#pragma once

#include "kernels/cuda/device/attention.h"
#include "kernels/cuda/device/tile.h"

namespace threefold::cuda {

// --- operands: pointers to the first element of a block of rows, `stride` elements apart -----------------------------------

// a [16, 16] of rows.
template <typename T, int stride>
__device__ __forceinline__ void load_a(uint32_t (&a)[4], const T* rows) {
  int lane = threadIdx.x % 32;
  ptx::load_matrix_x4(a, rows + lane % 16 * stride + lane / 16 * 8);
}
// Two b [16, 8], side by side: b[k, n] = rows[n, k], of 16 rows (n) and 16 columns (k).
template <typename T, int stride>
__device__ __forceinline__ void load_b_rows(uint32_t (&b)[2][2], const T* rows) {
  int lane = threadIdx.x % 32;
  uint32_t r[4];
  ptx::load_matrix_x4(r, rows + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8);
  b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}
// The same of b[k, n] = rows[k, n].
template <typename T, int stride>
__device__ __forceinline__ void load_b_columns(uint32_t (&b)[2][2], const T* rows) {
  int lane = threadIdx.x % 32;
  uint32_t r[4];
  ptx::load_matrix_x4_transposed(r, rows + lane % 16 * stride + lane / 16 * 8);
  b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}
// a [16, 16] from two tiles of sums side by side, rounded to T.
template <typename T>
__device__ __forceinline__ void round_a(uint32_t (&a)[4], const float (&left)[4], const float (&right)[4]) {
  a[0] = ptx::pack_bits<T>(left[0], left[1]), a[1] = ptx::pack_bits<T>(left[2], left[3]);
  a[2] = ptx::pack_bits<T>(right[0], right[1]), a[3] = ptx::pack_bits<T>(right[2], right[3]);
}

// --- the online softmax of 16 rows, on 64 keys --------------------------------------------------------------------------------

// Of the four lanes that hold a row; each gets it.
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(kFull, x, 1);
  return x + __shfl_xor_sync(kFull, x, 2);
}
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kFull, x, 1));
  return fmaxf(x, __shfl_xor_sync(kFull, x, 2));
}

constexpr int kKeyTiles = kKeys / 8;

// Rows g and g + 8 of a tile of 16. Until the end of a span a lane's sum is of its own keys.
struct RowPair {
  Folded row[2];
};

// What makes scores of q.k beyond the plain product, and the mask. position: of rows g and g + 8; key: of the tile's first.
// `edge` says that some key may be out of sight of some row.
__device__ __forceinline__ void score_rows(float (&s)[kKeyTiles][4], const Attention& attention, const float (&slope)[2],
                                           const int (&position)[2], int key, bool edge) {
  int first = key + threadIdx.x % 4 * 2;
  with_kind(attention, [&]<Attention::Kind kind>(KindIs<kind>) {
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) s[n][i] = attention.score<kind>(s[n][i], slope[i / 2], first + n * 8 + i % 2 - position[i / 2]);
  });
  if (!edge) return;
#pragma unroll
  for (int n = 0; n < kKeyTiles; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (!attention.visible(first + n * 8 + i % 2, position[i / 2])) s[n][i] = kNothing;
}

// Folds one block in: scores become probabilities, `shrink` says how to scale what the rows have summed before.
__device__ __forceinline__ void fold_rows(float (&s)[kKeyTiles][4], float factor, RowPair& rows, float (&shrink)[2]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float largest = kNothing, sum = 0;
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n) largest = fmaxf(largest, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
    Folded& row = rows.row[r];
    shrink[r] = rise(row, quad_max(largest) * factor);
    float shift = shift_of(row.top);
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n)
#pragma unroll
      for (int i = 2 * r; i < 2 * r + 2; ++i) {
        s[n][i] = ptx::exp2(fmaf(s[n][i], factor, -shift));
        sum += s[n][i];
      }
    row.sum = fmaf(row.sum, shrink[r], sum);
  }
}

__device__ __forceinline__ void shrink_rows(float (&o)[4], const float (&shrink)[2]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) o[i] *= shrink[i / 2];
}

// The end of a span: the whole rows' sums, and how to join them to the spans before.
__device__ __forceinline__ void end_span(RowPair& rows) {
#pragma unroll
  for (int r = 0; r < 2; ++r) rows.row[r].sum = quad_sum(rows.row[r].sum);
}
__device__ __forceinline__ void join_rows(RowPair& all, const RowPair& rows, Joint (&by)[2]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) by[r] = join(all.row[r], rows.row[r]);
}

// --- P V where a row's own key is among the 16 ---------------------------------------------------------------------------------

template <typename T>
constexpr uint32_t kOne = 0;
template <>
constexpr uint32_t kOne<bf16> = 0x3f80;
template <>
constexpr uint32_t kOne<f16> = 0x3c00;

// a [16, 16] of 1 where row g (g + 8) sees the key, which it does up to `own` keys on, else 0.
template <typename T>
__device__ __forceinline__ void mark_visible(uint32_t (&a)[4], const int (&own)[2]) {
  int first = threadIdx.x % 4 * 2;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    int key = first + i / 2 * 8;
    a[i] = (key <= own[i % 2] ? kOne<T> : 0) | (key + 1 <= own[i % 2] ? kOne<T> << 16 : 0);
  }
}

// o += p v, but a value that is not finite makes NaN of the rows that see its key and leaves the earlier ones alone, which
// 0 times it would not.
template <typename T>
__device__ __forceinline__ void add_guarded(float (&o)[4], const uint32_t (&p)[4], const uint32_t (&v)[2], const int (&own)[2]) {
  constexpr uint32_t exponent = sizeof(T) == 2 && kOne<T> == 0x3f80 ? 0x7f80 : 0x7c00;
  uint32_t clean[2], bad[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    bool low = (v[i] & exponent) == exponent, high = (v[i] >> 16 & exponent) == exponent;
    clean[i] = v[i] & ((low ? 0 : 0xffffu) | (high ? 0 : 0xffff0000u));
    bad[i] = (low ? kOne<T> : 0) | (high ? kOne<T> << 16 : 0);
  }
  ptx::mma_16x8x16<T>(o, p, clean);
  if (!__any_sync(kFull, (bad[0] | bad[1]) != 0)) return;
  uint32_t visible[4];
  mark_visible<T>(visible, own);
  float count[4] = {};
  ptx::mma_16x8x16<T>(count, visible, bad);
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (count[i] > 0) o[i] = NAN;
}

}  // namespace threefold::cuda
