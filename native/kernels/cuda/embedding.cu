// Table look-ups and their deterministic backward.
#include <algorithm>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device/fault.h"
#include "kernels/cuda/device/row.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/group.h"

namespace threefold::cuda {
namespace {

// --- forward ---------------------------------------------------------------------------------------------------------

template <typename T>
struct LookUp {
  const int32_t* ids;        // [T]
  const T* table;            // [V, H]
  int64_t table_rows;        // V
  const int32_t* positions;  // [T]; with position_table
  const T* position_table;   // [P, H], or nullptr
  int64_t position_rows, position_offset;
  float scale;
  T* out;                    // [T, H]
  int64_t rows;
  int h;
  Check id_inside, position_inside;
};

constexpr int kKept = 4;  // words of a row on their way at a time

// A team for each token.
template <typename T, bool block, bool wide>
__global__ void __launch_bounds__(RowPlace<block>::most) look_up_kernel(LookUp<T> a) {
  constexpr int kSize = Words<T>::size;
  const RowPlace<block> p;
  if (p.row >= a.rows) return;
  int64_t id = a.ids[p.row], position = 0;
  if (!a.id_inside.inside(id, a.table_rows, p.row)) return;
  if (a.position_table) {
    position = a.positions[p.row] + a.position_offset;
    if (!a.position_inside.inside(position, a.position_rows, p.row)) return;
  }
  const T *row = a.table + id * a.h, *position_row = a.position_table ? a.position_table + position * a.h : nullptr;
  T* out = a.out + p.row * a.h;
  for (int at = p.lane * kSize; at < a.h; at += kKept * p.team * kSize) {
    Words<T> x[kKept], y[kKept];
#pragma unroll
    for (int k = 0; k < kKept; ++k) {
      int here = at + k * p.team * kSize;
      x[k] = load_words(row + here, a.h - here, wide);
      if (position_row) y[k] = load_words(position_row + here, a.h - here, wide);
    }
#pragma unroll
    for (int k = 0; k < kKept; ++k) {
      if (position_row || a.scale != 1) {
        float sum[kSize];
#pragma unroll
        for (int i = 0; i < kSize; ++i) {
          sum[i] = x[k].get(i) * a.scale;
          if (position_row) sum[i] += y[k].get(i);
        }
        x[k].set(sum);
      }
      int here = at + k * p.team * kSize;
      store_words(out + here, a.h - here, wide, x[k]);
    }
  }
}

template <typename T>
void look_up(Exec& ex, const char* name, const LookUp<T>& a) {
  if (a.rows == 0) return;
  RowTeam team = RowTeam::of<T>(a.h, kKept);
  with_bool(whole_words<T>(a.h, a.table, a.position_table, a.out), [&](auto wide) {
    launch(ex, team.over(name, a.rows), team.block ? look_up_kernel<T, true, wide> : look_up_kernel<T, false, wide>, a);
  });
}

// --- backward --------------------------------------------------------------------------------------------------------

constexpr int kStartThreads = 256;

// Where in `sorted` the tokens of each id begin, in any order, but those of `frozen`. `count` is 0 at first.
__global__ void __launch_bounds__(kStartThreads)
starts_kernel(const int2* sorted /* [T] */, int64_t tokens, int64_t frozen, int* starts /* [T] */, int* count /* [1] */) {
  int64_t i = int64_t(blockIdx.x) * kStartThreads + threadIdx.x;
  int lane = threadIdx.x % 32, id = i < tokens ? sorted[i].x : -1;
  bool start = id >= 0 && id != frozen && (i == 0 || sorted[i - 1].x != id);
  unsigned votes = __ballot_sync(kFull, start);
  int place = 0;
  if (lane == 0 && votes) place = atomicAdd(count, __popc(votes));
  place = __shfl_sync(kFull, place, 0) + __popc(votes & ((1u << lane) - 1));
  if (start) starts[place] = int(i);
}

constexpr int kColumnThreads = 64, kBatch = 8;  // rows on their way

template <typename T>
struct Rows {
  const int2* sorted;            // [T]: id and token, the tokens of an id side by side and in order
  const int *starts, *count;     // [*count]
  const T* dout;                 // [T, H]
  float* dtable;                 // [V, H]
  int64_t tokens;
  int h;
  float scale;
};

// dtable[id] += scale dout[token], token after token: a block takes some columns of one id after the other.
template <typename T, bool wide>
__global__ void __launch_bounds__(kColumnThreads) add_rows_kernel(Rows<T> a) {
  constexpr int kSize = Words<T>::size;
  const int lane = threadIdx.x % 32, at = (blockIdx.y * kColumnThreads + threadIdx.x) * kSize, left = max(a.h - at, 0);
  const int count = *a.count;
  for (int s = blockIdx.x; s < count; s += gridDim.x) {
    int64_t begin = a.starts[s];
    const int id = a.sorted[begin].x;
    float* row = a.dtable + int64_t(id) * a.h + at;
    Words<float> quads[kSize / 4];
    float sum[kSize];
#pragma unroll
    for (int q = 0; q < kSize / 4; ++q) quads[q] = load_words(row + 4 * q, left - 4 * q, wide);
#pragma unroll
    for (int i = 0; i < kSize; ++i) sum[i] = quads[i / 4].get(i % 4);
    for (int n = 32; n == 32; begin += 32) {  // n of the next 32 tokens have this id
      int2 pair = begin + lane < a.tokens ? a.sorted[begin + lane] : make_int2(-1, 0);
      n = __popc(__ballot_sync(kFull, pair.x == id));
      for (int j = 0; j < n; j += kBatch) {
        Words<T> x[kBatch];
#pragma unroll
        for (int k = 0; k < kBatch; ++k) {
          int64_t token = __shfl_sync(kFull, pair.y, j + k);
          if (j + k < n) x[k] = load_words(a.dout + token * a.h + at, left, wide);
        }
#pragma unroll
        for (int k = 0; k < kBatch; ++k)
          if (j + k < n) {
#pragma unroll
            for (int i = 0; i < kSize; ++i) sum[i] = fmaf(a.scale, x[k].get(i), sum[i]);
          }
      }
    }
#pragma unroll
    for (int i = 0; i < kSize; i += 4) {
      quads[i / 4].set({sum[i], sum[i + 1], sum[i + 2], sum[i + 3]});
      store_words(row + i, left - i, wide, quads[i / 4]);
    }
  }
}

// table[ids[t] + offset] += scale dout[t], except in row `frozen`.
void scatter_add(Exec& ex, const View& ids, int64_t offset, int64_t frozen, float scale, const View& dout, const View& table,
                 const Check& inside) {
  constexpr int64_t kAtOnce = 1024;  // ids
  int64_t tokens = dout.dim(0), h = dout.dim(1);
  if (tokens == 0) return;
  Groups groups(ex, "embedding_backward", ids, offset, table.dim(0), inside);
  if (h == 0) return;
  Scratch<int> starts(ex, tokens), count(ex, 1);
  clear(ex, count.data(), sizeof(int));
  Launch finding{"embedding_backward", {blocks_for(tokens, kStartThreads)}, {kStartThreads}};
  launch(ex, finding, starts_kernel, groups.sorted(), tokens, frozen, starts.data(), count.data());
  with_type(dout.dtype, [&]<typename T>(T) {
    Rows<T> a{groups.sorted(), starts.data(), count.data(), dout.as<T>(), table.f32(), tokens, int(h), scale};
    dim3 grid{unsigned(std::min(tokens, kAtOnce)), blocks_for(h, kColumnThreads * Words<T>::size)};
    with_bool(whole_words<T>(h, a.dout, a.dtable), [&](auto wide) {
      launch(ex, {"embedding_backward", grid, {kColumnThreads}}, add_rows_kernel<T, wide>, a);
    });
  });
}

Check token_check(Exec& ex) {
  return {ex.gpu->fault, "embedding", "token ids below %lld", "%lld at position %lld",
          "the tokenizer this model was made with"};
}
Check position_check(Exec& ex) {
  return {ex.gpu->fault, "embedding", "positions below %lld", "%lld at position %lld",
          "shorter sequences, or a model with more positions"};
}

}  // namespace

void embedding_forward(Exec& ex, const EmbeddingForward& o) {
  with_type(o.table.dtype, [&]<typename T>(T) {
    look_up<T>(ex, "embedding_forward",
               {.ids = o.ids.i32(), .table = o.table.as<T>(), .table_rows = o.table.dim(0), .positions = o.positions.i32(),
                .position_table = o.position_table.as<T>(), .position_rows = o.position_table ? o.position_table.dim(0) : 0,
                .position_offset = o.position_offset, .scale = o.scale, .out = o.out.as<T>(), .rows = o.out.dim(0),
                .h = int(o.table.dim(1)), .id_inside = token_check(ex), .position_inside = position_check(ex)});
  });
}

void embedding_backward(Exec& ex, const EmbeddingBackward& o) {
  scatter_add(ex, o.ids, 0, o.frozen_id, o.scale, o.dout, o.dtable, token_check(ex));
  if (o.dposition_table)
    scatter_add(ex, o.positions, o.position_offset, -1, 1, o.dout, o.dposition_table, position_check(ex));
}

void gather_rows(Exec& ex, const GatherRows& o) {
  Check inside{ex.gpu->fault, "gather_rows", "rows from 0 and below %lld", "%lld at position %lld",
               "row numbers of this batch"};
  with_type(o.x.dtype, [&]<typename T>(T) {
    look_up<T>(ex, "gather_rows", {.ids = o.rows.i32(), .table = o.x.as<T>(), .table_rows = o.x.dim(0), .positions = nullptr,
                                   .position_table = nullptr, .position_rows = 0, .position_offset = 0, .scale = 1,
                                   .out = o.out.as<T>(), .rows = o.out.dim(0), .h = int(o.x.dim(1)), .id_inside = inside,
                                   .position_inside = inside});
  });
}

}  // namespace threefold::cuda
