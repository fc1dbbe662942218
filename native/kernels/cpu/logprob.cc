// Log-probs fused with the output projection: row blocks x vocabulary tiles, so [T, V] never exists.
#include <algorithm>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/softmax_state.h"

namespace threefold::cpu {
namespace {

constexpr int64_t kRowBlock = 512;

struct Inputs {
  View hidden, weight, rows, targets;
  int64_t r, h, v;
};

Inputs check(const char* where, const View& hidden, const View& weight, const View& rows, const View& targets) {
  Inputs in{hidden, weight, rows, targets, rows.numel(), hidden.dim(1), weight.dim(0)};
  expect(where, "weight", weight, hidden.dtype, {in.v, in.h});
  expect(where, "targets", targets, DType::i32, {in.r});
  for (int64_t i = 0; i < in.r; ++i) {
    if (targets.i32()[i] < 0 || targets.i32()[i] >= in.v)
      fail(where, "targets below " + std::to_string(in.v), std::to_string(targets.i32()[i]) + " at " + std::to_string(i), "ids made with this model's tokenizer");
    if (rows.i32()[i] < 0 || rows.i32()[i] >= hidden.dim(0))
      fail(where, "rows below " + std::to_string(hidden.dim(0)), std::to_string(rows.i32()[i]), "checking how the batch was packed");
  }
  return in;
}

// Rows [r0, r0 + n) of the chosen hidden states, contiguous.
void gather(Exec& ex, const Inputs& in, int64_t r0, int64_t n, const View& out) {
  gather_rows(ex, {.x = in.hidden, .rows = in.rows.at(r0, {n}), .out = out});
}

// Calls body(v0, width, logits [n, width]) for each vocabulary tile of a block of rows.
template <typename F>
void over_tiles(Exec& ex, const Inputs& in, const View& rows, F body) {
  int64_t n = rows.dim(0);
  Scratch<float> tile(ex, n * std::min(kVocabularyTile, in.v));
  for (int64_t v0 = 0; v0 < in.v; v0 += kVocabularyTile) {
    int64_t width = std::min(kVocabularyTile, in.v - v0);
    View logits{tile.data(), DType::f32, {n, width}};
    matmul(ex, {.a = rows, .b = in.weight.rows(v0, v0 + width), .out = logits});
    body(v0, width, logits);
  }
}

}  // namespace

void logprob_forward(Exec& ex, const LogprobForward& o) {
  Inputs in = check("logprob_forward", o.hidden, o.weight, o.rows, o.targets);
  for (const View* v : {&o.logprobs, &o.lse}) expect("logprob_forward", "logprobs and lse", *v, DType::f32, {in.r});
  for (int64_t r0 = 0; r0 < in.r; r0 += kRowBlock) {
    int64_t n = std::min(kRowBlock, in.r - r0);
    Scratch<char> gathered(ex, n * in.h * size_of(in.hidden.dtype));
    View rows{gathered.data(), in.hidden.dtype, {n, in.h}};
    gather(ex, in, r0, n, rows);
    std::vector<SoftmaxState> states(n);
    over_tiles(ex, in, rows, [&](int64_t v0, int64_t width, const View& logits) {
      ex.pool.parallel_blocks(n, 8, [&](int64_t begin, int64_t end) {
        float spare[kVocabularyTile];
        for (int64_t i = begin; i < end; ++i) {
          float* z = logits.f32() + i * width;
          int64_t target = in.targets.i32()[r0 + i] - v0;
          // scaled as the state scales it
          if (target >= 0 && target < width) o.logprobs.f32()[r0 + i] = o.inv_temperature * z[target];
          states[i].add(z, width, o.inv_temperature, bool(o.entropy), spare);
        }
      });
    });
    for (int64_t i = 0; i < n; ++i) {
      states[i].finish();
      o.logprobs.f32()[r0 + i] -= states[i].lse;
      o.lse.f32()[r0 + i] = states[i].lse;
      if (o.entropy) o.entropy.f32()[r0 + i] = states[i].entropy;
    }
  }
}

// d logit = inv_temperature (dlogprob (onehot - p) - dentropy p (log p + entropy))
void logprob_backward(Exec& ex, const LogprobBackward& o) {
  Inputs in = check("logprob_backward", o.hidden, o.weight, o.rows, o.targets);
  for (const View* v : {&o.dlogprobs, &o.lse}) expect("logprob_backward", "dlogprobs and lse", *v, DType::f32, {in.r});
  if (o.dhidden) std::memset(o.dhidden.data, 0, o.dhidden.numel() * size_of(o.dhidden.dtype));
  const float* entropy = o.dentropy ? o.entropy.f32() : nullptr;
  for (int64_t r0 = 0; r0 < in.r; r0 += kRowBlock) {
    int64_t n = std::min(kRowBlock, in.r - r0);
    Scratch<char> gathered(ex, n * in.h * size_of(in.hidden.dtype));
    Scratch<float> dsum(ex, n * in.h);
    View rows{gathered.data(), in.hidden.dtype, {n, in.h}}, drows{dsum.data(), DType::f32, {n, in.h}};
    gather(ex, in, r0, n, rows);
    std::fill_n(dsum.data(), n * in.h, 0.0f);
    over_tiles(ex, in, rows, [&](int64_t v0, int64_t width, const View& logits) {
      ex.pool.parallel_blocks(n, 8, [&](int64_t begin, int64_t end) {
        float logp[kVocabularyTile];
        for (int64_t i = begin; i < end; ++i) {
          int64_t r = r0 + i, target = in.targets.i32()[r] - v0;
          float *z = logits.f32() + i * width, g = o.dlogprobs.f32()[r] * o.inv_temperature;
          isa().scale(o.inv_temperature, z, width);
          if (entropy)
            for (int64_t j = 0; j < width; ++j) logp[j] = z[j] - o.lse.f32()[r];
          isa().exp_sum(z, o.lse.f32()[r], width);  // p
          if (entropy) {
            float ge = o.dentropy.f32()[r] * o.inv_temperature;
            for (int64_t j = 0; j < width; ++j) z[j] *= -(g + ge * (logp[j] + entropy[r]));
          } else {
            isa().scale(-g, z, width);
          }
          if (target >= 0 && target < width) z[target] += g;
        }
      });
      View weight = in.weight.rows(v0, v0 + width);
      if (o.dhidden) matmul(ex, {.a = logits, .b = weight, .out = drows, .trans_b = false, .accumulate = true});
      if (o.dweight)
        matmul(ex, {.a = logits, .b = rows, .out = o.dweight.rows(v0, v0 + width), .trans_a = true, .trans_b = false, .accumulate = true});
    });
    if (o.dhidden)
      for (int64_t i = 0; i < n; ++i) store(o.dhidden, in.rows.i32()[r0 + i] * in.h, dsum.data() + i * in.h, in.h);
  }
}

}  // namespace threefold::cpu
