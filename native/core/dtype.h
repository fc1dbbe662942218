// Element types, their sizes, and the exact conversions between 16-bit floats and fp32.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "core/status.h"

namespace threefold {

enum class DType : uint8_t { f32, bf16, f16, i32 };

inline int64_t size_of(DType t) { return t == DType::f32 || t == DType::i32 ? 4 : 2; }

inline const char* name_of(DType t) {
  switch (t) {
    case DType::f32: return "fp32";
    case DType::bf16: return "bf16";
    case DType::f16: return "fp16";
    case DType::i32: return "int32";
  }
  return "?";
}

inline DType dtype_from(const std::string& name) {
  if (name == "fp32") return DType::f32;
  if (name == "bf16") return DType::bf16;
  if (name == "fp16") return DType::f16;
  if (name == "int32") return DType::i32;
  fail("dtype", "fp32, bf16, fp16 or int32", "\"" + name + "\"", "one of these names");
}

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

constexpr float to_float(float x) { return x; }
constexpr float to_float(bf16 x) { return std::bit_cast<float>(uint32_t(x.bits) << 16); }
constexpr float to_float(f16 x) {
  uint32_t sign = uint32_t(x.bits & 0x8000) << 16, exponent = (x.bits >> 10) & 31, mantissa = x.bits & 1023;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000 | mantissa << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  float subnormal = float(mantissa) * 0x1p-24f;
  return sign ? -subnormal : subnormal;
}

// Round to nearest, ties to even; NaN stays NaN.
constexpr bf16 to_bf16(float x) {
  uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7fffffff) > 0x7f800000) return {uint16_t(u >> 16 | 64)};
  return {uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16)};
}
constexpr f16 to_f16(float x) {
  uint32_t u = std::bit_cast<uint32_t>(x), sign = (u >> 16) & 0x8000, a = u & 0x7fffffff;
  if (a > 0x7f800000) return {uint16_t(sign | 0x7e00)};
  if (a >= 0x477ff000) return {uint16_t(sign | 0x7c00)};
  if (a < 0x38800000) {  // subnormal half: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits
    float shifted = std::bit_cast<float>(a) + 0.5f;
    return {uint16_t(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000))};
  }
  return {uint16_t(sign | ((a - 0x38000000 + 0xfff + ((a >> 13) & 1)) >> 13))};
}

}  // namespace threefold
