// Attention forward on tensor cores: a block owns a tile of queries of one head, a warp 16 or 32 of its rows. Scores and sums
// stay in the warp's registers; probabilities are rounded to 16 bits for P V, their sums are not. While a block of keys is
// multiplied its values arrive, and the other way round.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/device/dropout.h"
#include "kernels/cuda/device/fragments.h"
#include "kernels/cuda/device/shared.h"

namespace threefold::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;

// Tiles of 16 rows of one warp: as many as registers hold.
template <int kWide>
constexpr int kTiles = kWide <= 128 ? 2 : 1;
template <int kWide>
constexpr int kRows = 16 * kTiles<kWide> * kWarps;

// Vectors of a thread: the sums of each tile of 16 rows, then {top, sum} of its two rows.
template <int kWide>
constexpr int kVectors = kTiles<kWide> * (kWide / 8 + 1);

// Where the rows of a tile wait while a span is folded, once they have more than one. As many places as blocks can run; a
// block takes one with its first span and gives it back. It stays in L2, where shared memory would halve the blocks of a
// multiprocessor. Each thread reads what it wrote itself.
struct Parking {
  int* taken;      // [places]
  float4* memory;  // [places, kVectors, kThreads]
  int places;

  // Looks from place `first` on.
  __device__ int take(int first) const {
    int place = first % places;
    while (atomicCAS(taken + place, 0, 1) != 0) place = (place + 1) % places;
    __threadfence();
    return place;
  }
  __device__ void give_back(int place) const {
    __threadfence();
    atomicExch(taken + place, 0);
  }
  // This thread's first vector; the next is kThreads on.
  template <int kWide>
  __device__ float4* at(int place) const { return memory + int64_t(place) * kVectors<kWide> * kThreads + threadIdx.x; }
};

template <typename T, int kWide>
struct Shared {
  T q[kRows<kWide> * kStride<T, kWide>], k[kKeys * kStride<T, kWide>], v[kKeys * kStride<T, kWide>];
  Tile tile;  // here, like what follows, to leave its registers to the sums
  const T *keys, *values;  // of the sequence's first token
  float slope;
  int head, place;  // of Parking, or -1
  Keep keep;
};

template <typename T>
struct Inputs {
  const T* qkv;           // [T, row]
  const int32_t* starts;  // [B + 1]
  int sequences;
  int64_t tokens;
  bool packed;
};

// One warp's rows, from position `first` on.
template <typename T, int kWide>
struct Warp {
  static constexpr int stride = kStride<T, kWide>, tiles = kTiles<kWide>, columns = kWide / 8, count = 16 * tiles;
  int first;
  float o[tiles][columns][4];
  RowPair rows[tiles];
  uint32_t p[tiles][kKeyTiles / 2][4];  // probabilities of the block last folded

