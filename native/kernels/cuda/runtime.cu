// A real CUDA device: memory, streams, launches, errors. The one file of this folder that the emulated device replaces
// (emulated/backend.cc). Linked with the static runtime only, which finds the driver when it is first called: the module
// loads on a machine without one and says so.
#include <cuda_runtime.h>
#include <nvtx3/nvToolsExt.h>

#include <cstdio>
#include <cstring>
#include <mutex>
#include <unordered_map>

#include "kernels/backend.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.h"

namespace threefold {
namespace {

constexpr int64_t kStaging = 8 << 20;  // bytes of one pinned buffer
constexpr int kStagings = 2;           // one is filled while the other is copied

void expect_success(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // do not leave it for the next call
  fail("device", std::string(what) + " to succeed", cudaGetErrorString(error),
       "running again under compute-sanitizer to find the kernel, or report this as a bug");
}

std::string version_text(int version) { return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10); }

// One device's streams, its pinned memory and the word for faults. What tensors still hold keeps it.
class Context {
 public:
  explicit Context(int index) : index_(index) {
    use();
    expect_success(cudaStreamCreateWithFlags(&compute, cudaStreamNonBlocking), "making a stream");
    expect_success(cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking), "making a stream");
    expect_success(cudaEventCreateWithFlags(&reached, cudaEventDisableTiming), "making an event");
    expect_success(cudaHostAlloc(reinterpret_cast<void**>(&fault), sizeof(Fault), cudaHostAllocMapped), "pinning memory");
    new (fault) Fault;
    for (Staging& s : stagings) {
      expect_success(cudaHostAlloc(reinterpret_cast<void**>(&s.data), kStaging, cudaHostAllocDefault), "pinning memory");
      expect_success(cudaEventCreateWithFlags(&s.free, cudaEventDisableTiming), "making an event");
    }
  }
  ~Context() {
    cudaSetDevice(index_);
    cudaStreamSynchronize(compute);
    for (Staging& s : stagings) cudaFreeHost(s.data), cudaEventDestroy(s.free);
    cudaFreeHost(fault);
    cudaEventDestroy(reached);
    cudaStreamDestroy(copies);
    cudaStreamDestroy(compute);
  }
  int index() const { return index_; }
  void use() const { expect_success(cudaSetDevice(index_), "choosing the device"); }

  struct Staging {
    char* data = nullptr;
    cudaEvent_t free = nullptr;  // recorded behind the copy that reads it
  };
  // The pinned buffer that has waited longest.
  Staging& next_staging() {
    Staging& s = stagings[turn = (turn + 1) % kStagings];
    expect_success(cudaEventSynchronize(s.free), "waiting for a copy");
    return s;
  }

  cudaStream_t compute = nullptr, copies = nullptr;
  cudaEvent_t reached = nullptr;
  Fault* fault = nullptr;
  Staging stagings[kStagings];
  int turn = 0;

 private:
  int index_;
};

class CudaMemory final : public Memory {
 public:
  explicit CudaMemory(std::shared_ptr<Context> context) : context_(std::move(context)) {}

  void* allocate(int64_t bytes) override {
    context_->use();
    void* data = nullptr;
    cudaError_t error = cudaMallocAsync(&data, size_t(bytes), context_->compute);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    expect_success(error, "allocating");
    return data;
  }
  // May come at the end, from any thread.
  void release(void* data) override {
    if (cudaSetDevice(context_->index()) == cudaSuccess) cudaFreeAsync(data, context_->compute);
  }
  void zero(void* to, int64_t bytes) override {
    if (bytes) expect_success(cudaMemsetAsync(to, 0, size_t(bytes), context_->compute), "clearing memory");
  }
  // Through pinned memory, so that the host goes on while the copy waits its turn.
  void upload(void* to, const void* from, int64_t bytes) override {
    for (int64_t at = 0; at < bytes; at += kStaging) {
      int64_t n = std::min(kStaging, bytes - at);
      Context::Staging& s = context_->next_staging();
      std::memcpy(s.data, static_cast<const char*>(from) + at, size_t(n));
      expect_success(cudaMemcpyAsync(static_cast<char*>(to) + at, s.data, size_t(n), cudaMemcpyHostToDevice, context_->compute), "a copy");
      expect_success(cudaEventRecord(s.free, context_->compute), "recording an event");
    }
  }
  // On a stream of its own, behind what was started before: kernels started later do not wait for it.
  void download(void* to, const void* from, int64_t bytes) override {
    expect_success(cudaEventRecord(context_->reached, context_->compute), "recording an event");
    expect_success(cudaStreamWaitEvent(context_->copies, context_->reached, 0), "waiting for an event");
    for (int64_t at = 0; at < bytes; at += kStaging) {
      int64_t n = std::min(kStaging, bytes - at);
      Context::Staging& s = context_->next_staging();
      expect_success(cudaMemcpyAsync(s.data, static_cast<const char*>(from) + at, size_t(n), cudaMemcpyDeviceToHost, context_->copies), "a copy");
      expect_success(cudaStreamSynchronize(context_->copies), "reading");
      std::memcpy(static_cast<char*>(to) + at, s.data, size_t(n));
    }
  }

