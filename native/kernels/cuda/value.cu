// The scalar head of reward models and critics.
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device/fault.h"
#include "kernels/cuda/device/row.h"
#include "kernels/cuda/device/shared.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/pieces.h"

namespace threefold::cuda {
namespace {

// Rows chosen from a [T, H] tensor, each at most once: noted in `chosen` [T], 0 at first, as 1 + their place in `rows`.
struct Chosen {
  const int32_t* rows;  // [R]
  int64_t r, tokens;
  int32_t* chosen;
  Check outside, twice;

  Chosen(Exec& ex, const char* where, const View& rows, int64_t tokens, int32_t* chosen)
      : rows(rows.i32()), r(rows.dim(0)), tokens(tokens), chosen(chosen),
        outside{ex.gpu->fault, where, "rows from 0 and below %lld", "%lld at position %lld", "row numbers of this batch"},
        twice{ex.gpu->fault, where, "each row at most once", "row %lld twice", "naming each row once"} {
    clear(ex, chosen, tokens * int64_t(sizeof(int32_t)));
  }
  __device__ bool inside(int64_t i) const { return uint32_t(rows[i]) < tokens; }
  __device__ void note(int64_t i) const {
    if (outside.inside(rows[i], tokens, i) && atomicExch(chosen + rows[i], int32_t(i + 1)) != 0) twice.raise(0, rows[i], i);
  }
};

constexpr int kKept = 2;  // words of a row on their way at a time

// A team for each chosen row.
template <typename T, bool block, bool wide>
__global__ void __launch_bounds__(RowPlace<block>::most)
value_kernel(Chosen c, const T* hidden /* [T, H] */, const T* weight /* [H] */, int h, float* values /* [R] */) {
  constexpr int kSize = Words<T>::size;
  const RowPlace<block> p;
  if (p.row >= c.r) return;
  if (p.lane == 0) c.note(p.row);
  if (!c.inside(p.row)) return;
  const T* x = hidden + int64_t(c.rows[p.row]) * h;
  float sum[1] = {0};
  for (int at = p.lane * kSize; at < h; at += kKept * p.team * kSize) {
    Words<T> xs[kKept], ws[kKept];
#pragma unroll
    for (int k = 0; k < kKept; ++k) {
      int here = at + k * p.team * kSize;
      xs[k] = load_words(x + here, h - here, wide), ws[k] = load_words(weight + here, h - here, wide);
    }
#pragma unroll
    for (int k = 0; k < kKept; ++k)
#pragma unroll
      for (int i = 0; i < kSize; ++i) sum[0] = fmaf(xs[k].get(i), ws[k].get(i), sum[0]);
  }
  team_sums<block>(sum, block ? shared_array<float>() : nullptr);
  if (p.lane == 0) values[p.row] = sum[0];
}

constexpr int kNoteThreads = 128;

__global__ void note_kernel(Chosen c) {
  int64_t i = int64_t(blockIdx.x) * kNoteThreads + threadIdx.x;
  if (i < c.r) c.note(i);
}

// A team for each row of dhidden: dvalue * weight where the row was chosen, else 0.
template <typename T, bool block, bool wide>
__global__ void __launch_bounds__(RowPlace<block>::most)
dhidden_kernel(Chosen c, const float* dvalues /* [R] */, const T* weight /* [H] */, int h, T* dhidden /* [T, H] */) {
  constexpr int kSize = Words<T>::size;
  const RowPlace<block> p;
  if (p.row >= c.tokens) return;
  int place = c.chosen[p.row];
  float factor = place > 0 ? dvalues[place - 1] : 0.0f;
  T* out = dhidden + p.row * h;
#pragma unroll 4
  for (int at = p.lane * kSize; at < h; at += p.team * kSize) {
    Words<T> w{};
    if (factor != 0) {
      w = load_words(weight + at, h - at, wide);
      float y[kSize];
#pragma unroll
      for (int i = 0; i < kSize; ++i) y[i] = fmaf(factor, w.get(i), 0.0f);
      w.set(y);
    }
    store_words(out + at, h - at, wide, w);
  }
}

constexpr int kColumnThreads = 128, kPiece = 64, kBatch = 8;  // rows of a piece; rows on their way

// sums[piece, columns] of dvalue * hidden over the rows of a piece, in order: a thread takes some columns.
template <typename T, bool wide>
__global__ void __launch_bounds__(kColumnThreads)
dweight_kernel(Chosen c, const T* hidden /* [T, H] */, const float* dvalues /* [R] */, int h, float* sums /* [pieces, H] */) {
  constexpr int kSize = Words<T>::size;
  int at = (blockIdx.y * kColumnThreads + threadIdx.x) * kSize;
  if (at >= h) return;
  int64_t begin = int64_t(blockIdx.x) * kPiece, end = min(c.r, begin + kPiece);
  float sum[kSize] = {};
  for (int64_t i = begin; i < end; i += kBatch) {
    Words<T> x[kBatch];
    float d[kBatch];
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      bool some = i + j < end && c.inside(i + j);
      d[j] = some ? dvalues[i + j] : 0.0f;
      x[j] = some ? load_words(hidden + int64_t(c.rows[i + j]) * h + at, h - at, wide) : Words<T>{};
    }
#pragma unroll
    for (int j = 0; j < kBatch; ++j)
#pragma unroll
      for (int k = 0; k < kSize; ++k) sum[k] = fmaf(d[j], x[j].get(k), sum[k]);
  }
#pragma unroll
  for (int k = 0; k < kSize; ++k)
    if (at + k < h) sums[int64_t(blockIdx.x) * h + at + k] = sum[k];
}

}  // namespace

