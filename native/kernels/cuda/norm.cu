// LayerNorm (Ba et al. 2016) and RMSNorm (Zhang and Sennrich 2019). A row is read once and stays in its team's registers;
// rows that do not fit (kKept 0) are read again for each pass.
#include <algorithm>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device/row.h"
#include "kernels/cuda/device/shared.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/pieces.h"

namespace threefold::cuda {
namespace {

// --- forward ---------------------------------------------------------------------------------------------------------

template <typename T>
struct Forward {
  const T *x, *weight, *bias, *residual;  // [T, H], [H], [H] or nullptr, [T, H] or nullptr
  T* out;                                 // [T, H], may be residual
  float *mean, *rstd;                     // [T] each, or nullptr
  int64_t rows;
  int h;
  float eps, offset;
  bool rms;
};

constexpr int kForwardKept = 2;

template <typename T, int kKept, bool block, bool wide>
__global__ void __launch_bounds__(RowPlace<block>::most) norm_forward_kernel(Forward<T> a) {
  constexpr int kSize = Words<T>::size, kWords = kKept ? kKept : 1;
  const RowPlace<block> p;
  if (p.row >= a.rows) return;
  auto load = [&](const T* row, int at) { return row ? load_words(row + at, a.h - at, wide) : Words<T>{}; };
  const T* x = a.x + p.row * a.h;
  const T* residual = a.residual ? a.residual + p.row * a.h : nullptr;
  Words<T> xs[kWords], weights[kWords], biases[kWords], residuals[kWords];
  if constexpr (kKept > 0) {
#pragma unroll
    for (int k = 0; k < kKept; ++k) {
      int at = (k * p.team + p.lane) * kSize;
      xs[k] = load(x, at), residuals[k] = load(residual, at), weights[k] = load(a.weight, at), biases[k] = load(a.bias, at);
    }
  }
  // f(where in the row, its words of x, k)
  auto each = [&](auto f) {
    if constexpr (kKept > 0) {
#pragma unroll
      for (int k = 0; k < kKept; ++k) f((k * p.team + p.lane) * kSize, xs[k], k);
    } else {
      for (int at = p.lane * kSize; at < a.h; at += p.team * kSize) f(at, load(x, at), 0);
    }
  };
  float* scratch = block ? shared_array<float>() : nullptr;

  float mean = 0, sum[1] = {0};
  if (!a.rms) {
    each([&](int, const Words<T>& v, int) {
#pragma unroll
      for (int i = 0; i < kSize; ++i) sum[0] += v.get(i);
    });
    team_sums<block>(sum, scratch);
    mean = sum[0] / float(a.h);
  }
  sum[0] = 0;
  each([&](int at, const Words<T>& v, int) {
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      float d = at + i < a.h ? v.get(i) - mean : 0.0f;
      sum[0] = fmaf(d, d, sum[0]);
    }
  });
  team_sums<block>(sum, scratch + 32);
  float rstd = 1 / sqrtf(sum[0] / float(a.h) + a.eps);
  if (p.lane == 0) {
    if (a.mean && !a.rms) a.mean[p.row] = mean;
    if (a.rstd) a.rstd[p.row] = rstd;
  }

  T* out = a.out + p.row * a.h;
  each([&](int at, const Words<T>& v, int k) {
    if constexpr (kKept == 0)
      residuals[0] = load(residual, at), weights[0] = load(a.weight, at), biases[0] = load(a.bias, at);
    float y[kSize];
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      y[i] = (v.get(i) - mean) * rstd * (weights[k].get(i) + a.offset);
      if (a.bias) y[i] += biases[k].get(i);
      if (a.residual) y[i] += residuals[k].get(i);
    }
    Words<T> words;
    words.set(y);
    store_words(out + at, a.h - at, wide, words);
  });
}

// --- backward --------------------------------------------------------------------------------------------------------

template <typename T>
struct Backward {
  const T *x, *weight, *dout, *residual_grad;  // [T, H], [H], [T, H], [T, H] or nullptr
  const float *mean, *rstd;                    // [T] each; mean nullptr when rms
  T* dx;                                       // [T, H], may be dout or residual_grad
  float *dweights, *dbiases;                   // [pieces, H] each, or nullptr
  int64_t rows, pieces, per_piece;
  int h;
  float offset;
};

