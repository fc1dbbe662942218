// Decode on tensor cores: a block of the grid owns up to 16 query heads that share a key/value head of one sequence, as the
// rows of one tile. Each warp multiplies 16 of a block's 64 keys, all fold the scores of all, and each adds every fourth pair
// of column tiles: for every row and column the instructions of attention_mma.cu in their order. The next block of keys and
// values arrives meanwhile.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/device/fragments.h"
#include "kernels/cuda/device/pages.h"
#include "kernels/cuda/device/shared.h"

namespace threefold::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32, kRows = 16;
constexpr int kScores = kKeys + 8;  // floats between rows of scores

template <typename T, int kWide>
struct Shared {
  T q[kRows * kStride<T, kWide>];
  T keys[2][kKeys * kStride<T, kWide>], values[2][kKeys * kStride<T, kWide>];
  float scores[kRows * kScores];
  int64_t at[2][kKeys];  // of a block's keys in the cache
};

// qkv [B, row], keys and values [pages, page_size, G, D], out [B, N D], partials [B, N, spans, 2 + D].
template <typename T, int kWide>
__global__ void __launch_bounds__(kThreads) decode_kernel(const T* qkv, const T* keys, const T* values, T* out, float* partials, Attention s,
                                                          Pages pages, int spans, bool packed) {
  constexpr int stride = kStride<T, kWide>, pairs = kWide / 16, own_pairs = (pairs + kWarps - 1) / kWarps;
  auto& m = shared_struct<Shared<T, kWide>>();
  int chunks = (s.group + kRows - 1) / kRows, kv_head = blockIdx.y / chunks, chunk = blockIdx.y % chunks, sequence = blockIdx.z;
  int head = kv_head * s.group + chunk * kRows, rows = min(int(kRows), s.group - chunk * kRows);
  int length = pages.length(sequence);
  if (length == 0) return;
  int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, q = threadIdx.x % 4, position = length - 1;

  SpanWalk walk(s.first_visible(position) / kKeys, position / kKeys, gridDim.x, blockIdx.x);
  if (walk.done()) return;
  auto look_up = [&](int64_t* at, const SpanWalk& w) {
    int key = w.block * kKeys + threadIdx.x;
    if (threadIdx.x < kKeys && !w.done()) at[threadIdx.x] = key < length ? pages.at(sequence, key) : -1;
  };
  auto load = [&](int stage) {
    const int64_t* at = m.at[stage];
    auto source = [&](const T* cache) {
      return [=](int r) -> const T* { return at[r] < 0 ? nullptr : cache + at[r] + kv_head * s.d; };
    };
    load_tile<T, kWide, kThreads>(m.keys[stage], kKeys, s.d, packed, keys, source(keys));
    load_tile<T, kWide, kThreads>(m.values[stage], kKeys, s.d, packed, values, source(values));
    ptx::copy_async_commit();
  };
  SpanWalk next = walk;
  look_up(m.at[0], next);
  next.step();
  look_up(m.at[1], next);
  load_tile<T, kWide, kThreads>(m.q, kRows, s.d, packed, qkv, SequenceRows<T>{qkv + sequence * s.row + s.query(head), s.d, rows});
  __syncthreads();
  load(0);

  const float slopes[2] = {g < rows ? s.slope(head + g) : 0, g + 8 < rows ? s.slope(head + g + 8) : 0};
  const int positions[2] = {position, position}, own[2] = {position % 16, position % 16};
  float o[own_pairs][2][4] = {}, whole[own_pairs][2][4] = {};
  RowPair span, all;
  for (int stage = 0; !walk.done(); walk.step(), stage ^= 1) {
    ptx::copy_async_wait<0>();
    __syncthreads();  // this block is there, and nobody reads the one before
    if (!next.done()) load(stage ^ 1);
    next.step();
    look_up(m.at[stage], next);

    int key = walk.block * kKeys;
    float x[kKeyTiles][4] = {};
#pragma unroll
    for (int c = 0; c < kWide; c += 16) {
      uint32_t a[4], b[2][2];
      load_a<T, stride>(a, m.q + c);
      load_b_rows<T, stride>(b, m.keys[stage] + warp * 16 * stride + c);
#pragma unroll
      for (int j = 0; j < 2; ++j) ptx::mma_16x8x16<T>(x[j], a, b[j]);
    }
#pragma unroll
    for (int j = 0; j < 2; ++j)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        *reinterpret_cast<float2*>(m.scores + (g + 8 * r) * kScores + warp * 16 + j * 8 + 2 * q) = make_float2(x[j][2 * r], x[j][2 * r + 1]);
    __syncthreads();
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float2 two = *reinterpret_cast<const float2*>(m.scores + (g + 8 * r) * kScores + n * 8 + 2 * q);
        x[n][2 * r] = two.x, x[n][2 * r + 1] = two.y;
      }
    float shrink[2];
    score_rows(x, s, slopes, positions, key, key + kKeys > position + 1 || key < s.first_visible(position));
    fold_rows(x, s.factor, span, shrink);
#pragma unroll
    for (int i = 0; i < own_pairs; ++i)
#pragma unroll
      for (int j = 0; j < 2; ++j) shrink_rows(o[i][j], shrink);
#pragma unroll
    for (int n = 0; n < kKeys; n += 16) {
      if (key + n > position) break;
      uint32_t p[4];
      round_a<T>(p, x[n / 8], x[n / 8 + 1]);
#pragma unroll
      for (int i = 0; i < own_pairs; ++i) {
        int pair = warp + i * kWarps;
        if (pair >= pairs) continue;
        uint32_t b[2][2];
        load_b_columns<T, stride>(b, m.values[stage] + n * stride + pair * 16);
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          if (key + n + 16 > position)  // the query's own key is among these
            add_guarded<T>(o[i][j], p, b[j], own);
          else
            ptx::mma_16x8x16<T>(o[i][j], p, b[j]);
        }
      }
    }
    if (!walk.ends_span()) continue;

    Joint by[2];
    end_span(span);
    join_rows(all, span, by);
    bool last = walk.block == walk.last;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (g + 8 * r >= rows) continue;
      int64_t row = int64_t(sequence) * s.heads + head + g + 8 * r;
      float* partial = partials ? partial_of(partials, row, spans, walk.block / kSpanBlocks, s.d) : nullptr;
      if (partial && warp == 0 && q == 0) partial[0] = span.row[r].top, partial[1] = span.row[r].sum;
