// The two steps between the qkv projection and attention: turning queries and keys by their position, and putting keys
// and values into the cache.
#include "kernels/cpu/attention.h"

namespace threefold::cpu {

void rotary(Exec& ex, const Rotary& a) {
  const char* where = "rotary";
  const AttentionShape& s = a.shape;
  int64_t tokens = a.qkv.dim(0), d = s.head_dim, heads = s.heads + s.kv_heads;  // queries and keys lie side by side
  int64_t positions = a.table.dim(0), half = a.table.dim(1);
  for (int64_t t = 0; t < tokens; ++t)
    if (int32_t p = a.positions.i32()[t]; p < 0 || p >= positions)
      fail(where, "positions of 0 to " + std::to_string(positions - 1), std::to_string(p),
           "a shorter sequence, or a model with a longer context");

  int64_t step = a.interleaved ? 2 : 1, gap = a.interleaved ? 1 : half;  // pair i is (i * step, i * step + gap)
  ex.pool.parallel_blocks(tokens, 16, [&](int64_t begin, int64_t end) {
    Scratch<float> memory(ex, 2 * half + heads * d);
    float *cosine = memory.data(), *sine = cosine + half, *wide = sine + half;
    for (int64_t t = begin; t < end; ++t) {
      const float* angles = a.table.f32() + a.positions.i32()[t] * half * 2;
      for (int64_t i = 0; i < half; ++i) {
        cosine[i] = angles[2 * i];
        sine[i] = a.inverse ? -angles[2 * i + 1] : angles[2 * i + 1];
      }
      float* x = target(a.qkv, t * s.row(), wide);  // [N + G, D]
      load(a.qkv, t * s.row(), heads * d, wide);
      for (int64_t h = 0; h < heads; ++h) {
        float *lo = x + h * d, *hi = lo + gap;
        for (int64_t i = 0; i < half; ++i) {
          float u = lo[i * step], v = hi[i * step];
          lo[i * step] = u * cosine[i] - v * sine[i];
          hi[i * step] = v * cosine[i] + u * sine[i];
        }
      }
      store(a.qkv, t * s.row(), x, heads * d);
    }
  });
  if (a.keys) kv_append(ex, a.appended());
}

void kv_append(Exec& ex, const KvAppend& a) {
  const char* where = "kv_append";
  const AttentionShape& s = a.shape;
  int64_t tokens = a.qkv.dim(0);
  int64_t slots = a.keys.dim(0) * a.keys.dim(1);
  for (int64_t t = 0; t < tokens; ++t)
    if (int32_t slot = a.slots.i32()[t]; slot < 0 || slot >= slots)
      fail(where, "slots of 0 to " + std::to_string(slots - 1), std::to_string(slot), "a larger cache");

  int64_t size = size_of(a.qkv.dtype), bytes = s.kv_heads * s.head_dim * size, queries = s.heads * s.head_dim * size;
  ex.pool.parallel_blocks(tokens, 64, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const char* row = a.qkv.as<char>() + t * s.row() * size + queries;
      int64_t place = int64_t(a.slots.i32()[t]) * bytes;
      std::memcpy(a.keys.as<char>() + place, row, bytes);
      std::memcpy(a.values.as<char>() + place, row + bytes, bytes);
    }
  });
}

}  // namespace threefold::cpu
