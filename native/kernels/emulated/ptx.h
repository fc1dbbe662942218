// The twins of cuda/device/ptx.h: the documented meaning of each instruction. Sums of products are exact in double and
// rounded once, where the hardware rounds as it likes; everything else is to the letter.
#pragma once

#include <cstring>

#include "core/dtype.h"
#include "kernels/emulated/cuda.h"

namespace threefold::cuda::ptx {

inline uint16_t bf16_bits(float x) { return to_bf16(x).bits; }
inline uint16_t f16_bits(float x) { return to_f16(x).bits; }
inline float f16_value(uint16_t bits) { return to_float(f16{bits}); }
inline void renew(uint32_t&) {}
template <typename T>
uint32_t pack_bits(float low, float high);
template <>
inline uint32_t pack_bits<bf16>(float low, float high) { return bf16_bits(low) | uint32_t(bf16_bits(high)) << 16; }
template <>
inline uint32_t pack_bits<f16>(float low, float high) { return f16_bits(low) | uint32_t(f16_bits(high)) << 16; }

inline void expect_aligned(const char* what, const void* p) {
  if (reinterpret_cast<uintptr_t>(p) % 16) emulated::thread().block->broken({"%s at a 16-byte aligned address", what}, "another");
}
inline uint4 load_16(const void* p) {
  expect_aligned("a load of 16 bytes", p);
  uint4 x;
  std::memcpy(&x, p, 16);
  return x;
}
inline void store_16(void* p, uint4 x) {
  expect_aligned("a store of 16 bytes", p);
  std::memcpy(p, &x, 16);
}

inline float exp2(float x) {
  float r = std::exp2(x);
  return r < 0x1p-126f ? 0 : r;  // NaN stays
}

// Whether [p, p + bytes) lies in the block's shared memory, `alignment` bytes aligned.
inline void expect_shared(const char* what, const void* p, int64_t bytes, int64_t alignment) {
  emulated::Block& block = *emulated::thread().block;
  int64_t at = static_cast<const unsigned char*>(p) - block.shared();
  if (at < 0 || at + bytes > block.shared_bytes())
    block.broken({"%s inside shared memory of %lld bytes", what, (long long)block.shared_bytes()}, {"byte %lld", (long long)at});
  if (at % alignment) block.broken({"%s at a multiple of %lld bytes", what, (long long)alignment}, {"byte %lld", (long long)at});
}

inline void finish_copy(const emulated::Thread::Copy& c) {
  std::memset(c.to, 0, size_t(c.bytes));
  if (c.filled) std::memcpy(c.to, c.from, size_t(c.filled));
}
inline void copy_async(void* shared, const void* global, int bytes, int filled) {
  expect_shared("cp.async", shared, bytes, bytes);
  emulated::Thread& t = emulated::thread();
  if (filled < 0 || filled > bytes) t.block->broken({"cp.async of 0 to %d bytes", bytes}, {"%d", filled});
  if (reinterpret_cast<uintptr_t>(global) % uintptr_t(bytes)) t.block->broken({"cp.async from an address that is a multiple of %d", bytes}, "another");
  emulated::Thread::Copy copy{shared, global, bytes, filled, t.open_group};
  t.block->at_once() ? finish_copy(copy) : t.copies.push_back(copy);
}
inline void copy_async_16(void* shared, const void* global, int filled) { copy_async(shared, global, 16, filled); }
inline void copy_async_8(void* shared, const void* global, int filled) { copy_async(shared, global, 8, filled); }
inline void copy_async_commit() { ++emulated::thread().open_group; }
// Only now do the copies take effect, and read their source (or did when they started).
template <int pending>
void copy_async_wait() {
  emulated::Thread& t = emulated::thread();
  auto arrived = [&](const emulated::Thread::Copy& c) { return c.group < t.open_group - pending; };
  for (const auto& c : t.copies)
    if (arrived(c)) finish_copy(c);
  std::erase_if(t.copies, arrived);
}

template <bool transposed>
void load_matrix(uint32_t (&r)[4], const void* row) {
  expect_shared("ldmatrix", row, 16, 16);
  struct Operand {
    const uint16_t* row;
    uint32_t* r;
  } own{static_cast<const uint16_t*>(row), r};
  emulated::thread().block->collective(transposed ? "ldmatrix.trans" : "ldmatrix", 0xffffffffu, &own, [](void* const operands[32], uint32_t) {
    auto at = [&](int matrix, int row, int column) -> uint32_t {
      return static_cast<Operand*>(operands[8 * matrix + row])->row[column];
    };
    for (int lane = 0; lane < 32; ++lane)
      for (int m = 0; m < 4; ++m) {
        int g = lane / 4, q = lane % 4 * 2;
        static_cast<Operand*>(operands[lane])->r[m] = transposed ? at(m, q, g) | at(m, q + 1, g) << 16 : at(m, g, q) | at(m, g, q + 1) << 16;
      }
  });
}
inline void load_matrix_x4(uint32_t (&r)[4], const void* row) { load_matrix<false>(r, row); }
inline void load_matrix_x4_transposed(uint32_t (&r)[4], const void* row) { load_matrix<true>(r, row); }

template <typename T>
void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  struct Operand {
    float* d;
    const uint32_t *a, *b;
  } own{d, a, b};
  emulated::thread().block->collective("mma.m16n8k16", 0xffffffffu, &own, [](void* const operands[32], uint32_t) {
    auto half = [](uint32_t pair, int i) { return to_float(T{uint16_t(pair >> 16 * i)}); };
    float a[16][16], b[8][16];
    for (int lane = 0; lane < 32; ++lane) {
      auto* o = static_cast<Operand*>(operands[lane]);
      int g = lane / 4, q = lane % 4 * 2;
      for (int i = 0; i < 2; ++i) {
        a[g][q + i] = half(o->a[0], i), a[g + 8][q + i] = half(o->a[1], i);
        a[g][q + 8 + i] = half(o->a[2], i), a[g + 8][q + 8 + i] = half(o->a[3], i);
        b[g][q + i] = half(o->b[0], i), b[g][q + 8 + i] = half(o->b[1], i);
      }
    }
    for (int lane = 0; lane < 32; ++lane) {
      float* d = static_cast<Operand*>(operands[lane])->d;
      for (int i = 0; i < 4; ++i) {
        const float *x = a[lane / 4 + i / 2 * 8], *y = b[lane % 4 * 2 + i % 2];
        double sum = 0;
        for (int k = 0; k < 16; ++k) sum += double(x[k]) * double(y[k]);
        d[i] = float(double(d[i]) + sum);
      }
    }
  });
}

}  // namespace threefold::cuda::ptx
