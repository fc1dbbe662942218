// A stable radix sort, 8 bits of the id a pass.
#include "kernels/cuda/group.h"

#include <bit>

#include "kernels/cuda/device/reduce.h"
#include "kernels/cuda/device/shared.h"

namespace threefold::cuda {
namespace {

constexpr int kDigits = 256, kWarps = kDigits / 32, kTurns = 8;  // a block has a thread for each digit
constexpr int kTile = kDigits * kTurns;                          // pairs of a block

// What a pass reads: pairs of the pass before it, or the ids themselves.
struct Source {
  const int2* pairs;   // [T]; nullptr in the first pass
  const int32_t* ids;  // [T]
  int64_t tokens, offset, bound;
  int shift;
  Check inside;

  __device__ __forceinline__ int2 pair(int64_t i) const {
    if (pairs) return pairs[i];
    int64_t id = ids[i] + offset;
    return {id >= 0 && id < bound ? int(id) : -1, int(i)};
  }
  __device__ __forceinline__ int digit(int2 pair) const { return unsigned(pair.x) >> shift & (kDigits - 1); }
};

// counts[block, digit]. The first pass also refuses ids that are outside.
__global__ void __launch_bounds__(kDigits) count_kernel(const __grid_constant__ Source s, int* counts) {
  int* count = shared_array<int>();  // [kDigits]
  count[threadIdx.x] = 0;
  __syncthreads();
  for (int turn = 0; turn < kTurns; ++turn) {
    int64_t i = int64_t(blockIdx.x) * kTile + turn * kDigits + threadIdx.x;
    if (i >= s.tokens) break;
    if (!s.pairs) s.inside.inside(s.ids[i] + s.offset, s.bound, i);
    atomicAdd(&count[s.digit(s.pair(i))], 1);
  }
  __syncthreads();
  counts[int64_t(blockIdx.x) * kDigits + threadIdx.x] = count[threadIdx.x];
}

// The sum of x over the threads before this one.
__device__ int sum_before(int x, int* scratch /* [kWarps] */) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, sum = x;
  for (int by = 1; by < 32; by *= 2) {
    int below = __shfl_up_sync(kFull, sum, by);
    if (lane >= by) sum += below;
  }
  if (lane == 31) scratch[warp] = sum;
  __syncthreads();
  for (int w = 0; w < warp; ++w) sum += scratch[w];
  return sum - x;
}

// Every pair to its place: digits in order, and the pairs of one digit as they came.
__global__ void __launch_bounds__(kDigits)
place_kernel(const __grid_constant__ Source s, const int* counts /* [blocks, kDigits] */, int2* out /* [T] */) {
  int* places = shared_array<int>();            // [kWarps, kDigits]: where the warp's next pair of a digit goes
  int* scratch = places + kWarps * kDigits;     // [kWarps]
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int* own = places + warp * kDigits;
  for (int d = lane; d < kDigits; d += 32) own[d] = 0;
  __syncwarp();
  // A warp takes kTurns * 32 pairs that lie side by side. Which of those with its digit each one is:
  int2 pairs[kTurns];
  int ranks[kTurns];
  const int64_t begin = int64_t(blockIdx.x) * kTile + warp * (kTurns * 32) + lane;
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    int64_t i = begin + turn * 32;
    int digit = -1;
    if (i < s.tokens) pairs[turn] = s.pair(i), digit = s.digit(pairs[turn]);
    unsigned same = __match_any_sync(kFull, digit);
    int before = __popc(same & ((1u << lane) - 1));
    if (digit >= 0) ranks[turn] = own[digit] + before;
    __syncwarp();
    if (digit >= 0 && before == 0) own[digit] += __popc(same);
    __syncwarp();
  }
  // Thread d: where digit d of this block begins, then of each of its warps.
  int total = 0, earlier = 0;
  for (unsigned b = 0; b < gridDim.x; ++b) {
    int n = counts[int64_t(b) * kDigits + threadIdx.x];
    if (b < blockIdx.x) earlier += n;
    total += n;
  }
  int place = sum_before(total, scratch) + earlier;  // its barrier: all warps have counted
  for (int w = 0; w < kWarps; ++w) {
    int n = places[w * kDigits + threadIdx.x];
    places[w * kDigits + threadIdx.x] = place;
    place += n;
  }
  __syncthreads();
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn)
    if (begin + turn * 32 < s.tokens) out[own[s.digit(pairs[turn])] + ranks[turn]] = pairs[turn];
}

}  // namespace

Groups::Groups(Exec& ex, const char* name, const View& ids, int64_t offset, int64_t bound, const Check& inside)
    : tokens_(ids.dim(0)), front_(ex, tokens_), back_(ex, tokens_), sorted_(nullptr) {
  unsigned blocks = blocks_for(tokens_, kTile);
  Scratch<int> counts(ex, int64_t(blocks) * kDigits);
  Source s{nullptr, ids.i32(), tokens_, offset, bound, 0, inside};
  int bits = std::bit_width(uint64_t(bound > 0 ? bound - 1 : 0));
  do {
    int2* to = sorted_ == front_.data() ? back_.data() : front_.data();
    launch(ex, {name, {blocks}, {kDigits}, kDigits * sizeof(int)}, count_kernel, s, counts.data());
    launch(ex, {name, {blocks}, {kDigits}, (kWarps * kDigits + kWarps) * sizeof(int)}, place_kernel, s, counts.data(), to);
    sorted_ = s.pairs = to;
  } while ((s.shift += 8) < bits);
}

}  // namespace threefold::cuda
