// Draws the next token of each row in three kernels: one folds tiles of logits all over the device; one block a row
// applies edits and cuts, where there are any; one warp a row draws. That warp reads no more than one tile of logits: those
// before it count by their sums, which are the fold's own where nothing was edited or cut.
//
// Weights are whole numbers, exp(z - max) * scale, so that sums are the same in any order. A greedy row is a draw where
// only the highest logits weigh anything, at the number 0.
#include <bit>

#include "core/rng.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device/fault.h"
#include "kernels/cuda/device/select.h"
#include "kernels/cuda/device/shared.h"
#include "kernels/cuda/launch.h"

namespace threefold::cuda {
namespace {

constexpr uint64_t kSampleStream = 1;
constexpr int kThreads = 128, kWarps = kThreads / 32;  // where a warp works by itself
constexpr int kMaxWarps = 32;                         // of a block that narrows a row

// What is left of a row after its edits and cuts.
struct Choice {
  bool refused;   // a setting was wrong: there is nothing to draw
  bool narrowed;  // else all tokens may be drawn, and none was edited
  Cut cut;
  float max;      // of the edited z
};

// The pointers of Sample, what is formed of them, and what the kernels share.
struct Rows {
  const float* logits;                           // [B, V]
  Softcap cap;
  const float *inv_temperature, *top_p, *min_p;  // [B]; min_p may be nullptr
  const int32_t* top_k;                          // [B]
  const int32_t *edit_starts, *edit_ids;         // [B + 1], [E]; or nullptr
  const float* edits;                            // [E, 3]
  const uint32_t* seeds;                         // [B, 2]
  const int32_t* positions;                      // [B]
  int32_t* tokens;                               // [B]
  float* logprobs;                               // [B]
  int64_t rows, edit_count;                      // B, E
  int n, tiles;                                  // V, and its tiles
  float scale;                                   // of weights: the sum of V of them is below 2^63
  TilePart* parts;                               // [B, tiles]
  float* edited;                                 // [B, V]: the logits of rows with edits, after cap and edits
  Choice* choices;                               // [B]
  Mass* sums;                                    // [B, tiles]: weights of narrowed rows

