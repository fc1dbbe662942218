// matmul of 16-bit operands on wgmma: blocks that stay, one warp that has the copy engine fill stages of shared memory, and
// one to three warpgroups that multiply them, 64 rows of the tile each. While one tile's sums go out, the copies for the next
// one are on their way.
#include <algorithm>

#include "kernels/cuda/device/rasterize.h"
#include "kernels/cuda/device/shared.h"
#include "kernels/cuda/device/wgmma_tile.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul.h"

namespace threefold::cuda {
namespace {

constexpr int kN = 128;
constexpr int kHalf = kN / 2, kPitch = kHalf + 4;  // sums go out by half of the columns, through [16, kHalf] of each warp

// Tiles of 64 kGroups x kN.
template <int kGroups>
struct Plan {
  static constexpr int m = 64 * kGroups, threads = 128 * (kGroups + 1);
  static constexpr int blocks = kGroups == 1 ? 2 : 1;  // at a time on a multiprocessor
  static constexpr int stages = kGroups == 1 ? 3 : kGroups == 2 ? 5 : 4, stage_bytes = (kGroups + 2) * kTileBytes;
  static constexpr int sums_bytes = 4 * kGroups * 16 * kPitch * 4;
  static constexpr int shared_bytes = stages * stage_bytes + sums_bytes + 2 * stages * 8;
};

template <typename T, int kGroups, bool trans_a, bool trans_b>
struct Kernel {
  using P = Plan<kGroups>;
  const TensorMap &a, &b;
  const Epilogue& e;
  int64_t k;
  unsigned char* stages;
  uint64_t *full, *empty;

  __device__ int steps() const { return int((k + kDeep - 1) / kDeep); }
  __device__ int64_t tiles() const { return (e.m + P::m - 1) / P::m * ((e.n + kN - 1) / kN); }
  __device__ unsigned char* stage(int turn) const { return stages + turn % P::stages * P::stage_bytes; }

  // One thread.
  __device__ __forceinline__ void produce() const {
    int turn = 0;
    for (int64_t tile = blockIdx.x; tile < tiles(); tile += gridDim.x) {
      auto [i0, j0] = tile_origin<P::m, kN>(tile, e.m, e.n);
      for (int step = 0; step < steps(); ++step, ++turn) {
        uint64_t* bar = full + turn % P::stages;
        ptx::mbarrier_wait(empty + turn % P::stages, turn / P::stages % 2 ^ 1);
        ptx::mbarrier_arrive_expect(bar, P::stage_bytes);
        copy_tile<!trans_a, P::m>(stage(turn), a, i0, int64_t(step) * kDeep, bar);
        copy_tile<trans_b, kN>(stage(turn) + kGroups * kTileBytes, b, j0, int64_t(step) * kDeep, bar);
      }
    }
  }

  // One warpgroup; `own` is where its sums go out.
  __device__ __forceinline__ void consume(int group, float* own) const {
    constexpr int kSteps = kChunk / kDeep;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4, turn = 0;
    own += warp * 16 * kPitch;
    auto release = [&](int turn) {
      if (lane == 0) ptx::mbarrier_arrive(empty + turn % P::stages);
    };
    for (int64_t tile = blockIdx.x; tile < tiles(); tile += gridDim.x) {
      auto [i0, j0] = tile_origin<P::m, kN>(tile, e.m, e.n);
      float totals[kN / 2] = {};
      for (int step = 0; step < steps();) {
        float sums[kN / 2] = {};
        int begin = step, end = step + kSteps < steps() ? step + kSteps : steps();
        for (; step < end; ++step, ++turn) {
          ptx::mbarrier_wait(full + turn % P::stages, turn / P::stages % 2);
          uint32_t at = ptx::shared_address(stage(turn));
          ptx::wgmma_fence();
          multiply_tiles<T, !trans_a, trans_b>(sums, at + group * kTileBytes, at + kGroups * kTileBytes);
          ptx::wgmma_commit();
          if (step == begin) continue;
          ptx::wgmma_wait<1>();
          release(turn - 1);
        }
        ptx::wgmma_wait<0>();
        release(turn - 1);
#pragma unroll
        for (int i = 0; i < kN / 2; ++i) totals[i] += sums[i];
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int i = 0; i < kN / 4; i += 2) {
          int row = lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2;
          *reinterpret_cast<float2*>(own + row * kPitch + column) = {totals[half * kN / 4 + i], totals[half * kN / 4 + i + 1]};
        }
        __syncwarp();
        finish_tile<16, kHalf, kPitch, 32>(e, own, i0 + group * 64 + warp * 16, j0 + half * kHalf, lane);
        __syncwarp();
      }
    }
  }

