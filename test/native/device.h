// The devices kernel tests run on: the CPU with each of its instruction sets, and the emulated device with its warps in
// forward, reverse and seeded order, with the instructions of sm_80 and those of sm_90.
#pragma once

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
  bool on_cpu() const { return isa != nullptr; }
};

inline const std::vector<TestDevice>& test_devices() {
  static const std::vector<TestDevice> all = [] {
    std::vector<TestDevice> list;
    std::shared_ptr<Backend> cpu = make_cpu_backend();
    for (const char* isa : cpu::available_isas()) list.push_back({std::string("cpu ") + isa, isa, cpu});
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

// The kernels of the device in use, each called through its table and waited for.
struct Ops {
#define THREEFOLD_CALL(name, Args)                                          \
  void name(Exec& ex, const Args& args) const {                             \
    Backend& backend = *test_device()->backend;                             \
    Exec on{ex.pool, ex.allocator, backend.gpu()};                          \
    backend.kernels().name(on, args);                                       \
    backend.wait();                                                         \
  }
  THREEFOLD_KERNELS(THREEFOLD_CALL)
#undef THREEFOLD_CALL
};
inline constexpr Ops ops;

// Runs f on every device: f(), or f(dtype) in fp32 and bf16 storage.
template <typename F>
void for_each_device(F&& f) {
  const char* before = cpu::isa().name;
  for (const TestDevice& device : test_devices()) {
    if (device.on_cpu()) cpu::select_isa(device.isa);
    test_device() = &device;
    if constexpr (std::is_invocable_v<F, DType>) {
      f(DType::f32);
      f(DType::bf16);
    } else {
      f();
    }
  }
  test_device() = &test_devices().front();
  cpu::select_isa(before);
}

}  // namespace threefold::test
