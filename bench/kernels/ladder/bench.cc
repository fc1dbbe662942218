#include "bench.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "core/cores.h"
#include "core/rng.h"

namespace threefold::ladder {
namespace {

constexpr int kSamples = 7;
constexpr double kSampleSeconds = 0.02;  // launches of one sample add up to this: a wait between them costs microseconds

std::string text(const Sizes& sizes) {
  std::string s;
  for (auto& [name, size] : sizes) s.append(s.empty() ? "" : " ").append(name).append("=").append(std::to_string(size));
  return s;
}

std::string escaped(const std::string& s) {
  std::string out;
  for (char c : s) out += c == '"' || c == '\\' ? std::string("\\") + c : c < ' ' ? " " : std::string(1, c);
  return out;
}

}  // namespace

Bench::Bench(Backend& backend, std::string filter)
    : backend_(backend), filter_(std::move(filter)), allocator_(std::make_shared<Allocator>(backend.memory())), pool_(usable_cores()),
      ex_{pool_, *allocator_, backend.gpu()}, block_(1 << 20) {
  for (size_t i = 0; i < block_.size(); ++i) block_[i] = 2 * uniform_from(philox_at(1, 7, i / 4)[i % 4]) - 1;
}

View Bench::empty(DType dtype, Shape shape) {
  tensors_.emplace_back(allocator_, dtype, shape, Category::activations);
  return tensors_.back().on_stream();
}

View Bench::numbers(DType dtype, Shape shape) {
  int64_t size = size_of(dtype), left = shape.numel() * size;
  std::vector<char> block(block_.size() * size_t(size));
  for (size_t i = 0; i < block_.size(); ++i) {
    if (dtype == DType::f32) reinterpret_cast<float*>(block.data())[i] = block_[i];
    else reinterpret_cast<bf16*>(block.data())[i] = to_bf16(block_[i]);
  }
  View view = empty(dtype, shape);
  for (char* to = view.as<char>(); left > 0; to += block.size(), left -= int64_t(block.size()))
    allocator_->memory().upload(to, block.data(), std::min(left, int64_t(block.size())));
  return view;
}

View Bench::whole(Shape shape, const std::function<int64_t(int64_t)>& of) {
  std::vector<int32_t> values(size_t(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = int32_t(of(int64_t(i)));
  View view = empty(DType::i32, shape);
  allocator_->memory().upload(view.data, values.data(), int64_t(values.size()) * 4);
  return view;
}

View Bench::constant(Shape shape, float value) {
  View view = empty(DType::f32, shape);
  backend_.kernels().fill(ex_, {.out = view, .value = value});
  return view;
}

void Bench::rung(const Rung& r, const std::function<Start()>& make) {
  bool ceiling = r.kernel == "copy" || r.kernel == "matmul";  // measured whatever is asked for
  if (!ceiling && r.kernel.find(filter_) == std::string::npos) return;
  try {
    report(r, measure(make()));
  } catch (const std::exception& e) {
    ++failed;
    std::printf("{\"kernel\":\"%s\",\"model\":\"%s\",\"shape\":\"%s\",\"error\":\"%s\"}\n", r.kernel.c_str(), r.model.c_str(),
                text(r.sizes).c_str(), escaped(e.what()).c_str());
  }
  std::fflush(stdout);
  tensors_.clear();
  allocator_->empty_cache();
}

// A kernel is held against what bounds it: the larger of the times that its bytes and its products take at the ceilings.
void Bench::report(const Rung& r, const std::array<double, 3>& seconds) {
  double median = seconds[0];
  if (r.kernel == "copy") copy_rate_ = std::max(copy_rate_, r.bytes / median);
  if (r.kernel.starts_with("matmul")) matmul_rate_ = std::max(matmul_rate_, r.flops / median);
  double by_bytes = r.bytes / copy_rate_, by_flops = r.flops > 0 ? r.flops / matmul_rate_ : 0;
  std::printf("{\"kernel\":\"%s\",\"model\":\"%s\",\"shape\":\"%s\",\"seconds\":%.4g,\"least\":%.4g,\"most\":%.4g,\"tflops\":%.4g,"
              "\"gbps\":%.4g,\"%s\":%.4g}\n",
              r.kernel.c_str(), r.model.c_str(), text(r.sizes).c_str(), median, seconds[1], seconds[2], r.flops / median / 1e12,
              r.bytes / median / 1e9, by_bytes >= by_flops ? "shareOfCopy" : "shareOfMatmul", std::max(by_bytes, by_flops) / median);
}

// Median, least and most seconds of one launch.
std::array<double, 3> Bench::measure(const Start& start) {
  seconds(start, 1);  // the first one loads code and finds memory
  double once = seconds(start, 1);
  int64_t launches = std::clamp<int64_t>(int64_t(kSampleSeconds / std::max(once, 1e-9)), 1, 2000);
  int samples = once > 0.5 ? 5 : kSamples;
  std::vector<double> t;
  for (int i = 0; i < samples; ++i) t.push_back(seconds(start, launches) / double(launches));
  std::sort(t.begin(), t.end());
  return {t[t.size() / 2], t.front(), t.back()};
}

double Bench::seconds(const Start& start, int64_t launches) {
  auto begin = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < launches; ++i) start(backend_.kernels(), ex_);
  backend_.wait();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace threefold::ladder