// Elements whose weight gradients a thread sums in registers, and the threads of a block that leave room for them.
constexpr int kSums = 16, kThreadsOfSums = 512;
template <typename T>
constexpr int kBackwardKept = kSums / Words<T>::size;

// A team takes a piece of the rows, one after the other. With g = dy * weight and xhat = (x - mean) * rstd:
// dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), without mean(g) for RMSNorm.
template <typename T, int kKept, bool block, bool wide>
__global__ void __launch_bounds__(block && kKept ? kThreadsOfSums : RowPlace<block>::most)
norm_backward_kernel(Backward<T> a) {
  constexpr int kSize = Words<T>::size, kWords = kKept ? kKept : 1;
  constexpr bool kAhead = kKept > 0 && sizeof(T) == 2;  // whether the next row fits in registers as well
  const RowPlace<block> p;
  const int64_t piece = p.row;
  if (piece >= a.pieces) return;
  auto load = [&](const T* row, int at) { return load_words(row + at, a.h - at, wide); };
  auto place = [&](int k) { return (k * p.team + p.lane) * kSize; };
  const int64_t begin = piece * a.per_piece, end = min(a.rows, begin + a.per_piece);
  float* scratch = block ? shared_array<float>() : nullptr;
  float* dweight = a.dweights ? a.dweights + piece * a.h : nullptr;
  float* dbias = a.dbiases ? a.dbiases + piece * a.h : nullptr;

  Words<T> weights[kWords], xs[kWords], dys[kWords], next_xs[kWords], next_dys[kWords], residuals[kWords];
  float dw[kWords][kSize] = {}, db[kWords][kSize] = {};
  if constexpr (kKept > 0) {
#pragma unroll
    for (int k = 0; k < kKept; ++k) {
      weights[k] = load(a.weight, place(k));
      if constexpr (kAhead) xs[k] = load(a.x + begin * a.h, place(k)), dys[k] = load(a.dout + begin * a.h, place(k));
    }
  }
  for (int64_t t = begin; t < end; ++t) {
    const T *x = a.x + t * a.h, *dout = a.dout + t * a.h, *residual = a.residual_grad ? a.residual_grad + t * a.h : nullptr;
    if constexpr (kKept > 0) {
#pragma unroll
      for (int k = 0; k < kKept; ++k) {
        if (residual) residuals[k] = load(residual, place(k));
        if constexpr (!kAhead)
          xs[k] = load(x, place(k)), dys[k] = load(dout, place(k));
        else if (t + 1 < end)
          next_xs[k] = load(x + a.h, place(k)), next_dys[k] = load(dout + a.h, place(k));
      }
    }
    // f(where in the row, k), with words k of x, dy and the weight at hand
    auto each = [&](auto f) {
      if constexpr (kKept > 0) {
#pragma unroll
        for (int k = 0; k < kKept; ++k) f(place(k), k);
      } else {
        for (int at = p.lane * kSize; at < a.h; at += p.team * kSize) {
          weights[0] = load(a.weight, at), xs[0] = load(x, at), dys[0] = load(dout, at);
          f(at, 0);
        }
      }
    };
    const float mean = a.mean ? a.mean[t] : 0.0f, rstd = a.rstd[t];
    float sums[2] = {0, 0};  // of g, of g * xhat; past the row's end dy is 0
    each([&](int, int k) {
#pragma unroll
      for (int i = 0; i < kSize; ++i) {
        float dy = dys[k].get(i), xhat = (xs[k].get(i) - mean) * rstd, g = dy * (weights[k].get(i) + a.offset);
        sums[0] += g;
        sums[1] = fmaf(g, xhat, sums[1]);
        if constexpr (kKept > 0) dw[k][i] = fmaf(dy, xhat, dw[k][i]), db[k][i] += dy;
      }
    });
    team_sums<block>(sums, scratch + (t - begin) % 2 * 64);
    if constexpr (kKept > 0) {
#pragma unroll
      for (int k = 0; k < kKept; ++k) xs[k].renew(), dys[k].renew();
    }
    const float shift = a.mean ? sums[0] / float(a.h) : 0.0f, slope = -sums[1] / float(a.h);
    each([&](int at, int k) {
      if constexpr (kKept == 0)
        if (residual) residuals[0] = load(residual, at);
      float y[kSize];
#pragma unroll
      for (int i = 0; i < kSize; ++i) {
        float dy = dys[k].get(i), xhat = (xs[k].get(i) - mean) * rstd;
        y[i] = (fmaf(slope, xhat, dy * (weights[k].get(i) + a.offset)) - shift) * rstd;
        if (residual) y[i] += residuals[k].get(i);
        if constexpr (kKept == 0) {
          if (at + i >= a.h) continue;
          if (dweight) dweight[at + i] = fmaf(dy, xhat, t == begin ? 0.0f : dweight[at + i]);
          if (dbias) dbias[at + i] = t == begin ? dy : dbias[at + i] + dy;
        }
      }
      Words<T> words;
      words.set(y);
      store_words(a.dx + t * a.h + at, a.h - at, wide, words);
    });
    if constexpr (kAhead) {
#pragma unroll
      for (int k = 0; k < kKept; ++k) xs[k] = next_xs[k], dys[k] = next_dys[k];
    }
  }
  if constexpr (kKept > 0) {
#pragma unroll
    for (int k = 0; k < kKept; ++k)
#pragma unroll
      for (int i = 0; i < kSize; ++i)
        if (place(k) + i < a.h) {
          if (dweight) dweight[place(k) + i] = dw[k][i];
          if (dbias) dbias[place(k) + i] = db[k][i];
        }
  }
}

