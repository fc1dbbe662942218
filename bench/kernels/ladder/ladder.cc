// Every kernel of kernels.h at the shapes of transformers, through a device's own table: one line of JSON each.
//   bench_ladder [--module build/Release/threefold_cuda.so] [--quick] [--only PART_OF_A_NAME]     the CPU without a module
// A rung's seconds are the median of at least 5 samples. shareOfCopy and shareOfMatmul compare with what this device reaches
// in the same run: a copy of its memory (the cast kernel), and the fastest matmul.
#include <cstdio>
#include <cstring>

#include "bench.h"

using namespace threefold;
using namespace threefold::ladder;

namespace {

struct Model {
  const char* name;
  int64_t hidden, ffn, heads, head_dim, vocab;
};

struct Scale {
  std::vector<Model> models;
  int64_t sequences, length;     // a training batch, larger than caches
  int64_t long_length;           // one packed batch of the same tokens in longer sequences
  std::vector<int64_t> batches;  // of decoding
  int64_t keys;                  // in the cache of each
  int64_t copied;                // elements of the copy
  int64_t cold;                  // bytes of weights that decoding cycles through, larger than caches
};

const Scale kFull{{{"opt-1.3b", 2048, 8192, 32, 64, 50272}, {"opt-13b", 5120, 20480, 40, 128, 50272}}, 16, 512, 2048, {1, 32, 256}, 512, 512 << 20, 256 << 20};
const Scale kQuick{{{"tiny", 64, 128, 2, 32, 512}}, 2, 33, 66, {1, 4}, 33, 1 << 16, 0};

constexpr DType H = DType::bf16, F = DType::f32;
constexpr int64_t kPage = 16;

class Ladder {
 public:
  Ladder(Bench& bench, const Scale& scale, const Model& model)
      : b(bench), s(scale), m(model), T(s.sequences * s.length), row(3 * m.heads * m.head_dim),
        shape{.heads = m.heads, .kv_heads = m.heads, .head_dim = m.head_dim, .scale = 0.125f} {}

  void matmuls() {
    int64_t h = m.hidden, f = m.ffn;
    for (auto [n, k] : {std::pair{3 * h, h}, {h, h}, {f, h}, {h, f}}) forward(T, n, k, H);
    for (int64_t batch : s.batches)
      for (auto [n, k] : {std::pair{f, h}, {h, f}}) forward(batch, n, k, H);
    forward(T, h, h, F);
    b.rung({"matmul_dx", m.name, {{"M", T}, {"N", h}, {"K", f}}, 2.0 * T * h * f, 2.0 * (T * f + f * h + T * h)}, [&] {
      Matmul o{.a = b.numbers(H, {T, f}), .b = b.numbers(H, {f, h}), .out = b.empty(H, {T, h}), .trans_b = false};
      return [o](auto& k, Exec& ex) { k.matmul(ex, o); };
    });
    b.rung({"matmul_dw", m.name, {{"M", f}, {"N", h}, {"K", T}}, 2.0 * T * h * f, 2.0 * T * (f + h) + 8.0 * f * h}, [&] {
      Matmul o{.a = b.numbers(H, {T, f}), .b = b.numbers(H, {T, h}), .out = b.constant({f, h}, 0), .trans_a = true, .trans_b = false, .accumulate = true};
      return [o](auto& k, Exec& ex) { k.matmul(ex, o); };
    });
    b.rung({"column_sum", m.name, {{"T", T}, {"N", f}}, 0, 2.0 * T * f}, [&] {
      ColumnSum o{.x = b.numbers(H, {T, f}), .out = b.constant({f}, 0)};
      return [o](auto& k, Exec& ex) { k.column_sum(ex, o); };
    });
  }

