// Draws the next token of each row: one row, one thread, one random number.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/rng.h"
#include "kernels/cpu/checks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/softmax_state.h"

namespace threefold::cpu {
namespace {

constexpr uint64_t kSampleStream = 1;
constexpr int64_t kGrain = 8192;  // logits one thread takes at least

// The first of the highest: the order of greedy choice.
int32_t argmax(const float* logits, int64_t n) { return int32_t(std::max_element(logits, logits + n) - logits); }

struct Cuts {
  int64_t top_k;
  float top_p, min_p;
  bool any(int64_t n) const { return (top_k > 0 && top_k < n) || top_p < 1 || min_p > 0; }
};

// The tokens that stay after top-k, then top-p over what top-k left, then min-p, in index order. `weights` are
// exp(z - max), so the likeliest token's is 1.
std::vector<int32_t> kept(const float* logits, const float* weights, int64_t n, const Cuts& cuts) {
  std::vector<int32_t> ids(n);
  std::iota(ids.begin(), ids.end(), 0);
  auto before = [logits](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; };
  if (cuts.top_k > 0 && cuts.top_k < n) {
    std::nth_element(ids.begin(), ids.begin() + (cuts.top_k - 1), ids.end(), before);
    ids.resize(cuts.top_k);
    std::sort(ids.begin(), ids.end());
  }
  if (cuts.top_p < 1) {
    double total = 0, mass = 0;
    for (int32_t id : ids) total += weights[id];
    // Most of the mass sits in few tokens: order them a stretch at a time, each twice the one before.
    size_t count = 0, ordered = 0;
    while (count < ids.size() && (count == 0 || mass < double(cuts.top_p) * total)) {
      if (count == ordered) {
        size_t end = std::min(ids.size(), std::max<size_t>(256, 2 * ordered));
        std::partial_sort(ids.begin() + ordered, ids.begin() + end, ids.end(), before);
        ordered = end;
      }
      mass += weights[ids[count++]];
    }
    ids.resize(count);
    std::sort(ids.begin(), ids.end());
  }
  if (cuts.min_p > 0) std::erase_if(ids, [&](int32_t id) { return weights[id] < cuts.min_p; });
  return ids;
}

// One row's edits of its logits, in place.
void edit(const Sample& o, int64_t b, float* logits) {
  for (int64_t e = o.edit_starts.i32()[b]; e < o.edit_starts.i32()[b + 1]; ++e) {
    const float *by = o.edits.f32() + 3 * e, repetition = by[1];
    float& x = logits[o.edit_ids.i32()[e]];
    x += by[0];
    x = x > 0 ? x / repetition : x * repetition;
    x -= by[2];
  }
}

// Inverse CDF in index order: the first token at which the running sum passes u * total. `at(i)` is the i-th of n tokens.
template <typename At>
int32_t draw(const float* weights, int64_t n, float u, At at) {
  double total = 0, running = 0;
  for (int64_t i = 0; i < n; ++i) total += weights[at(i)];
  int32_t last = at(0);
  for (int64_t i = 0; i < n; ++i) {
    if (weights[at(i)] == 0) continue;
    last = at(i);
    running += weights[last];
    if (running > double(u) * total) break;
  }
  return last;
}

void check_edits(const Sample& o, int64_t rows, int64_t n) {
  const char* where = "sample";
  int64_t edits = o.edits.dim(0);
  expect_indices(where, "edit_ids", o.edit_ids, edits, n, "the tokenizer this model was made with");
  bool rising = o.edit_starts.i32()[0] == 0 && o.edit_starts.i32()[rows] == edits;
  for (int64_t b = 0; b < rows; ++b) rising = rising && o.edit_starts.i32()[b] <= o.edit_starts.i32()[b + 1];
  if (!rising) fail(where, "edit_starts that rise from 0 to " + std::to_string(edits), "other values", "one entry a row, and the end");
  for (int64_t b = 0; b < rows; ++b) {
    std::vector<int32_t> ids(o.edit_ids.i32() + o.edit_starts.i32()[b], o.edit_ids.i32() + o.edit_starts.i32()[b + 1]);
    std::sort(ids.begin(), ids.end());
    if (std::adjacent_find(ids.begin(), ids.end()) != ids.end())
      fail(where, "each token edited once a row", "one twice in row " + std::to_string(b), "joining its edits");
  }
  for (int64_t e = 0; e < edits; ++e)
    if (!(o.edits.f32()[3 * e + 1] > 0))
      fail(where, "repetition above 0", std::to_string(o.edits.f32()[3 * e + 1]) + " in edit " + std::to_string(e), "1, which is off");
}

}  // namespace

void sample(Exec& ex, const Sample& o) {
  const char* where = "sample";
  int64_t rows = o.logits.dim(0), n = o.logits.dim(1);
  if (o.edit_starts) check_edits(o, rows, n);
  for (int64_t b = 0; b < rows; ++b) {
    float t = o.inv_temperature.f32()[b], p = o.top_p.f32()[b];
    std::string row = " in row " + std::to_string(b);
    if (!(t >= 0) || std::isinf(t)) fail(where, "inv_temperature of 0 (greedy) or more", std::to_string(t) + row, "a temperature above 0, or 0 for greedy");
    if (!(p > 0 && p <= 1)) fail(where, "top_p above 0 and at most 1", std::to_string(p) + row, "1, which is off");
    if (o.min_p && !(o.min_p.f32()[b] >= 0 && o.min_p.f32()[b] <= 1))
      fail(where, "min_p of 0 to 1", std::to_string(o.min_p.f32()[b]) + row, "0, which is off");
    if (o.top_k.i32()[b] < 0) fail(where, "top_k of 0 or more", std::to_string(o.top_k.i32()[b]) + row, "0, which is off");
  }

  std::vector<char> broken(rows);
  auto draw_row = [&](int64_t b) {
    const Isa& v = isa();
    bool greedy = o.inv_temperature.f32()[b] == 0, edited = o.edit_starts && o.edit_starts.i32()[b] < o.edit_starts.i32()[b + 1];
    float inv_temperature = greedy ? 1 : o.inv_temperature.f32()[b];
    Scratch<float> weights(ex, n), own(ex, edited || o.softcap > 0 ? n : 0);  // exp(z - max); logits that are not the given ones
    const float* logits = o.logits.f32() + b * n;
    if (o.softcap > 0) {
      std::copy_n(logits, n, own.data());
      v.softcap(o.softcap, own.data(), n);
      logits = own.data();
    }
    std::copy_n(logits, n, weights.data());
    SoftmaxState state;
    for (int64_t v0 = 0; v0 < n; v0 += kVocabularyTile)
      state.fold(weights.data() + v0, std::min(kVocabularyTile, n - v0), inv_temperature);
    if (!(state.sum > 0 && std::isfinite(state.sum) && std::isfinite(state.max))) {
      broken[b] = 1;
      return;
    }
    // The edits change the draw, not the recorded log-prob: of the edited tokens it needs the logits as they were.
    std::vector<float> before;
    if (edited) {
      if (logits != own.data()) std::copy_n(logits, n, own.data());
      logits = own.data();
      for (int64_t e = o.edit_starts.i32()[b]; e < o.edit_starts.i32()[b + 1]; ++e) before.push_back(own[o.edit_ids.i32()[e]]);
      edit(o, b, own.data());
    }
    int32_t token;
    if (greedy) {
      token = argmax(logits, n);
    } else {
      std::copy_n(logits, n, weights.data());
      v.scale(inv_temperature, weights.data(), n);
      float max = edited ? v.max(weights.data(), n) : state.max;
      if (!std::isfinite(max)) {
        broken[b] = 2;
        return;
      }
      v.exp_sum(weights.data(), max, n);
      const uint32_t* seed = o.seeds.as<uint32_t>() + 2 * b;
      uint64_t position = uint32_t(o.positions.i32()[b]);
      float u = uniform_from(philox_at(seed[0] | uint64_t(seed[1]) << 32, kSampleStream, position)[0]);
      Cuts cuts{o.top_k.i32()[b], o.top_p.f32()[b], o.min_p ? o.min_p.f32()[b] : 0};
      if (cuts.any(n)) {
        std::vector<int32_t> ids = kept(logits, weights.data(), n, cuts);
        token = draw(weights.data(), int64_t(ids.size()), u, [&](int64_t i) { return ids[i]; });
      } else {
        token = draw(weights.data(), n, u, [](int64_t i) { return int32_t(i); });
      }
    }
    float logit = logits[token];
    for (size_t e = 0; e < before.size(); ++e)
      if (o.edit_ids.i32()[o.edit_starts.i32()[b] + int64_t(e)] == token) logit = before[e];
    o.tokens.i32()[b] = token;
    o.logprobs.f32()[b] = state.logprob(logit, inv_temperature);
  };
  ex.pool.parallel_blocks(rows, std::max<int64_t>(1, kGrain / n), [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) draw_row(b);
  });
  for (int64_t b = 0; b < rows; ++b)
    if (broken[b] == 2)
      fail(where, "a token that may be drawn", "none in row " + std::to_string(b), "a bias that leaves some tokens");
    else if (broken[b])
      fail(where, "finite logits", "NaN or infinity in row " + std::to_string(b),
           "checking the weights for non-finite values, or a lower learning rate");
}

}  // namespace threefold::cpu
