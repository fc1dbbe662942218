// The tensors of a layer as views onto its flat unit, joined where one matmul reads several.
#pragma once

#include "blocks/layer.h"

namespace threefold {

struct LayerWeights {
  View norm1, norm1_bias, norm2, norm2_bias;  // [H]
  View qkv, qkv_bias;                         // [(N + 2G) D, H], [(N + 2G) D]
  View out, out_bias;                         // [H, N D], [H]
  View mlp_in, mlp_in_bias;                   // [F or 2F, H], [F or 2F]
  View mlp_out, mlp_out_bias;                 // [H, F], [H]

  // `unit` is the parameters (any dtype) or the gradients (fp32); every view is absent when the unit is.
  LayerWeights(const LayerSpec& s, const LayerLayout& layout, const View& unit) {
    if (!unit) return;
    auto at = [&](const char* name, Shape shape) {
      const ParamSlot* slot = layout.find(name);
      return slot ? unit.at(slot->offset, shape) : View{};
    };
    int64_t in = s.gated ? 2 * s.ffn : s.ffn, qkv_rows = s.attention().row();
    norm1 = at("norm1.weight", {s.hidden});
    norm1_bias = at("norm1.bias", {s.hidden});
    norm2 = at("norm2.weight", {s.hidden});
    norm2_bias = at("norm2.bias", {s.hidden});
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
