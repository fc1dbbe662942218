// matmul of few rows and 16-bit operands on mma.sync, bound by reading b once: the instruction's 16 rows are columns of out
// (rows of b), its 8 columns are rows of out, so that few rows waste little. Each warp streams its own pieces of b and a
// through its own stages. The sums are those of matmul_sm80.cu.
#include <algorithm>

#include "kernels/cuda/device/few_rows.h"
#include "kernels/cuda/device/mma_tile.h"
#include "kernels/cuda/device/shared.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul.h"

namespace threefold::cuda {
namespace {

constexpr int kDeep = 64, kStages = 3, kSteps = kChunk / kDeep, kMostWarps = 8;

// a [M, K], b [N, K], M <= kRows
template <typename T, int kRows, int kColumns>
__global__ void __launch_bounds__(32 * kMostWarps, 1) matmul_decode_kernel(Operand<T> a, Operand<T> b, Epilogue e) {
  constexpr int kStage = (kColumns + kRows) * kDeep, kTile = kFewTile<kRows, kColumns>;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  // Shared memory: stages of every warp, then sums of every warp, then totals.
  T* stages = shared_array<T>() + warp * kStages * kStage;
  float* all_sums = reinterpret_cast<float*>(shared_array<T>() + warps * kStages * kStage);
  float *own_sums = all_sums + warp * kTile, *totals = all_sums + warps * kTile;
  int64_t j0 = int64_t(blockIdx.x) * kColumns;

  int chunks = int((a.k + kChunk - 1) / kChunk), rounds = (chunks + warps - 1) / warps;
  auto k_of = [&](int step) { return int64_t(step / kSteps * warps + warp) * kChunk + step % kSteps * kDeep; };
  auto fetch = [&](int step) {
    T* to = stages + step % kStages * kStage;
    if (step < rounds * kSteps && k_of(step) < a.k) {
      fetch_tile<true, kColumns, kDeep, 32>(b, j0, k_of(step), to, lane);
      fetch_tile<true, kRows, kDeep, 32>(a, 0, k_of(step), to + kColumns * kDeep, lane);
    }
    ptx::copy_async_commit();
  };
  for (int s = 0; s < kStages - 1; ++s) fetch(s);

  for (int round = 0; round < rounds; ++round) {
    float sums[kColumns / 16][kRows / 8][4] = {};
    for (int step = round * kSteps; step < (round + 1) * kSteps; ++step) {
      ptx::copy_async_wait<kStages - 2>();
      __syncwarp();               // the stage has arrived; all lanes are done with the one before it,
      fetch(step + kStages - 1);  // which is filled again
      if (k_of(step) >= a.k) continue;
      const T *tile_b = stages + step % kStages * kStage, *tile_a = tile_b + kColumns * kDeep;
#pragma unroll
      for (int k = 0; k < kDeep; k += 16) {
        uint32_t x[kColumns / 16][4], y[kRows / 16][4];
#pragma unroll
        for (int i = 0; i < kColumns / 16; ++i) load_fragment<true, kDeep>(x[i], tile_b, i * 16, k, lane);
#pragma unroll
        for (int j = 0; j < kRows / 16; ++j) load_fragment<true, kDeep>(y[j], tile_a, j * 16, k, lane);
#pragma unroll
        for (int i = 0; i < kColumns / 16; ++i)
#pragma unroll
          for (int j = 0; j < kRows / 8; ++j) ptx::mma_16x8x16<T>(sums[i][j], x[i], {y[j / 2][j % 2], y[j / 2][j % 2 + 2]});
      }
    }
#pragma unroll
    for (int i = 0; i < kColumns / 16; ++i)
#pragma unroll
      for (int j = 0; j < kRows / 8; ++j)
#pragma unroll
        for (int r = 0; r < 4; ++r)
          own_sums[(j * 8 + lane % 4 * 2 + r % 2) * kFewPitch<kColumns> + i * 16 + r / 2 * 8 + lane / 4] = sums[i][j][r];
    int left = chunks - round * warps;
    join_chunks<kRows, kColumns>(totals, all_sums, left < warps ? left : warps, round == 0);
  }
  if (rounds == 0) join_chunks<kRows, kColumns>(totals, all_sums, 0, true);
  ptx::copy_async_wait<0>();
  finish_few_rows<kRows, kColumns>(e, totals, j0);
}

template <typename T, int kRows, int kColumns>
void run(Exec& ex, const Matmul& o, const MatmulSizes& s) {
  constexpr int64_t kWarpBytes = kStages * (kColumns + kRows) * kDeep * int64_t(sizeof(T)) + kFewTile<kRows, kColumns> * 4;
  constexpr int64_t kTotalBytes = kFewTile<kRows, kColumns> * 4;
  int64_t warps = std::min<int64_t>({kMostWarps, (ex.gpu->shared_limit - kTotalBytes) / kWarpBytes, blocks_for(s.k, kChunk)});
  launch(ex, {"matmul_decode", {blocks_for(s.n, kColumns)}, {unsigned(32 * warps)}, warps * kWarpBytes + kTotalBytes},
         matmul_decode_kernel<T, kRows, kColumns>, operand_of<T>(o.a, true), operand_of<T>(o.b, true), epilogue_of(o, s));
}

template <typename T, int kRows>
void choose_columns(Exec& ex, const Matmul& o, const MatmulSizes& s) {
  s.n > ex.gpu->multiprocessors * 16 ? run<T, kRows, 32>(ex, o, s) : run<T, kRows, 16>(ex, o, s);
}

template <typename T>
void choose_rows(Exec& ex, const Matmul& o, const MatmulSizes& s) {
  auto* chosen = s.m <= 16 ? choose_columns<T, 16> : s.m <= 32 ? choose_columns<T, 32> : choose_columns<T, 64>;
  chosen(ex, o, s);
}

}  // namespace

void matmul_decode(Exec& ex, const Matmul& o, const MatmulSizes& s) {
  o.a.dtype == DType::bf16 ? choose_rows<bf16>(ex, o, s) : choose_rows<f16>(ex, o, s);
}

}  // namespace threefold::cuda
