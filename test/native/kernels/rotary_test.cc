#include "attention_cases.h"

namespace threefold::test::attention {
namespace {

// Cosine and sine of p * base^(-2i/R), as LLaMA defines them: fp32 [P, R/2, 2].
Buffer table_of(int64_t positions, int64_t rotated) {
  Buffer table(DType::f32, {positions, rotated / 2, 2});
  for (int64_t p = 0; p < positions; ++p)
    for (int64_t i = 0; i < rotated / 2; ++i) {
      double angle = double(p) * std::pow(10000.0, -2.0 * double(i) / double(rotated));
      table.set((p * (rotated / 2) + i) * 2, std::cos(angle));
      table.set((p * (rotated / 2) + i) * 2 + 1, std::sin(angle));
    }
  return table;
}

Values expected(const AttentionShape& s, int64_t rotated, const Values& x, const Buffer& positions, bool inverse,
                bool interleaved = false) {
  Values y = x;
  for (int64_t t = 0; t < positions.view.dim(0); ++t)
    for (int64_t h = 0; h < s.heads + s.kv_heads; ++h)
      for (int64_t i = 0; i < rotated / 2; ++i) {
        int64_t lo = t * s.row() + h * s.head_dim + (interleaved ? 2 * i : i), hi = lo + (interleaved ? 1 : rotated / 2);
        double angle = positions.get(t) * std::pow(10000.0, -2.0 * double(i) / double(rotated)) * (inverse ? -1 : 1);
        y[lo] = x[lo] * std::cos(angle) - x[hi] * std::sin(angle);
        y[hi] = x[lo] * std::sin(angle) + x[hi] * std::cos(angle);
      }
  return y;
}

struct Turn {
  int64_t heads, kv_heads, d, rotated;
  bool interleaved = false;
};

}  // namespace

TEST(rotary_matches_float64_and_turns_back) {
  const int64_t tokens = 45;
  Buffer positions(DType::i32, {tokens});
  for (int64_t t = 0; t < tokens; ++t) positions.set(t, double(t * 7 % 60));
  for (const Turn& c : {Turn{4, 2, 64, 64}, Turn{3, 1, 5, 4}, Turn{2, 2, 80, 20}, Turn{1, 1, 2, 2}, Turn{2, 1, 7, 0},
                        Turn{4, 4, 64, 64, true}, Turn{3, 1, 5, 4, true}, Turn{2, 2, 80, 20, true}}) {
    AttentionShape s = shape_of(c.heads, c.kv_heads, c.d);
    Values x = random_values(uint64_t(c.d), tokens * s.row());
    Buffer table = table_of(60, c.rotated);
    for (DType t : {DType::f32, DType::bf16, DType::f16})
      for_each_device([&] {
        double relative = t == DType::f32 ? 0 : 0x1p-8;
        for (bool inverse : {false, true})
          for (int threads : {1, 3}) {
            Machine m(threads);
            Buffer qkv(t, {tokens, s.row()}, x);
            ops.rotary(m.ex, {s, qkv.view, positions.view, table.view, c.interleaved, inverse});
            check_close("rotary", qkv, expected(s, c.rotated, x, positions, inverse, c.interleaved), relative, 5e-7);
            for (int64_t r = 0; r < tokens; ++r)  // values are not turned
              for (int64_t i = (s.heads + s.kv_heads) * c.d; i < s.row(); ++i)
                CHECK_EQ(qkv.get(r * s.row() + i), x[r * s.row() + i]);
            ops.rotary(m.ex, {s, qkv.view, positions.view, table.view, c.interleaved, !inverse});
            check_close("turned back", qkv, x, relative, t == DType::f32 ? 5e-7 : 0x1p-7);
          }
      });
  }
}

TEST(rotary_check_sees_wrong_positions) {
  Machine m(1);
  AttentionShape s = shape_of(2, 1, 8);
  Values x = random_values(1, 3 * s.row());
  Buffer positions(DType::i32, {3}, {0, 4, 9}), off(DType::i32, {3}, {0, 5, 9}), table = table_of(10, 8);
  Buffer qkv(DType::f32, {3, s.row()}, x), other(qkv);
  ops.rotary(m.ex, {s, qkv.view, positions.view, table.view});
  ops.rotary(m.ex, {s, other.view, off.view, table.view});
  auto check = [&](const Buffer& got, bool inverse) {
    return failures_of([&] { check_close("rotary", got, expected(s, 8, x, positions, inverse), 0, 5e-7); }).count;
  };
  CHECK_EQ(check(qkv, false), 0);
  CHECK(check(qkv, true) > 0);
  CHECK(failures_of([&] { check_close("rotary", qkv, expected(s, 8, x, positions, false, true), 0, 5e-7); }).count > 0);
  CHECK(check(other, false) > 0);
}

TEST(rotary_names_the_wrong_operand) {
  Machine m(1);
  AttentionShape s = shape_of(2, 1, 8);
  Buffer qkv(DType::f32, {2, s.row()}, random_values(1, 2 * s.row())), table = table_of(10, 8), wide = table_of(10, 10);
  Buffer positions(DType::i32, {2}, {0, 9}), late(DType::i32, {2}, {0, 10}), early(DType::i32, {2}, {-1, 0});
  auto error = [&](const Buffer& p, const Buffer& t) {
    return message_of([&] { ops.rotary(m.ex, {s, qkv.view, p.view, t.view}); });
  };
  for_each_device([&] {
    CHECK_EQ(error(positions, table), "");
    CHECK(names(error(late, table), "positions"));
    CHECK(names(error(early, table), "positions"));
    CHECK(names(error(Buffer(DType::i32, {3}), table), "positions"));
    CHECK(names(error(positions, wide), "table"));
    CHECK(names(error(positions, qkv), "table"));
  });
}

TEST(rotary_appends_as_kv_append_does) {
  const int64_t tokens = 21;
  Buffer positions(DType::i32, {tokens}), slots(DType::i32, {tokens});
  for (int64_t i = 0; i < tokens; ++i) positions.set(i, double(i * 7 % 60)), slots.set(i, double(i * 5 % 24));
  for (const Turn& c : {Turn{4, 2, 64, 64}, Turn{3, 1, 5, 4}, Turn{2, 2, 80, 32}, Turn{2, 1, 7, 0}, Turn{2, 2, 24, 16, true}, Turn{3, 1, 5, 4, true}})
    for_each_device([&](DType t) {
      Machine m(2);
      AttentionShape s = shape_of(c.heads, c.kv_heads, c.d);
      Buffer table = table_of(60, c.rotated), qkv(t, {tokens, s.row()}, random_values(5, tokens * s.row())), apart(qkv);
      Buffer keys(t, {8, 3, c.kv_heads, c.d}), values(keys), keys_apart(keys), values_apart(keys);
      auto turn = [&] { ops.rotary(m.ex, {s, qkv.view, positions.view, table.view, c.interleaved, false, slots.view, keys.view, values.view}); };
      turn();
      ops.rotary(m.ex, {s, apart.view, positions.view, table.view, c.interleaved});
      ops.kv_append(m.ex, {s, apart.view, slots.view, keys_apart.view, values_apart.view});
      CHECK(qkv.same(0, apart, 0, tokens * s.row()));
      CHECK(keys.same(0, keys_apart, 0, 24 * c.kv_heads * c.d));
      CHECK(values.same(0, values_apart, 0, 24 * c.kv_heads * c.d));
      CHECK(!keys.same(0, values, 0, 24 * c.kv_heads * c.d));
      Buffer wrong(t, {8, 2, c.kv_heads, c.d});
      slots.set(4, 24);
      CHECK(names(message_of(turn), "slots"));
      slots.set(4, 20);
      CHECK(names(message_of([&] { ops.rotary(m.ex, {s, qkv.view, positions.view, table.view, c.interleaved, false, slots.view, wrong.view, values.view}); }), "values"));
    });
}

TEST(kv_append_copies_into_slots) {
  Machine m(2);
  const int64_t tokens = 150;
  for_each_device([&](DType t) {
    for (int64_t d : {5, 6, 24}) {  // units of an element and of 16 bytes
      AttentionShape s = shape_of(4, 2, d);
      int64_t width = s.kv_heads * s.head_dim;
      Buffer qkv(t, {tokens, s.row()}, random_values(2, tokens * s.row())), slots(DType::i32, {tokens});
      for (int64_t i = 0; i < tokens; ++i) slots.set(i, double(i * 37 % 151));
      Buffer keys(t, {51, 3, 2, d}), values(keys), untouched(keys);
      ops.kv_append(m.ex, {s, qkv.view, slots.view, keys.view, values.view});
      std::vector<bool> written(153);
      for (int64_t i = 0; i < tokens; ++i) {
        int64_t slot = i * 37 % 151, row = i * s.row() + s.heads * s.head_dim;
        written[slot] = true;
        CHECK(keys.same(slot * width, qkv, row, width));
        CHECK(values.same(slot * width, qkv, row + width, width));
        CHECK(!keys.same(slot * width, qkv, row + width, width));
      }
      for (int64_t slot = 0; slot < 153; ++slot)
        if (!written[slot]) CHECK(keys.same(slot * width, untouched, 0, width) && values.same(slot * width, untouched, 0, width));
      for (double bad : {-1.0, 153.0}) {
        slots.set(7, bad);
        CHECK(names(message_of([&] { ops.kv_append(m.ex, {s, qkv.view, slots.view, keys.view, values.view}); }), "slots"));
      }
      Buffer wrong(t, {51, 3, 1, d});
      CHECK(names(message_of([&] { ops.kv_append(m.ex, {s, qkv.view, slots.view, wrong.view, values.view}); }), "keys"));
      CHECK(names(message_of([&] { ops.kv_append(m.ex, {s, qkv.view, slots.view, keys.view, wrong.view}); }), "values"));
    }
  });
}

}  // namespace threefold::test::attention
