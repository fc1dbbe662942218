#include "blocks/layer.h"
#include "blocks/layer_weights.h"

namespace threefold {
namespace {

struct Backward {
  const Kernels& k;
  Exec& ex;
  const LayerSpec& s;
  const LayerWeights &w, &g;  // parameters and their gradients
  const LayerRows& rows;
  const LayerActivations& a;

  // Of out = in W^T + bias: d_in = d_out W + residual, dW += d_out^T in, dbias += column sums of d_out.
  void linear(const View& in, const View& weight, const View& d_out, const View& d_in, const View& d_weight,
              const View& d_bias, const View& residual = {}) const {
    k.matmul(ex, {.a = d_out, .b = weight, .out = d_in, .residual = residual, .trans_b = false});
    if (d_weight)
      k.matmul(ex, {.a = d_out, .b = in, .out = d_weight, .trans_a = true, .trans_b = false, .accumulate = true});
    if (d_bias) k.column_sum(ex, {.x = d_out, .out = d_bias});
  }

  // dx = d norm(x) / dx . dout + residual; dx may be dout or residual.
  void norm(const LayerWeights::Norm& weights, const LayerWeights::Norm& grads, const View& x,
            const LayerActivations::Stats& stats, const View& dout, const View& dx, const View& residual = {}) const {
    k.norm_backward(ex, {.rms = s.rms, .weight_offset = s.norm_offset, .x = x, .weight = weights.weight, .mean = stats.mean,
                         .rstd = stats.rstd, .dout = dout, .dx = dx, .residual_grad = residual, .dweight = grads.weight,
                         .dbias = grads.bias});
  }

  // The gradient of a half's output before its dropout, in `memory`; the gradient itself without one.
  View dropped(const View& d_out, uint32_t place, Scratch<char>& memory) const {
    DropoutMask mask = rows.dropout.at(place);
    if (!mask) return d_out;
    View d{memory.data(), d_out.dtype, d_out.shape};
    k.dropout(ex, {.mask = mask, .positions = rows.positions, .x = d_out, .out = d});
    return d;
  }
  int64_t dropped_bytes(const View& d_out) const { return rows.dropout.residual > 0 ? d_out.numel() * size_of(d_out.dtype) : 0; }

  // d_in = gradient of the mlp's input + residual, from the gradient of its output.
  void mlp(const View& in, const View& d_out, const View& d_in, const View& residual = {}) const {
    int64_t bytes = size_of(in.dtype);
    Scratch<char> wide(ex, a.mlp_act.numel() * bytes), wider(ex, (a.mlp_in ? a.mlp_in.numel() : 0) * bytes), kept(ex, dropped_bytes(d_out));
    View d_act{wide.data(), in.dtype, a.mlp_act.shape};
    View d_hidden = a.mlp_in ? View{wider.data(), in.dtype, a.mlp_in.shape} : d_act;
    linear(a.mlp_act, w.mlp_out, dropped(d_out, DropoutPlace::mlp_out, kept), d_act, g.mlp_out, g.mlp_out_bias);
    k.activation_backward(ex, {.act = s.act, .gated = s.gated, .x = a.mlp_in ? a.mlp_in : a.mlp_act, .dout = d_act,
                               .dx = d_hidden});
    linear(in, w.mlp_in, d_hidden, d_in, g.mlp_in, g.mlp_in_bias, residual);
  }

  // d_in = gradient of the attention's input + residual, from the gradient of its output projection.
  void attention(const View& in, const View& d_out, const View& d_in, const View& residual = {}) const {
    AttentionShape heads = s.attention();
    int64_t bytes = size_of(in.dtype);
    Scratch<char> narrow(ex, a.attention.numel() * bytes), row(ex, a.qkv.numel() * bytes), kept(ex, dropped_bytes(d_out));
    View d_attention{narrow.data(), in.dtype, a.attention.shape}, d_qkv{row.data(), in.dtype, a.qkv.shape};
    linear(a.attention, w.out, dropped(d_out, DropoutPlace::attention_out, kept), d_attention, g.out, g.out_bias);
    k.attention_backward(ex, {.shape = heads, .qkv = a.qkv, .starts = rows.starts, .out = a.attention, .lse = a.lse,
                              .dout = d_attention, .dqkv = d_qkv, .dropout = rows.dropout.at(DropoutPlace::attention)});
    if (s.rotary)
      k.rotary(ex, {.shape = heads, .qkv = d_qkv, .positions = rows.positions, .table = rows.rotary_table,
                    .interleaved = s.rotary_interleaved, .inverse = true});
    if (s.qk_norm)
      k.head_norm_backward(ex, {.shape = heads, .eps = s.norm_eps, .weight_offset = s.norm_offset, .qkv = a.qkv_raw,
                                .q_weight = w.q_norm, .k_weight = w.k_norm, .dqkv = d_qkv, .dq_weight = g.q_norm,
                                .dk_weight = g.k_norm});
    linear(in, w.qkv, d_qkv, d_in, g.qkv, g.qkv_bias, residual);
  }
};

}  // namespace

void layer_backward(const Kernels& k, Exec& ex, const LayerSpec& s, const LayerLayout& layout, const View& params,
                    const View& grads, const View& x, const LayerRows& rows, const LayerActivations& a, const View& dy,
                    const View& dx) {
  LayerWeights w(s, layout, params), g(s, layout, grads);
  Backward b{k, ex, s, w, g, rows, a};
  Scratch<char> one(ex, x.numel() * size_of(x.dtype)), two(ex, x.numel() * size_of(x.dtype));
  View d{one.data(), x.dtype, x.shape}, d_sum{two.data(), x.dtype, x.shape};  // of a norm's output; of the sum before a norm
  switch (s.wiring) {
    case Wiring::pre:
      b.mlp(a.norm2, dy, d);
      b.norm(w.norm2, g.norm2, a.x1, a.stats2, d, dx, dy);  // dx holds d x1 from here on
      b.attention(a.norm1, dx, d);
      b.norm(w.norm1, g.norm1, x, a.stats1, d, dx, dx);
      break;
    case Wiring::post:
      b.norm(w.norm2, g.norm2, a.sum2, a.stats2, dy, d_sum);
      b.mlp(a.x1, d_sum, d, d_sum);
      b.norm(w.norm1, g.norm1, a.sum1, a.stats1, d, d_sum);
      b.attention(x, d_sum, dx, d_sum);
      break;
    case Wiring::parallel:
      b.mlp(a.norm2, dy, d);
      b.norm(w.norm2, g.norm2, x, a.stats2, d, dx, dy);
      b.attention(a.norm1, dy, d);
      b.norm(w.norm1, g.norm1, x, a.stats1, d, dx, dx);
      break;
    case Wiring::parallel_shared:
      b.mlp(a.norm1, dy, d);
      b.attention(a.norm1, dy, d, d);
      b.norm(w.norm1, g.norm1, x, a.stats1, d, dx, dy);
      break;
    case Wiring::sandwich:
      b.norm(w.norm2_post, g.norm2_post, a.sum2, a.stats2_post, dy, d_sum);
      b.mlp(a.norm2, d_sum, d);
      b.norm(w.norm2, g.norm2, a.x1, a.stats2, d, dx, dy);  // dx holds d x1
      b.norm(w.norm1_post, g.norm1_post, a.sum1, a.stats1_post, dx, d_sum);
      b.attention(a.norm1, d_sum, d);
      b.norm(w.norm1, g.norm1, x, a.stats1, d, dx, dx);
      break;
  }
}

}  // namespace threefold
