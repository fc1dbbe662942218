#include "blocks/layer.h"

namespace threefold {
namespace {

constexpr int64_t kAlign = 16;  // elements: 64 bytes of fp32

std::string text(int64_t n) { return std::to_string(n); }

}  // namespace

void LayerSpec::check() const {
  auto positive = [](const char* what, int64_t n) {
    if (n <= 0) fail("layer", std::string(what) + " of 1 or more", text(n), "checking the model's config.json");
  };
  positive("hidden size", hidden);
  positive("heads", heads);
  positive("key/value heads", kv_heads);
  positive("head size", head_dim);
  positive("feed-forward size", ffn);
  if (head_dim > 256) fail("layer", "a head size of at most 256", text(head_dim), "a model with smaller heads");
  if (heads % kv_heads)
    fail("layer", "heads to be a multiple of key/value heads", text(heads) + " and " + text(kv_heads),
         "checking the model's config.json");
  if (window < 0 || !(attention_softcap >= 0))
    fail("layer", "a window and a softcap of 0 (off) or more", text(window) + " and " + std::to_string(attention_softcap),
         "checking the model's config.json");
  if (alibi && attention_softcap > 0) fail("layer", "ALiBi or a softcap of the attention scores", "both", "a model that has one of them");
  if (qk_norm && rms == false) fail("layer", "RMSNorm with head norms", "LayerNorm", "a model that has RMSNorm");
  if (rotary && head_dim % 2) fail("layer", "an even head size with rotary positions", text(head_dim), "an even head size");
}

LayerLayout::LayerLayout(const LayerSpec& s) {
  s.check();
  int64_t q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  auto put = [&](std::string name, Shape shape, bool decay) {
    slots.push_back({std::move(name), size, shape, decay});
    size += shape.numel();
  };
  auto align = [&] { size = (size + kAlign - 1) / kAlign * kAlign; };

  put("attn.q.weight", {q, s.hidden}, true);
  put("attn.k.weight", {kv, s.hidden}, true);
  put("attn.v.weight", {kv, s.hidden}, true);
  align();
  put("attn.out.weight", {s.hidden, q}, true);
  align();
  if (s.gated) put("mlp.gate.weight", {s.ffn, s.hidden}, true);
  put("mlp.up.weight", {s.ffn, s.hidden}, true);
  align();
  put("mlp.down.weight", {s.hidden, s.ffn}, true);
  align();
  decay_end = size;
  std::vector<const char*> norms = {"norm1"};
  if (s.wiring == Wiring::sandwich) norms.push_back("norm1_post");
  if (s.wiring != Wiring::parallel_shared) norms.push_back("norm2");
  if (s.wiring == Wiring::sandwich) norms.push_back("norm2_post");
  for (const char* norm : norms) {
    put(std::string(norm) + ".weight", {s.hidden}, false);
    align();
    if (!s.rms && s.norm_bias) put(std::string(norm) + ".bias", {s.hidden}, false);
    align();
  }
  if (s.qk_norm) {
    put("attn.q_norm.weight", {s.head_dim}, false);
    align();
    put("attn.k_norm.weight", {s.head_dim}, false);
    align();
  }
  if (s.qkv_bias) {
    put("attn.q.bias", {q}, false);
    put("attn.k.bias", {kv}, false);
    put("attn.v.bias", {kv}, false);
    align();
  }
  if (s.out_bias) put("attn.out.bias", {s.hidden}, false);
  align();
  if (s.mlp_bias) {
    if (s.gated) put("mlp.gate.bias", {s.ffn}, false);
    put("mlp.up.bias", {s.ffn}, false);
    align();
    put("mlp.down.bias", {s.hidden}, false);
    align();
  }
}

const ParamSlot* LayerLayout::find(const std::string& name) const {
  for (const auto& slot : slots)
    if (slot.name == name) return &slot;
  return nullptr;
}

}  // namespace threefold