  void attention() {
    for (int64_t length : {s.length, s.long_length}) {
      int64_t count = T / length;
      double flops = double(count) * double(length) * double(length + 1) * double(m.heads * m.head_dim), element = 2.0 * T * m.heads * m.head_dim;
      Sizes sizes{{"B", count}, {"T", length}, {"N", m.heads}, {"D", m.head_dim}};
      auto make = [&] {
        AttentionForward o{shape, b.numbers(H, {T, row}), b.whole({count + 1}, [=](int64_t i) { return i * length; }),
                           b.empty(H, {T, m.heads * m.head_dim}), b.empty(F, {T, m.heads})};
        return o;
      };
      b.rung({"attention_forward", m.name, sizes, 2 * flops, 4 * element}, [&] {
        return [o = make()](auto& k, Exec& ex) { k.attention_forward(ex, o); };
      });
      b.rung({"attention_backward", m.name, sizes, 5 * flops, 8 * element}, [&] {
        AttentionForward f = make();
        AttentionBackward o{shape, f.qkv, f.starts, f.out, f.lse, b.numbers(H, f.out.shape), b.empty(H, f.qkv.shape)};
        bool first = true;
        return [=](auto& k, Exec& ex) mutable {
          if (std::exchange(first, false)) k.attention_forward(ex, f);
          k.attention_backward(ex, o);
        };
      });
    }
    int64_t blocks = (s.keys + kPage - 1) / kPage;
    for (int64_t batch : s.batches) {
      double seen = double(batch * s.keys * m.heads * m.head_dim);
      b.rung({"attention_decode", m.name, {{"B", batch}, {"keys", s.keys}, {"N", m.heads}, {"D", m.head_dim}}, 4 * seen, 4 * seen}, [&] {
        AttentionDecode o{.shape = shape, .qkv = b.numbers(H, {batch, row}), .keys = cache(batch * blocks), .values = cache(batch * blocks),
                          .block_table = b.whole({batch, blocks}, [=](int64_t i) { return i % blocks * batch + i / blocks; }),
                          .lengths = b.whole({batch}, [&](int64_t) { return s.keys; }), .out = b.empty(H, {batch, m.heads * m.head_dim})};
        return [o](auto& k, Exec& ex) { k.attention_decode(ex, o); };
      });
    }
    int64_t pages = (T + kPage - 1) / kPage;
    b.rung({"kv_append", m.name, tokens(), 0, 8.0 * T * m.heads * m.head_dim}, [&] {
      KvAppend o{shape, b.numbers(H, {T, row}), b.whole({T}, [](int64_t i) { return i; }), cache(pages), cache(pages)};
      return [o](auto& k, Exec& ex) { k.kv_append(ex, o); };
    });
    b.rung({"rotary", m.name, tokens(), 0, 8.0 * T * m.heads * m.head_dim}, [&] {
      Rotary o{.shape = shape, .qkv = b.numbers(H, {T, row}), .positions = b.whole({T}, [&](int64_t i) { return i % s.length; }),
               .table = b.numbers(F, {s.length, m.head_dim / 2, 2})};
      return [o](auto& k, Exec& ex) { k.rotary(ex, o); };
    });
    b.rung({"rotary_append", m.name, tokens(), 0, 14.0 * T * m.heads * m.head_dim}, [&] {
      Rotary o{.shape = shape, .qkv = b.numbers(H, {T, row}), .positions = b.whole({T}, [&](int64_t i) { return i % s.length; }),
               .table = b.numbers(F, {s.length, m.head_dim / 2, 2}), .slots = b.whole({T}, [](int64_t i) { return i; }), .keys = cache(pages), .values = cache(pages)};
      return [o](auto& k, Exec& ex) { k.rotary(ex, o); };
    });
    b.rung({"head_norm_forward", m.name, tokens(), 0, 4.0 * T * row}, [&] {
      HeadNormForward o{.shape = shape, .qkv = b.numbers(H, {T, row}), .q_weight = b.numbers(H, {m.head_dim}), .k_weight = b.numbers(H, {m.head_dim}), .out = b.empty(H, {T, row})};
      return [o](auto& k, Exec& ex) { k.head_norm_forward(ex, o); };
    });
    b.rung({"head_norm_backward", m.name, tokens(), 0, 8.0 * T * m.heads * m.head_dim * 1.5}, [&] {
      HeadNormBackward o{.shape = shape, .qkv = b.numbers(H, {T, row}), .q_weight = b.numbers(H, {m.head_dim}), .k_weight = b.numbers(H, {m.head_dim}),
                         .dqkv = b.numbers(H, {T, row}), .dq_weight = b.constant({m.head_dim}, 0), .dk_weight = b.constant({m.head_dim}, 0)};
      return [o](auto& k, Exec& ex) { k.head_norm_backward(ex, o); };
    });
  }

