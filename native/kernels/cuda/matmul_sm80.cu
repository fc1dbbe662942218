// matmul of 16-bit operands on mma.sync: tiles of shared memory filled by cp.async three stages deep, one barrier a stage.
#include "kernels/cuda/device/mma_tile.h"
#include "kernels/cuda/device/shared.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/device/rasterize.h"

namespace threefold::cuda {
namespace {

constexpr int kDeep = 64, kStages = 3;
static_assert(kChunk % kDeep == 0);

// Warps side by side: kWarpsM x kWarpsN, each summing kWarpM x kWarpN.
template <int kWarpsM, int kWarpsN, int kWarpM, int kWarpN, int kBlocks>
struct Tiling {
  static constexpr int blocks = kBlocks;  // at a time on a multiprocessor
  static constexpr int warps_n = kWarpsN, warp_m = kWarpM, warp_n = kWarpN;
  static constexpr int m = kWarpsM * kWarpM, n = kWarpsN * kWarpN, threads = 32 * kWarpsM * kWarpsN;
  static constexpr int stage = (m + n) * kDeep;  // elements
  static constexpr int pitch = n + 4;            // of sums on their way out
  static constexpr int64_t stages_bytes = 2 * kStages * stage, sums_bytes = 4 * m * pitch;
  static constexpr int64_t shared_bytes = stages_bytes > sums_bytes ? stages_bytes : sums_bytes;
};
using Large = Tiling<2, 4, 64, 32, 1>;
using Small = Tiling<2, 2, 32, 32, 3>;  // where large tiles would leave multiprocessors idle

template <typename T, typename Tile, bool trans_a, bool trans_b>
__global__ void __launch_bounds__(Tile::threads, Tile::blocks) matmul_mma_kernel(Operand<T> a, Operand<T> b, Epilogue e) {
  constexpr int kM = Tile::warp_m / 16, kN = Tile::warp_n / 8;
  constexpr int kRowA = trans_a ? Tile::m : kDeep, kRowB = trans_b ? kDeep : Tile::n;
  T* stages = shared_array<T>();
  int t = threadIdx.x, lane = t % 32;
  int warp_i = t / 32 / Tile::warps_n * Tile::warp_m, warp_j = t / 32 % Tile::warps_n * Tile::warp_n;
  auto [i0, j0] = tile_origin<Tile::m, Tile::n>(blockIdx.x, e.m, e.n);

  float totals[kM][kN][4] = {};
  int steps = int((a.k + kDeep - 1) / kDeep);
  auto fetch = [&](int step) {
    T* to = stages + step % kStages * Tile::stage;
    if (step < steps) {
      fetch_tile<!trans_a, Tile::m, kDeep, Tile::threads>(a, i0, int64_t(step) * kDeep, to, t);
      fetch_tile<trans_b, Tile::n, kDeep, Tile::threads>(b, j0, int64_t(step) * kDeep, to + Tile::m * kDeep, t);
    }
    ptx::copy_async_commit();
  };
  for (int s = 0; s < kStages - 1; ++s) fetch(s);

  for (int step = 0; step < steps;) {
    float sums[kM][kN][4] = {};
    int end = step + kChunk / kDeep < steps ? step + kChunk / kDeep : steps;
    for (; step < end; ++step) {
      ptx::copy_async_wait<kStages - 2>();
      __syncthreads();            // the stage has arrived; all are done with the one before it,
      fetch(step + kStages - 1);  // which is filled again
      const T *tile_a = stages + step % kStages * Tile::stage, *tile_b = tile_a + Tile::m * kDeep;
#pragma unroll
      for (int k = 0; k < kDeep; k += 16) {
        uint32_t x[kM][4], y[kN / 2][4];
#pragma unroll
        for (int i = 0; i < kM; ++i) load_fragment<!trans_a, kRowA>(x[i], tile_a, warp_i + i * 16, k, lane);
#pragma unroll
        for (int j = 0; j < kN / 2; ++j) load_fragment<trans_b, kRowB>(y[j], tile_b, warp_j + j * 16, k, lane);
#pragma unroll
        for (int i = 0; i < kM; ++i)
#pragma unroll
          for (int j = 0; j < kN; ++j) ptx::mma_16x8x16<T>(sums[i][j], x[i], {y[j / 2][j % 2], y[j / 2][j % 2 + 2]});
      }
    }
#pragma unroll
    for (int i = 0; i < kM; ++i)
#pragma unroll
      for (int j = 0; j < kN; ++j)
#pragma unroll
        for (int r = 0; r < 4; ++r) totals[i][j][r] += sums[i][j][r];
  }

  ptx::copy_async_wait<0>();
  __syncthreads();  // all are done with the stages
  float* tile = shared_array<float>();
#pragma unroll
  for (int i = 0; i < kM; ++i)
#pragma unroll
    for (int j = 0; j < kN; ++j)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        int row = warp_i + i * 16 + h * 8 + lane / 4, column = warp_j + j * 8 + lane % 4 * 2;
        *reinterpret_cast<float2*>(tile + row * Tile::pitch + column) = {totals[i][j][h * 2], totals[i][j][h * 2 + 1]};
      }
  __syncthreads();
  finish_tile<Tile::m, Tile::n, Tile::pitch, Tile::threads>(e, tile, i0, j0, t);
}

template <typename T, typename Tile>
void run(Exec& ex, const Matmul& o, const MatmulSizes& s) {
  auto* kernel = o.trans_a ? (o.trans_b ? matmul_mma_kernel<T, Tile, true, true> : matmul_mma_kernel<T, Tile, true, false>)
                           : (o.trans_b ? matmul_mma_kernel<T, Tile, false, true> : matmul_mma_kernel<T, Tile, false, false>);
  launch(ex, {"matmul_mma", {blocks_for(s.m, Tile::m) * blocks_for(s.n, Tile::n)}, {Tile::threads}, Tile::shared_bytes}, kernel,
         operand_of<T>(o.a, !o.trans_a), operand_of<T>(o.b, o.trans_b), epilogue_of(o, s));
}

template <typename T>
void choose_tile(Exec& ex, const Matmul& o, const MatmulSizes& s) {
  bool few = blocks_for(s.m, Large::m) * blocks_for(s.n, Large::n) < unsigned(ex.gpu->multiprocessors);
  few ? run<T, Small>(ex, o, s) : run<T, Large>(ex, o, s);
}

}  // namespace

void matmul_mma(Exec& ex, const Matmul& o, const MatmulSizes& s) {
  o.a.dtype == DType::bf16 ? choose_tile<bf16>(ex, o, s) : choose_tile<f16>(ex, o, s);
}

}  // namespace threefold::cuda