#pragma unroll
      for (int i = 0; i < own_pairs; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          int d = (warp + i * kWarps) * 16 + j / 2 * 8 + 2 * q + j % 2;
          float &sum = o[i][j / 2][2 * r + j % 2], &total = whole[i][j / 2][2 * r + j % 2];
          if (partial && d < s.d) partial[2 + d] = sum;
          total = joined(total, sum, by[r]);
          sum = 0;
          if (last && !partial && d < s.d) out[row * s.d + d] = from_float<T>(finished(total, all.row[r]));
        }
    }
    span = RowPair{};
  }
}

}  // namespace

template <typename T>
void attention_decode_mma(Exec& ex, const AttentionDecode& a, Cut cut, float* partials) {
  Attention s(a.shape);
  unsigned chunks = unsigned(s.kv_heads * ((s.group + kRows - 1) / kRows));
  bool packed = packs(a.qkv.as<T>(), s.d) && packs(a.keys.as<T>(), s.d) && packs(a.values.as<T>(), s.d);
  with_head_size(s.d, [&]<int wide>(std::integral_constant<int, wide>) {
    launch(ex, {"attention_decode", {unsigned(cut.splits), chunks, unsigned(a.qkv.dim(0))}, {kThreads}, sizeof(Shared<T, wide>)},
           decode_kernel<T, wide>, a.qkv.as<T>(), a.keys.as<T>(), a.values.as<T>(), a.out.as<T>(), partials, s, Pages(ex.gpu->fault, a),
           cut.spans, packed);
  });
}
template void attention_decode_mma<bf16>(Exec&, const AttentionDecode&, Cut, float*);
template void attention_decode_mma<f16>(Exec&, const AttentionDecode&, Cut, float*);

}  // namespace threefold::cuda
