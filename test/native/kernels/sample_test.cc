#include <algorithm>
#include <numeric>
#include <set>

#include "kernels/op_cases.h"

using namespace threefold;
using namespace threefold::test;
using namespace threefold::test::op_cases;

namespace {

struct Edit {
  int id;
  float bias = 0, repetition = 1, presence = 0;
};
struct Row {
  Values logits;
  float inv_temperature = 1;
  int top_k = 0;
  float top_p = 1;
  int32_t seed_low = 5, seed_high = 0, position = 0;
  float min_p = 0, softcap = 0;  // the cap is the call's: that of the first row holds
  std::vector<Edit> edits = {};
};
struct Drawn {
  std::vector<int> tokens;
  std::vector<float> logprobs;
  bool operator==(const Drawn&) const = default;
};

Drawn draw(Exec& ex, const std::vector<Row>& rows) {
  int64_t b = int64_t(rows.size()), v = int64_t(rows[0].logits.size());
  Buffer logits(DType::f32, {b, v}), inv(DType::f32, {b}), k(DType::i32, {b}), p(DType::f32, {b}), seeds(DType::i32, {b, 2});
  Buffer positions(DType::i32, {b}), tokens(DType::i32, {b}), logprobs(DType::f32, {b});
  for (int64_t i = 0; i < b; ++i) {
    const Row& row = rows[i];
    for (int64_t j = 0; j < v; ++j) logits.set(i * v + j, row.logits[j]);
    inv.set(i, row.inv_temperature);
    k.set(i, row.top_k);
    p.set(i, row.top_p);
    seeds.set(2 * i, row.seed_low);
    seeds.set(2 * i + 1, row.seed_high);
    positions.set(i, row.position);
  }
  Buffer min_p(DType::f32, {b}), starts(DType::i32, {b + 1});
  Values ids, edits;
  for (int64_t i = 0; i < b; ++i) {
    min_p.set(i, rows[i].min_p);
    starts.set(i, double(ids.size()));
    for (const Edit& e : rows[i].edits) {
      ids.push_back(e.id);
      edits.insert(edits.end(), {e.bias, e.repetition, e.presence});
    }
  }
  starts.set(b, double(ids.size()));
  Buffer edit_ids(DType::i32, {int64_t(ids.size())}, ids), edit_values(DType::f32, {int64_t(ids.size()), 3}, edits);
  Sample args{.logits = logits.view, .softcap = rows[0].softcap, .inv_temperature = inv.view, .top_k = k.view, .top_p = p.view,
              .min_p = min_p.view, .edit_starts = starts.view, .edit_ids = edit_ids.view, .edits = edit_values.view,
              .seeds = seeds.view, .positions = positions.view, .tokens = tokens.view, .logprobs = logprobs.view};
  bool plain = ids.empty() && std::all_of(rows.begin(), rows.end(), [](const Row& r) { return r.min_p == 0; });
  if (plain) args.min_p = args.edit_starts = args.edit_ids = args.edits = View{};  // both spellings of "none" are drawn with
  ops.sample(ex, args);
  Drawn out;
  for (int64_t i = 0; i < b; ++i) {
    out.tokens.push_back(tokens.view.i32()[i]);
    out.logprobs.push_back(logprobs.view.f32()[i]);
  }
  return out;
}
Drawn draw_everywhere(const std::vector<Row>& rows) {
  Drawn first = draw(machine(1).ex, rows);
  for (int threads : {2, 3}) CHECK(draw(machine(threads).ex, rows) == first);
  return first;
}

// Probabilities after the cuts, in float64, by full sorting.
Values probabilities(const Row& row) {
  size_t n = row.logits.size();
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return row.logits[a] > row.logits[b]; });
  if (row.top_k > 0 && size_t(row.top_k) < n) order.resize(row.top_k);
  double max = row.logits[order[0]], total = 0, mass = 0;
  auto weight = [&](size_t i) { return std::exp((row.logits[i] - max) * double(row.inv_temperature)); };
  for (size_t i : order) total += weight(i);
  Values p(n);
  double kept = 0;
  for (size_t i : order) {
    if (mass >= double(row.top_p) * total) break;
    mass += weight(i);
    kept += p[i] = weight(i);
  }
  for (double& x : p) x /= kept;
  return p;
}

// One row per position, all else alike.
std::vector<Row> over_positions(const Row& row, int n) {
  std::vector<Row> rows(n, row);
  for (int i = 0; i < n; ++i) rows[i].position = i;
  return rows;
}

