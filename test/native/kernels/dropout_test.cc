#include "kernels/attention_cases.h"
#include "kernels/op_cases.h"

// Masks are drawn here once more, by the words of kernels/dropout.h: the word of an element is that of its sequence, position
// and column, and keeps it from p 2^32 on.
using namespace threefold;
using namespace threefold::test;
using namespace threefold::test::op_cases;
namespace cases = threefold::test::attention;

namespace {

constexpr uint64_t kSeed = 0x123456789abcdef0;

double factor(float p, uint32_t stream, int64_t row, int64_t position, int64_t column) {
  PhiloxBlock block = philox({uint32_t(column / 4), uint32_t(position), uint32_t(row), stream}, uint32_t(kSeed), uint32_t(kSeed >> 32));
  return block[column % 4] < double(p) * 4294967296.0 ? 0 : 1 / (1 - double(p));
}

// Sequences with the numbers 0, 1, ..., or `numbers`: per token, its sequence's number and its position.
struct Tokens {
  Buffer rows, positions;
  explicit Tokens(const std::vector<int64_t>& lengths, std::vector<int64_t> numbers = {})
      : rows(DType::i32, {cases::total(lengths)}), positions(rows) {
    int64_t t = 0;
    for (size_t b = 0; b < lengths.size(); ++b)
      for (int64_t i = 0; i < lengths[b]; ++i, ++t) rows.set(t, double(numbers.empty() ? int64_t(b) : numbers[b])), positions.set(t, double(i));
  }
  DropoutMask mask(float p, uint32_t stream) const { return {p, kSeed, stream, rows.view}; }
};

}  // namespace

TEST(dropout_multiplies_by_the_drawn_mask) {
  for_each_device([](DType d) {
    for (int64_t h : {1, 7, 33, 64, 1030})
      for (float p : {0.1f, 0.75f}) {
        Tokens tokens({5, 1, 9});
        Values x = random_values(1, 15 * h), r = random_values(2, 15 * h);
        Buffer in(d, {15, h}, x), residual(d, {15, h}, r);
        Values want(15 * h), with(15 * h);
        for (int64_t t = 0; t < 15; ++t)
          for (int64_t c = 0; c < h; ++c) {
            want[t * h + c] = in.get(t * h + c) * factor(p, 9, int64_t(tokens.rows.get(t)), int64_t(tokens.positions.get(t)), c);
            with[t * h + c] = want[t * h + c] + residual.get(t * h + c);
          }
        auto got = run([&](Exec& ex) {
          Buffer out(d, {15, h}), sum(residual), place(in);
          ops.dropout(ex, {.mask = tokens.mask(p, 9), .positions = tokens.positions.view, .x = in.view, .out = out.view});
          ops.dropout(ex, {.mask = tokens.mask(p, 9), .positions = tokens.positions.view, .x = in.view, .residual = sum.view, .out = sum.view});
          ops.dropout(ex, {.mask = tokens.mask(p, 9), .positions = tokens.positions.view, .x = place.view, .out = place.view});
          return std::vector<Buffer>{out, sum, place};
        });
        check_close("dropout", got[0], want, relative_of(d), 1e-9 + smallest_of(d));
        check_close("dropout with a residual", got[1], with, relative_of(d), 1e-6);
        CHECK(same_bits(got[0], got[2]));
      }
  });
}

// The share kept is 1 - p and a kept element is divided by it: over n elements the mean is 1 to within 5 of its standard
// deviations, sqrt(p / (1 - p) / n), and the variance p / (1 - p). Another seed, stream, sequence or position draws another mask.
TEST(dropout_keeps_the_mean_and_draws_independent_masks) {
  constexpr int64_t kTokens = 64, h = 512;
  constexpr float p = 0.3f;
  constexpr double n = kTokens * h;
  auto masks = [&](uint64_t seed, uint32_t stream, const Tokens& tokens) {
    Buffer out(DType::f32, {kTokens, h}), one(DType::f32, {kTokens, h}, Values(kTokens * h, 1));
    DropoutMask mask = tokens.mask(p, stream);
    mask.seed = seed;
    ops.dropout(machine(1).ex, {.mask = mask, .positions = tokens.positions.view, .x = one.view, .out = out.view});
    return out.values();
  };
  Tokens first({32, 32}), others({32, 32}, {7, 8}), shifted({1, 31, 32}, {0, 0, 1});
  Values mask = masks(kSeed, 4, first);
  double mean = 0, square = 0;
  for (double x : mask) mean += x / n, square += x * x / n;
  double variance = p / (1 - p);
  CHECK_NEAR(mean, 1, 5 * std::sqrt(variance / n));
  CHECK_NEAR(square - mean * mean, variance, 0.02);
  auto agreement = [&](const Values& other) {
    double same = 0;
    for (size_t i = 0; i < mask.size(); ++i) same += (mask[i] == other[i]) / n;
    return same;
  };
  CHECK_EQ(agreement(masks(kSeed, 4, first)), 1);
  // Two masks agree by chance in p^2 + (1 - p)^2 of their elements.
  for (const Values& other : {masks(kSeed + 1, 4, first), masks(kSeed + (1ull << 32), 4, first), masks(kSeed, 5, first), masks(kSeed, 4, others)})
    CHECK_NEAR(agreement(other), p * p + (1 - p) * (1 - p), 0.02);
  CHECK(agreement(masks(kSeed, 4, shifted)) < 0.9);
}

