// Token log-probs and entropy fused with the output projection. Chosen rows are taken in blocks, the vocabulary in
// tiles: memory is one [block, tile] of logits, never [T, V].
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/cpu/checks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/softmax_state.h"

namespace threefold::cpu {
namespace {

constexpr int64_t kRowBlock = 512, kTile = kVocabularyTile;
constexpr int64_t kGrain = 8192;  // logits one thread takes at least

// Returns R.
int64_t expect_chosen(const char* where, const View& hidden, const View& weight, const View& rows, const View& targets) {
  int64_t r = expect_rows(where, rows, hidden.dim(0));
  expect_indices(where, "targets", targets, r, weight.dim(0), "the tokenizer this model was made with");
  return r;
}

// The hidden states of chosen rows [r0, r0 + n), side by side in `memory`.
View gather(Exec& ex, const View& hidden, const View& rows, int64_t r0, int64_t n, char* memory) {
  View block{memory, hidden.dtype, {n, hidden.dim(1)}};
  gather_rows(ex, {.x = hidden, .rows = rows.rows(r0, r0 + n), .out = block});
  return block;
}

// Calls body(v0, tile of weight [n, H], tile of bias [n] or none) for every tile of the vocabulary, in order.
template <typename F>
void over_tiles(const View& weight, const View& bias, F body) {
  for (int64_t v0 = 0; v0 < weight.dim(0); v0 += kTile) {
    int64_t end = std::min(weight.dim(0), v0 + kTile);
    body(v0, weight.rows(v0, end), bias ? bias.rows(v0, end) : View{});
  }
}

}  // namespace

void logprob_forward(Exec& ex, const LogprobForward& o) {
  int64_t r = expect_chosen("logprob_forward", o.hidden, o.weight, o.rows, o.targets), h = o.hidden.dim(1);
  if (r == 0) return;

  int64_t most = std::min(r, kRowBlock);
  Scratch<char> gathered(ex, most * h * size_of(o.hidden.dtype));
  Scratch<float> memory(ex, most * std::min(kTile, o.weight.dim(0)));
  for (int64_t r0 = 0; r0 < r; r0 += kRowBlock) {
    int64_t n = std::min(kRowBlock, r - r0);
    View hidden = gather(ex, o.hidden, o.rows, r0, n, gathered.data());
    const int32_t* targets = o.targets.i32() + r0;
    std::vector<SoftmaxState> states(n);
    std::vector<float> target_logits(n);
    over_tiles(o.weight, o.bias, [&](int64_t v0, const View& weight, const View& bias) {
      int64_t width = weight.dim(0);
      View logits{memory.data(), DType::f32, {n, width}};
      matmul(ex, {.a = hidden, .b = weight, .out = logits, .bias = bias});
      ex.pool.parallel_blocks(n, std::max<int64_t>(1, kGrain / width), [&](int64_t begin, int64_t end) {
        float shifted[kTile];
        for (int64_t i = begin; i < end; ++i) {
          float* row = logits.f32() + i * width;
          if (o.softcap > 0) isa().softcap(o.softcap, row, width);
          if (targets[i] >= v0 && targets[i] < v0 + width) target_logits[i] = row[targets[i] - v0];
          states[i].fold(row, width, o.inv_temperature, o.entropy ? shifted : nullptr);
        }
      });
    });
    for (int64_t i = 0; i < n; ++i) {
      o.logprobs.f32()[r0 + i] = states[i].logprob(target_logits[i], o.inv_temperature);
      o.lse.f32()[r0 + i] = float(states[i].lse());
      if (o.entropy) o.entropy.f32()[r0 + i] = states[i].entropy();
    }
  }
}

namespace {

// Turns logits, before their cap, into their gradient, in place. With z = logit * inv_temperature and p = exp(z - lse):
//   d logprob / dz = onehot(target) - p,  d entropy / dz = -p (log p + entropy).
void logit_gradient(float* row, int64_t n, int64_t target, float softcap, float inv_temperature, float lse, float dlogprob,
                    float dentropy, float entropy, float* log_p, float* slope) {
  const Isa& v = isa();
  if (softcap > 0) {
    v.softcap(softcap, row, n);
    for (int64_t i = 0; i < n; ++i) slope[i] = 1 - (row[i] / softcap) * (row[i] / softcap);
  }
  v.scale(inv_temperature, row, n);
  if (dentropy != 0)  // where p is 0 the product must be 0 too, not 0 * -inf
    for (int64_t i = 0; i < n; ++i) log_p[i] = std::max(row[i] - lse, -1000.0f);
  v.exp_sum(row, lse, n);
  if (dentropy != 0)
    for (int64_t i = 0; i < n; ++i) row[i] *= -inv_temperature * (dlogprob + dentropy * (log_p[i] + entropy));
  else
    v.scale(-inv_temperature * dlogprob, row, n);
  if (target >= 0 && target < n) row[target] += inv_temperature * dlogprob;
  if (softcap > 0) v.mul(row, slope, row, n);
}

}  // namespace

void logprob_backward(Exec& ex, const LogprobBackward& o) {
  int64_t r = expect_chosen("logprob_backward", o.hidden, o.weight, o.rows, o.targets), h = o.hidden.dim(1), t = o.hidden.dim(0);
  if (o.dhidden) std::memset(o.dhidden.data, 0, t * h * size_of(o.dhidden.dtype));
  if (r == 0) return;

  int64_t most = std::min(r, kRowBlock);
  Scratch<char> gathered(ex, most * h * size_of(o.hidden.dtype));
  Scratch<float> memory(ex, most * std::min(kTile, o.weight.dim(0))), sums(ex, o.dhidden ? most * h : 0);
  for (int64_t r0 = 0; r0 < r; r0 += kRowBlock) {
    int64_t n = std::min(kRowBlock, r - r0);
    View hidden = gather(ex, o.hidden, o.rows, r0, n, gathered.data());
    View dhidden{sums.data(), DType::f32, {n, h}};
    if (o.dhidden) std::fill_n(sums.data(), n * h, 0.0f);
    over_tiles(o.weight, o.bias, [&](int64_t v0, const View& weight, const View& bias) {
      int64_t width = weight.dim(0);
      View logits{memory.data(), DType::f32, {n, width}};
      matmul(ex, {.a = hidden, .b = weight, .out = logits, .bias = bias});
      ex.pool.parallel_blocks(n, std::max<int64_t>(1, kGrain / width), [&](int64_t begin, int64_t end) {
        float log_p[kTile], slope[kTile];
        for (int64_t i = begin; i < end; ++i) {
          int64_t at = r0 + i;
          logit_gradient(logits.f32() + i * width, width, o.targets.i32()[at] - v0, o.softcap, o.inv_temperature,
                         o.lse.f32()[at], o.dlogprobs.f32()[at], o.dentropy ? o.dentropy.f32()[at] : 0,
                         o.dentropy ? o.entropy.f32()[at] : 0, log_p, slope);
        }
      });
      if (o.dhidden) matmul(ex, {.a = logits, .b = weight, .out = dhidden, .trans_b = false, .accumulate = true});
      if (o.dweight)
        matmul(ex, {.a = logits, .b = hidden, .out = o.dweight.rows(v0, v0 + width), .trans_a = true, .trans_b = false,
                    .accumulate = true});
      if (o.dbias) column_sum(ex, {.x = logits, .out = o.dbias.rows(v0, v0 + width)});
    });
    if (o.dhidden)
      for (int64_t i = 0; i < n; ++i) store(o.dhidden, o.rows.i32()[r0 + i] * h, sums.data() + i * h, h);
  }
}

}  // namespace threefold::cpu
