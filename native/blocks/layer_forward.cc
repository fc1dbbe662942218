#include "blocks/layer.h"
#include "blocks/layer_weights.h"

namespace threefold {
namespace {

struct Forward {
  const Kernels& k;
  Exec& ex;
  const LayerSpec& s;
  const LayerWeights& w;
  const LayerRows& rows;
  const LayerActivations& a;

  // out = norm(x) + residual
  void norm(const LayerWeights::Norm& n, const View& x, const LayerActivations::Stats& stats, const View& out,
            const View& residual = {}) const {
    k.norm_forward(ex, {.rms = s.rms, .eps = s.norm_eps, .weight_offset = s.norm_offset, .x = x, .weight = n.weight,
                        .bias = n.bias, .residual = residual, .out = out, .mean = stats.mean, .rstd = stats.rstd});
  }

  // a.attention = softmax(queries keys) values of `in`; new keys and values go to the cache.
  void attention(const View& in) const {
    AttentionShape heads = s.attention();
    k.matmul(ex, {.a = in, .b = w.qkv, .out = s.qk_norm ? a.qkv_raw : a.qkv, .bias = w.qkv_bias});
    if (s.qk_norm)
      k.head_norm_forward(ex, {.shape = heads, .eps = s.norm_eps, .weight_offset = s.norm_offset, .qkv = a.qkv_raw,
                               .q_weight = w.q_norm, .k_weight = w.k_norm, .out = a.qkv});
    if (s.rotary)
      k.rotary(ex, {.shape = heads, .qkv = a.qkv, .positions = rows.positions, .table = rows.rotary_table,
                    .interleaved = s.rotary_interleaved, .slots = rows.slots, .keys = rows.keys, .values = rows.values});
    else if (rows.keys)
      k.kv_append(ex, {.shape = heads, .qkv = a.qkv, .slots = rows.slots, .keys = rows.keys, .values = rows.values});
    if (rows.decoding())
      k.attention_decode(ex, {.shape = heads, .qkv = a.qkv, .keys = rows.keys, .values = rows.values,
                              .block_table = rows.block_table, .lengths = rows.lengths, .out = a.attention});
    else
      k.attention_forward(ex, {.shape = heads, .qkv = a.qkv, .starts = rows.starts, .out = a.attention, .lse = a.lse,
                               .dropout = rows.dropout.at(DropoutPlace::attention)});
  }

  // out = dropout(in W^T + bias) + residual
  void join(const View& in, const View& weight, const View& bias, const View& out, const View& residual, uint32_t place) const {
    DropoutMask mask = rows.dropout.at(place);
    if (!mask) return k.matmul(ex, {.a = in, .b = weight, .out = out, .bias = bias, .residual = residual});
    Scratch<char> memory(ex, out.numel() * size_of(out.dtype));
    View half{memory.data(), out.dtype, out.shape};
    k.matmul(ex, {.a = in, .b = weight, .out = half, .bias = bias});
    k.dropout(ex, {.mask = mask, .positions = rows.positions, .x = half, .residual = residual, .out = out});
  }

  // out = dropout(a.attention W_out + bias) + residual
  void project(const View& out, const View& residual = {}) const {
    join(a.attention, w.out, w.out_bias, out, residual, DropoutPlace::attention_out);
  }

  // out = dropout(mlp(in)) + residual
  void mlp(const View& in, const View& out, const View& residual = {}) const {
    if (!a.mlp_in) {
      k.matmul(ex, {.a = in, .b = w.mlp_in, .out = a.mlp_act, .bias = w.mlp_in_bias, .act = s.act});
    } else {
      k.matmul(ex, {.a = in, .b = w.mlp_in, .out = a.mlp_in, .bias = w.mlp_in_bias});
      k.activation_forward(ex, {.act = s.act, .gated = s.gated, .x = a.mlp_in, .out = a.mlp_act});
    }
    join(a.mlp_act, w.mlp_out, w.mlp_out_bias, out, residual, DropoutPlace::mlp_out);
  }
};

}  // namespace

void layer_forward(const Kernels& k, Exec& ex, const LayerSpec& s, const LayerLayout& layout, const View& params,
                   const View& x, const LayerRows& rows, const LayerActivations& a, const View& y) {
  LayerWeights w(s, layout, params);
  Forward f{k, ex, s, w, rows, a};
  switch (s.wiring) {
    case Wiring::pre:
      f.norm(w.norm1, x, a.stats1, a.norm1);
      f.attention(a.norm1);
      f.project(a.x1, x);
      f.norm(w.norm2, a.x1, a.stats2, a.norm2);
      f.mlp(a.norm2, y, a.x1);
      break;
    case Wiring::post:
      f.attention(x);
      f.project(a.sum1, x);
      f.norm(w.norm1, a.sum1, a.stats1, a.x1);
      f.mlp(a.x1, a.sum2, a.x1);
      f.norm(w.norm2, a.sum2, a.stats2, y);
      break;
    case Wiring::parallel:
    case Wiring::parallel_shared:
      f.norm(w.norm1, x, a.stats1, a.norm1);
      f.attention(a.norm1);
      f.project(y, x);
      if (s.wiring == Wiring::parallel) f.norm(w.norm2, x, a.stats2, a.norm2);
      f.mlp(s.wiring == Wiring::parallel ? a.norm2 : a.norm1, y, y);
      break;
    case Wiring::sandwich:
      f.norm(w.norm1, x, a.stats1, a.norm1);
      f.attention(a.norm1);
      f.project(a.sum1);
      f.norm(w.norm1_post, a.sum1, a.stats1_post, a.x1, x);
      f.norm(w.norm2, a.x1, a.stats2, a.norm2);
      f.mlp(a.norm2, a.sum2);
      f.norm(w.norm2_post, a.sum2, a.stats2_post, y, a.x1);
      break;
  }
}

}  // namespace threefold
