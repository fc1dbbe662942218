// The CPU as a device: the host's memory, and kernels that are done when they return.
#include "kernels/backend.h"

#include <thread>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/isa.h"

namespace threefold {
namespace {

class CpuBackend final : public Backend {
 public:
  CpuBackend() { cpu::isa(); }  // an instruction set the CPU lacks is refused here
  const Kernels& kernels() const override { return cpu::kernels(); }
  std::shared_ptr<Memory> memory() override { return std::make_shared<HostMemory>(); }
  DeviceFacts facts() const override { return {"cpu", cpu::isa().name, 0, int(std::thread::hardware_concurrency())}; }
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend() { return std::make_unique<CpuBackend>(); }

}  // namespace threefold
