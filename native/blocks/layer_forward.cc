#include "blocks/layer.h"
#include "blocks/layer_weights.h"

namespace threefold {

void layer_forward(const Kernels& k, Exec& ex, const LayerSpec& s, const LayerLayout& layout, const View& params,
                   const View& x, const LayerRows& rows, const LayerActivations& a, const View& y) {
  LayerWeights w(s, layout, params);
  AttentionShape heads = s.attention();

  k.norm_forward(ex, {.rms = s.rms, .eps = s.norm_eps, .x = x, .weight = w.norm1, .bias = w.norm1_bias, .out = a.norm1,
                      .mean = a.mean1, .rstd = a.rstd1});
  k.matmul(ex, {.a = a.norm1, .b = w.qkv, .out = a.qkv, .bias = w.qkv_bias});
  if (s.rotary)
    k.rotary(ex, {.shape = heads, .qkv = a.qkv, .positions = rows.positions, .table = rows.rotary_table});
  if (rows.keys)
    k.kv_append(ex, {.shape = heads, .qkv = a.qkv, .slots = rows.slots, .keys = rows.keys, .values = rows.values});
  if (rows.decoding())
    k.attention_decode(ex, {.shape = heads, .qkv = a.qkv, .keys = rows.keys, .values = rows.values,
                            .block_table = rows.block_table, .lengths = rows.lengths, .out = a.attention});
  else
    k.attention_forward(ex, {.shape = heads, .qkv = a.qkv, .starts = rows.starts, .out = a.attention, .lse = a.lse});
  k.matmul(ex, {.a = a.attention, .b = w.out, .out = a.x1, .bias = w.out_bias, .residual = x});

  k.norm_forward(ex, {.rms = s.rms, .eps = s.norm_eps, .x = a.x1, .weight = w.norm2, .bias = w.norm2_bias,
                      .out = a.norm2, .mean = a.mean2, .rstd = a.rstd2});
  if (!a.mlp_in) {
    k.matmul(ex, {.a = a.norm2, .b = w.mlp_in, .out = a.mlp_act, .bias = w.mlp_in_bias, .act = s.act});
  } else {
    k.matmul(ex, {.a = a.norm2, .b = w.mlp_in, .out = a.mlp_in, .bias = w.mlp_in_bias});
    k.activation_forward(ex, {.act = s.act, .gated = s.gated, .x = a.mlp_in, .out = a.mlp_act});
  }
  k.matmul(ex, {.a = a.mlp_act, .b = w.mlp_out, .out = y, .bias = w.mlp_out_bias, .residual = a.x1});
}

}  // namespace threefold
