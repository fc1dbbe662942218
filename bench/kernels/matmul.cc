// Matmul against this machine's own peak, measured in the same run. One JSON line per measurement.
//   bench_matmul [isa] [threads]     all instruction sets and all CPUs by default
// GFLOP/s are medians; T = 1 and 8 cycle through copies of the weight larger than the caches, as decoding does.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/isa.h"

using namespace threefold;

namespace {

double seconds(const std::function<void()>& fn) {
  auto begin = std::chrono::steady_clock::now();
  fn();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

struct Times {
  double median, best, worst;
};
// Each sample repeats fn until it lasts a few milliseconds.
Times measure(const std::function<void()>& fn, int samples = 9) {
  fn();
  int repeats = std::max(1, int(0.01 / std::max(1e-7, seconds(fn))));
  std::vector<double> t;
  for (int i = 0; i < samples; ++i)
    t.push_back(seconds([&] { for (int r = 0; r < repeats; ++r) fn(); }) / repeats);
  std::sort(t.begin(), t.end());
  return {t[t.size() / 2], t.front(), t.back()};
}

// Independent multiply-adds on registers alone, written in assembly so that nothing is spilled or folded.
#if defined(__x86_64__)
#define REGS "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13"
#define FOURTEEN(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13)
#define ZMM(i) "vfmadd231ps %%zmm" #i ", %%zmm" #i ", %%zmm" #i "\n"
#define YMM(i) "vfmadd231ps %%ymm" #i ", %%ymm" #i ", %%ymm" #i "\n"
#define CLEAR(i) "xorps %%xmm" #i ", %%xmm" #i "\n"
#define PAIRS                                                                                                \
  "mulps %%xmm0,%%xmm0\naddps %%xmm7,%%xmm7\nmulps %%xmm1,%%xmm1\naddps %%xmm8,%%xmm8\nmulps %%xmm2,%%xmm2\n" \
  "addps %%xmm9,%%xmm9\nmulps %%xmm3,%%xmm3\naddps %%xmm10,%%xmm10\nmulps %%xmm4,%%xmm4\n"                    \
  "addps %%xmm11,%%xmm11\nmulps %%xmm5,%%xmm5\naddps %%xmm12,%%xmm12\nmulps %%xmm6,%%xmm6\naddps %%xmm13,%%xmm13\n"

double flops_of_loop(const std::string& isa, int64_t n) {
  double flops = double(n) * 14 * 4;
  if (isa == "avx512") {
    asm volatile(FOURTEEN(CLEAR) "1:\n" FOURTEEN(ZMM) "dec %0\njnz 1b\nvzeroupper\n" : "+r"(n)::REGS, "cc");
    return flops * 8;
  }
  if (isa == "avx2") {
    asm volatile(FOURTEEN(CLEAR) "1:\n" FOURTEEN(YMM) "dec %0\njnz 1b\nvzeroupper\n" : "+r"(n)::REGS, "cc");
    return flops * 4;
  }
  asm volatile(FOURTEEN(CLEAR) "1:\n" PAIRS "dec %0\njnz 1b\n" : "+r"(n)::REGS, "cc");
  return flops;
}
#else
double flops_of_loop(const std::string&, int64_t n) {
  using F4 = float __attribute__((vector_size(16)));
  F4 x[8] = {}, one = {1, 1, 1, 1};
  for (int64_t i = 0; i < n; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) x[j] = x[j] * one + one;
    asm volatile("" : : "m"(n));
  }
  float total = 0;
  for (F4 v : x) total += v[0];
  asm volatile("" : : "g"(total));
  return double(n) * 8 * 8;
}
#endif

double peak(const char* isa, ThreadPool& pool, int threads) {
  std::vector<double> flops(threads);
  Times t = measure([&] { pool.parallel_for(threads, [&](int64_t i) { flops[i] = flops_of_loop(isa, 200000); }); });
  return flops[0] * threads / t.best / 1e9;
}

// `copies` of one matrix, taken in turn.
struct Matrix {
  DType dtype;
  int64_t rows, cols, copies;
  Scratch<char> bytes;
  int64_t turn = 0;
  Matrix(Exec& ex, DType d, int64_t r, int64_t c, int64_t n = 1)
      : dtype(d), rows(r), cols(c), copies(n), bytes(ex, n * r * c * size_of(d)) {
    for (int64_t i = 0; i < n * r * c; ++i) {
      float x = float(i * 2654435761u % 1000) / 500 - 1;
      if (d == DType::f32) reinterpret_cast<float*>(bytes.data())[i] = x;
      else reinterpret_cast<bf16*>(bytes.data())[i] = to_bf16(x);
    }
  }
  View view() {
    int64_t at = turn++ % copies * rows * cols * size_of(dtype);
    return {bytes.data() + at, dtype, {rows, cols}};
  }
};

void report(const char* isa, int threads, const char* what, DType dtype, int64_t t, int64_t n, int64_t k, double peak,
            const std::function<void()>& fn) {
  Times s = measure(fn);
  double flop = 2.0 * t * n * k / 1e9, weight = double(n) * k * size_of(dtype) / 1e9;
  std::printf("{\"bench\":\"matmul\",\"isa\":\"%s\",\"threads\":%d,\"what\":\"%s\",\"weights\":\"%s\",\"T\":%lld,\"N\":%lld,"
              "\"K\":%lld,\"gflops\":%.1f,\"min\":%.1f,\"max\":%.1f,\"percentOfPeak\":%.1f,\"weightGBps\":%.1f}\n",
              isa, threads, what, name_of(dtype), (long long)t, (long long)n, (long long)k, flop / s.median, flop / s.worst,
              flop / s.best, 100 * flop / s.median / peak, weight / s.median);
  std::fflush(stdout);
}

void run(const char* isa, int threads) {
  cpu::select_isa(isa);
  ThreadPool pool(threads);
  Allocator allocator;
  Exec ex{pool, allocator};
  double one = peak(isa, pool, 1), all = peak(isa, pool, threads);
  std::printf("{\"bench\":\"peak\",\"isa\":\"%s\",\"threads\":1,\"gflops\":%.1f}\n", isa, one);
  std::printf("{\"bench\":\"peak\",\"isa\":\"%s\",\"threads\":%d,\"gflops\":%.1f}\n", isa, threads, all);
  for (auto [n, k] : {std::pair<int64_t, int64_t>{3072, 768}, {768, 3072}})
    for (DType dtype : {DType::f32, DType::bf16})
      for (int64_t t : {1, 8, 64, 512, 2048}) {
        Matrix x(ex, DType::f32, t, k), w(ex, dtype, n, k, t <= 8 ? 16 : 1), y(ex, DType::f32, t, n);
        report(isa, threads, "forward", dtype, t, n, k, all,
               [&] { cpu::matmul(ex, {.a = x.view(), .b = w.view(), .out = y.view()}); });
        if (t < 64) continue;
        Matrix dx(ex, DType::f32, t, k), dw(ex, DType::f32, n, k);
        report(isa, threads, "dX", dtype, t, n, k, all,
               [&] { cpu::matmul(ex, {.a = y.view(), .b = w.view(), .out = dx.view(), .trans_b = false}); });
        if (dtype == DType::f32)
          report(isa, threads, "dW", dtype, t, n, k, all, [&] {
            cpu::matmul(ex, {.a = y.view(), .b = x.view(), .out = dw.view(), .trans_a = true, .trans_b = false, .accumulate = true});
          });
      }
}

}  // namespace

int main(int argc, char** argv) try {
  int threads = argc > 2 ? std::atoi(argv[2]) : int(std::thread::hardware_concurrency());
  for (const char* isa : cpu::available_isas())
    if (argc < 2 || std::strcmp(argv[1], isa) == 0) run(isa, std::max(1, threads));
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
