// Token log-probs and entropy fused with the output projection: a block of chosen rows against a strip of the
// vocabulary, whose logits are folded tile by tile while they are still in the L2 cache.
#include "kernels/cuda/logprob.h"

#include <algorithm>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device/fault.h"
#include "kernels/cuda/device/softmax_state.h"

namespace threefold::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;

struct ChosenChecks {
  Check rows, twice, targets;
};

// rows [R], targets [R]; seen: one bit for each of the T rows, 0
__global__ void check_chosen_kernel(const int32_t* rows, const int32_t* targets, int64_t r, int64_t t, int64_t v,
                                    uint32_t* seen, ChosenChecks checks) {
  int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= r) return;
  int32_t row = rows[i];
  uint32_t bit = 1u << (row & 31);
  if (checks.rows.inside(row, t, i) && (atomicOr(&seen[row / 32], bit) & bit)) checks.twice.raise(0, row, i);
  checks.targets.inside(targets[i], v, i);
}

// One warp folds one tile of one row. logits [n, width]: the columns of a strip that starts at tile `first_tile`;
// targets [n]; parts [n, tiles] and target_logits [n], out
__global__ void __launch_bounds__(kThreads)
fold_kernel(const float* logits, int64_t n, int64_t width, Softcap cap, float inv_temperature, bool entropy, int64_t first_tile,
            int64_t tiles, const int32_t* targets, TilePart* parts, float* target_logits) {
  int64_t work = int64_t(blockIdx.x) * kWarps + threadIdx.x / 32, tiles_here = (width + kTile - 1) / kTile;
  if (work >= n * tiles_here) return;
  int64_t row = work / tiles_here, tile = work % tiles_here;
  const float* from = logits + row * width + tile * kTile;
  int count = int(min(int64_t(kTile), width - tile * kTile));
  float x[kPerLane];
  load_tile(from, count, x);
  cap.apply(x);
  TilePart part = fold_tile(x, count, inv_temperature, entropy);
  if (threadIdx.x % 32) return;
  parts[row * tiles + first_tile + tile] = part;
  int64_t at = targets[row] - (first_tile + tile) * kTile;
  if (at >= 0 && at < count) target_logits[row] = cap(from[at]);
}

// One warp finishes one row. parts [n, tiles]; target_logits, logprobs, lse, entropy (or nullptr) [n]
__global__ void __launch_bounds__(kThreads)
join_kernel(const TilePart* parts, int tiles, int64_t n, const float* target_logits, float inv_temperature, float* logprobs,
            float* lse, float* entropy) {
  int64_t row = int64_t(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= n) return;
  SoftmaxState state = join_tiles(parts + row * tiles, tiles);
  if (threadIdx.x % 32) return;
  logprobs[row] = state.logprob(target_logits[row], inv_temperature);
  lse[row] = float(state.lse());
  if (entropy) entropy[row] = state.entropy();
}

}  // namespace

Cuts::Cuts(int64_t r, int64_t v) : rows(std::min(r, kRows)) {
  strip = std::clamp(kLogits / std::max<int64_t>(rows, 1) / kTile * kTile, int64_t(kTile), kColumns);
  strip = std::min(strip, std::max<int64_t>(v, 1));
}

void check_chosen(Exec& ex, const char* where, const View& hidden, const View& weight, const View& rows, const View& targets) {
  int64_t r = rows.dim(0), t = hidden.dim(0);
  Scratch<uint32_t> seen(ex, (t + 31) / 32);
  clear(ex, seen.data(), (t + 31) / 32 * 4);
  Fault* fault = ex.gpu->fault;
  ChosenChecks checks = {
      {fault, where, "rows from 0 and below %lld", "%lld at position %lld", "row numbers of this batch"},
      {fault, where, "each row at most once", "row %lld twice", "naming each row once"},
      {fault, where, "targets from 0 and below %lld", "%lld at position %lld", "the tokenizer this model was made with"}};
  launch(ex, {"check_chosen", {blocks_for(r, kThreads)}, {kThreads}}, check_chosen_kernel, rows.i32(), targets.i32(), r, t,
         weight.dim(0), seen.data(), checks);
}

void logprob_forward(Exec& ex, const LogprobForward& o) {
  int64_t r = o.rows.dim(0), h = o.hidden.dim(1), v = o.weight.dim(0), tiles = tiles_of(v);
  if (r == 0) return;
  check_chosen(ex, "logprob_forward", o.hidden, o.weight, o.rows, o.targets);

  Cuts cuts(r, v);
  Scratch<char> gathered(ex, cuts.rows * h * size_of(o.hidden.dtype));
  Scratch<float> memory(ex, cuts.rows * cuts.strip), target_logits(ex, cuts.rows);
  Scratch<TilePart> parts(ex, cuts.rows * tiles);
  for (int64_t r0 = 0; r0 < r; r0 += cuts.rows) {
    int64_t n = std::min(cuts.rows, r - r0);
    View hidden{gathered.data(), o.hidden.dtype, {n, h}};
    gather_rows(ex, {.x = o.hidden, .rows = o.rows.rows(r0, r0 + n), .out = hidden});
    for (int64_t v0 = 0; v0 < v; v0 += cuts.strip) {
      int64_t end = std::min(v, v0 + cuts.strip), width = end - v0;
      View logits{memory.data(), DType::f32, {n, width}};
      matmul(ex, {.a = hidden, .b = o.weight.rows(v0, end), .out = logits, .bias = o.bias ? o.bias.rows(v0, end) : View{}});
      launch(ex, {"logprob_fold", {blocks_for(n * tiles_of(width), kWarps)}, {kThreads}}, fold_kernel, logits.f32(), n, width,
             Softcap(o.softcap), o.inv_temperature, bool(o.entropy), v0 / kTile, tiles, o.targets.i32() + r0, parts.data(),
             target_logits.data());
    }
    launch(ex, {"logprob_join", {blocks_for(n, kWarps)}, {kThreads}}, join_kernel, parts.data(), int(tiles), n,
           target_logits.data(), o.inv_temperature, o.logprobs.f32() + r0, o.lse.f32() + r0,
           o.entropy ? o.entropy.f32() + r0 : nullptr);
  }
}

}  // namespace threefold::cuda