  void rows() {
    int64_t h = m.hidden, f = m.ffn, v = m.vocab;
    double th = 2.0 * double(T) * double(h), tf = 2.0 * double(T) * double(f);
    NormForward n;
    auto norm = [&] {
      n = {.x = b.numbers(H, {T, h}), .weight = b.numbers(H, {h}), .bias = b.numbers(H, {h}), .out = b.empty(H, {T, h}), .mean = b.empty(F, {T}), .rstd = b.empty(F, {T})};
    };
    b.rung({"norm_forward", m.name, {{"T", T}, {"H", h}}, 0, 2 * th}, [&] {
      norm();
      return [o = n](auto& k, Exec& ex) { k.norm_forward(ex, o); };
    });
    b.rung({"norm_backward", m.name, {{"T", T}, {"H", h}}, 0, 4 * th}, [&] {
      norm();
      NormBackward o{.x = n.x, .weight = n.weight, .mean = b.constant({T}, 0), .rstd = b.constant({T}, 1.7f), .dout = b.numbers(H, {T, h}), .dx = b.empty(H, {T, h}),
                     .residual_grad = b.numbers(H, {T, h}), .dweight = b.constant({h}, 0), .dbias = b.constant({h}, 0)};
      return [o](auto& k, Exec& ex) { k.norm_backward(ex, o); };
    });
    b.rung({"activation_forward", m.name, {{"T", T}, {"F", f}}, 0, 3 * tf}, [&] {
      ActivationForward o{Act::silu, true, b.numbers(H, {T, 2 * f}), b.empty(H, {T, f})};
      return [o](auto& k, Exec& ex) { k.activation_forward(ex, o); };
    });
    b.rung({"activation_backward", m.name, {{"T", T}, {"F", f}}, 0, 5 * tf}, [&] {
      ActivationBackward o{Act::silu, true, b.numbers(H, {T, 2 * f}), b.numbers(H, {T, f}), b.empty(H, {T, 2 * f})};
      return [o](auto& k, Exec& ex) { k.activation_backward(ex, o); };
    });
    b.rung({"embedding_forward", m.name, {{"T", T}, {"V", v}, {"H", h}}, 0, 2 * th}, [&] {
      EmbeddingForward o{.ids = ids(T), .table = b.numbers(H, {v, h}), .out = b.empty(H, {T, h})};
      return [o](auto& k, Exec& ex) { k.embedding_forward(ex, o); };
    });
    b.rung({"embedding_backward", m.name, {{"T", T}, {"V", v}, {"H", h}}, 0, 5 * th}, [&] {
      EmbeddingBackward o{.ids = ids(T), .dout = b.numbers(H, {T, h}), .dtable = b.constant({v, h}, 0)};
      return [o](auto& k, Exec& ex) { k.embedding_backward(ex, o); };
    });
    b.rung({"gather_rows", m.name, {{"R", T}, {"H", h}}, 0, 2 * th}, [&] {
      GatherRows o{b.numbers(H, {T, h}), backwards(T), b.empty(H, {T, h})};
      return [o](auto& k, Exec& ex) { k.gather_rows(ex, o); };
    });
    b.rung({"value_forward", m.name, {{"R", T}, {"H", h}}, 0, th}, [&] {
      ValueForward o{b.numbers(H, {T, h}), b.numbers(H, {h}), backwards(T), b.empty(F, {T})};
      return [o](auto& k, Exec& ex) { k.value_forward(ex, o); };
    });
    b.rung({"value_backward", m.name, {{"R", T}, {"H", h}}, 0, 2 * th}, [&] {
      ValueBackward o{b.numbers(H, {T, h}), b.numbers(H, {h}), backwards(T), b.numbers(F, {T}), b.empty(H, {T, h}), b.constant({h}, 0)};
      return [o](auto& k, Exec& ex) { k.value_backward(ex, o); };
    });
  }