 private:
  std::shared_ptr<Context> context_;
};

// Throws where no CUDA device can be used, and why.
int device_count() {
  int count = 0, driver = 0, runtime = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  cudaGetLastError();
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (driver == 0)
    fail("device", "an NVIDIA driver", "none on this machine", "installing the driver, or --device cpu");
  if (error == cudaErrorInsufficientDriver)
    fail("device", "a driver for CUDA " + version_text(runtime) + " or newer", "one for CUDA " + version_text(driver),
         "a newer driver, or building with an older CUDA toolkit");
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0))
    fail("device", "an NVIDIA GPU", "none that this process may use", "checking nvidia-smi and CUDA_VISIBLE_DEVICES, or --device cpu");
  expect_success(error, "counting the devices");
  return count;
}

DeviceFacts facts_of(int index) {
  cudaDeviceProp p{};
  expect_success(cudaGetDeviceProperties(&p, index), "asking for the device's properties");
  return {p.name, "sm_" + std::to_string(10 * p.major + p.minor), int64_t(p.totalGlobalMem), p.multiProcessorCount};
}

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(int index) {
    int count = device_count();
    if (index < 0 || index >= count)
      fail("device", "cuda:0 to cuda:" + std::to_string(count - 1), "cuda:" + std::to_string(index), "one of the devices that `threefold doctor` lists");
    cudaDeviceProp p{};
    expect_success(cudaGetDeviceProperties(&p, index), "asking for the device's properties");
    if (p.major < 8)
      fail("device", "a GPU of compute capability 8.0 or newer", std::string(p.name) + " with " + std::to_string(p.major) + "." + std::to_string(p.minor),
           "another GPU, or --device cpu");
    facts_ = facts_of(index);
    context_ = std::make_shared<Context>(index);
    gpu_.multiprocessors = p.multiProcessorCount;
    gpu_.architecture = p.major == 9 && THREEFOLD_HAS_SM90 ? 90 : 80;
    gpu_.shared_limit = int64_t(p.sharedMemPerBlockOptin);
    gpu_.fault = context_->fault;
    gpu_.stream = context_->compute;
    gpu_.index = index;
  }
  const Kernels& kernels() const override { return cuda::kernels(); }
  std::shared_ptr<Memory> memory() override { return std::make_shared<CudaMemory>(context_); }
  Gpu* gpu() override { return &gpu_; }
  void wait() override {
    context_->use();
    expect_success(cudaStreamSynchronize(context_->compute), "running the kernels");
    cuda::throw_fault(*context_->fault);
  }
  DeviceFacts facts() const override { return facts_; }

 private:
  std::shared_ptr<Context> context_;
  Gpu gpu_;
  DeviceFacts facts_;
};

std::unique_ptr<Backend> open(int index) { return std::make_unique<CudaBackend>(index); }

std::vector<DeviceFacts> devices() {
  std::vector<DeviceFacts> list;
  for (int i = 0, count = device_count(); i < count; ++i) list.push_back(facts_of(i));
  return list;
}

// More than 48 KiB of shared memory must be asked for, once a kernel and device.
void allow_shared(const void* kernel, int64_t bytes, int index) {
  static std::mutex mutex;
  static std::unordered_map<const void*, std::unordered_map<int, int64_t>> allowed;
  std::lock_guard lock(mutex);
  int64_t& most = allowed[kernel][index];
  if (bytes <= most) return;
  expect_success(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)), "asking for shared memory");
  most = bytes;
}

}  // namespace

void cuda::start(Exec& ex, const Launch& l, const void* kernel, void** args) {
  const Gpu& gpu = *ex.gpu;
  expect_room(ex, l);
  if (l.shared > 48 << 10) allow_shared(kernel, l.shared, gpu.index);
  cudaLaunchConfig_t config{};
  config.gridDim = l.grid, config.blockDim = l.block;
  config.dynamicSmemBytes = size_t(l.shared);
  config.stream = static_cast<cudaStream_t>(gpu.stream);
  nvtxRangePushA(l.name);
  cudaError_t error = cudaLaunchKernelExC(&config, kernel, args);
  nvtxRangePop();
  if (error == cudaSuccess) return;
  cudaGetLastError();
  char shape[160];
  std::snprintf(shape, sizeof shape, "the kernel to start with grid (%u, %u, %u), block (%u, %u, %u) and %lld bytes of shared memory",
                l.grid.x, l.grid.y, l.grid.z, l.block.x, l.block.y, l.block.z, static_cast<long long>(l.shared));
  fail(l.name, shape, cudaGetErrorString(error), "reporting this as a bug, with the GPU and its driver");
}

}  // namespace threefold

extern "C" __attribute__((visibility("default"))) const threefold::BackendModule* threefold_backend_module() {
  static const threefold::BackendModule module{THREEFOLD_BUILT_FROM, threefold::devices, threefold::open};
  return &module;
}