  __device__ void start_span() {
#pragma unroll
    for (int t = 0; t < tiles; ++t) {
      rows[t] = RowPair{};
#pragma unroll
      for (int c = 0; c < columns; ++c)
#pragma unroll
        for (int i = 0; i < 4; ++i) o[t][c][i] = 0;
    }
  }
  // Scores x of the t-th tile of rows become probabilities, times factor(4 n + i); what the rows have summed shrinks as it must.
  template <typename F>
  __device__ __forceinline__ void take_in(float (&x)[kKeyTiles][4], int t, const Attention& s, float slope, int key, bool edge, F factor) {
    int row = first + t * 16 + threadIdx.x % 32 / 4;
    const float slopes[2] = {slope, slope};
    const int positions[2] = {row, row + 8};
    float shrink[2];
    score_rows(x, s, slopes, positions, key, edge);
    fold_rows(x, s.factor, rows[t], shrink);
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) x[n][i] *= factor(4 * n + i);
#pragma unroll
    for (int n = 0; n < kKeyTiles; n += 2) round_a<T>(p[t][n / 2], x[n], x[n + 1]);
#pragma unroll
    for (int c = 0; c < columns; ++c) shrink_rows(o[t][c], shrink);
  }
  // Folds the keys of a block, from `key` on. edge: some of them are out of sight of some row. token: of the sequence.
  template <bool drops>
  __device__ __forceinline__ void fold(const T* q, const T* k, const Attention& s, float slope, int key, bool edge, const Keep& keep, int64_t token, int head) {
    constexpr int together = drops ? 1 : tiles;  // with a mask there are no registers for the scores of two
#pragma unroll
    for (int at = 0; at < tiles; at += together) {
      uint32_t kept = 0;
      if constexpr (drops) kept = keep.queries_by_keys<kKeyTiles>(token, head, first + at * 16, key);
      float x[together][kKeyTiles][4] = {};
#pragma unroll
      for (int c = 0; c < kWide; c += 16) {
        uint32_t a[together][4];
#pragma unroll
        for (int t = 0; t < together; ++t) load_a<T, stride>(a[t], q + (at + t) * 16 * stride + c);
#pragma unroll
        for (int n = 0; n < kKeyTiles; n += 2) {
          uint32_t b[2][2];
          load_b_rows<T, stride>(b, k + n * 8 * stride + c);
#pragma unroll
          for (int t = 0; t < together; ++t)
#pragma unroll
            for (int j = 0; j < 2; ++j) ptx::mma_16x8x16<T>(x[t][n + j], a[t], b[j]);
        }
      }
#pragma unroll
      for (int t = 0; t < together; ++t) take_in(x[t], at + t, s, slope, key, edge, [&](int sum) { return drops ? keep.factor_of(kept, sum) : 1; });
    }
  }
  // Adds the values of the block just folded: for each tile of rows, those that all its rows see.
  template <bool edge>
  __device__ __forceinline__ void add(const T* v, int key) {
#pragma unroll
    for (int n = 0; n < kKeys; n += 16) {
      if (edge && key + n >= first + count - 16) return;
#pragma unroll
      for (int c = 0; c < columns; c += 2) {
        uint32_t b[2][2];
        load_b_columns<T, stride>(b, v + n * stride + c * 8);
#pragma unroll
        for (int t = 0; t < tiles; ++t)
#pragma unroll
          for (int j = 0; j < 2; ++j)
            if (!edge || key + n < first + t * 16) ptx::mma_16x8x16<T>(o[t][c + j], p[t][n / 16], b[j]);
      }
    }
  }
  // Then those of the 16 keys of the rows' own positions, where they are in this block.
  __device__ __forceinline__ void add_own(const T* v, int key) {
#pragma unroll
    for (int t = 0; t < tiles; ++t) {
      int n = first + t * 16 - key;
      if (n < 0 || n >= kKeys) continue;
      const int g = threadIdx.x % 32 / 4, own[2] = {g, g + 8};
      uint32_t a[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] = n == 0 ? p[t][0][i] : n == 16 ? p[t][1][i] : n == 32 ? p[t][2][i] : p[t][3][i];
#pragma unroll
      for (int c = 0; c < columns; c += 2) {
        uint32_t b[2][2];
        load_b_columns<T, stride>(b, v + n * stride + c * 8);
#pragma unroll
        for (int j = 0; j < 2; ++j) add_guarded<T>(o[t][c + j], a, b[j], own);
      }
    }
  }
  // Joins tile t's rows to those of the spans parked before, in their states alone; by: how to join the sums.
  __device__ __forceinline__ void join_states(int t, const float4& parked, Joint (&by)[2]) {
    RowPair all{{{parked.x, parked.y}, {parked.z, parked.w}}};
    join_rows(all, rows[t], by);
    rows[t] = all;
  }
  __device__ __forceinline__ float4 join_sums(int t, int c, const float4& parked, const Joint (&by)[2]) const {
    const float(&y)[4] = o[t][c];
    return make_float4(joined(parked.x, y[0], by[0]), joined(parked.y, y[1], by[0]), joined(parked.z, y[2], by[1]), joined(parked.w, y[3], by[1]));
  }
  // Of vector c of tile t of this thread in its parked ones; `columns` is that of the rows' states.
  __device__ static constexpr int place(int t, int c) { return (t * (columns + 1) + c) * kThreads; }
  // Writes this span, joined to those parked before where `joins`. memory: [vectors, kThreads] from this thread's place on; vectors
  // of one tile of 16 rows after the other.
  template <bool joins>
  __device__ void park(float4* memory) {
#pragma unroll
    for (int t = 0; t < tiles; ++t) {
      Joint by[2];
      if constexpr (joins) join_states(t, memory[place(t, columns)], by);
#pragma unroll
      for (int c = 0; c < columns; ++c)
        memory[place(t, c)] = joins ? join_sums(t, c, memory[place(t, c)], by) : make_float4(o[t][c][0], o[t][c][1], o[t][c][2], o[t][c][3]);
      const Folded(&r)[2] = rows[t].row;
      memory[place(t, columns)] = make_float4(r[0].top, r[0].sum, r[1].top, r[1].sum);
    }
  }
  // Writes the rows that exist, of `length`, through `q`, the warp's own rows in shared memory, joined to the spans in `memory` where
  // `joins`. out and lse: of row `first`; the next is `heads` on.
  template <bool joins>
  __device__ void store(const float4* memory, T* q, T* out, float* lse, int64_t heads, int length, int d, bool packed) {
    int lane = threadIdx.x % 32, g = lane / 4;
#pragma unroll
    for (int t = 0; t < tiles; ++t) {
      Joint by[2];
      if constexpr (joins) join_states(t, memory[place(t, columns)], by);
      const Folded(&r)[2] = rows[t].row;
#pragma unroll
      for (int c = 0; c < columns; ++c) {
        float4 y = joins ? join_sums(t, c, memory[place(t, c)], by) : make_float4(o[t][c][0], o[t][c][1], o[t][c][2], o[t][c][3]);
        T* to = q + (t * 16 + g) * stride + c * 8 + lane % 4 * 2;
        *reinterpret_cast<uint32_t*>(to) = ptx::pack_bits<T>(finished(y.x, r[0]), finished(y.y, r[0]));
        *reinterpret_cast<uint32_t*>(to + 8 * stride) = ptx::pack_bits<T>(finished(y.z, r[1]), finished(y.w, r[1]));
      }
#pragma unroll
      for (int i = 0; i < 2; ++i)
        if (int at = t * 16 + i * 8 + g; lse && lane % 4 == 0 && first + at < length) lse[at * heads] = lse_of(r[i]);
    }
    __syncwarp();
    store_tile<T, kWide>(q, out, heads * d, min(count, length - first), d, packed, lane, 32);
  }
};