  __device__ __forceinline__ void run() {
    int group = threadIdx.x / 128;
    stages = shared_array<unsigned char>();
    float* sums = reinterpret_cast<float*>(stages + P::stages * P::stage_bytes);
    full = reinterpret_cast<uint64_t*>(sums + P::sums_bytes / 4), empty = full + P::stages;
    if (threadIdx.x == 0) {
      for (int s = 0; s < P::stages; ++s) ptx::mbarrier_init(full + s, 1), ptx::mbarrier_init(empty + s, 4 * kGroups);
      ptx::fence_async_proxy();
    }
    __syncthreads();
    // Of 64 K registers: one warpgroup that hardly needs any, and kGroups with sums and totals.
    constexpr int kFew = kGroups == 3 ? 32 : 40, kMany = kGroups == 1 ? 208 : kGroups == 2 ? 232 : 160;
    if (group == kGroups) {
      ptx::fewer_registers<kFew>();
      if (threadIdx.x % 128 == 0) produce();
    } else {
      ptx::more_registers<kMany>();
      consume(group, sums + group * (4 * 16 * kPitch));
    }
  }
};

template <typename T, int kGroups, bool trans_a, bool trans_b>
__global__ void __launch_bounds__(Plan<kGroups>::threads, Plan<kGroups>::blocks)
    matmul_wgmma_kernel(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                        const __grid_constant__ Epilogue e, int64_t k) {
  if constexpr (ptx::kSm90) Kernel<T, kGroups, trans_a, trans_b>{a, b, e, k, nullptr, nullptr, nullptr}.run();
}

template <typename T, int kGroups, bool trans_a, bool trans_b>
void run(Exec& ex, const Matmul& o, const MatmulSizes& s) {
  using P = Plan<kGroups>;
  int64_t tiles = int64_t(blocks_for(s.m, P::m)) * blocks_for(s.n, kN);
  unsigned blocks = unsigned(std::min<int64_t>(tiles, P::blocks * ex.gpu->multiprocessors));
  launch(ex, {"matmul_wgmma", {blocks}, {P::threads}, P::shared_bytes}, matmul_wgmma_kernel<T, kGroups, trans_a, trans_b>,
         tensor_map(o.a, kBoxRows<!trans_a, P::m>), tensor_map(o.b, kBoxRows<trans_b, kN>), epilogue_of(o, s), s.k);
}

// About the time that tiles of so many groups take: tall ones share columns of b among more rows, low ones leave fewer
// multiprocessors idle.
int64_t cost(const Exec& ex, const MatmulSizes& s, int groups) {
  int64_t tiles = int64_t(blocks_for(s.m, 64 * groups)) * blocks_for(s.n, kN);
  return (tiles + ex.gpu->multiprocessors - 1) / ex.gpu->multiprocessors * (2 * groups + 1);
}

template <typename T, bool trans_a, bool trans_b>
void choose_groups(Exec& ex, const Matmul& o, const MatmulSizes& s) {
  int64_t one = cost(ex, s, 1), two = cost(ex, s, 2), three = cost(ex, s, 3);
  if (three <= two && three <= one) return run<T, 3, trans_a, trans_b>(ex, o, s);
  two <= one ? run<T, 2, trans_a, trans_b>(ex, o, s) : run<T, 1, trans_a, trans_b>(ex, o, s);
}

template <typename T>
void choose_form(Exec& ex, const Matmul& o, const MatmulSizes& s) {
  auto* run = o.trans_a ? (o.trans_b ? choose_groups<T, true, true> : choose_groups<T, true, false>)
                        : (o.trans_b ? choose_groups<T, false, true> : choose_groups<T, false, false>);
  run(ex, o, s);
}

}  // namespace

void matmul_wgmma(Exec& ex, const Matmul& o, const MatmulSizes& s) {
  o.a.dtype == DType::bf16 ? choose_form<bf16>(ex, o, s) : choose_form<f16>(ex, o, s);
}

}  // namespace threefold::cuda
