// The global gradient norm with its finite check, and AdamW.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/checks.h"
#include "kernels/cpu/rows.h"

namespace threefold::cpu {
namespace {

constexpr int64_t kPiece = 65536;  // elements summed together: fixed, so that threads change nothing
constexpr int64_t kGrain = 8192;

// The square of a float never overflows a double, so the sum is finite exactly when every element is.
double sum_of_squares(const float* x, int64_t n) {
  double lanes[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; ++j) lanes[j] += double(x[i + j]) * double(x[i + j]);
  for (; i < n; ++i) lanes[i % 8] += double(x[i]) * double(x[i]);
  double sum = 0;
  for (double s : lanes) sum += s;
  return sum;
}

}  // namespace

void gradient_control(Exec& ex, const GradientControl& o) {
  struct Piece {
    const float* data;
    int64_t n;
    double sum;
  };
  std::vector<Piece> pieces;
  for (const View& g : o.grads) {
    for (int64_t i = 0; i < g.numel(); i += kPiece) pieces.push_back({g.f32() + i, std::min(kPiece, g.numel() - i), 0});
  }
  ex.pool.parallel_for(int64_t(pieces.size()),
                       [&](int64_t i) { pieces[i].sum = sum_of_squares(pieces[i].data, pieces[i].n); });
  double sum = 0;
  for (const Piece& p : pieces) sum += p.sum;
  double norm = std::sqrt(sum) * std::abs(double(o.scale));
  bool finite = std::isfinite(norm);
  double clip = o.clip > 0 ? std::min(1.0, o.clip / (norm + 1e-6)) : 1.0;
  float* control = o.control.f32();
  control[0] = float(norm);
  control[1] = finite ? float(o.scale * clip) : 0;
  control[2] = finite;
}

void adamw(Exec& ex, const AdamW& o) {
  const float* control = o.control.f32();
  if (control[2] == 0) return;

  double beta1 = o.beta1, beta2 = o.beta2;
  float decay = float(1 - double(o.lr) * o.weight_decay);
  float step_size = float(o.lr / (1 - std::pow(beta1, double(o.step))));
  float v_scale = float(1 / std::sqrt(1 - std::pow(beta2, double(o.step))));
  ex.pool.parallel_blocks(o.param.numel(), kGrain, [&](int64_t begin, int64_t end) {
    float* master = o.master.f32() + begin;
    isa().adamw(master, o.grad.f32() + begin, o.m.f32() + begin, o.v.f32() + begin, end - begin, control[1], decay,
                o.beta1, o.beta2, o.eps, step_size, v_scale);
    store(o.param, begin, master, end - begin);
  });
}

}  // namespace threefold::cpu
