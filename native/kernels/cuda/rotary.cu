// The two steps between the qkv projection and attention: turning queries and keys by their position, and putting keys
// and values into the cache, together or alone. One block per token; its threads go over the token's units of 16 bytes.
#include <algorithm>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device/element.h"
#include "kernels/cuda/device/fault.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launch.h"

namespace threefold::cuda {
namespace {

// Whole warps for `units` of one token.
unsigned threads_for(int64_t units) { return unsigned(std::clamp<int64_t>((units + 31) / 32 * 32, 32, 256)); }

template <typename T, int width>
struct alignas(sizeof(T) * width) Unit {
  T v[width];
};

struct Turns {
  int64_t row;      // elements of a row of qkv
  int head_dim, half, queries, heads;  // D, R/2, N, N + G: queries and keys lie side by side
  int64_t positions;          // P
  bool inverse;
};

// Where keys and values go: counted in the type they are moved by. keys and values [bound, width]; slots [T], or nullptr for
// nowhere.
template <typename U>
struct Cache {
  const int32_t* slots;
  U *keys, *values;
  int64_t bound;
  int width;
  Check check;

  // The calling block's slot, or -1.
  __device__ int64_t slot() const {
    int slot = slots[blockIdx.x];
    if (slot >= 0 && slot < bound) return slot;
    if (threadIdx.x == 0) check.raise(bound - 1, slot, blockIdx.x);
    return -1;
  }
};
template <typename U>
Cache<U> cache_of(const Exec& ex, const KvAppend& a) {
  if (!a.keys) return {};
  int64_t bytes = a.shape.kv_heads * a.shape.head_dim * size_of(a.keys.dtype);
  return {a.slots.i32(), a.keys.as<U>(), a.values.as<U>(), a.keys.dim(0) * a.keys.dim(1), int(bytes / int64_t(sizeof(U))),
          {ex.gpu->fault, "kv_append", "slots of 0 to %lld", "%lld", "a larger cache"}};
}

// Each thread turns `width` pairs of one head at a time. qkv [T, row]; position [T]; table [P, half, 2].
template <typename T, int width, bool interleaved>
__global__ void rotary_kernel(T* qkv, const int32_t* position, const float* table, Turns s, Cache<T> cache, Check check) {
  using Vector = Unit<T, width>;
  int p = position[blockIdx.x];
  if (p < 0 || p >= s.positions) {
    if (threadIdx.x == 0) check.raise(s.positions - 1, p, blockIdx.x);
    return;
  }
  int64_t slot = cache.slots ? cache.slot() : -1;
  T *keys = slot < 0 ? nullptr : cache.keys + slot * cache.width, *values = slot < 0 ? nullptr : cache.values + slot * cache.width;
  const float* angles = table + int64_t(p) * s.half * 2;
  T *row = qkv + blockIdx.x * s.row, *own_keys = row + s.queries * s.head_dim;
  int each = s.half / width;  // units of one head
  for (int i = threadIdx.x; i < s.heads * each; i += blockDim.x) {
    int head = i / each, first = i % each * width;
    T* low = row + head * s.head_dim + (interleaved ? 2 * first : first);
    T* high = low + (interleaved ? width : s.half);
    auto a = *reinterpret_cast<Unit<T, width>*>(low), b = *reinterpret_cast<Unit<T, width>*>(high);
    float x[2 * width];
#pragma unroll
    for (int j = 0; j < width; ++j) x[j] = to_float(a.v[j]), x[width + j] = to_float(b.v[j]);
#pragma unroll
    for (int j = 0; j < width; ++j) {
      float &u = x[interleaved ? 2 * j : j], &v = x[interleaved ? 2 * j + 1 : width + j];
      float cosine = angles[2 * (first + j)], sine = s.inverse ? -angles[2 * (first + j) + 1] : angles[2 * (first + j) + 1];
      float turned = u * cosine - v * sine;
      v = v * cosine + u * sine;
      u = turned;
    }
#pragma unroll
    for (int j = 0; j < width; ++j) a.v[j] = from_float<T>(x[j]), b.v[j] = from_float<T>(x[width + j]);
    *reinterpret_cast<Vector*>(low) = a;
    *reinterpret_cast<Vector*>(high) = b;
    if (slot < 0 || head < s.queries) continue;
    *reinterpret_cast<Vector*>(keys + (low - own_keys)) = a;
    *reinterpret_cast<Vector*>(keys + (high - own_keys)) = b;
  }
  if (slot < 0) return;
  for (int i = threadIdx.x * width; i < cache.width; i += blockDim.x * width) {
    *reinterpret_cast<Vector*>(values + i) = *reinterpret_cast<const Vector*>(own_keys + cache.width + i);
    if (i % s.head_dim >= 2 * s.half) *reinterpret_cast<Vector*>(keys + i) = *reinterpret_cast<const Vector*>(own_keys + i);
  }
}

// qkv [T, row], counted in U, with the keys after `queries`.
template <typename U>
__global__ void kv_append_kernel(const U* qkv, Cache<U> cache, int64_t row, int64_t queries) {
  int64_t slot = cache.slot();
  if (slot < 0) return;
  const U* from = qkv + blockIdx.x * row + queries;
  for (int i = threadIdx.x; i < cache.width; i += blockDim.x) {
    U key = from[i], value = from[cache.width + i];
    cache.keys[slot * cache.width + i] = key;
    cache.values[slot * cache.width + i] = value;
  }
}

}  // namespace

void rotary(Exec& ex, const Rotary& a) {
  const AttentionShape& s = a.shape;
  int64_t tokens = a.qkv.dim(0), half = a.table.dim(1);
  Turns turns{s.row(), int(s.head_dim), int(half), int(s.heads), int(s.heads + s.kv_heads), a.table.dim(0), a.inverse};
  if (tokens == 0) return;
  Check check{ex.gpu->fault, "rotary", "positions of 0 to %lld", "%lld", "a shorter sequence, or a model with a longer context"};
  with_type(a.qkv.dtype, [&]<typename T>(T) {
    constexpr int wide = Pack<T>::size;
    auto start = [&]<int width>(std::integral_constant<int, width>, const Cache<T>& cache) {
      dim3 block = {threads_for(turns.heads * half / width)};
      launch(ex, {"rotary", {unsigned(tokens)}, block}, a.interleaved ? rotary_kernel<T, width, true> : rotary_kernel<T, width, false>,
             a.qkv.as<T>(), a.positions.i32(), a.table.f32(), turns, cache, check);
    };
    bool in_packs = half % wide == 0;
    for (const View* v : {&a.qkv, &a.keys, &a.values}) in_packs = in_packs && packs(v->as<T>(), s.head_dim);
    if (in_packs) return start(std::integral_constant<int, wide>{}, cache_of<T>(ex, a.appended()));
    start(std::integral_constant<int, 1>{}, Cache<T>{});
    if (a.keys) kv_append(ex, a.appended());  // which may still move 16 bytes at a time
  });
}

void kv_append(Exec& ex, const KvAppend& a) {
  const AttentionShape& s = a.shape;
  int64_t tokens = a.qkv.dim(0), size = size_of(a.qkv.dtype);
  if (tokens == 0) return;
  auto start = [&]<typename U>(U) {
    Cache<U> cache = cache_of<U>(ex, a);
    int64_t queries = s.heads * s.head_dim * size / int64_t(sizeof(U));
    launch(ex, {"kv_append", {unsigned(tokens)}, {threads_for(cache.width)}}, kv_append_kernel<U>, a.qkv.as<U>(), cache,
           queries + 2 * cache.width, queries);
  };
  bool in_packs = s.heads * s.head_dim * size % 16 == 0;
  for (const View* v : {&a.qkv, &a.keys, &a.values}) in_packs = in_packs && packs(v->as<char>(), s.kv_heads * s.head_dim * size);
  if (in_packs)
    start(uint4{});
  else if (size == 4)
    start(uint32_t{});
  else
    start(uint16_t{});
}

}  // namespace threefold::cuda