// Every count is within 4 sigma of its expectation, and what has no probability never comes.
void check_frequencies(const std::vector<int>& tokens, const Values& p) {
  std::vector<double> count(p.size());
  for (int t : tokens) ++count[t];
  double n = double(tokens.size());
  for (size_t i = 0; i < p.size(); ++i) CHECK_NEAR(count[i], n * p[i], 4 * std::sqrt(n * p[i] * (1 - p[i])));
}

Row row_of(uint64_t seed, int64_t v, float inv_temperature = 1, double scale = 4) {
  Row row;
  row.logits = random_values(seed, v, scale);
  row.inv_temperature = inv_temperature;
  return row;
}

}  // namespace

// The uniform number is known, so the token is: the first whose cumulative probability passes it.
TEST(sample_is_the_inverse_of_the_cdf) {
  for_each_device([] {
    for (int64_t v : {1, 5, 97, 1024, 1025, 2500})
      for (float top_p : {1.0f, 0.8f}) {
        Row row = row_of(uint64_t(v), v, 0.8f);
        row.top_p = top_p;
        row.seed_low = -7;
        row.seed_high = 9;
        Values p = probabilities(row);
        Drawn got = draw_everywhere(over_positions(row, 40));
        for (int i = 0; i < 40; ++i) {
          double u = uniform_from(philox_at(uint64_t(9) << 32 | uint32_t(-7), 1, uint64_t(i))[0]), below = 0;
          int token = got.tokens[i];
          for (int j = 0; j < token; ++j) below += p[j];
          CHECK(p[token] > 0);
          CHECK(u > below - 1e-6 && u < below + p[token] + 1e-6);
        }
      }
  });
}

TEST(sample_frequencies_match_probabilities) {
  for_each_device([] {
    int n = test_device()->on_cpu() ? 4000 : 1000;
    for (float inv_temperature : {1.0f, 0.5f, 2.0f})
      for (int top_k : {0, 4})
        for (float top_p : {1.0f, 0.7f}) {
          Row row = row_of(21, 7, inv_temperature, 2);
          row.top_k = top_k;
          row.top_p = top_p;
          check_frequencies(draw(machine(2).ex, over_positions(row, n)).tokens, probabilities(row));
        }
  });
  Row row = row_of(21, 7, 1, 2), other = row_of(22, 7, 1, 2);
  std::vector<int> tokens = draw(machine(2).ex, over_positions(row, 4000)).tokens;
  CHECK(failure_count([&] { check_frequencies(tokens, probabilities(other)); }) > 0);
}

