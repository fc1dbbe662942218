// Global norm, clipping factor, finite check, and AdamW on stretches of flat units.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

namespace threefold::cpu {
namespace {

constexpr int64_t kPiece = 65536;  // elements

}  // namespace

void gradient_control(Exec& ex, const GradientControl& o) {
  expect("gradient_control", "control", o.control, DType::f32, {3});
  struct Part {
    const float* data;
    int64_t n;
  };
  std::vector<Part> parts;
  for (const View& g : o.grads) {
    expect("gradient_control", "grads", g, DType::f32, g.shape);
    for (int64_t i = 0; i < g.numel(); i += kPiece) parts.push_back({g.f32() + i, std::min(kPiece, g.numel() - i)});
  }
  std::vector<double> squares(parts.size());
  ex.pool.parallel_for(int64_t(parts.size()), [&](int64_t p) {
    double lanes[8] = {};  // independent chains; joined in order below
    const auto& [data, n] = parts[p];
    for (int64_t i = 0; i < n; ++i) lanes[i % 8] += double(data[i]) * double(data[i]);
    for (double x : lanes) squares[p] += x;
  });
  double sum = 0;
  for (double s : squares) sum += s;
  float norm = float(std::sqrt(sum) * o.scale), factor = o.scale;
  if (o.clip > 0) factor = o.scale * std::min(1.0f, o.clip / (norm + 1e-6f));
  float* control = o.control.f32();
  control[0] = norm;
  control[1] = factor;
  control[2] = std::isfinite(norm) ? 1.0f : 0.0f;
}

void adamw(Exec& ex, const AdamW& o) {
  int64_t n = o.param.numel();
  for (const View* v : {&o.master, &o.grad, &o.m, &o.v}) expect("adamw", "master, grad, m and v", *v, DType::f32, {n});
  expect("adamw", "control", o.control, DType::f32, {3});
  if (o.control.f32()[2] == 0) return;
  float factor = o.control.f32()[1];
  float decay = float(1.0 - double(o.lr) * o.weight_decay);
  float step_size = float(o.lr / (1.0 - std::pow(double(o.beta1), double(o.step))));
  float v_scale = float(1.0 / std::sqrt(1.0 - std::pow(double(o.beta2), double(o.step))));
  ex.pool.parallel_blocks(n, 16384, [&](int64_t begin, int64_t end) {
    isa().adamw(o.master.f32() + begin, o.grad.f32() + begin, o.m.f32() + begin, o.v.f32() + begin, end - begin, factor, decay,
                o.beta1, o.beta2, o.eps, step_size, v_scale);
    store(o.param, begin, o.master.f32() + begin, end - begin);
  });
}

}  // namespace threefold::cpu