template <typename T, int kWide, bool drops>
__global__ void __launch_bounds__(kThreads, kWide <= 128 ? 2 : 1)
    forward_kernel(Inputs<T> in, T* out, float* lse, Attention s, Keep keep, Parking parking, Check check) {
  auto& m = shared_struct<Shared<T, kWide>>();
  if (blockIdx.x == 0 && blockIdx.y == 0) check_starts(in.starts, in.sequences, in.tokens, check);
  Tile tile;
  if (!find_tile(in.starts, in.sequences, in.tokens, kRows<kWide>, int(gridDim.x - 1 - blockIdx.x), tile)) return;  // most keys first
  int head = blockIdx.y;
  if (threadIdx.x == 0) {
    const T* sequence = in.qkv + tile.start * s.row;
    m.tile = tile, m.slope = s.slope(head), m.head = head, m.place = -1, m.keep = keep;
    m.keys = sequence + s.key(head / s.group), m.values = sequence + s.value(head / s.group);
  }
  auto load = [&](T* to, int rows, const T* from, int first) {  // from: of the sequence's first token
    load_tile<T, kWide, kThreads>(to, rows, s.d, in.packed, in.qkv, SequenceRows<T>{from + first * s.row, s.row, m.tile.length - first});
    ptx::copy_async_commit();
  };

  Warp<T, kWide> warp;
  int within = threadIdx.x / 32 * warp.count;  // the tile
  warp.first = tile.first + within;
  warp.start_span();
  int key = s.first_visible(tile.first) / kKeys * kKeys;
  __syncthreads();
  load(m.q, kRows<kWide>, in.qkv + tile.start * s.row + s.query(head), tile.first);
  load(m.k, kKeys, m.keys, key);
  for (;; key += kKeys) {
    ptx::copy_async_wait<0>();
    __syncthreads();  // the keys are there, and nobody reads the values before
    load(m.v, kKeys, m.values, key);
    int end = key + kKeys, warp_last = warp.first + warp.count - 1;
    bool active = warp.first < m.tile.length && key <= warp_last && end > s.first_visible(warp.first);
    bool edge = end > warp.first + 1 || key < s.first_visible(warp_last);
    if (active) warp.template fold<drops>(m.q + within * warp.stride, m.k, s, m.slope, key, edge, m.keep, m.tile.start, m.head);
    ptx::copy_async_wait<0>();
    __syncthreads();  // the values are there, and nobody reads the keys
    bool last = end >= min(m.tile.first + kRows<kWide>, m.tile.length);
    if (!last) load(m.k, kKeys, m.keys, end);
    if (active && !edge) warp.template add<false>(m.v, key);
    if (active && edge) warp.template add<true>(m.v, key), warp.add_own(m.v, key);
    if (!last && end % (kSpanBlocks * kKeys) != 0) continue;

    for (RowPair& rows : warp.rows) end_span(rows);
    if (last) break;
    if (m.place < 0) {
      __syncthreads();
      if (threadIdx.x == 0) m.place = parking.take(m.tile.first / kRows<kWide> + m.head);
      __syncthreads();
      warp.template park<false>(parking.at<kWide>(m.place));
    } else {
      warp.template park<true>(parking.at<kWide>(m.place));
    }
    warp.start_span();
  }
  if (warp.first < m.tile.length) {
    int64_t row = (m.tile.start + warp.first) * s.heads + m.head;  // of [T, N]
    auto store = [&]<bool joins>(std::bool_constant<joins>) {
      warp.template store<joins>(joins ? parking.at<kWide>(m.place) : nullptr, m.q + within * warp.stride, out + row * s.d, lse ? lse + row : nullptr, s.heads,
                                 m.tile.length, s.d, packs(out, s.d));
    };
    m.place >= 0 ? store(std::true_type{}) : store(std::false_type{});
  }
  if (m.place < 0) return;
  __syncthreads();
  if (threadIdx.x == 0) parking.give_back(m.place);
}

}  // namespace

