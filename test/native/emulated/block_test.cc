// The emulated device itself: what CUDA documents of blocks, warps, shared memory and asynchronous copies, and that a
// kernel that breaks the rules is found out.
#include "kernels/emulated/cuda.h"

#include <cmath>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "check.h"
#include "core/allocator.h"
#include "core/status.h"
#include "core/thread_pool.h"
#include "kernels/cuda/launch.h"
#include "kernels/emulated/ptx.h"

namespace threefold::test {
namespace {

using emulated::Dim3;
using emulated::Order;

const Order kOrders[] = {{Order::forward}, {Order::reverse}, {Order::seeded, 7}};

ThreadPool& pool() {
  static ThreadPool two(2);
  return two;
}

void run(const emulated::Kernel& kernel, Dim3 grid, Dim3 block, int64_t shared = 0, Order order = {}) {
  emulated::run_grid(pool(), "test_kernel", kernel, grid, block, shared, order);
}

std::string message_of(const emulated::Kernel& kernel, Dim3 block, int64_t shared = 0, Order order = {}) {
  try {
    run(kernel, {1}, block, shared, order);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}
bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

unsigned char* shared_bytes() { return emulated::thread().block->shared(); }

}  // namespace

TEST(emulated_grid_runs_every_thread_once) {
  for (Order order : kOrders) {
    Dim3 grid{3, 2, 2}, block{5, 3, 2};
    std::vector<int> seen(size_t(grid.count() * block.count()));
    run([&] {
      int64_t b = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
      int64_t t = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
      atomicAdd(&seen[size_t(b * blockDim.count() + t)], 1);
    }, grid, block, 0, order);
    for (int n : seen) CHECK_EQ(n, 1);
  }
}

TEST(launch_refuses_more_shared_memory_than_the_device_has) {
  Gpu gpu;
  gpu.shared_limit = 99 << 10;
  Allocator allocator;
  Order order;
  gpu.stream = &order;
  Exec ex{pool(), allocator, &gpu};
  auto message = [&](int64_t bytes) -> std::string {
    try {
      cuda::start(ex, {"wide_kernel", {1}, {32}, bytes}, [] {});
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  CHECK_EQ(message(99 << 10), "");
  CHECK(has(message((99 << 10) + 1), "[wide_kernel] expected a GPU with 101377 bytes of shared memory a block, received one with 101376"));
}

TEST(emulated_shared_memory_starts_as_nan_in_every_block) {
  std::vector<float> first(8);
  run([&] {
    auto* s = reinterpret_cast<float*>(shared_bytes());
    if (threadIdx.x == 0) first[blockIdx.x] = s[3];
    s[3] = 1;
  }, {8}, {32}, 64);
  for (float x : first) CHECK(std::isnan(x));
}

TEST(emulated_barrier_orders_writes_and_reads) {
  for (Order order : kOrders) {
    std::vector<int> got(128);
    run([&] {
      auto* s = reinterpret_cast<int*>(shared_bytes());
      s[threadIdx.x] = int(threadIdx.x);
      __syncthreads();
      got[threadIdx.x] = s[(threadIdx.x + 65) % 128];
    }, {1}, {128}, 512, order);
    for (int i = 0; i < 128; ++i) CHECK_EQ(got[size_t(i)], (i + 65) % 128);
  }
}

// Without the barrier the neighbour's number is not there yet, whatever the order.
TEST(emulated_missing_barrier_shows) {
  for (Order order : kOrders) {
    std::vector<int> got(128);
    run([&] {
      auto* s = reinterpret_cast<int*>(shared_bytes());
      s[threadIdx.x] = int(threadIdx.x);
      got[threadIdx.x] = s[127 - threadIdx.x];
    }, {1}, {128}, 512, order);
    int wrong = 0;
    for (int i = 0; i < 128; ++i) wrong += got[size_t(i)] != 127 - i;
    CHECK(wrong > 0);
  }
}

TEST(emulated_divergent_barriers_are_reported) {
  CHECK(has(message_of([] { if (threadIdx.x < 40) __syncthreads(); else __syncwarp(); }, {64}), "thread 0 at __syncthreads, thread 40 at __syncwarp"));
  CHECK(has(message_of([] { if (threadIdx.x < 32) emulated::thread().block->barrier_sync(1, 64); }, {64}),
            "every thread to reach the barriers that others wait at, received thread 0 at a named barrier; 32 have returned"));
  CHECK(has(message_of([] { emulated::thread().block->barrier_sync(1, threadIdx.x < 32 ? 64 : 32); }, {64}), "barrier 1 with"));
  CHECK(has(message_of([] { if (threadIdx.x != 5) __shfl_xor_sync(0xffffffffu, 1, 1); }, {32}), "thread 0 at __shfl_xor_sync"));
  CHECK(has(message_of([] { if (threadIdx.x & 1) __syncwarp(); else __ballot_sync(0xffffffffu, 1); }, {32}), "all lanes of a warp at one"));
  CHECK(has(message_of([] { __syncwarp(2); }, {32}), "lane 0 outside of it"));
  // threads that have returned are not waited for
  CHECK_EQ(message_of([] { if (threadIdx.x < 32) return; __syncthreads(); }, {64}), std::string());
}

TEST(emulated_block_goes_on_after_a_broken_one) {
  CHECK(!message_of([] { if (threadIdx.x == 0) __trap(); __syncthreads(); }, {256}).empty());
  std::vector<int> sum(1);
  run([&] { __syncthreads(); atomicAdd(&sum[0], 1); }, {4}, {256});
  CHECK_EQ(sum[0], 1024);
}

TEST(emulated_shuffles_and_votes) {
  for (Order order : kOrders) {
    std::vector<int> by_lane(32), by_xor(32), down(32), up(32), narrow(32);
    std::vector<unsigned> votes(32);
    run([&] {
      int lane = int(threadIdx.x);
      by_lane[size_t(lane)] = __shfl_sync(0xffffffffu, lane * 10, 7);
      by_xor[size_t(lane)] = __shfl_xor_sync(0xffffffffu, lane, 5);
      down[size_t(lane)] = __shfl_down_sync(0xffffffffu, lane, 3);
      up[size_t(lane)] = __shfl_up_sync(0xffffffffu, lane, 3);
      narrow[size_t(lane)] = __shfl_sync(0xffffffffu, lane, 2, 8);
      votes[size_t(lane)] = __ballot_sync(0xffffffffu, lane % 3 == 0);
    }, {1}, {32}, 0, order);
    for (int lane = 0; lane < 32; ++lane) {
      size_t i = size_t(lane);
      CHECK_EQ(by_lane[i], 70);
      CHECK_EQ(by_xor[i], lane ^ 5);
      CHECK_EQ(down[i], lane + 3 < 32 ? lane + 3 : lane);
      CHECK_EQ(up[i], lane >= 3 ? lane - 3 : lane);
      CHECK_EQ(narrow[i], lane / 8 * 8 + 2);
      CHECK_EQ(votes[i], 0x49249249u);
    }
  }
}

TEST(emulated_asynchronous_copy_arrives_when_waited_for) {
  alignas(16) float source[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  std::vector<float> early(1), late(8);
  run([&] {
    auto* s = reinterpret_cast<float*>(shared_bytes());
    cuda::ptx::copy_async_16(s, source, 16);
    cuda::ptx::copy_async_commit();
    cuda::ptx::copy_async_16(s + 4, source + 4, 8);  // the other half becomes 0
    cuda::ptx::copy_async_commit();
    cuda::ptx::copy_async_wait<1>();
    early[0] = s[4];  // of the group still pending
    source[4] = 50;   // read only when the copy must be there
    cuda::ptx::copy_async_wait<0>();
    std::memcpy(late.data(), s, 32);
  }, {1}, {1}, 32);
  CHECK(std::isnan(early[0]));
  float want[8] = {1, 2, 3, 4, 50, 6, 0, 0};
  for (int i = 0; i < 8; ++i) CHECK_EQ(late[size_t(i)], want[i]);
}

TEST(emulated_copies_outside_of_shared_memory_are_reported) {
  alignas(16) static float source[4] = {};
  CHECK(has(message_of([] { cuda::ptx::copy_async_16(shared_bytes() + 32, source, 16); }, {1}, 32), "cp.async inside shared memory of 32 bytes, received byte 32"));
  CHECK(has(message_of([] { cuda::ptx::copy_async_16(shared_bytes() + 8, source, 16); }, {1}, 32), "a multiple of 16 bytes, received byte 8"));
}

// Small whole numbers are exact in bf16: every element of the product tells where its factors came from.
TEST(emulated_tensor_core_layouts) {
  for (Order order : kOrders) {
    float a[16][16], b[8][16], d[16][8] = {};
    for (int i = 0; i < 16; ++i)
      for (int k = 0; k < 16; ++k) a[i][k] = float((i * 7 + k * 3) % 13 - 6);
    for (int j = 0; j < 8; ++j)
      for (int k = 0; k < 16; ++k) b[j][k] = float((j * 5 + k * 11) % 17 - 8);
    run([&] {
      auto* s = reinterpret_cast<bf16*>(shared_bytes());  // a [16, 16], then b [8, 16]
      int lane = int(threadIdx.x);
      for (int i = lane; i < 256; i += 32) s[i] = to_bf16(a[i / 16][i % 16]);
      for (int i = lane; i < 128; i += 32) s[256 + i] = to_bf16(b[i / 16][i % 16]);
      __syncwarp();
      uint32_t fa[4], fb[4];
      cuda::ptx::load_matrix_x4(fa, s + lane % 16 * 16 + lane / 16 * 8);              // rows 0-7, 8-15, then columns from 8
      cuda::ptx::load_matrix_x4(fb, s + 256 + lane % 8 * 16 + lane / 8 % 2 * 8);
      float acc[4] = {1, 1, 1, 1};
      const uint32_t pair[2] = {fb[0], fb[1]};
      cuda::ptx::mma_16x8x16<bf16>(acc, fa, pair);
      for (int i = 0; i < 4; ++i) d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2] = acc[i];
    }, {1}, {32}, 768, order);
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 8; ++j) {
        float want = 1;
        for (int k = 0; k < 16; ++k) want += a[i][k] * b[j][k];
        CHECK_EQ(d[i][j], want);
      }
  }
}

TEST(emulated_transposed_matrix_load) {
  std::vector<uint32_t> got(128);
  run([&] {
    auto* s = reinterpret_cast<uint16_t*>(shared_bytes());  // [8, 32]: four 8 x 8 matrices side by side
    for (int i = int(threadIdx.x); i < 256; i += 32) s[i] = uint16_t(i);
    __syncwarp();
    uint32_t r[4];
    cuda::ptx::load_matrix_x4_transposed(r, s + threadIdx.x % 8 * 32 + threadIdx.x / 8 * 8);
    for (int m = 0; m < 4; ++m) got[threadIdx.x * 4 + unsigned(m)] = r[m];
  }, {1}, {32}, 512);
  for (int lane = 0; lane < 32; ++lane)
    for (int m = 0; m < 4; ++m) {
      int row = lane % 4 * 2, column = m * 8 + lane / 4;
      CHECK_EQ(got[size_t(lane * 4 + m)], uint32_t(row * 32 + column) | uint32_t((row + 1) * 32 + column) << 16);
    }
}

}  // namespace threefold::test
