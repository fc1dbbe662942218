// Activations and their derivatives on one fp32 number. No intrinsics: expf, erfcf and friends are within a few ulp.
#pragma once

#include "kernels/kernels.h"

namespace threefold::cuda {

// The argument of gelu_tanh's sigmoid, 2 sqrt(2/pi) (x + 0.044715 x^3): 0.5 (1 + tanh(u)) = sigmoid(2u).
constexpr float kGelu1 = 1.5957691216f, kGelu3 = 0.0713548162726f;
__device__ __forceinline__ float gelu_argument(float x) { return x * fmaf(kGelu3, x * x, kGelu1); }

__device__ __forceinline__ float act_value(Act act, float x) {
  switch (act) {
    case Act::none: return x;
    case Act::relu: return x < 0 ? 0.0f : x;  // NaN stays
    case Act::gelu_tanh: return x * (1 / (1 + expf(-gelu_argument(x))));
    case Act::gelu_erf: return 0.5f * x * erfcf(-0.70710678f * x);  // 1 + erf(x) without cancellation below 0
    case Act::silu: return x * (1 / (1 + expf(-x)));
  }
  return x;
}

// d act(x) / dx. 1 - sigmoid(z) is taken as exp(-z) sigmoid(z): no cancellation. Beyond the clamps every derivative has
// reached its limit, and exp(-z) is finite there.
__device__ __forceinline__ float act_slope(Act act, float x) {
  if (act == Act::none) return 1;
  if (act == Act::relu) return x > 0 ? 1.0f : 0.0f;
  const float edge = act == Act::gelu_tanh ? 10.0f : 60.0f;
  x = x > edge ? edge : x < -edge ? -edge : x;  // NaN stays
  if (act == Act::gelu_erf) return fmaf(x, 0.39894228f * expf(-0.5f * x * x), 0.5f * erfcf(-0.70710678f * x));
  float z = act == Act::silu ? x : gelu_argument(x);
  float slope = act == Act::silu ? 1.0f : fmaf(3 * kGelu3, x * x, kGelu1);
  float e = expf(-z), s = 1 / (1 + e);
  return fmaf(x * slope * (e * s), s, s);
}

}  // namespace threefold::cuda
