// The block's dynamic shared memory. The only kind there is: its size is given at the launch, so the emulated device can
// start it as NaN and see an access past its end.
#pragma once

namespace threefold::cuda {

// As an array, 1024-byte aligned.
template <typename T>
__device__ __forceinline__ T* shared_array() {
#ifdef THREEFOLD_EMULATED
  return reinterpret_cast<T*>(emulated::thread().block->shared());
#else
  extern __shared__ __align__(1024) unsigned char threefold_shared[];
  return reinterpret_cast<T*>(threefold_shared);
#endif
}

// As a struct whose size was given at the launch.
template <typename T>
__device__ __forceinline__ T& shared_struct() {
  return *shared_array<T>();
}

}  // namespace threefold::cuda
