// Eight lanes of plain C++: right on any machine, and what GCC and Clang turn into whatever vectors there are.
#pragma once

#include <bit>
#include <cstdint>

#include "core/dtype.h"

namespace threefold::cpu {

struct VecPortable {
  static constexpr int lanes = 8;
  typedef float F __attribute__((vector_size(32), aligned(4)));
  typedef int32_t I __attribute__((vector_size(32), aligned(4)));
  F v;

  static VecPortable zero() { return {F{}}; }
  static VecPortable all(float x) { return {F{x, x, x, x, x, x, x, x}}; }
  static VecPortable load(const float* p) { return {*reinterpret_cast<const F*>(p)}; }
  static VecPortable load(const float* p, int n) {
    VecPortable r = zero();
    for (int i = 0; i < n; ++i) r.v[i] = p[i];
    return r;
  }
  static VecPortable load(const bf16* p) {
    VecPortable r;
    for (int i = 0; i < 8; ++i) r.v[i] = to_float(p[i]);
    return r;
  }
  static VecPortable load(const bf16* p, int n) {
    VecPortable r = zero();
    for (int i = 0; i < n; ++i) r.v[i] = to_float(p[i]);
    return r;
  }
  void store(float* p) const { *reinterpret_cast<F*>(p) = v; }
  void store(float* p, int n) const {
    for (int i = 0; i < n; ++i) p[i] = v[i];
  }
  void store(bf16* p) const { store(p, 8); }
  void store(bf16* p, int n) const {
    for (int i = 0; i < n; ++i) p[i] = to_bf16(v[i]);
  }
  VecPortable operator+(VecPortable b) const { return {v + b.v}; }
  VecPortable operator-(VecPortable b) const { return {v - b.v}; }
  VecPortable operator*(VecPortable b) const { return {v * b.v}; }
  VecPortable operator/(VecPortable b) const { return {v / b.v}; }
  static VecPortable fma(VecPortable a, VecPortable b, VecPortable c) { return {a.v * b.v + c.v}; }
  static VecPortable max(VecPortable a, VecPortable b) { return {a.v > b.v ? a.v : b.v}; }
  static VecPortable min(VecPortable a, VecPortable b) { return {a.v < b.v ? a.v : b.v}; }
  static VecPortable sqrt(VecPortable a) {
    for (int i = 0; i < 8; ++i) a.v[i] = __builtin_sqrtf(a.v[i]);
    return a;
  }
  static VecPortable abs(VecPortable a) { return {F(I(a.v) & 0x7fffffff)}; }
  // x >= 0 ? a : b, lane by lane
  static VecPortable where_positive(VecPortable x, VecPortable a, VecPortable b) { return {x.v > 0 ? a.v : b.v}; }
  static VecPortable where_less(VecPortable x, VecPortable y, VecPortable a, VecPortable b) { return {x.v < y.v ? a.v : b.v}; }
  static VecPortable copy_sign(VecPortable magnitude, VecPortable sign) {
    return {F((I(magnitude.v) & 0x7fffffff) | (I(sign.v) & int32_t(0x80000000)))};
  }
  // 2^k for a whole k in [-126, 127]
  static VecPortable power_of_two(VecPortable k) { return {F((__builtin_convertvector(k.v, I) + 127) << 23)}; }
  static VecPortable round(VecPortable x) {  // to nearest even, |x| < 2^22
    F magic = F{} + 12582912.0f;
    return {(x.v + magic) - magic};
  }
  static float sum(VecPortable a) {
    return ((a.v[0] + a.v[4]) + (a.v[2] + a.v[6])) + ((a.v[1] + a.v[5]) + (a.v[3] + a.v[7]));
  }
  static float maximum(VecPortable a) {
    float m = a.v[0];
    for (int i = 1; i < 8; ++i) m = a.v[i] > m ? a.v[i] : m;
    return m;
  }
  // Four sums at once, each in the order of sum().
  static void sum4(const VecPortable* a, float* out) {
    for (int i = 0; i < 4; ++i) out[i] = sum(a[i]);
  }
};

}  // namespace threefold::cpu