  void heads() {
    int64_t h = m.hidden, v = m.vocab;
    double product = 2.0 * double(T) * double(v) * double(h);
    Sizes sizes{{"R", T}, {"V", v}, {"H", h}};
    auto make = [&] {
      LogprobForward o{.hidden = b.numbers(H, {T, h}), .weight = b.numbers(H, {v, h}), .rows = b.whole({T}, [](int64_t i) { return i; }), .targets = ids(T),
                       .inv_temperature = 0.05f, .logprobs = b.empty(F, {T}), .lse = b.empty(F, {T}), .entropy = b.empty(F, {T})};
      return o;
    };
    b.rung({"logprob_forward", m.name, sizes, product, 2.0 * double(v + T) * double(h)}, [&] {
      return [o = make()](auto& k, Exec& ex) { k.logprob_forward(ex, o); };
    });
    b.rung({"logprob_backward", m.name, sizes, 3 * product, 2.0 * double(v + 2 * T) * double(h) + 8.0 * double(v) * double(h)}, [&] {
      LogprobForward f = make();
      LogprobBackward o{.hidden = f.hidden, .weight = f.weight, .rows = f.rows, .targets = f.targets, .inv_temperature = f.inv_temperature, .lse = f.lse,
                        .dlogprobs = b.numbers(F, {T}), .dhidden = b.empty(H, {T, h}), .dweight = b.constant({v, h}, 0)};
      bool first = true;
      return [=](auto& k, Exec& ex) mutable {
        if (std::exchange(first, false)) k.logprob_forward(ex, f);
        k.logprob_backward(ex, o);
      };
    });
    for (int64_t batch : s.batches)
      b.rung({"sample", m.name, {{"B", batch}, {"V", v}}, 0, 4.0 * batch * v}, [&] {
        Sample o{.logits = b.numbers(F, {batch, v}), .inv_temperature = b.constant({batch}, 1), .top_k = b.whole({batch}, [](int64_t) { return 0; }),
                 .top_p = b.constant({batch}, 1), .seeds = b.whole({batch, 2}, [](int64_t i) { return i; }), .positions = b.whole({batch}, [](int64_t i) { return i; }),
                 .tokens = b.empty(DType::i32, {batch}), .logprobs = b.empty(F, {batch})};
        return [o](auto& k, Exec& ex) { k.sample(ex, o); };
      });
  }

  // The parameters of one layer, and its activations.
  void elements() {
    int64_t n = 4 * m.hidden * m.hidden + 2 * m.hidden * m.ffn, e = T * m.ffn;
    b.rung({"gradient_control", m.name, {{"n", n}}, 0, 4.0 * n}, [&] {
      GradientControl o{.grads = {b.numbers(F, {n})}, .clip = 1, .control = b.empty(F, {3})};
      return [o](auto& k, Exec& ex) { k.gradient_control(ex, o); };
    });
    b.rung({"adamw", m.name, {{"n", n}}, 0, 30.0 * n}, [&] {
      AdamW o{.param = b.numbers(H, {n}), .master = b.numbers(F, {n}), .grad = b.numbers(F, {n}), .m = b.constant({n}, 0), .v = b.constant({n}, 0),
              .control = b.constant({3}, 1), .lr = 1e-6f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f};
      return [o](auto& k, Exec& ex) { k.adamw(ex, o); };
    });
    b.rung({"unpack", m.name, {{"R", m.ffn}, {"C", m.hidden}}, 0, 2.0 * m.ffn * m.hidden}, [&] {
      stored_.assign(size_t(2 * m.ffn * m.hidden), 1);
      Unpack o{.bytes = stored_.data(), .type = StoredType::bf16, .block = m.ffn, .row_stride = m.hidden, .out = b.empty(H, {m.ffn, m.hidden}), .bad = b.whole({1}, [](int64_t) { return -1; })};
      return [o](auto& k, Exec& ex) { k.unpack(ex, o); };
    });
    b.rung({"fill", m.name, {{"n", e}}, 0, 4.0 * e}, [&] {
      Fill o{b.empty(F, {e}), 1};
      return [o](auto& k, Exec& ex) { k.fill(ex, o); };
    });
    b.rung({"cast", m.name, {{"n", e}}, 0, 6.0 * e}, [&] {
      Cast o{b.numbers(F, {e}), b.empty(H, {e})};
      return [o](auto& k, Exec& ex) { k.cast(ex, o); };
    });
    b.rung({"add", m.name, {{"n", e}}, 0, 6.0 * e}, [&] {
      Add o{b.numbers(H, {e}), b.numbers(H, {e}), b.empty(H, {e})};
      return [o](auto& k, Exec& ex) { k.add(ex, o); };
    });
    b.rung({"ema", m.name, {{"n", e}}, 0, 12.0 * e}, [&] {
      Ema o{b.numbers(F, {e}), b.numbers(F, {e}), 0.992f};
      return [o](auto& k, Exec& ex) { k.ema(ex, o); };
    });
  }

