#include "blocks/layer.h"

namespace threefold {
namespace {

struct Carver {
  char* base;
  int64_t used = 0;
  View take(DType dtype, Shape shape) {
    View v{base ? base + used : nullptr, dtype, shape};
    used += (shape.numel() * size_of(dtype) + 63) / 64 * 64;
    return v;
  }
};

// Plain relu needs no pre-activation in backward: its output tells where it let through.
bool fuses_activation(const LayerSpec& s) { return s.act == Act::relu && !s.gated; }

LayerActivations carve_into(const LayerSpec& s, DType dtype, int64_t t, Carver& c) {
  LayerActivations a;
  bool parallel = s.wiring == Wiring::parallel || s.wiring == Wiring::parallel_shared;
  bool behind = s.wiring == Wiring::post || s.wiring == Wiring::sandwich;
  if (s.wiring != Wiring::post) a.norm1 = c.take(dtype, {t, s.hidden});
  if (s.qk_norm) a.qkv_raw = c.take(dtype, {t, s.attention().row()});
  a.qkv = c.take(dtype, {t, s.attention().row()});
  a.attention = c.take(dtype, {t, s.heads * s.head_dim});
  if (behind) a.sum1 = c.take(dtype, {t, s.hidden});
  if (!parallel) a.x1 = c.take(dtype, {t, s.hidden});
  if (s.wiring != Wiring::post && s.wiring != Wiring::parallel_shared) a.norm2 = c.take(dtype, {t, s.hidden});
  if (!fuses_activation(s)) a.mlp_in = c.take(dtype, {t, s.gated ? 2 * s.ffn : s.ffn});
  a.mlp_act = c.take(dtype, {t, s.ffn});
  if (behind) a.sum2 = c.take(dtype, {t, s.hidden});
  auto take_stats = [&](LayerActivations::Stats& stats) {
    if (!s.rms) stats.mean = c.take(DType::f32, {t});
    stats.rstd = c.take(DType::f32, {t});
  };
  take_stats(a.stats1);
  if (s.wiring != Wiring::parallel_shared) take_stats(a.stats2);
  if (s.wiring == Wiring::sandwich) {
    take_stats(a.stats1_post);
    take_stats(a.stats2_post);
  }
  a.lse = c.take(DType::f32, {t, s.heads});
  return a;
}

}  // namespace

int64_t LayerActivations::bytes(const LayerSpec& spec, DType dtype, int64_t tokens) {
  Carver c{nullptr};
  carve_into(spec, dtype, tokens, c);
  return c.used;
}

LayerActivations LayerActivations::carve(const LayerSpec& spec, DType dtype, int64_t tokens, void* base) {
  Carver c{static_cast<char*>(base)};
  return carve_into(spec, dtype, tokens, c);
}

}  // namespace threefold