// Rows of a piece: a number that only the shape decides. About one piece for each team a large GPU runs at a time, where
// that makes pieces long enough to be worth their sums.
int64_t rows_of_piece(int64_t rows, bool block) {
  int64_t teams = block ? 256 : 2048;
  return std::clamp<int64_t>((rows + teams - 1) / teams, 8, 64);
}

}  // namespace

void norm_forward(Exec& ex, const NormForward& o) {
  int64_t rows = o.x.dim(0), h = o.x.dim(1);
  if (rows == 0 || h == 0) return;
  with_type(o.x.dtype, [&]<typename T>(T) {
    Forward<T> a{o.x.as<T>(), o.weight.as<T>(), o.bias.as<T>(), o.residual.as<T>(), o.out.as<T>(), o.mean.f32(), o.rstd.f32(),
                 rows, int(h), o.eps, o.weight_offset, o.rms};
    RowTeam team = RowTeam::of<T>(h, kForwardKept);
    with_bool(whole_words<T>(h, a.x, a.weight, a.bias, a.residual, a.out), [&](auto wide) {
      auto kernel = !team.block                ? norm_forward_kernel<T, kForwardKept, false, wide>
                    : team.keeps(kForwardKept) ? norm_forward_kernel<T, kForwardKept, true, wide>
                                               : norm_forward_kernel<T, 0, true, wide>;
      launch(ex, team.over("norm_forward", rows, 64 * sizeof(float)), kernel, a);
    });
  });
}

void norm_backward(Exec& ex, const NormBackward& o) {
  int64_t rows = o.x.dim(0), h = o.x.dim(1);
  if (rows == 0 || h == 0) return;
  with_type(o.x.dtype, [&]<typename T>(T) {
    constexpr int kKept = kBackwardKept<T>;
    RowTeam team = RowTeam::of<T>(h, kKept, kThreadsOfSums);
    bool keeps = team.keeps(kKept);
    if (!keeps) team.threads = 1024;
    int64_t per_piece = rows_of_piece(rows, team.block), pieces = (rows + per_piece - 1) / per_piece;
    PieceSums sums(ex, pieces, h, o.dweight.f32(), o.dbias.f32());
    Backward<T> a{o.x.as<T>(), o.weight.as<T>(), o.dout.as<T>(), o.residual_grad.as<T>(), o.rms ? nullptr : o.mean.f32(),
                  o.rstd.f32(), o.dx.as<T>(), sums.first(), sums.second(), rows, pieces, per_piece, int(h), o.weight_offset};
    with_bool(whole_words<T>(h, a.x, a.weight, a.dout, a.residual_grad, a.dx), [&](auto wide) {
      auto kernel = !team.block ? norm_backward_kernel<T, kKept, false, wide>
                    : keeps     ? norm_backward_kernel<T, kKept, true, wide>
                                : norm_backward_kernel<T, 0, true, wide>;
      launch(ex, team.over("norm_backward", pieces, 128 * sizeof(float)), kernel, a);
    });
    sums.join("norm_backward");
  });
}

}  // namespace threefold::cuda
