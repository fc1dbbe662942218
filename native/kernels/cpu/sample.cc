// Sampling by inverse CDF, with log-probs by the one running log-softmax.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/rng.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/softmax_state.h"

namespace threefold::cpu {
namespace {

constexpr uint64_t kStream = 1;  // Philox stream of token draws

// Keeps the likeliest tokens: p holds exp(z - max), 0 for what is cut. Ties go to the lower index.
void cut(std::vector<float>& p, const float* z, int64_t top_k, float top_p) {
  int64_t v = int64_t(p.size());
  if ((top_k <= 0 || top_k >= v) && top_p >= 1) return;
  std::vector<int32_t> order(v);
  std::iota(order.begin(), order.end(), 0);
  auto likelier = [z](int32_t a, int32_t b) { return z[a] > z[b] || (z[a] == z[b] && a < b); };
  int64_t keep = top_k > 0 ? std::min(top_k, v) : v;
  if (top_p >= 1 && keep < v)
    std::nth_element(order.begin(), order.begin() + keep, order.end(), likelier);
  else
    std::sort(order.begin(), order.end(), likelier);
  if (top_p < 1) {
    double total = 0, running = 0;
    for (int64_t i = 0; i < keep; ++i) total += p[order[i]];
    int64_t i = 0;
    while (i < keep && running < top_p * total) running += p[order[i++]];
    keep = std::max<int64_t>(i, 1);
  }
  for (int64_t i = keep; i < v; ++i) p[order[i]] = 0;
}

int64_t draw(const std::vector<float>& p, float u) {
  double total = 0;
  for (float x : p) total += x;
  double goal = double(u) * total, running = 0;
  int64_t last = 0;
  for (int64_t i = 0; i < int64_t(p.size()); ++i) {
    if (p[i] == 0) continue;
    last = i;
    running += p[i];
    if (running > goal) return i;
  }
  return last;
}

}  // namespace

void sample(Exec& ex, const Sample& o) {
  int64_t b = o.logits.dim(0), v = o.logits.dim(1);
  expect("sample", "logits", o.logits, DType::f32, {b, v});
  expect("sample", "tokens", o.tokens, DType::i32, {b});
  expect("sample", "logprobs", o.logprobs, DType::f32, {b});
  ex.pool.parallel_for(b, [&](int64_t i) {
    const float* logits = o.logits.f32() + i * v;
    for (int64_t j = 0; j < v; ++j)
      if (std::isnan(logits[j])) fail("sample", "logits that are numbers", "NaN in row " + std::to_string(i), "a checkpoint that did not diverge");
    bool greedy = o.inv_temperature.f32()[i] == 0;
    float inv_temperature = greedy ? 1.0f : o.inv_temperature.f32()[i];
    SoftmaxState state;
    float tile[kVocabularyTile];
    for (int64_t v0 = 0; v0 < v; v0 += kVocabularyTile) {
      int64_t width = std::min(kVocabularyTile, v - v0);
      std::copy_n(logits + v0, width, tile);
      state.add(tile, width, inv_temperature, false, nullptr);
    }
    state.finish();
    int64_t token;
    if (greedy) {
      token = std::max_element(logits, logits + v) - logits;
    } else {
      std::vector<float> z(logits, logits + v);
      isa().scale(inv_temperature, z.data(), v);
      std::vector<float> p = z;
      isa().exp_sum(p.data(), state.max, v);
      cut(p, z.data(), o.top_k.i32()[i], o.top_p.f32()[i]);
      uint64_t seed = uint32_t(o.seeds.i32()[2 * i]) | uint64_t(uint32_t(o.seeds.i32()[2 * i + 1])) << 32;
      token = draw(p, uniform_from(philox_at(seed, kStream, uint64_t(o.positions.i32()[i]))[0]));
    }
    o.tokens.i32()[i] = int32_t(token);
    o.logprobs.f32()[i] = inv_temperature * logits[token] - state.lse;
  });
}

}  // namespace threefold::cpu