TEST(sample_cuts_keep_the_right_tokens) {
  struct Expected {
    Values logits;
    int top_k;
    float top_p;
    std::set<int> tokens;
    float min_p = 0;
    std::vector<Edit> edits = {};
  };
  const double half = std::log(0.5), quarter = std::log(0.25), eighth = std::log(0.125);
  const Expected cases[] = {
      {{1, 3, 2, 3, 0}, 1, 1, {1}},            // a tie at the cut: the lower index
      {{1, 3, 2, 3, 2}, 3, 1, {1, 2, 3}},
      {{1, 1, 1, 1}, 2, 1, {0, 1}},
      {{-1, -0.0, 0.0}, 1, 1, {1}},            // 0 ties with -0
      {{1, 1, 1, 1, 0}, 2, 0.99f, {0, 1}},     // a tie at one cut stays cut at the next
      {{1, 1, 1, 1}, 9, 1, {0, 1, 2, 3}},      // more than there are: off
      {{eighth, half, eighth, quarter}, 0, 0.5f, {1}},
      {{eighth, half, eighth, quarter}, 0, 0.6f, {1, 3}},
      {{eighth, half, eighth, quarter}, 0, 0.76f, {0, 1, 3}},
      {{eighth, half, eighth, quarter}, 0, 1, {0, 1, 2, 3}},
      {{eighth, half, eighth, quarter}, 0, 1e-6f, {1}},       // never empty
      {{eighth, half, eighth, quarter}, 2, 0.66f, {1}},       // top-p over what top-k left: 2/3 of it
      {{eighth, half, eighth, quarter}, 2, 0.7f, {1, 3}},
      {{-INFINITY, 0, -INFINITY, 0}, 0, 1, {1, 3}},           // masked tokens never come
      {{eighth, half, eighth, quarter}, 0, 1, {1, 3}, 0.4f},  // min-p: within 0.4 of the likeliest
      {{eighth, half, eighth, quarter}, 0, 1, {0, 1, 2, 3}, 0.24f},
      {{eighth, half, eighth, quarter}, 0, 1, {1}, 1},
      {{eighth, half, eighth, quarter}, 2, 1, {1, 3}, 0.24f},                             // after top-k
      {{eighth, half, eighth, quarter}, 2, 1, {0, 2}, 0, {{1, -40}, {3, -40}}},           // bias, before every cut
      {{2, 1, -1, -1}, 1, 1, {1}, 0, {{0, 0, 4}}},                                        // repetition: 2 becomes 0.5
      {{-2, -1, -1.5, -1.2}, 1, 1, {3}, 0, {{1, 0, 2}}},                                  // and -1 becomes -2
      {{2, 1, -1, -1}, 1, 1, {1}, 0, {{0, 0, 1, 1.5f}}},                                  // presence
      {{2, 1, 0.5, -1}, 1, 1, {2}, 0, {{0, -3, 2, 0}, {1, 0, 3, 0.1f}, {2, 0.1f, 1, 0}}}, // (2 - 3) * 2, 1 / 3 - 0.1
  };
  for_each_device([&] {
    for (const Expected& c : cases) {
      Row row{.logits = c.logits, .top_k = c.top_k, .top_p = c.top_p, .min_p = c.min_p, .edits = c.edits};
      std::vector<int> tokens = draw_everywhere(over_positions(row, test_device()->on_cpu() ? 200 : 100)).tokens;
      CHECK(std::set<int>(tokens.begin(), tokens.end()) == c.tokens);
    }
  });
  // Wide vocabularies, where candidates are ordered a stretch at a time.
  for (float top_p : {0.5f, 0.97f}) {
    Row row = row_of(3, 2500, 1, 0.5);
    row.top_p = top_p;
    Values p = probabilities(row);
    for (int token : draw_everywhere(over_positions(row, 100)).tokens) CHECK(p[token] > 0);
  }
}

TEST(sample_greedy_takes_the_lowest_of_the_highest) {
  Row row{.logits = {1, 5, -2, 5, 5}, .inv_temperature = 0, .top_k = 2, .top_p = 0.1f};
  Row warm = row;
  warm.inv_temperature = 1;
  for_each_device([&] {
    for (int position : {0, 1, 2}) {
      row.position = position;
      Drawn got = draw_everywhere({row});
      CHECK_EQ(got.tokens[0], 1);
      double sum = 3 + std::exp(-4.0) + std::exp(-7.0);
      CHECK_NEAR(got.logprobs[0], -std::log(sum), 1e-6);  // temperature 1, before any cut
    }
  });
}

TEST(sample_does_not_mind_an_offset_of_all_logits) {
  for_each_device([] {
    Row row = row_of(9, 1025), high = row;
    for (double& x : high.logits) x += 512;
    Drawn low = draw(machine(1).ex, over_positions(row, 50)), got = draw(machine(1).ex, over_positions(high, 50));
    CHECK(got.tokens == low.tokens);
    for (int i = 0; i < 50; ++i) CHECK_NEAR(got.logprobs[i], low.logprobs[i], 1e-5);
  });
}

TEST(sample_depends_on_seed_and_position_alone) {
  for_each_device([] {
    std::vector<Row> rows;
    for (int i = 0; i < 40; ++i) {
      rows.push_back(row_of(100 + i, 1025));
      rows.back().seed_low = i * 77;
      rows.back().position = i * 3;
      if (i % 3 == 1) rows.back().top_p = 0.9f;
      if (i % 3 == 2) rows.back().inv_temperature = 0;
    }
    Drawn all = draw_everywhere(rows);
    for (int i = 0; i < 40; ++i) {
      Drawn one = draw(machine(1).ex, {rows[i]});
      CHECK_EQ(one.tokens[0], all.tokens[i]);
      CHECK_EQ(one.logprobs[0], all.logprobs[i]);
    }
    std::vector<Row> reversed(rows.rbegin(), rows.rend());
    Drawn back = draw(machine(2).ex, reversed);
    std::reverse(back.tokens.begin(), back.tokens.end());
    CHECK(back.tokens == all.tokens);
    // and it does depend on each half of the seed, and on the position
    Row row = row_of(1, 1025);
    std::vector<int> base = draw(machine(1).ex, over_positions(row, 20)).tokens;
    CHECK(std::set<int>(base.begin(), base.end()).size() > 10);
    row.seed_low += 1;
    CHECK(draw(machine(1).ex, over_positions(row, 20)).tokens != base);
    row.seed_low -= 1;
    row.seed_high += 1;
    CHECK(draw(machine(1).ex, over_positions(row, 20)).tokens != base);
  });
}

