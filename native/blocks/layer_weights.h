// The tensors of a layer as views onto its flat unit, joined where one matmul reads several.
#pragma once

#include "blocks/layer.h"

namespace threefold {

struct LayerWeights {
  struct Norm {
    View weight, bias;  // [H]
  };
  Norm norm1, norm1_post, norm2, norm2_post;
  View q_norm, k_norm;         // [D]
  View qkv, qkv_bias;          // [(N + 2G) D, H], [(N + 2G) D]
  View out, out_bias;          // [H, N D], [H]
  View mlp_in, mlp_in_bias;    // [F or 2F, H], [F or 2F]
  View mlp_out, mlp_out_bias;  // [H, F], [H]

  // `unit` is the parameters (any dtype) or the gradients (fp32); every view is absent when the unit is.
  LayerWeights(const LayerSpec& s, const LayerLayout& layout, const View& unit) {
    if (!unit) return;
    auto at = [&](const std::string& name, Shape shape) {
      const ParamSlot* slot = layout.find(name);
      return slot ? unit.at(slot->offset, shape) : View{};
    };
    auto norm = [&](const std::string& name) { return Norm{at(name + ".weight", {s.hidden}), at(name + ".bias", {s.hidden})}; };
    int64_t in = s.gated ? 2 * s.ffn : s.ffn, qkv_rows = s.attention().row();
    norm1 = norm("norm1");
    norm1_post = norm("norm1_post");
    norm2 = norm("norm2");
    norm2_post = norm("norm2_post");
    q_norm = at("attn.q_norm.weight", {s.head_dim});
    k_norm = at("attn.k_norm.weight", {s.head_dim});
    qkv = at("attn.q.weight", {qkv_rows, s.hidden});
    qkv_bias = at("attn.q.bias", {qkv_rows});
    out = at("attn.out.weight", {s.hidden, s.heads * s.head_dim});
    out_bias = at("attn.out.bias", {s.hidden});
    mlp_in = at(s.gated ? "mlp.gate.weight" : "mlp.up.weight", {in, s.hidden});
    mlp_in_bias = at(s.gated ? "mlp.gate.bias" : "mlp.up.bias", {in});
    mlp_out = at("mlp.down.weight", {s.hidden, s.ffn});
    mlp_out_bias = at("mlp.down.bias", {s.hidden});
  }
};

}  // namespace threefold
