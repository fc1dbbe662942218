#include "attention_cases.h"
#include "kernels/cuda/cuda.h"

namespace threefold::test::attention {
namespace {

const std::vector<int64_t> kLengths = {1, 2, 63, 0, 64, 65, 130, 200};

struct Heads {
  int64_t heads, kv_heads, d;
  int64_t window = 0;
  float softcap = 0;
  bool alibi = false;
};
// Every head size, and every way of sharing heads at an even and an odd size.
const std::vector<Heads> kHeads = {{4, 4, 1}, {4, 4, 5},  {4, 2, 5},  {3, 1, 5},   {4, 2, 14},  {4, 4, 64},
                                   {4, 2, 64}, {3, 1, 64}, {3, 1, 80}, {4, 2, 128}, {3, 1, 255}, {2, 2, 256}};
// Windows shorter and longer than a block of keys, one that ends on its border and one that lets only the first query of a
// block see a key; caps; ALiBi at head counts that are a power of two and that are not.
const std::vector<Heads> kVariants = {{4, 2, 16, 1},       {3, 1, 5, 7},           {4, 2, 14, 64},        {2, 2, 64, 65},
                                      {2, 1, 16, 66},      {3, 1, 32, 129},        {4, 2, 16, 0, 1.5f},   {4, 2, 14, 33, 20},
                                      {4, 4, 16, 0, 0, true}, {6, 3, 8, 0, 0, true}, {3, 3, 5, 70, 0, true}};
std::vector<Heads> all_heads() {
  std::vector<Heads> all = kHeads;
  all.insert(all.end(), kVariants.begin(), kVariants.end());
  return all;
}

struct Outputs {
  Buffer out, lse;
};
Outputs forward(Exec& ex, const AttentionShape& s, const std::vector<int64_t>& lengths, const Buffer& qkv) {
  int64_t tokens = total(lengths);
  Outputs o{Buffer(qkv.view.dtype, {tokens, s.heads * s.head_dim}), Buffer(DType::f32, {tokens, s.heads})};
  Buffer starts = starts_of(lengths);
  ops.attention_forward(ex, {s, qkv.view, starts.view, o.out.view, o.lse.view});
  return o;
}
Buffer backward(Exec& ex, const AttentionShape& s, const std::vector<int64_t>& lengths, const Buffer& qkv,
                const Outputs& o, const Buffer& dout) {
  Buffer dqkv(qkv.view.dtype, qkv.view.shape), starts = starts_of(lengths);
  ops.attention_backward(ex, {s, qkv.view, starts.view, o.out.view, o.lse.view, dout.view, dqkv.view});
  return dqkv;
}

struct Inputs {
  AttentionShape s;
  Values qkv, dout;
  Inputs(const Heads& h, const std::vector<int64_t>& lengths, uint64_t seed)
      : s(with(shape_of(h.heads, h.kv_heads, h.d), h)),
        qkv(random_values(seed, total(lengths) * s.row())),
        dout(random_values(seed + 1, total(lengths) * h.heads * h.d)) {
    // Sharper than what layers of a fresh model see: scores of a few units, so that maxima move from block to block.
    for (double& x : qkv) x *= 2;
  }
  static AttentionShape with(AttentionShape s, const Heads& h) {
    s.window = h.window, s.softcap = h.softcap, s.alibi = h.alibi;
    return s;
  }
};

// 2^-8 is one unit of bf16's last place relative to the value, 2^-11 one of fp16's: storing rounds by half of it.
double relative_of(DType t) { return t == DType::f32 ? 0 : t == DType::bf16 ? 0x1p-8 : 0x1p-11; }

}  // namespace

TEST(attention_matches_float64) {
  Machine m(2);
  size_t number = 0;
  for (const Heads& h : all_heads()) {
    ++number;
    Inputs in(h, kLengths, 10 * uint64_t(h.d));
    int64_t tokens = total(kLengths), width = h.heads * h.d;
    for (DType t : {DType::f32, DType::bf16, DType::f16}) {
      // What the backward is given as the output is what storage keeps of it.
      Reference plain = reference(in.s, kLengths, in.qkv);
      Buffer kept(t, {tokens, width}, plain.out);
      Reference want = reference(in.s, kLengths, in.qkv, in.dout, kept.values());
      Buffer qkv(t, {tokens, in.s.row()}, in.qkv), dout(t, {tokens, width}, in.dout);
      for_each_device([&] {
        if (!takes(number)) return;
        Outputs got = forward(m.ex, in.s, kLengths, qkv);
        check_sums("out", got.out, want.out, want.out_terms, relative_of(t), 2e-6);
        check_close("lse", got.lse, want.lse, 0, 2e-6);
        got.out = Buffer(kept);
        check_sums("dqkv", backward(m.ex, in.s, kLengths, qkv, got, dout), want.dqkv, want.dqkv_terms, relative_of(t), 1e-5);
      });
    }
  }
  CHECK_EQ(m.allocator.stats().total, 0);
}

TEST(attention_reference_gradient_is_the_slope_of_its_output) {
  std::vector<int64_t> lengths = {1, 4};
  for (const Heads& h : {Heads{4, 2, 3}, Heads{4, 2, 3, 2, 1.5f}, Heads{3, 3, 2, 0, 0, true}}) {
    Inputs in(h, lengths, 3);
    Reference r = reference(in.s, lengths, in.qkv, in.dout);
    auto loss = [&](int64_t i, double by) {
      Values x = in.qkv;
      x[i] += by;
      Values out = reference(in.s, lengths, x).out;
      double sum = 0;
      for (size_t j = 0; j < out.size(); ++j) sum += out[j] * in.dout[j];
      return sum;
    };
    for (size_t i = 0; i < in.qkv.size(); ++i)
      CHECK_NEAR(r.dqkv[i], (loss(int64_t(i), 1e-5) - loss(int64_t(i), -1e-5)) / 2e-5, 1e-8);
  }
}

TEST(attention_check_sees_wrong_values) {
  Machine m(1);
  Inputs in({4, 2, 14}, {70}, 5);
  Buffer qkv(DType::f32, {70, in.s.row()}, in.qkv), dout(DType::f32, {70, 56}, in.dout);
  Reference want = reference(in.s, {70}, in.qkv, in.dout);
  Outputs good = forward(m.ex, in.s, {70}, qkv);
  CHECK_EQ(failures_of([&] { check_close("out", good.out, want.out, 0, 2e-6); }).count, 0);
  AttentionShape other = in.s;
  other.scale *= 1.001f;
  CHECK(failures_of([&] { check_close("out", forward(m.ex, other, {70}, qkv).out, want.out, 0, 2e-6); }).count > 0);
  for (Heads h : {Heads{4, 2, 14, 69}, Heads{4, 2, 14, 0, 1000}, Heads{4, 2, 14, 0, 0, true}})
    CHECK(failures_of([&] {
            check_close("out", forward(m.ex, Inputs::with(in.s, h), {70}, qkv).out, want.out, 0, 2e-6);
          }).count > 0);
  CHECK(failures_of([&] { check_close("out", forward(m.ex, in.s, {35, 35}, qkv).out, want.out, 0, 2e-6); }).count > 0);
  auto dqkv = [&](const Outputs& o) { check_close("dqkv", backward(m.ex, in.s, {70}, qkv, o, dout), want.dqkv, 0, 1e-5); };
  CHECK_EQ(failures_of([&] { dqkv(good); }).count, 0);
  good.lse.set(11, good.lse.get(11) + 0.01);
  CHECK(failures_of([&] { dqkv(good); }).count > 0);
  good.out.set(3, NAN);
  CHECK(failures_of([&] { check_close("out", good.out, want.out, 0, 2e-6); }).count > 0);
}

TEST(attention_does_not_depend_on_threads_or_neighbours) {
  size_t number = 0;
  for (DType t : {DType::f32, DType::bf16, DType::f16})
    for (const Heads& h : {Heads{4, 2, 64}, Heads{3, 1, 5}}) {
      ++number;
      Inputs in(h, kLengths, 21);
      int64_t tokens = total(kLengths), width = h.heads * h.d, ld = in.s.row();
      Buffer qkv(t, {tokens, ld}, in.qkv), dout(t, {tokens, width}, in.dout);
      for_each_device([&] {
        if (!takes(number)) return;
        Machine one(1);
        Outputs want = forward(one.ex, in.s, kLengths, qkv);
        Buffer dwant = backward(one.ex, in.s, kLengths, qkv, want, dout);
        for (int threads : {2, 3}) {
          Machine m(threads);
          Outputs got = forward(m.ex, in.s, kLengths, qkv);
          CHECK(got.out.bytes == want.out.bytes);
          CHECK(got.lse.bytes == want.lse.bytes);
          CHECK(backward(m.ex, in.s, kLengths, qkv, got, dout).bytes == dwant.bytes);
        }
        int64_t start = 0;
        for (int64_t n : kLengths) {
          if (n == 0) continue;
          Buffer alone(t, {n, ld}), dalone(t, {n, width});
          std::memcpy(alone.bytes.data(), qkv.bytes.data() + start * ld * size_of(t), alone.bytes.size());
          std::memcpy(dalone.bytes.data(), dout.bytes.data() + start * width * size_of(t), dalone.bytes.size());
          Outputs got = forward(one.ex, in.s, {n}, alone);
          CHECK(got.out.same(0, want.out, start * width, n * width));
          CHECK(got.lse.same(0, want.lse, start * h.heads, n * h.heads));
          CHECK(backward(one.ex, in.s, {n}, alone, got, dalone).same(0, dwant, start * ld, n * ld));
          start += n;
        }
        // A scale that changes a bit must show: these checks are not blind.
        AttentionShape other = in.s;
        other.scale *= 1.0001f;
        CHECK(forward(one.ex, other, kLengths, qkv).out.bytes != want.out.bytes);
      });
    }
}

TEST(attention_rows_never_touch_later_keys) {
  Machine m(1);
  Inputs in({4, 2, 14}, {130}, 31);
  int64_t ld = in.s.row(), values = 6 * 14;
  size_t number = 0;
  for_each_device([&](DType t) {
    Buffer plain(t, {130, ld}, in.qkv);
    Outputs want = forward(m.ex, in.s, {130}, plain);
    for (double poison : {double(NAN), double(INFINITY)})
      for (int64_t last : {129, 100, 64, 5})
        for (int64_t from : {int64_t(0), values}) {  // the whole row, or its values alone
          if (!takes(++number)) continue;
          Buffer qkv(plain);
          for (int64_t c = from; c < ld; ++c) qkv.set(last * ld + c, poison);
          Outputs got = forward(m.ex, in.s, {130}, qkv);
          CHECK(got.out.same(0, want.out, 0, last * 56));
          for (int64_t i = last * 56; i < 130 * 56; ++i)
            if (from > 0 || i < last * 56 + 56) CHECK(!std::isfinite(got.out.get(i)));
        }
  });
}

TEST(attention_rows_never_touch_keys_before_their_window) {
  Machine m(1);
  size_t number = 0;
  for_each_device([&](DType t) {
    for (int64_t window : {1, 20, 64, 100}) {
      if (!takes(++number)) continue;
      Inputs in({4, 2, 14, window}, {330}, 33);
      int64_t ld = in.s.row(), keys = 4 * 14;
      Buffer qkv(t, {330, ld}, in.qkv);
      Outputs want = forward(m.ex, in.s, {330}, qkv);
      for (int64_t at : {0, 63, 64, 200}) {
        Buffer other(qkv);
        for (int64_t c = keys; c < ld; ++c) other.set(at * ld + c, 1e4);
        Outputs got = forward(m.ex, in.s, {330}, other);
        int64_t first = at + window;  // the first query that no longer sees it
        CHECK(got.out.same(first * 56, want.out, first * 56, (330 - first) * 56));
        CHECK(!got.out.same((first - 1) * 56, want.out, (first - 1) * 56, 56));
      }
    }
  });
}

// More keys than a span of the device (512), with windows that end inside of one, and more tiles than places to park.
TEST(attention_joins_spans) {
  Machine m(3);
  const std::vector<int64_t> lengths = {1100, 3, 600};
  size_t number = 0;
  for (const Heads& h : {Heads{4, 2, 20}, Heads{1, 1, 5, 700}, Heads{1, 1, 130, 100}, Heads{2, 2, 8, 0, 0, true}}) {
    ++number;
    Inputs in(h, lengths, 61);
    Reference want = reference(in.s, lengths, in.qkv, in.dout);
    for (DType t : {DType::f32, DType::bf16, DType::f16}) {
      Buffer qkv(t, {total(lengths), in.s.row()}, in.qkv), dout(t, {total(lengths), h.heads * h.d}, in.dout);
      for_each_device([&] {
        if (!takes(number)) return;
        Outputs got = forward(m.ex, in.s, lengths, qkv);
        check_sums("out", got.out, want.out, want.out_terms, relative_of(t), 2e-6);
        check_close("lse", got.lse, want.lse, 0, 2e-6);
        got.out = Buffer(t, got.out.view.shape, want.out);
        if (t == DType::f32) check_close("dqkv", backward(m.ex, in.s, lengths, qkv, got, dout), want.dqkv, 0, 1e-5);
      });
    }
  }
  CHECK_EQ(m.allocator.stats().total, 0);
}

TEST(attention_does_not_depend_on_alignment) {
  Machine m(2);
  const std::vector<int64_t> lengths = {70, 1, 130};
  int64_t tokens = total(lengths);
  Buffer starts = starts_of(lengths);
  for_each_device([&](DType t) {
    for (int64_t d : {40, 96}) {
      Inputs in({4, 2, d}, lengths, 71);
      int64_t ld = in.s.row(), width = 4 * d;
      Buffer qkv(t, {tokens, ld}, in.qkv), dout(t, {tokens, width}, in.dout);
      Outputs want = forward(m.ex, in.s, lengths, qkv);
      Buffer dwant = backward(m.ex, in.s, lengths, qkv, want, dout);
      auto moved = [&](const Buffer& b) {  // by one element
        Buffer to(t, {1 + b.view.numel()});
        std::memcpy(to.bytes.data() + size_of(t), b.bytes.data(), size_t(b.view.numel() * size_of(t)));
        return to;
      };
      Buffer x = moved(qkv), dy = moved(dout), y = moved(Buffer(t, want.out.view.shape)), dx = moved(Buffer(t, qkv.view.shape));
      View out = y.view.at(1, want.out.view.shape);
      ops.attention_forward(m.ex, {in.s, x.view.at(1, qkv.view.shape), starts.view, out});
      CHECK(y.same(1, want.out, 0, tokens * width));
      ops.attention_backward(m.ex, {in.s, x.view.at(1, qkv.view.shape), starts.view, out, want.lse.view, dy.view.at(1, dout.view.shape),
                                    dx.view.at(1, qkv.view.shape)});
      CHECK(dx.same(1, dwant, 0, tokens * ld));
    }
  });
}

// A device with room for two stages of every tile, in fp16.
TEST(attention_kernels_of_fp16_and_of_much_shared_memory) {
  Machine m(2);
  const std::vector<int64_t> lengths = {130, 70};
  int64_t tokens = total(lengths);
  Buffer starts = starts_of(lengths);
  std::shared_ptr<Backend> device = emulated::make_backend({{}, 90});
  TestDevice emulated{"emulated sm_90", nullptr, device};
  test_device() = &emulated;
  Exec ex{m.pool, m.allocator, device->gpu()};
  for (const Heads& h : {Heads{2, 1, 72}, Heads{2, 1, 256}, Heads{2, 1, 64, 50}}) {
    Inputs in(h, lengths, 81);
    Reference want = reference(in.s, lengths, in.qkv, in.dout);
    Buffer qkv(DType::f16, {tokens, in.s.row()}, in.qkv), dout(DType::f16, {tokens, h.heads * h.d}, in.dout), dqkv(qkv);
    Outputs o{Buffer(DType::f16, {tokens, h.heads * h.d}), Buffer(DType::f32, {tokens, h.heads})};
    cuda::attention_forward(ex, {in.s, qkv.view, starts.view, o.out.view, o.lse.view});
    check_sums("out", o.out, want.out, want.out_terms, 0x1p-11, 2e-6);
    check_close("lse", o.lse, want.lse, 0, 2e-6);
    o.out = Buffer(DType::f16, o.out.view.shape, want.out);
    cuda::attention_backward(ex, {in.s, qkv.view, starts.view, o.out.view, o.lse.view, dout.view, dqkv.view});
    check_sums("dqkv", dqkv, want.dqkv, want.dqkv_terms, 0x1p-10, 1e-3);
  }
  test_device() = &test_devices().front();
}

TEST(attention_of_thousands_of_keys) {
  Machine m(2);
  std::vector<int64_t> lengths = {2500};
  Inputs in({1, 1, 5}, lengths, 41);
  Buffer qkv(DType::f32, {2500, in.s.row()}, in.qkv), dout(DType::f32, {2500, 5}, in.dout);
  Reference want = reference(in.s, lengths, in.qkv, in.dout);
  Outputs got = forward(m.ex, in.s, lengths, qkv);
  check_close("out", got.out, want.out, 0, 2e-6);
  check_close("dqkv", backward(m.ex, in.s, lengths, qkv, got, dout), want.dqkv, 0, 1e-5);
  CHECK(m.allocator.stats().total_peak < 2500 * 2500 * 4 / 8);  // far from [T, T]
}

TEST(attention_names_the_wrong_operand) {
  Machine m(1);
  Inputs in({4, 2, 8}, {6}, 51);
  Buffer qkv(DType::f32, {6, in.s.row()}, in.qkv), out(DType::f32, {6, 32}), lse(DType::f32, {6, 4});
  Buffer starts = starts_of({6}), wrong(DType::f32, {6, 31}), half(DType::bf16, {6, 32}), dqkv(qkv);
  auto forward_error = [&](AttentionForward a) { return message_of([&] { ops.attention_forward(m.ex, a); }); };
  auto backward_error = [&](AttentionBackward a) { return message_of([&] { ops.attention_backward(m.ex, a); }); };
  for_each_device([&] {
    CHECK_EQ(forward_error({in.s, qkv.view, starts.view, out.view, lse.view}), "");
    CHECK(names(forward_error({in.s, wrong.view, starts.view, out.view, lse.view}), "qkv"));
    CHECK(names(forward_error({in.s, qkv.view, starts.view, half.view, lse.view}), "out"));
    CHECK(names(forward_error({in.s, qkv.view, starts.view, out.view, wrong.view}), "lse"));
    CHECK(names(forward_error({in.s, qkv.view, starts_of({5}).view, out.view, lse.view}), "starts"));
    CHECK(names(forward_error({in.s, qkv.view, starts_of({8, -2}).view, out.view, lse.view}), "starts that rise from 0 to 6"));
    CHECK(names(forward_error({shape_of(4, 3, 8), qkv.view, starts.view, out.view, lse.view}), "heads"));
    AttentionShape odd = in.s;
    odd.alibi = true, odd.softcap = 5;
    CHECK(names(forward_error({odd, qkv.view, starts.view, out.view, lse.view}), "ALiBi or a softcap"));
    CHECK(names(forward_error({shape_of(4, 2, 257), qkv.view, starts.view, out.view, lse.view}), "head size"));
    AttentionBackward good{in.s, qkv.view, starts.view, out.view, lse.view, out.view, dqkv.view};
    CHECK_EQ(backward_error(good), "");
    AttentionBackward bad = good;
    bad.dout = wrong.view;
    CHECK(names(backward_error(bad), "dout"));
    bad = good;
    bad.dqkv = wrong.view;
    CHECK(names(backward_error(bad), "dqkv"));
    bad = good;
    bad.lse = wrong.view;
    CHECK(names(backward_error(bad), "lse"));
  });
}

}  // namespace threefold::test::attention
