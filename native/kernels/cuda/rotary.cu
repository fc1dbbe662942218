// The two steps between the qkv projection and attention: turning queries and keys by their position, and putting keys
// and values into the cache. One block per token; its threads go over the token's units of 16 bytes.
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
  int head_dim, half, heads;  // D, R/2, N + G: queries and keys lie side by side
  int64_t positions;          // P
  bool inverse;
};

// Each thread turns `width` pairs of one head at a time. qkv [T, row]; position [T]; table [P, half, 2].
template <typename T, int width, bool interleaved>
__global__ void rotary_kernel(T* qkv, const int32_t* position, const float* table, Turns s, Check check) {
  int p = position[blockIdx.x];
  if (p < 0 || p >= s.positions) {
    if (threadIdx.x == 0) check.raise(s.positions - 1, p, blockIdx.x);
    return;
  }
  const float* angles = table + int64_t(p) * s.half * 2;
  T* row = qkv + blockIdx.x * s.row;
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
    *reinterpret_cast<Unit<T, width>*>(low) = a;
    *reinterpret_cast<Unit<T, width>*>(high) = b;
  }
}

// All counted in U: qkv [T, row] with the keys after `queries`; keys and values [bound, width].
template <typename U>
__global__ void kv_append_kernel(const U* qkv, const int32_t* slots, U* keys, U* values, int64_t row, int64_t queries, int width,
                                 int64_t bound, Check check) {
  int slot = slots[blockIdx.x];
  if (slot < 0 || slot >= bound) {
    if (threadIdx.x == 0) check.raise(bound - 1, slot, blockIdx.x);
    return;
  }
  const U* from = qkv + blockIdx.x * row + queries;
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    U key = from[i], value = from[width + i];
    keys[int64_t(slot) * width + i] = key;
    values[int64_t(slot) * width + i] = value;
  }
}

}  // namespace

void rotary(Exec& ex, const Rotary& a) {
  const AttentionShape& s = a.shape;
  int64_t tokens = a.qkv.dim(0), half = a.table.dim(1);
  Turns turns{s.row(), int(s.head_dim), int(half), int(s.heads + s.kv_heads), a.table.dim(0), a.inverse};
  if (tokens == 0) return;
  Check check{ex.gpu->fault, "rotary", "positions of 0 to %lld", "%lld", "a shorter sequence, or a model with a longer context"};
  with_type(a.qkv.dtype, [&]<typename T>(T) {
    constexpr int wide = Pack<T>::size;
    auto start = [&]<int width>(std::integral_constant<int, width>) {
      dim3 block = {threads_for(turns.heads * half / width)};
      launch(ex, {"rotary", {unsigned(tokens)}, block}, a.interleaved ? rotary_kernel<T, width, true> : rotary_kernel<T, width, false>,
             a.qkv.as<T>(), a.positions.i32(), a.table.f32(), turns, check);
    };
    if (packs(a.qkv.as<T>(), s.head_dim) && half % wide == 0)
      start(std::integral_constant<int, wide>{});
    else
      start(std::integral_constant<int, 1>{});
  });
}

void kv_append(Exec& ex, const KvAppend& a) {
  const AttentionShape& s = a.shape;
  int64_t tokens = a.qkv.dim(0), slots = a.keys.dim(0) * a.keys.dim(1), size = size_of(a.qkv.dtype);
  if (tokens == 0) return;
  Check check{ex.gpu->fault, "kv_append", "slots of 0 to %lld", "%lld", "a larger cache"};
  auto start = [&]<typename U>(U) {
    int64_t queries = s.heads * s.head_dim * size / int64_t(sizeof(U)), width = s.kv_heads * s.head_dim * size / int64_t(sizeof(U));
    launch(ex, {"kv_append", {unsigned(tokens)}, {threads_for(width)}}, kv_append_kernel<U>, a.qkv.as<U>(), a.slots.i32(),
           a.keys.as<U>(), a.values.as<U>(), queries + 2 * width, queries, int(width), slots, check);
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