template <typename T>
void attention_forward_mma(Exec& ex, const AttentionForward& a) {
  constexpr int kBlocksEach = 2;  // that a multiprocessor runs at once
  Attention s(a.shape);
  int64_t tokens = a.qkv.dim(0), sequences = a.starts.dim(0) - 1;
  Inputs<T> in{a.qkv.as<T>(), a.starts.i32(), int(sequences), tokens, packs(a.qkv.as<T>(), s.d)};
  with_head_size(s.d, [&]<int wide>(std::integral_constant<int, wide>) {
    int places = tokens > kSpanBlocks * kKeys ? ex.gpu->multiprocessors * kBlocksEach : 0;
    Scratch<float4> memory(ex, int64_t(places) * kVectors<wide> * kThreads);
    Scratch<int> taken(ex, places);
    clear(ex, taken.data(), places * int64_t(sizeof(int)));
    with_bool(bool(a.dropout), [&]<bool drops>(std::bool_constant<drops>) {
      launch(ex, {"attention_forward", {tiles_for(tokens, sequences, kRows<wide>), unsigned(s.heads)}, {kThreads}, sizeof(Shared<T, wide>)},
             forward_kernel<T, wide, drops>, in, a.out.as<T>(), a.lse.f32(), s, Keep(a.dropout), Parking{taken.data(), memory.data(), places},
             starts_check(ex.gpu->fault, "attention_forward"));
    });
  });
}
template void attention_forward_mma<bf16>(Exec&, const AttentionForward&);
template void attention_forward_mma<f16>(Exec&, const AttentionForward&);

}  // namespace threefold::cuda
