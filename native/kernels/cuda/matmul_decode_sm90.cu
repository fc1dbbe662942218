// matmul of few rows and 16-bit operands on wgmma, bound by reading b once: the instruction's 64 rows are columns of out (rows
// of b), its columns are rows of out. Each warpgroup streams its own pieces of b and a through its own stages, which the copy
// engine fills. The sums are those of matmul_sm90.cu. Where b has so few rows that pieces of 64 would leave multiprocessors
// idle, pieces are lower, and the instruction's other rows are what happens to lie there, unused.
#include <algorithm>

#include "kernels/cuda/device/few_rows.h"
#include "kernels/cuda/device/shared.h"
#include "kernels/cuda/device/wgmma_tile.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul.h"

namespace threefold::cuda {
namespace {

constexpr int kMostGroups = 4;

// Of a warpgroup; and what a block needs besides.
template <int kRows, int kColumns>
struct Plan {
  static constexpr int stages = 4, b_bytes = kColumns * kDeep * 2, stage_bytes = b_bytes + kRows * kDeep * 2;
  static constexpr int tile_bytes = 4 * kFewTile<kRows, kColumns>, unused_bytes = kTileBytes - b_bytes;
  static constexpr int64_t shared_bytes = stages * stage_bytes + tile_bytes + stages * 8, more_bytes = tile_bytes + unused_bytes;
};

template <typename T, int kRows, int kColumns>
struct Kernel {
  using P = Plan<kRows, kColumns>;
  const TensorMap &a, &b;
  const Epilogue& e;
  int64_t k;

  __device__ __forceinline__ void run() const {
    constexpr int kSteps = kChunk / kDeep, kTile = kFewTile<kRows, kColumns>, kPitch = kFewPitch<kColumns>;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4, group = threadIdx.x / 128, groups = blockDim.x / 128;
    // Shared memory: stages of every warpgroup, sums of every warpgroup, totals, barriers of every warpgroup.
    auto* shared = shared_array<unsigned char>();
    unsigned char* stages = shared + group * P::stages * P::stage_bytes;
    float* all_sums = reinterpret_cast<float*>(shared + groups * P::stages * P::stage_bytes);
    float *own_sums = all_sums + group * kTile, *totals = all_sums + groups * kTile;
    uint64_t* full = reinterpret_cast<uint64_t*>(totals + kTile) + group * P::stages;
    bool leader = threadIdx.x % 128 == 0;
    int64_t j0 = int64_t(blockIdx.x) * kColumns;
    if (leader) {
      for (int s = 0; s < P::stages; ++s) ptx::mbarrier_init(full + s, 1);
      ptx::fence_async_proxy();
    }
    __syncthreads();

    int chunks = int((k + kChunk - 1) / kChunk), rounds = (chunks + groups - 1) / groups;
    auto k_of = [&](int step) { return int64_t(step / kSteps * groups + group) * kChunk + step % kSteps * kDeep; };
    auto fetch = [&](int step) {
      if (!leader || step >= rounds * kSteps || k_of(step) >= k) return;
      unsigned char* to = stages + step % P::stages * P::stage_bytes;
      uint64_t* bar = full + step % P::stages;
      ptx::mbarrier_arrive_expect(bar, P::stage_bytes);
      copy_tile<true, kColumns>(to, b, j0, k_of(step), bar);
      copy_tile<true, kRows>(to + P::b_bytes, a, 0, k_of(step), bar);
    };
    for (int s = 0; s < P::stages; ++s) fetch(s);

    for (int round = 0; round < rounds; ++round) {
      float sums[kRows / 2] = {};
      for (int step = round * kSteps; step < (round + 1) * kSteps && k_of(step) < k; ++step) {
        ptx::mbarrier_wait(full + step % P::stages, step / P::stages % 2);
        uint32_t at = ptx::shared_address(stages + step % P::stages * P::stage_bytes);
        ptx::wgmma_fence();
        multiply_tiles<T, true, true>(sums, at, at + P::b_bytes);
        ptx::wgmma_commit();
        ptx::wgmma_wait<0>();
        ptx::barrier_sync(1 + group, 128);  // all four warps are done with the stage,
        fetch(step + P::stages);            // which is filled again
      }
      if (warp * 16 < kColumns)
#pragma unroll
        for (int i = 0; i < kRows / 2; ++i)
          own_sums[(i / 4 * 8 + lane % 4 * 2 + i % 2) * kPitch + warp * 16 + i / 2 % 2 * 8 + lane / 4] = sums[i];
      int left = chunks - round * groups;
      join_chunks<kRows, kColumns>(totals, all_sums, left < groups ? left : groups, round == 0);
    }
    finish_few_rows<kRows, kColumns>(e, totals, j0);
  }
};

// a [M, K], b [N, K], M <= kRows, K > 0
template <typename T, int kRows, int kColumns>
__global__ void __launch_bounds__(128 * kMostGroups)
    matmul_decode_wgmma_kernel(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                               const __grid_constant__ Epilogue e, int64_t k) {
  if constexpr (ptx::kSm90) Kernel<T, kRows, kColumns>{a, b, e, k}.run();
}

template <typename T, int kRows, int kColumns>
void run(Exec& ex, const Matmul& o, const MatmulSizes& s) {
  using P = Plan<kRows, kColumns>;
  int64_t fit = (ex.gpu->shared_limit - P::more_bytes) / P::shared_bytes;
  int64_t groups = std::min<int64_t>({kMostGroups, fit, blocks_for(s.k, kChunk)});
  Launch l{"matmul_decode_wgmma", {blocks_for(s.n, kColumns)}, {unsigned(128 * groups)}, groups * P::shared_bytes + P::more_bytes};
  launch(ex, l, matmul_decode_wgmma_kernel<T, kRows, kColumns>, tensor_map(o.a, kBoxRows<true, kRows>),
         tensor_map(o.b, kBoxRows<true, kColumns>), epilogue_of(o, s), s.k);
}

template <typename T, int kRows>
void choose_columns(Exec& ex, const Matmul& o, const MatmulSizes& s) {
  int64_t blocks = ex.gpu->multiprocessors;
  auto* chosen = s.n > blocks * 32 ? run<T, kRows, 64> : s.n > blocks * 16 ? run<T, kRows, 32> : run<T, kRows, 16>;
  chosen(ex, o, s);
}

template <typename T>
void choose_rows(Exec& ex, const Matmul& o, const MatmulSizes& s) {
  if (s.m <= 16) return s.m <= 8 ? choose_columns<T, 8>(ex, o, s) : choose_columns<T, 16>(ex, o, s);
  s.m <= 32 ? choose_columns<T, 32>(ex, o, s) : choose_columns<T, 64>(ex, o, s);
}

}  // namespace

void matmul_decode_wgmma(Exec& ex, const Matmul& o, const MatmulSizes& s) {
  o.a.dtype == DType::bf16 ? choose_rows<bf16>(ex, o, s) : choose_rows<f16>(ex, o, s);
}

}  // namespace threefold::cuda