void check_attention(const AttentionShape& s, DType d, float p, const std::vector<int64_t>& lengths, const std::vector<int64_t>& numbers) {
  Machine m(2);
  Tokens tokens(lengths, numbers);
  Buffer starts = cases::starts_of(lengths);
  int64_t t = cases::total(lengths);
  Buffer qkv(d, {t, s.row()}, random_values(1, t * s.row(), 2)), dout(d, {t, s.heads * s.head_dim}, random_values(2, t * s.heads * s.head_dim));
  Buffer out(d, dout.view.shape), lse(DType::f32, {t, s.heads}), dqkv(d, qkv.view.shape);
  auto keep = [&](int64_t token, int64_t position, int64_t head, int64_t key) {
    return factor(p, 5 + uint32_t(head), int64_t(tokens.rows.get(token)), position, key);
  };
  ops.attention_forward(m.ex, {s, qkv.view, starts.view, out.view, lse.view, tokens.mask(p, 5)});
  ops.attention_backward(m.ex, {s, qkv.view, starts.view, out.view, lse.view, dout.view, dqkv.view, tokens.mask(p, 5)});
  cases::Reference want = cases::reference(s, lengths, qkv.values(), dout.values(), out.values(), keep);
  // As in attention_matches_float64; a factor of 1 / (1 - p) adds one rounding to a term.
  cases::check_sums("out", out, want.out, want.out_terms, 2 * relative_of(d), 2e-5);
  check_close("lse", lse, want.lse, 2e-6, 2e-5);
  cases::check_sums("dqkv", dqkv, want.dqkv, want.dqkv_terms, 2 * relative_of(d), 4e-5);
}

TEST(attention_dropout_matches_float64) {
  const std::vector<AttentionShape> shapes = [] {
    std::vector<AttentionShape> all = {cases::shape_of(4, 4, 5),  cases::shape_of(4, 2, 64), cases::shape_of(3, 1, 80), cases::shape_of(2, 1, 128),
                                       cases::shape_of(2, 2, 256), cases::shape_of(4, 2, 14), cases::shape_of(6, 3, 8)};
    all[5].window = 33, all[5].softcap = 20;
    all[6].alibi = true;
    return all;
  }();
  size_t number = 0;
  for_each_device([&](DType d) {
    for (const AttentionShape& s : shapes)
      for (float p : {0.1f, 0.6f}) {
        if (!cases::takes(number++) || (p > 0.5f && !test_device()->on_cpu() && s.head_dim != 64)) continue;
        check_attention(s, d, p, {1, 2, 65, 0, 130}, {3, 0, 1, 9, 40});
      }
  });
}

// Sequences long enough that some kernels keep sums aside, once and more than once.
TEST(attention_dropout_joins_spans) {
  size_t number = 0;
  for_each_device([&](DType d) {
    if (cases::takes(number++)) check_attention(cases::shape_of(1, 1, 8), d, 0.3f, {1100, 3, 600}, {2, 7, 1});
  });
}

// A sequence's rows are those of the same sequence alone, whatever lies beside it: its number and its positions choose the mask.
TEST(attention_dropout_does_not_depend_on_neighbours_or_threads) {
  AttentionShape s = cases::shape_of(4, 2, 16);
  for_each_device([&](DType d) {
    const std::vector<int64_t> lengths = {30, 100, 70};
    int64_t t = 200, at = 30, n = 100, width = s.heads * s.head_dim;
    Buffer qkv(d, {t, s.row()}, random_values(1, t * s.row(), 2)), dout(d, {t, width}, random_values(2, t * width));
    auto attend = [&](Exec& ex, const std::vector<int64_t>& lengths, std::vector<int64_t> numbers, View x, View dy) {
      Tokens tokens(lengths, numbers);
      Buffer starts = cases::starts_of(lengths), out(d, dy.shape), lse(DType::f32, {x.dim(0), s.heads}), dx(d, x.shape);
      ops.attention_forward(ex, {s, x, starts.view, out.view, lse.view, tokens.mask(0.25f, 3)});
      ops.attention_backward(ex, {s, x, starts.view, out.view, lse.view, dy, dx.view, tokens.mask(0.25f, 3)});
      return std::vector<Buffer>{out, dx};
    };
    auto all = run([&](Exec& ex) { return attend(ex, lengths, {5, 6, 7}, qkv.view, dout.view); });
    Buffer x(d, {n, s.row()}), dy(d, {n, width});
    std::memcpy(x.view.data, qkv.view.rows(at, at + n).data, x.view.numel() * size_of(d));
    std::memcpy(dy.view.data, dout.view.rows(at, at + n).data, dy.view.numel() * size_of(d));
    auto alone = attend(machine(1).ex, {n}, {6}, x.view, dy.view), other = attend(machine(1).ex, {n}, {7}, x.view, dy.view);
    CHECK(alone[0].same(0, all[0], at * width, n * width));
    CHECK(alone[1].same(0, all[1], at * s.row(), n * s.row()));
    CHECK(!other[0].same(0, all[0], at * width, n * width));
  });
}

TEST(dropout_names_what_is_wrong) {
  Tokens tokens({3});
  Buffer x(DType::f32, {3, 4}, Values(12, 1)), out(x);
  Dropout good{.mask = tokens.mask(0.5f, 1), .positions = tokens.positions.view, .x = x.view, .out = out.view};
  auto error = [&](Dropout d) { return message_of([&] { ops.dropout(machine(1).ex, d); }); };
  CHECK_EQ(error(good), "");
  Dropout bad = good;
  bad.mask.p = 1;
  CHECK(has(error(bad), "[dropout] expected a dropout of 0 or more and below 1"));
  bad = good;
  bad.mask.rows = {};
  CHECK(has(error(bad), "row numbers of dropout"));
  bad = good;
  bad.positions = x.view;
  CHECK(has(error(bad), "positions"));
}
