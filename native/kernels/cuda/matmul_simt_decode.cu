// matmul of few rows of fp32 operands: lane l of a warp sums column l of 32 (a row of b, which arrives through shared
// memory) for all rows, over one chunk of K. The sums are those of matmul_simt.cu.
#include <algorithm>

#include "kernels/cuda/device/few_rows.h"
#include "kernels/cuda/device/operand.h"
#include "kernels/cuda/device/shared.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul.h"

namespace threefold::cuda {
namespace {

constexpr int kRows = int(kFewRows), kColumns = 32, kGroup = 8, kStep = 32, kSteps = kChunk / kStep, kMostWarps = 8;
constexpr int kTile = kFewTile<kRows, kColumns>, kPitch = kFewPitch<kColumns>;
constexpr int kPieces = kColumns * kStep / 4 / 32;

// b's piece [32 rows, kStep] at (j0, k0), four elements at a time: lane l takes four kPieces times.
__device__ __forceinline__ void fetch(const Operand<float>& b, int64_t j0, int64_t k0, Four<float> (&piece)[kPieces], int lane) {
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    int64_t j = j0 + i * 4 + lane / 8, k = k0 + lane % 8 * 4;
    int count = j < b.outer && k < b.k ? int(b.k - k < 4 ? b.k - k : 4) : 0;
    piece[i] = load_four(b.data + j * b.k + k, count, b.wide);
  }
}

// a [M, K], b [N, K], M <= kRows; `wide` of both: rows can be moved four elements at a time
__global__ void __launch_bounds__(32 * kMostWarps) matmul_simt_decode_kernel(Operand<float> a, Operand<float> b, Epilogue e) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  float* all_sums = shared_array<float>();
  float *own_sums = all_sums + warp * kTile, *totals = all_sums + warps * kTile;
  float* own_b = totals + kTile + warp * kColumns * kPitch;  // [32, kStep]
  static_assert(kStep <= kPitch);
  int64_t j0 = int64_t(blockIdx.x) * kColumns;
  int rows = int(e.m), chunks = int((a.k + kChunk - 1) / kChunk), rounds = (chunks + warps - 1) / warps;
  auto k_of = [&](int step) { return int64_t(step / kSteps * warps + warp) * kChunk + step % kSteps * kStep; };

  Four<float> next[kPieces];
  fetch(b, j0, k_of(0), next, lane);
  for (int round = 0; round < rounds; ++round) {
    float sums[kRows] = {};
    for (int step = round * kSteps; step < (round + 1) * kSteps; ++step) {
      __syncwarp();  // all lanes are done with the piece before
#pragma unroll
      for (int i = 0; i < kPieces; ++i)
        *reinterpret_cast<Four<float>*>(own_b + (i * 4 + lane / 8) * kPitch + lane % 8 * 4) = next[i];
      __syncwarp();
      fetch(b, j0, k_of(step + 1), next, lane);
      int64_t k0 = k_of(step);
      int left = a.k - k0 < kStep ? int(a.k - k0) : kStep;
#pragma unroll 1
      for (int k = 0; k < left; k += 4) {
        Four<float> y = *reinterpret_cast<const Four<float>*>(own_b + lane * kPitch + k);
#pragma unroll
        for (int i = 0; i < kRows; i += kGroup) {
          if (i >= rows) break;
          Four<float> x[kGroup];
#pragma unroll
          for (int r = 0; r < kGroup; ++r)
            x[r] = load_four(a.data + (i + r) * a.k + k0 + k, i + r < rows ? left - k : 0, a.wide);
#pragma unroll
          for (int j = 0; j < 4; ++j)
#pragma unroll
            for (int r = 0; r < kGroup; ++r) sums[i + r] = fmaf(x[r].v[j], y.v[j], sums[i + r]);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) own_sums[i * kPitch + lane] = sums[i];
    int left = chunks - round * warps;
    join_chunks<kRows, kColumns>(totals, all_sums, left < warps ? left : warps, round == 0);
  }
  if (rounds == 0) join_chunks<kRows, kColumns>(totals, all_sums, 0, true);
  finish_few_rows<kRows, kColumns>(e, totals, j0);
}

}  // namespace

void matmul_simt_decode(Exec& ex, const Matmul& o, const MatmulSizes& s) {
  constexpr int64_t kWarpBytes = 4 * (kTile + kColumns * kPitch), kTotalBytes = 4 * kTile;
  int64_t warps = std::min<int64_t>({kMostWarps, (ex.gpu->shared_limit - kTotalBytes) / kWarpBytes, blocks_for(s.k, kChunk)});
  Launch l{"matmul_simt_decode", {blocks_for(s.n, kColumns)}, {unsigned(32 * warps)}, warps * kWarpBytes + kTotalBytes};
  Operand<float> a = operand_of<float>(o.a, true), b = operand_of<float>(o.b, true);
  a.wide = fours(a.data, a.k), b.wide = fours(b.data, b.k);
  launch(ex, l, matmul_simt_decode_kernel, a, b, epilogue_of(o, s));
}

}  // namespace threefold::cuda
