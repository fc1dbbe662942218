// The devices kernel tests run on: the CPU with each of its instruction sets, and the emulated device with its warps in
// forward, reverse and seeded order, with the instructions of sm_80 and those of sm_90; in its place the device of a module,
// where THREEFOLD_TEST_MODULE holds the path of one.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/isa.h"
#include "kernels/emulated/backend.h"

namespace threefold::test {

struct TestDevice {
  std::string name;
  const char* isa;                   // nullptr where it is not the CPU
  std::shared_ptr<Backend> backend;
  bool is_gpu = false;
  bool on_cpu() const { return isa != nullptr; }
};

inline const std::vector<TestDevice>& test_devices() {
  static const std::vector<TestDevice> all = [] {
    std::vector<TestDevice> list;
    std::shared_ptr<Backend> cpu = make_cpu_backend();
    for (const char* isa : cpu::available_isas()) list.push_back({std::string("cpu ") + isa, isa, cpu});
    if (const char* path = std::getenv("THREEFOLD_TEST_MODULE"); path && *path) {
      std::shared_ptr<Backend> module = load_module(path).open(0);
      std::string name = module->facts().name;
      list.push_back({name, nullptr, module, name != "emulated"});
      return list;
    }
    using emulated::Order;
    for (auto [name, order] : {std::pair{"forward", Order{Order::forward}}, {"reverse", Order{Order::reverse}}, {"seeded", Order{Order::seeded, 20260711}}})
      list.push_back({std::string("emulated ") + name, nullptr, emulated::make_backend({order, 80})});
    for (auto [name, order] : {std::pair{"forward", Order{Order::forward}}, {"seeded", Order{Order::seeded, 20260712}}})
      list.push_back({std::string("emulated sm_90 ") + name, nullptr, emulated::make_backend({order, 90})});
    return list;
  }();
  return all;
}

// The one in use: the CPU outside of for_each_device().
inline const TestDevice*& test_device() {
  static const TestDevice* current = &test_devices().front();
  return current;
}

// Takes what a kernel raised before its op threw, so that the next op is not blamed.
inline void drain(Backend& backend) {
  try {
    backend.wait();
  } catch (const Error&) {
  }
}

// The kernels of the device in use, each called through its table and waited for.
struct Ops {
#define THREEFOLD_CALL(name, Args)                                          \
  void name(Exec& ex, const Args& args) const {                             \
    Backend& backend = *test_device()->backend;                             \
    Exec on{ex.pool, ex.allocator, backend.gpu()};                          \
    try {                                                                   \
      backend.kernels().name(on, args);                                     \
    } catch (...) {                                                         \
      drain(backend);                                                       \
      throw;                                                                \
    }                                                                       \
    backend.wait();                                                         \
  }
  THREEFOLD_KERNELS(THREEFOLD_CALL)
#undef THREEFOLD_CALL
};
inline constexpr Ops ops;

// Runs f on every device: f(), or f(dtype) in fp32, bf16 and fp16 storage.
template <typename F>
void for_each_device(F&& f) {
  struct Restore {  // also where a test throws
    const char* isa = cpu::isa().name;
    ~Restore() {
      test_device() = &test_devices().front();
      cpu::select_isa(isa);
    }
  } restore;
  for (const TestDevice& device : test_devices()) {
    if (device.on_cpu()) cpu::select_isa(device.isa);
    test_device() = &device;
    if constexpr (std::is_invocable_v<F, DType>) {
      f(DType::f32);
      f(DType::bf16);
      f(DType::f16);
    } else {
      f();
    }
  }
}

}  // namespace threefold::test