 private:
  // One row at a time, as decoding does, finds its weights in memory, not in a cache.
  void forward(int64_t rows, int64_t n, int64_t k, DType type) {
    int64_t size = size_of(type), copies = rows < T ? std::max<int64_t>(1, s.cold / (n * k * size)) : 1;
    Rung r{type == F ? "matmul_fp32" : "matmul", m.name, {{"M", rows}, {"N", n}, {"K", k}}, 2.0 * rows * n * k, double(size) * double(rows * k + n * k + rows * n)};
    b.rung(r, [&] {
      View weights = b.numbers(type, {copies * n, k});
      Matmul o{.a = b.numbers(type, {rows, k}), .b = weights.rows(0, n), .out = b.empty(type, {rows, n}), .bias = b.numbers(type, {n})};
      return [=, turn = int64_t(0)](auto& kernels, Exec& ex) mutable {
        o.b = weights.rows(turn * n, (turn + 1) * n);
        turn = (turn + 1) % copies;
        kernels.matmul(ex, o);
      };
    });
  }
  View cache(int64_t pages) { return b.numbers(H, {pages, kPage, m.heads, m.head_dim}); }
  View ids(int64_t n) { return b.whole({n}, [&](int64_t i) { return i * 7919 % m.vocab; }); }
  View backwards(int64_t n) { return b.whole({n}, [=](int64_t i) { return n - 1 - i; }); }
  Sizes tokens() const { return {{"T", T}, {"N", m.heads}, {"D", m.head_dim}}; }

  Bench& b;
  const Scale& s;
  const Model& m;
  int64_t T, row;
  AttentionShape shape;
  std::vector<char> stored_;
};

void run(Bench& b, const Scale& scale) {
  b.rung({"copy", "", {{"n", scale.copied}}, 0, 4.0 * double(scale.copied)}, [&] {
    Cast o{b.numbers(H, {scale.copied}), b.empty(H, {scale.copied})};
    return [o](auto& k, Exec& ex) { k.cast(ex, o); };
  });
  for (const Model& m : scale.models) Ladder(b, scale, m).matmuls();  // first: they set the ceiling of the rest
  for (const Model& m : scale.models) {
    Ladder l(b, scale, m);
    l.attention(), l.rows(), l.heads(), l.elements();
  }
}

}  // namespace

int main(int argc, char** argv) try {
  std::string module, filter;
  bool quick = false;
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    bool more = i + 1 < argc;
    if (word == "--quick") quick = true;
    else if (word == "--module" && more) module = argv[++i];
    else if (word == "--only" && more) filter = argv[++i];
    else fail("ladder", "--module PATH, --quick or --only NAME", "\"" + word + "\"", "bench_ladder --module build/Release/threefold_cuda.so");
  }
  std::unique_ptr<Backend> backend = module.empty() ? make_cpu_backend() : load_module(module).open(0);
  Bench bench(*backend, filter);
  run(bench, quick ? kQuick : kFull);
  return bench.failed ? 1 : 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
