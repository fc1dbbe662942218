// Contract 1: generating token by token against the paged cache gives the bits of the training forward.
#include "attention_cases.h"

namespace threefold::test::attention {
namespace {

// A cache of NaN, and a shuffled page for every place of every sequence. A page not given out yet is -1.
struct Cache {
  int64_t page_size, blocks;
  Buffer keys, values, table;
  std::vector<int32_t> pages;
  Cache(DType t, const AttentionShape& s, int64_t sequences, int64_t longest, int64_t page_size_)
      : page_size(page_size_),
        blocks((longest + page_size_ - 1) / page_size_ + 1),
        keys(t, {sequences * blocks + 3, page_size_, s.kv_heads, s.head_dim}),
        values(t, keys.view.shape),
        table(DType::i32, {sequences, blocks}) {
    for (int32_t i = 0; i < keys.view.dim(0); ++i) pages.push_back(i);
    for (size_t i = pages.size() - 1; i > 0; --i) std::swap(pages[i], pages[philox_at(9, 9, i)[0] % (i + 1)]);
  }
  // The slot of position p of sequence b.
  int64_t slot(int64_t b, int64_t p) {
    int32_t& page = table.view.i32()[b * blocks + p / page_size];
    if (page < 0) {
      page = pages.back();
      pages.pop_back();
    }
    return page * page_size + p % page_size;
  }
};

// On the emulated device, which is slow, decode is compared where a row's last key is the first or the last of a tile of the
// tensor cores, of a block or of a span, and at the end.
bool compared(int64_t p, int64_t longest) {
  if (test_device()->on_cpu() || p + 1 == longest) return true;
  return longest <= 200 ? p % 16 == 15 || p % 32 == 0 || p % 67 == 5 : p % 256 == 255 || p % 256 == 0 || p % 149 == 7;
}

// Elements whose decode bits are not the forward's. `harm` may spoil the cache before the step at position p.
template <typename Harm>
int64_t differences(Exec& ex, const AttentionShape& s, const std::vector<int64_t>& lengths, const Buffer& qkv,
                    int64_t page_size, Harm harm) {
  DType t = qkv.view.dtype;
  int64_t ld = s.row(), width = s.heads * s.head_dim, longest = 0, wrong = 0;
  std::vector<int64_t> begin;
  for (int64_t at = 0; int64_t n : lengths) begin.push_back(at), at += n, longest = std::max(longest, n);
  Buffer want(t, {total(lengths), width}), starts = starts_of(lengths);
  ops.attention_forward(ex, {s, qkv.view, starts.view, want.view});

  Cache cache(t, s, int64_t(lengths.size()), longest, page_size);
  for (int64_t p = 0; p < longest; ++p) {
    std::vector<int64_t> live;  // the batch shrinks as sequences end
    for (size_t b = 0; b < lengths.size(); ++b)
      if (p < lengths[b]) live.push_back(int64_t(b));
    int64_t batch = int64_t(live.size());
    Buffer step(t, {batch, ld}), got(t, {batch, width}), table(DType::i32, {batch, cache.blocks});
    Buffer slots(DType::i32, {batch}), sizes(DType::i32, {batch});
    for (int64_t i = 0; i < batch; ++i) {
      std::memcpy(step.bytes.data() + i * ld * size_of(t), qkv.bytes.data() + (begin[live[i]] + p) * ld * size_of(t),
                  ld * size_of(t));
      slots.set(i, double(cache.slot(live[i], p)));
      sizes.set(i, double(p + 1));
      for (int64_t j = 0; j < cache.blocks; ++j) table.set(i * cache.blocks + j, cache.table.get(live[i] * cache.blocks + j));
    }
    ops.kv_append(ex, {s, step.view, slots.view, cache.keys.view, cache.values.view});
    harm(cache, p);
    if (!compared(p, longest)) continue;
    ops.attention_decode(ex, {s, step.view, cache.keys.view, cache.values.view, table.view, sizes.view, got.view});
    for (int64_t i = 0; i < batch; ++i)
      for (int64_t c = 0; c < width; ++c) wrong += !got.same(i * width + c, want, (begin[live[i]] + p) * width + c, 1);
  }
  return wrong;
}

const auto kNoHarm = [](Cache&, int64_t) {};

Buffer inputs(DType t, const AttentionShape& s, const std::vector<int64_t>& lengths) {
  Values v = random_values(uint64_t(s.head_dim), total(lengths) * s.row());
  for (double& x : v) x *= 2;
  return Buffer(t, {total(lengths), s.row()}, v);
}

}  // namespace

TEST(decode_is_bit_equal_to_forward) {
  const std::vector<int64_t> lengths = {200, 1, 65, 130};
  Machine machines[] = {Machine(1), Machine(2), Machine(3)};
  int turn = 0;
  std::vector<AttentionShape> shapes = {shape_of(4, 2, 64), shape_of(3, 1, 5), shape_of(4, 4, 14), shape_of(2, 2, 1), shape_of(2, 1, 256)};
  for (int64_t window : {1, 5, 64, 66}) {  // also with a cap, and ALiBi at a head count that is no power of two
    shapes.push_back(shape_of(4, 2, 16));
    shapes.back().window = window;
    shapes.back().softcap = window == 5 ? 3 : 0;
  }
  shapes.push_back(shape_of(3, 3, 8));
  shapes.back().alibi = true;
  for (const AttentionShape& s : shapes)
    for (DType t : {DType::f32, DType::bf16, DType::f16}) {
      Buffer qkv = inputs(t, s, lengths);
      size_t number = 0;
      for_each_device([&] {
        for (int64_t page_size : {1, 3, 16, 64, 100})
          if (takes(++number)) CHECK_EQ(differences(machines[turn++ % 3].ex, s, lengths, qkv, page_size, kNoHarm), 0);
      });
    }
}

// Rows of several spans of the device (512 keys): shared by blocks of the grid where there are few rows, not where there are
// many. And more query heads of one key/value head than a block takes.
TEST(decode_of_several_spans_is_bit_equal_to_forward) {
  Machine m(2);
  struct Case {
    AttentionShape s;
    std::vector<int64_t> lengths;
    int64_t window;
  };
  size_t number = 0;
  for (Case c : {Case{shape_of(2, 1, 20), {1090, 3, 600}, 0}, Case{shape_of(2, 1, 9), {1090, 520}, 530}, Case{shape_of(18, 18, 3), {1030, 270}, 0},
                 Case{shape_of(20, 1, 24), {201}, 0}, Case{shape_of(18, 1, 130), {530}, 0}}) {
    c.s.window = c.window;
    ++number;
    for (DType t : {DType::f32, DType::bf16, DType::f16}) {
      Buffer qkv = inputs(t, c.s, c.lengths);
      for_each_device([&] {
        if (!test_device()->on_cpu() && takes(number)) CHECK_EQ(differences(m.ex, c.s, c.lengths, qkv, 32, kNoHarm), 0);
      });
    }
  }
}

TEST(decode_does_not_depend_on_threads) {
  AttentionShape s = shape_of(4, 2, 80);
  Buffer qkv = inputs(DType::bf16, s, {70, 129});
  for (int threads : {1, 2, 3}) {
    Machine m(threads);
    CHECK_EQ(differences(m.ex, s, {70, 129}, qkv, 16, kNoHarm), 0);
  }
}

TEST(decode_check_sees_a_spoiled_cache) {
  Machine m(1);
  AttentionShape s = shape_of(2, 1, 14);
  Buffer qkv = inputs(DType::f32, s, {70});
  CHECK_EQ(differences(m.ex, s, {70}, qkv, 16, kNoHarm), 0);
  auto flip = [](Buffer& b, int64_t element) { b.view.as<uint32_t>()[element] ^= 1u << 20; };
  CHECK(differences(m.ex, s, {70}, qkv, 16, [&](Cache& c, int64_t p) {
    if (p == 40) flip(c.values, c.slot(0, 3) * 14 + 2);
  }) > 0);
  CHECK(differences(m.ex, s, {70}, qkv, 16, [&](Cache& c, int64_t p) {
    if (p == 40) flip(c.keys, c.slot(0, 20) * 14);
  }) > 0);
  CHECK(differences(m.ex, s, {70}, qkv, 16, [&](Cache& c, int64_t p) {
    if (p == 69) c.values.set(c.slot(0, 69) * 14, NAN);
  }) > 0);
}

TEST(decode_names_the_wrong_operand) {
  Machine m(1);
  AttentionShape s = shape_of(4, 2, 8);
  Buffer qkv = inputs(DType::f32, s, {2}), out(DType::f32, {2, 32}), keys(DType::f32, {5, 3, 2, 8}), values(keys);
  Buffer table(DType::i32, {2, 2}, {4, 0, 1, -1}), lengths(DType::i32, {2}, {6, 3}), half(DType::bf16, {5, 3, 2, 8});
  for (int64_t i = 0; i < keys.view.numel(); ++i) keys.set(i, 0), values.set(i, 0);
  auto error = [&](AttentionDecode a) { return message_of([&] { ops.attention_decode(m.ex, a); }); };
  for_each_device([&] {
    lengths.set(1, 3);
    CHECK_EQ(error({s, qkv.view, keys.view, values.view, table.view, lengths.view, out.view}), "");
    CHECK(names(error({s, out.view, keys.view, values.view, table.view, lengths.view, out.view}), "qkv"));
    CHECK(names(error({s, qkv.view, half.view, values.view, table.view, lengths.view, out.view}), "keys"));
    CHECK(names(error({s, qkv.view, keys.view, half.view, table.view, lengths.view, out.view}), "values"));
    CHECK(names(error({s, qkv.view, keys.view, values.view, lengths.view, lengths.view, out.view}), "block_table"));
    CHECK(names(error({s, qkv.view, keys.view, values.view, table.view, table.view, out.view}), "lengths"));
    CHECK(names(error({s, qkv.view, keys.view, values.view, table.view, lengths.view, half.view}), "out"));
    lengths.set(1, 4);  // reaches the page -1
    CHECK(names(error({s, qkv.view, keys.view, values.view, table.view, lengths.view, out.view}), "block_table"));
    lengths.set(1, 7);
    CHECK(names(error({s, qkv.view, keys.view, values.view, table.view, lengths.view, out.view}), "lengths"));
    lengths.set(1, 0);
    CHECK(names(error({s, qkv.view, keys.view, values.view, table.view, lengths.view, out.view}), "lengths"));
  });
}

}  // namespace threefold::test::attention