// Wide rows, whole ones and some that end inside of 16 bytes, every kind of cut, and logits of few values, where ties stand
// at every cut: each device draws what the first one does.
TEST(sample_draws_the_same_on_every_device) {
  struct Bent {
    float inv_temperature, top_p, min_p;
    int top_k;
    bool edited;
  };
  const Bent bents[] = {{1, 1, 0, 0, false},      {0.7f, 0.9f, 0, 0, false}, {1, 1, 0, 50, false},      {1.3f, 0.6f, 0, 300, false},
                        {1, 0.99f, 0.02f, 0, false}, {1, 1, 0.3f, 0, true},  {0, 1, 0, 0, true},        {0.5f, 0.5f, 0.001f, 777, true},
                        {1, 0.001f, 0, 0, false}, {1, 1, 0, 1, true},        {0.01f, 0.999f, 0, 0, true}};
  for (int64_t v : {2048, 5003})
    for (float softcap : {0.0f, 5.0f})
      for (double steps : {4.0, 1024.0}) {  // of a logit, to 1
        std::vector<Row> rows;
        for (const Bent& bent : bents)
          for (int position : {0, 1}) {
            Row row = row_of(uint64_t(v + position), v, bent.inv_temperature, 8);
            for (double& x : row.logits) x = std::round(x * steps) / steps;
            row.top_p = bent.top_p, row.min_p = bent.min_p, row.top_k = bent.top_k;
            row.softcap = softcap;
            row.position = 100 * int(rows.size()) + position;
            for (int i = 0; bent.edited && i < 300; ++i)
              row.edits.push_back({int(7 * i % v), float(i % 5) - 2, i % 2 ? 1.25f : 1, float(i % 3)});
            rows.push_back(row);
          }
        Drawn first = draw(machine(1).ex, rows);
        for_each_device([&] {
          Drawn got = draw(machine(2).ex, rows);
          CHECK(got.tokens == first.tokens);
          for (size_t i = 0; i < rows.size(); ++i) CHECK_NEAR(got.logprobs[i], first.logprobs[i], 4e-6);
        });
      }
}

// More tiles than a warp has lanes, and sums over many tokens of little weight.
TEST(sample_of_a_large_vocabulary) {
  constexpr int64_t kV = 33 * 1024 + 5;
  Row flat{.logits = Values(kV, 0)}, cut = flat, peaked = flat;
  cut.top_k = kV - 1;
  peaked.logits[kV / 2] = 10.5;  // about as likely as all others
  peaked.top_p = 0.7f;
  std::vector<Row> rows = over_positions(flat, 3);
  for (const Row& row : over_positions(cut, 3)) rows.push_back(row);
  for (const Row& row : over_positions(peaked, 8)) rows.push_back(row);
  Drawn first = draw(machine(1).ex, rows);
  CHECK(std::set<int>(first.tokens.begin() + 6, first.tokens.end()).size() > 1);
  for_each_device([&] {
    Drawn got = draw(machine(2).ex, rows);
    CHECK(got.tokens == first.tokens);
    for (int i = 0; i < 6; ++i) {
      double u = uniform_from(philox_at(5, 1, uint64_t(i % 3))[0]);
      CHECK_EQ(got.tokens[i], int(std::floor(u * double(i < 3 ? kV : kV - 1))));
      CHECK_NEAR(got.logprobs[i], -std::log(double(kV)), 1e-6);
    }
  });
}