  __device__ bool has_edits(int64_t b) const { return edit_starts && edit_starts[b] < edit_starts[b + 1]; }
  __device__ bool greedy(int64_t b) const { return inv_temperature[b] == 0; }
  __device__ float inverse(int64_t b) const { return greedy(b) ? 1 : inv_temperature[b]; }
  __device__ float least(int64_t b) const { return min_p ? min_p[b] : 0; }
  __device__ bool cuts_k(int64_t b) const { return !greedy(b) && top_k[b] > 0 && top_k[b] < n; }
  __device__ bool cuts_p(int64_t b) const { return !greedy(b) && top_p[b] < 1; }
  __device__ bool cuts(int64_t b) const { return cuts_k(b) || cuts_p(b) || (!greedy(b) && least(b) > 0); }
  // The logits that row b is drawn from.
  __device__ LogitRow row(int64_t b) const {
    return has_edits(b) ? LogitRow{edited + b * n, n, Softcap{}} : LogitRow{logits + b * n, n, cap};
  }
  __device__ Mass fixed(float weight) const { return weight > 0 ? Mass(weight * scale) : 0; }
};

// One warp folds one tile of one row.
__global__ void __launch_bounds__(kThreads) fold_kernel(Rows r) {
  int64_t work = (int64_t(blockIdx.x) * kThreads + threadIdx.x) / 32;
  if (work >= r.rows * r.tiles) return;
  int64_t b = work / r.tiles;
  int tile = int(work % r.tiles), lane = threadIdx.x % 32, count = min(kTile, r.n - tile * kTile);
  int64_t from = b * r.n + int64_t(tile) * kTile;
  float x[kPerLane];
  load_tile(r.logits + from, count, x);
  r.cap.apply(x);
  if (r.has_edits(b))
    for (int j = 0; j < kPerLane; ++j)
      if (column_of(lane, j) < count) r.edited[from + column_of(lane, j)] = x[j];
  TilePart part = fold_tile(x, count, r.inverse(b), false);
  if (lane == 0) r.parts[work] = part;
}

struct Checks {
  Check inv_temperature, top_p, min_p, top_k, starts, ids, twice, repetition, finite, none_left;
};

// Raised by one thread where every thread found it.
__device__ __forceinline__ bool wrong(bool is, const Check& check, long long value, long long at) {
  if (is && threadIdx.x == 0) check.raise(0, value, at);
  return is;
}

// The settings of row b, checked: false where one is not what kernels.h says.
__device__ bool settings_hold(const Rows& r, const Checks& checks, int64_t b) {
  float t = r.inv_temperature[b], p = r.top_p[b], least = r.min_p ? r.min_p[b] : 0;
  if (r.edit_starts) {
    int64_t first = r.edit_starts[b], end = r.edit_starts[b + 1];
    bool rising = first >= 0 && first <= end && end <= r.edit_count && (b > 0 || first == 0);
    rising = rising && (b + 1 < r.rows || end == r.edit_count);
    if (!rising && threadIdx.x == 0) checks.starts.raise(r.edit_count, 0, 0);
    if (!rising) return false;
  }
  return !wrong(!(t >= 0 && t < INFINITY), checks.inv_temperature, b, 0) && !wrong(!(p > 0 && p <= 1), checks.top_p, b, 0) &&
         !wrong(!(least >= 0 && least <= 1), checks.min_p, b, 0) && !wrong(r.top_k[b] < 0, checks.top_k, r.top_k[b], b);
}

// Row b's edits of its capped logits, checked and applied by a block to `x` [V], which holds the logits without them.
__device__ void edit(const Rows& r, const Checks& checks, int64_t b, float* x) {
  const float seen = __uint_as_float(0x7fc0ed17);  // a NaN that no logit is: finite ones and -inf alone come here
  int first = r.edit_starts[b] + int(threadIdx.x), end = r.edit_starts[b + 1], step = int(blockDim.x);
  for (int e = first; e < end; e += step) {
    int id = r.edit_ids[e];
    if (!checks.ids.inside(id, r.n, e)) continue;
    if (__float_as_uint(atomicExch(&x[id], seen)) == __float_as_uint(seen)) checks.twice.raise(0, b, 0);
    if (!(r.edits[3 * int64_t(e) + 1] > 0)) checks.repetition.raise(0, e, 0);
  }
  __syncthreads();
  for (int e = first; e < end; e += step) {
    int id = r.edit_ids[e];
    if (id < 0 || id >= r.n) continue;
    const float *by = r.edits + 3 * int64_t(e), repetition = by[1];
    float logit = r.cap(r.logits[b * r.n + id]) + by[0];
    x[id] = (logit > 0 ? logit / repetition : logit * repetition) - by[2];
  }
  __syncthreads();
}

// What a token weighs in the draw, beside one of z = max.
struct Weigh {
  const Rows& r;
  bool greedy, narrowed;
  Cut cut;
  float inverse, least, max;
  __device__ Mass operator()(int column, float x) const {
    float z = x * inverse;
    if (greedy) return z == max;
    float w = expf(z - max);
    return !narrowed || (w >= least && cut.keeps(column, key_of(x))) ? r.fixed(w) : 0;
  }
};

__device__ __forceinline__ bool drawable(const SoftmaxState& s) {
  return s.sum > 0 && s.sum < INFINITY && fabsf(s.max) < INFINITY;
}

struct NarrowShared {
  SelectShared select;
  SoftmaxState state;
  float maxima[32];
};

// One block for each row: its checks, edits and cuts, and the sums of what is left.
__global__ void __launch_bounds__(32 * kMaxWarps) narrow_kernel(Rows r, Checks checks) {
  int64_t b = blockIdx.x;
  Choice choice{!settings_hold(r, checks, b), false, Cut{}, 0};
  if (choice.refused || (!r.has_edits(b) && !r.cuts(b))) {
    if (threadIdx.x == 0) r.choices[b] = choice;
    return;
  }
  auto& s = shared_struct<NarrowShared>();
  if (threadIdx.x < 32) {
    SoftmaxState state = join_tiles(r.parts + b * r.tiles, r.tiles);
    if (threadIdx.x == 0) s.state = state;
  }
  __syncthreads();
  choice.narrowed = drawable(s.state);  // else the draw says so
  choice.max = s.state.max;
  float inverse = r.inverse(b);
  LogitRow row = r.row(b);
  if (choice.narrowed && r.has_edits(b)) {
    edit(r, checks, b, r.edited + b * r.n);
    float max = -INFINITY;
    row.each([&](int, float x) { max = fmaxf(max, x * inverse); });
    choice.max = block_max(max, s.maxima);
    choice.refused = wrong(!r.greedy(b) && !(fabsf(choice.max) < INFINITY), checks.none_left, b, 0);
  }
  if (threadIdx.x == 0) r.choices[b] = choice;
  if (choice.refused || !choice.narrowed) return;

  Mass* sums = r.sums + b * r.tiles;
#pragma unroll 1
  for (int step = 0; step < 2; ++step) {  // top-k, then top-p
    bool by_mass = step == 1;
    if (!(by_mass ? r.cuts_p(b) : r.cuts_k(b))) continue;
    choice.cut = select(row, choice.cut, [&](float x) { return by_mass ? r.fixed(expf(x * inverse - choice.max)) : 1; },
                        [&](Mass total) {
                          Mass share = by_mass ? Mass(ceil(double(r.top_p[b]) * double(total))) : Mass(r.top_k[b]);
                          return min(total, max(share, Mass(1)));
                        }, s.select, sums);
  }
  if (threadIdx.x == 0) r.choices[b].cut = choice.cut;
  tile_sums(row, Weigh{r, r.greedy(b), true, choice.cut, inverse, r.least(b), choice.max}, sums);
}

// One warp for each row.
__global__ void __launch_bounds__(kThreads) draw_kernel(Rows r, Check finite) {
  int64_t b = (int64_t(blockIdx.x) * kThreads + threadIdx.x) / 32;
  int lane = threadIdx.x % 32;
  if (b >= r.rows) return;
  Choice choice = r.choices[b];
  if (choice.refused) return;
  const TilePart* parts = r.parts + b * r.tiles;
  SoftmaxState state = join_tiles(parts, r.tiles);
  if (!drawable(state)) {
    if (lane == 0) finite.raise(0, b, 0);
    return;
  }
  Weigh weigh{r, r.greedy(b), choice.narrowed, choice.cut, r.inverse(b), r.least(b), choice.max};
  auto sum_of = [&](int tile) -> Mass {
    if (choice.narrowed) return r.sums[b * r.tiles + tile];
    TilePart part = parts[tile];
    return weigh.greedy ? part.max == state.max : r.fixed(part.sum * expf(part.max - state.max));
  };
  Mass total = 0;
  for (int t = lane; t < r.tiles; t += 32) total += sum_of(t);
  total = warp_total(total);
  uint64_t seed = r.seeds[2 * b] | uint64_t(r.seeds[2 * b + 1]) << 32;
  uint32_t u = weigh.greedy ? 0 : philox_at(seed, kSampleStream, uint32_t(r.positions[b]))[0] >> 8;
  // The running sum passes u / 2^24 of the total where it is above the whole part of that.
  Place place = find_tile(sum_of, r.tiles, (total >> 24) * u + ((total & 0xffffff) * u >> 24));
  if (!choice.narrowed) weigh.max = parts[place.tile].max;
  LogitRow row = choice.narrowed ? r.row(b) : LogitRow{r.logits + b * r.n, r.n, r.cap};
  int token = find_column(row, place, weigh);
  if (lane) return;
  r.tokens[b] = token;
  r.logprobs[b] = state.logprob(r.cap(r.logits[b * r.n + token]), weigh.inverse);
}

}  // namespace

void sample(Exec& ex, const Sample& o) {
  int64_t rows = o.logits.dim(0), v = o.logits.dim(1), tiles = tiles_of(v);
  if (rows == 0) return;
  Scratch<TilePart> parts(ex, rows * tiles);
  Scratch<float> edited(ex, o.edit_starts ? rows * v : 0);
  Scratch<Choice> choices(ex, rows);
  Scratch<Mass> sums(ex, rows * tiles);
  Rows r{.logits = o.logits.f32(), .cap = Softcap(o.softcap), .inv_temperature = o.inv_temperature.f32(),
         .top_p = o.top_p.f32(), .min_p = o.min_p.f32(), .top_k = o.top_k.i32(), .edit_starts = o.edit_starts.i32(),
         .edit_ids = o.edit_ids.i32(), .edits = o.edits.f32(), .seeds = o.seeds.as<uint32_t>(),
         .positions = o.positions.i32(), .tokens = o.tokens.i32(), .logprobs = o.logprobs.f32(), .rows = rows,
         .edit_count = o.edit_starts ? o.edits.dim(0) : 0, .n = int(v), .tiles = int(tiles),
         .scale = std::ldexp(1.0f, 63 - std::bit_width(uint64_t(v))), .parts = parts.data(), .edited = edited.data(),
         .choices = choices.data(), .sums = sums.data()};
  Fault* fault = ex.gpu->fault;
  const char *where = "sample", *number = "another number in row %lld", *off = "1, which is off";
  Checks checks = {
      {fault, where, "inv_temperature of 0 (greedy) or more", number, "a temperature above 0, or 0 for greedy"},
      {fault, where, "top_p above 0 and at most 1", number, off},
      {fault, where, "min_p of 0 to 1", number, "0, which is off"},
      {fault, where, "top_k of 0 or more", "%lld in row %lld", "0, which is off"},
      {fault, where, "edit_starts that rise from 0 to %lld", "other values", "one entry a row, and the end"},
      {fault, where, "edit_ids from 0 and below %lld", "%lld at position %lld", "the tokenizer this model was made with"},
      {fault, where, "each token edited once a row", "one twice in row %lld", "joining its edits"},
      {fault, where, "repetition above 0", "another number in edit %lld", off},
      {fault, where, "finite logits", "NaN or infinity in row %lld",
       "checking the weights for non-finite values, or a lower learning rate"},
      {fault, where, "a token that may be drawn", "none in row %lld", "a bias that leaves some tokens"}};
  launch(ex, {"sample_fold", {blocks_for(rows * tiles, kWarps)}, {kThreads}}, fold_kernel, r);
  unsigned warps = std::min<unsigned>(kMaxWarps, std::bit_ceil(unsigned(tiles)));
  launch(ex, {"sample_narrow", {unsigned(rows)}, {32 * warps}, sizeof(NarrowShared)}, narrow_kernel, r, checks);
  launch(ex, {"sample_draw", {blocks_for(rows, kWarps)}, {kThreads}}, draw_kernel, r, checks.finite);
}

}  // namespace threefold::cuda
