#include "blocks/layer.h"
#include "blocks/layer_weights.h"

namespace threefold {
namespace {

// Backward of out = in W^T + bias: d_in = d_out W, dW += d_out^T in, dbias += column sums of d_out.
void linear_backward(const Kernels& k, Exec& ex, const View& in, const View& weight, const View& d_out, const View& d_in,
                     const View& d_weight, const View& d_bias) {
  k.matmul(ex, {.a = d_out, .b = weight, .out = d_in, .trans_b = false});
  if (d_weight)
    k.matmul(ex, {.a = d_out, .b = in, .out = d_weight, .trans_a = true, .trans_b = false, .accumulate = true});
  if (d_bias) k.column_sum(ex, {.x = d_out, .out = d_bias});
}

}  // namespace

void layer_backward(const Kernels& k, Exec& ex, const LayerSpec& s, const LayerLayout& layout, const View& params,
                    const View& grads, const View& x, const LayerRows& rows, const LayerActivations& a, const View& dy,
                    const View& dx) {
  LayerWeights w(s, layout, params), g(s, layout, grads);
  AttentionShape heads = s.attention();
  int64_t t = x.dim(0), bytes = size_of(x.dtype);
  Scratch<char> wide(ex, a.mlp_act.numel() * bytes);                                   // d mlp_act [T, F]
  Scratch<char> wider(ex, (a.mlp_in ? a.mlp_in.numel() : 0) * bytes);                  // d mlp_in [T, F or 2F]
  Scratch<char> narrow(ex, t * s.hidden * bytes), attention(ex, a.attention.numel() * bytes),
      qkv(ex, a.qkv.numel() * bytes);
  View d_act{wide.data(), x.dtype, a.mlp_act.shape};
  View d_in = a.mlp_in ? View{wider.data(), x.dtype, a.mlp_in.shape} : d_act;
  View d_norm{narrow.data(), x.dtype, x.shape};  // d norm2, then d norm1
  View d_attention{attention.data(), x.dtype, a.attention.shape};
  View d_qkv{qkv.data(), x.dtype, a.qkv.shape};

  // y = x1 + mlp(norm2(x1)); dx holds d x1 from here on
  linear_backward(k, ex, a.mlp_act, w.mlp_out, dy, d_act, g.mlp_out, g.mlp_out_bias);
  k.activation_backward(ex, {.act = s.act, .gated = s.gated, .x = a.mlp_in ? a.mlp_in : a.mlp_act, .dout = d_act,
                             .dx = d_in});
  linear_backward(k, ex, a.norm2, w.mlp_in, d_in, d_norm, g.mlp_in, g.mlp_in_bias);
  k.norm_backward(ex, {.rms = s.rms, .x = a.x1, .weight = w.norm2, .mean = a.mean2, .rstd = a.rstd2, .dout = d_norm,
                       .dx = dx, .residual_grad = dy, .dweight = g.norm2, .dbias = g.norm2_bias});

  // x1 = x + attention(norm1(x))
  linear_backward(k, ex, a.attention, w.out, dx, d_attention, g.out, g.out_bias);
  k.attention_backward(ex, {.shape = heads, .qkv = a.qkv, .starts = rows.starts, .out = a.attention, .lse = a.lse,
                            .dout = d_attention, .dqkv = d_qkv});
  if (s.rotary)
    k.rotary(ex, {.shape = heads, .qkv = d_qkv, .positions = rows.positions, .table = rows.rotary_table, .inverse = true});
  linear_backward(k, ex, a.norm1, w.qkv, d_qkv, d_norm, g.qkv, g.qkv_bias);
  k.norm_backward(ex, {.rms = s.rms, .x = x, .weight = w.norm1, .mean = a.mean1, .rstd = a.rstd1, .dout = d_norm,
                       .dx = dx, .residual_grad = dx, .dweight = g.norm1, .dbias = g.norm1_bias});
}

}  // namespace threefold