// Contract 1: what the sampler records is what the trainer computes from the hidden state.
// Whatever the draw is bent by, what is recorded is the model's own log-prob.
TEST(sample_logprob_is_bit_equal_to_logprob_forward) {
  for_each_device([](DType d) {
    for (int64_t v : {5, 97, 1024, 1025, 2500})
      for (float inv_temperature : {1.0f, 0.7f, 0.0f})
        for (bool bent : {false, true}) {
        int64_t b = 7, h = 100;
        Buffer hidden(d, {b, h}, random_values(1, b * h)), weight(d, {v, h}, random_values(2, v * h));
        Buffer logits(DType::f32, {b, v}), inv(DType::f32, {b}, Values(b, inv_temperature)), k(DType::i32, {b}, Values(b, 3));
        Buffer p(DType::f32, {b}, Values(b, 0.9)), seeds(DType::i32, {b, 2}, Values(2 * b, 4)), positions(DType::i32, {b}, random_rows(1, b, b));
        Buffer tokens(DType::i32, {b}), recorded(DType::f32, {b}), again(DType::f32, {b}), lse(DType::f32, {b}), ent(DType::f32, {b});
        Buffer rows(DType::i32, {b}, {0, 1, 2, 3, 4, 5, 6});
        Exec& ex = machine(2).ex;
        Buffer bias(d, {v}, random_values(3, v)), starts(DType::i32, {b + 1}, {0, 2, 2, 4, 4, 4, 4, 6});
        Buffer ids(DType::i32, {6}, {0, 1, 2, 3, 3, 4}), edits(DType::f32, {6, 3});
        for (int i = 0; i < 18; ++i) edits.set(i, i % 3 == 0 ? 9 : 1.25);
        float cap = bent ? 3 : 0;
        ops.matmul(ex, {.a = hidden.view, .b = weight.view, .out = logits.view, .bias = bent ? bias.view : View{}});
        Sample args{.logits = logits.view, .softcap = cap, .inv_temperature = inv.view, .top_k = k.view, .top_p = p.view,
                    .seeds = seeds.view, .positions = positions.view, .tokens = tokens.view, .logprobs = recorded.view};
        if (bent) args.edit_starts = starts.view, args.edit_ids = ids.view, args.edits = edits.view;
        ops.sample(ex, args);
        ops.logprob_forward(machine(3).ex, {.hidden = hidden.view, .weight = weight.view, .bias = bent ? bias.view : View{},
                                             .softcap = cap, .rows = rows.view, .targets = tokens.view,
                                             .inv_temperature = inv_temperature == 0 ? 1 : inv_temperature,
                                             .logprobs = again.view, .lse = lse.view, .entropy = ent.view});
        CHECK(same_bits(recorded, again));
        CHECK(recorded.get(0) < 0);
      }
  });
}

TEST(sample_refuses_what_it_cannot_draw_from) {
  std::vector<Row> rows(3, row_of(1, 1030));
  auto message = [&](auto change) {
    std::vector<Row> wrong = rows;
    change(wrong);
    std::string first = message_of([&] { draw(machine(1).ex, wrong); });
    CHECK_EQ(message_of([&] { draw(machine(3).ex, wrong); }), first);
    return first;
  };
  for_each_device([&] {
    CHECK_EQ(message([](auto&) {}), std::string());
    for (int at : {0, 517, 1029}) {
      CHECK(has(message([at](auto& r) { r[1].logits[at] = NAN; }), "[sample] expected finite logits, received NaN or infinity in row 1"));
      CHECK(has(message([at](auto& r) { r[2].logits[at] = INFINITY; r[2].inv_temperature = 0; }), "in row 2"));
    }
    CHECK(has(message([](auto& r) { std::fill(r[0].logits.begin(), r[0].logits.end(), -INFINITY); }), "in row 0"));
    CHECK(has(message([](auto& r) { r[2].top_p = 0; }), "top_p"));
    CHECK(has(message([](auto& r) { r[1].top_k = -1; }), "top_k"));
    CHECK(has(message([](auto& r) { r[1].inv_temperature = -1; }), "inv_temperature"));
    CHECK(has(message([](auto& r) { r[1].min_p = 1.5f; }), "min_p"));
    CHECK(has(message([](auto& r) { r[1].edits = {{1030}}; }), "edit_ids"));
    CHECK(has(message([](auto& r) { r[1].edits = {{3}, {5}, {3}}; }), "each token edited once"));
    CHECK(has(message([](auto& r) { r[1].edits = {{3, 0, 0}}; }), "repetition above 0"));
    CHECK(has(message([](auto& r) {
                for (int i = 0; i < 1030; ++i) r[1].edits.push_back({i, -INFINITY});
              }), "a token that may be drawn, received none in row 1"));
  });
  Buffer logits(DType::f32, {2, 5}), three(DType::f32, {3});
  Sample args;
  args.logits = logits.view;
  args.inv_temperature = three.view;
  CHECK(has(message_of([&] { ops.sample(machine(1).ex, args); }), "inv_temperature"));
}
