// One decoder layer: forward, decode and backward, each ONE call, built from kernels.h. Knows no device.
//
//   x --> norm1 --> qkv --> (head norms) --> rotary --> attention --> out --(+ x)--> x1 --> norm2 --> mlp --(+ x1)--> y
//
// is the usual order; Wiring lists the others.
//
// A layer owns one flat unit of parameters and one of gradients; LayerLayout says where each tensor lies in it.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace threefold {

// Where the norms stand and how the two halves are joined.
enum class Wiring : uint8_t {
  pre,              // x1 = x + attention(norm1(x)); y = x1 + mlp(norm2(x1))
  post,             // x1 = norm1(x + attention(x)); y = norm2(x1 + mlp(x1))                    (OPT-350m)
  parallel,         // y = x + attention(norm1(x)) + mlp(norm2(x))                              (GPT-NeoX)
  parallel_shared,  // y = x + attention(norm1(x)) + mlp(norm1(x))                              (GPT-J)
  sandwich,         // x1 = x + norm1_post(attention(norm1(x))); y = x1 + norm2_post(mlp(norm2(x1)))   (Gemma 2)
};

struct LayerSpec {
  Wiring wiring = Wiring::pre;
  int64_t hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, ffn = 0;
  bool rms = false;        // RMSNorm instead of LayerNorm
  bool norm_bias = true;   // LayerNorm's bias
  float norm_eps = 1e-5f, norm_offset = 0;  // added to a norm's weight
  bool qk_norm = false;    // RMSNorm of each query and key head
  Act act = Act::relu;
  bool gated = false;      // act(gate) * up
  bool qkv_bias = true, out_bias = true, mlp_bias = true;
  bool rotary = false, rotary_interleaved = false;
  float attention_scale = 1, attention_softcap = 0;
  int64_t window = 0;      // 0 = all keys
  bool alibi = false;

  AttentionShape attention() const {
    return {heads, kv_heads, head_dim, attention_scale, attention_softcap, window, alibi};
  }
  void check() const;  // refuses impossible sizes
};

struct ParamSlot {
  std::string name;  // "attn.q.weight", "mlp.down.bias", ...
  int64_t offset;    // elements into the unit
  Shape shape;
  bool decay;        // weight decay applies (matrices only)
};

// Tensors that one matmul reads together (q k v; gate up) lie side by side. Everything that decays comes first, so the
// optimizer sees two stretches: [0, decay_end) and [decay_end, size).
struct LayerLayout {
  std::vector<ParamSlot> slots;
  int64_t size = 0, decay_end = 0;  // elements

  explicit LayerLayout(const LayerSpec& spec);
  const ParamSlot* find(const std::string& name) const;
};

// What forward keeps for backward, carved out of one block of bytes. "any" is the dtype of the parameters.
struct LayerActivations {
  View norm1;         // any [T, H]; absent with post
  View qkv_raw;       // any [T, (N + 2G) D], before the head norms; absent without them
  View qkv;           // any [T, (N + 2G) D], after rotary
  View attention;     // any [T, N D]
  View sum1, sum2;    // any [T, H]: inputs of the norms behind attention and mlp (post, sandwich)
  View x1;            // any [T, H]; absent with parallel
  View norm2;         // any [T, H]; absent with post and parallel_shared
  View mlp_in;        // any [T, F or 2F]; absent when the activation is fused into the matmul (plain relu)
  View mlp_act;       // any [T, F]
  struct Stats {
    View mean, rstd;  // fp32 [T]
  };
  Stats stats1, stats2, stats1_post, stats2_post;
  View lse;           // fp32 [T, N]

  static int64_t bytes(const LayerSpec& spec, DType dtype, int64_t tokens);
  static LayerActivations carve(const LayerSpec& spec, DType dtype, int64_t tokens, void* base);
};

// Dropout of one call: off where both are 0.
struct LayerDropout {
  float attention = 0, residual = 0;  // of attention's probabilities; of what each half adds to the residual
  uint64_t seed = 0;                  // of the optimizer step
  int64_t layer = 0;                  // its place in the model
  View rows{};                        // int32 [T]: as DropoutMask
  DropoutMask at(uint32_t place) const {
    return {place == DropoutPlace::attention ? attention : residual, seed, dropout_stream(layer, place), rows};
  }
};

// Rows of one call. Training and prefill: `starts` cuts T tokens into sequences. Decode: one new token per sequence,
// with block_table and lengths. `slots` (with keys and values) says where new keys and values go.
struct LayerRows {
  View positions;               // int32 [T]
  View starts{};                // int32 [B + 1]
  View block_table{}, lengths{};  // int32 [B, max_blocks], [B]
  View slots{};                 // int32 [T]
  View keys{}, values{};        // any [pages, page_size, G, D]
  View rotary_table{};          // fp32 [P, R/2, 2]
  LayerDropout dropout{};       // of a packed batch
  bool decoding() const { return bool(block_table); }
};

// y[T, H] = layer(x[T, H]); `a` receives the activations.
void layer_forward(const Kernels& k, Exec& ex, const LayerSpec& spec, const LayerLayout& layout, const View& params,
                   const View& x, const LayerRows& rows, const LayerActivations& a, const View& y);

// dx[T, H] from dy[T, H]; adds to `grads` (fp32 [size]) unless absent (frozen layer).
void layer_backward(const Kernels& k, Exec& ex, const LayerSpec& spec, const LayerLayout& layout, const View& params,
                    const View& grads, const View& x, const LayerRows& rows, const LayerActivations& a, const View& dy,
                    const View& dx);

}  // namespace threefold