void value_forward(Exec& ex, const ValueForward& o) {
  int64_t tokens = o.hidden.dim(0), h = o.hidden.dim(1), r = o.rows.dim(0);
  if (r == 0) return;
  Scratch<int32_t> chosen(ex, tokens);
  Chosen c(ex, "value_forward", o.rows, tokens, chosen.data());
  with_type(o.hidden.dtype, [&]<typename T>(T) {
    const T *hidden = o.hidden.as<T>(), *weight = o.weight.as<T>();
    RowTeam team = RowTeam::of<T>(h, kKept);
    with_bool(whole_words<T>(h, hidden, weight), [&](auto wide) {
      auto kernel = team.block ? value_kernel<T, true, wide> : value_kernel<T, false, wide>;
      launch(ex, team.over("value_forward", r, 32 * sizeof(float)), kernel, c, hidden, weight, h, o.values.f32());
    });
  });
}

void value_backward(Exec& ex, const ValueBackward& o) {
  int64_t tokens = o.hidden.dim(0), h = o.hidden.dim(1), r = o.rows.dim(0);
  if (tokens == 0 || h == 0) return;
  Scratch<int32_t> chosen(ex, tokens);
  Chosen c(ex, "value_backward", o.rows, tokens, chosen.data());
  launch(ex, {"value_backward", {blocks_for(r, kNoteThreads)}, {kNoteThreads}}, note_kernel, c);
  with_type(o.hidden.dtype, [&]<typename T>(T) {
    const T *hidden = o.hidden.as<T>(), *weight = o.weight.as<T>();
    const float* dvalues = o.dvalues.f32();
    if (T* dhidden = o.dhidden.as<T>()) {
      RowTeam team = RowTeam::of<T>(h, 4);
      with_bool(whole_words<T>(h, dhidden, weight), [&](auto wide) {
        auto kernel = team.block ? dhidden_kernel<T, true, wide> : dhidden_kernel<T, false, wide>;
        launch(ex, team.over("value_backward", tokens), kernel, c, dvalues, weight, h, dhidden);
      });
    }
    if (!o.dweight || r == 0) return;
    int64_t pieces = (r + kPiece - 1) / kPiece;
    PieceSums sums(ex, pieces, h, o.dweight.f32());
    with_bool(whole_words<T>(h, hidden), [&](auto wide) {
      Launch l{"value_backward", {unsigned(pieces), blocks_for(h, kColumnThreads * Words<T>::size)}, {kColumnThreads}};
      launch(ex, l, dweight_kernel<T, wide>, c, hidden, dvalues, h, sums.first());
    });
    sums.join("value_backward");
  });
}

}  // namespace threefold::cuda
