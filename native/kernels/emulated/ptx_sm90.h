// The twins of cuda/device/ptx_sm90.h. A copy of the engine arrives when no thread can go on without it; a product reads its
// operands and writes its sums when it is waited for, and until then the registers of the sums hold NaN.
#pragma once

#include <vector>

#include "kernels/emulated/ptx.h"

namespace threefold::cuda::ptx {

constexpr bool kSm90 = true;

inline uint32_t shared_address(const void* p) {
  return uint32_t(static_cast<const unsigned char*>(p) - emulated::thread().block->shared());
}

// --- mbarrier ------------------------------------------------------------------------------------------------------------

struct Mbarrier {
  uint64_t parity : 1, expected : 20, pending : 20;
  int64_t bytes : 21;  // announced, not arrived
  uint64_t made : 2;

  void settle() {
    if (pending || bytes) return;
    parity ^= 1, pending = expected;
  }
};
static_assert(sizeof(Mbarrier) == sizeof(uint64_t));

inline Mbarrier& mbarrier_at(uint64_t* bar) {
  expect_shared("an mbarrier", bar, 8, 8);
  auto& b = *reinterpret_cast<Mbarrier*>(bar);
  if (b.made != 1) emulated::thread().block->broken("an mbarrier that was initialised", "one that was not");
  return b;
}
inline void mbarrier_init(uint64_t* bar, int count) {
  expect_shared("an mbarrier", bar, 8, 8);
  *reinterpret_cast<Mbarrier*>(bar) = {0, uint64_t(count), uint64_t(count), 0, 1};
}
inline void mbarrier_arrive_expect(uint64_t* bar, int bytes) {
  Mbarrier& b = mbarrier_at(bar);
  if (!b.pending) emulated::thread().block->broken("as many arrivals as the mbarrier was made for", "one more");
  b.bytes += bytes, b.pending -= 1;
  b.settle();
}
inline void mbarrier_arrive(uint64_t* bar) { mbarrier_arrive_expect(bar, 0); }
inline void mbarrier_wait(uint64_t* bar, int parity) {
  struct Here {
    Mbarrier* b;
    int parity;
  } here{&mbarrier_at(bar), parity};
  emulated::thread().block->wait("mbarrier.try_wait", [](void* p) {
    auto* h = static_cast<Here*>(p);
    return int(h->b->parity) != h->parity;
  }, &here);
}
inline void fence_async_proxy() {}

// --- copy engine ---------------------------------------------------------------------------------------------------------

// The permutation over 128 bytes: bits 4 to 6 of an address in shared memory by its bits 7 to 9.
inline uint32_t permuted(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

inline void copy_box(void* shared, const TensorMap& given, int column, int row, uint64_t* bar) {
  emulated::Block* block = emulated::thread().block;
  CUtensorMap map = given;
  uint32_t to = shared_address(shared);
  expect_shared("a box", shared, int64_t(map.box_rows) * map.box_columns * 2, 128);
  mbarrier_at(bar);
  block->later([=] {
    for (int r = 0; r < map.box_rows; ++r)
      for (int c = 0; c < map.box_columns; ++c) {
        int64_t i = int64_t(row) + r, j = int64_t(column) + c;
        uint16_t x = 0;
        if (i >= 0 && i < map.rows && j >= 0 && j < map.columns) std::memcpy(&x, map.data + i * map.pitch + j * 2, 2);
        uint32_t at = to + uint32_t(r * map.box_columns + c) * 2;
        std::memcpy(block->shared() + (map.swizzled ? permuted(at) : at), &x, 2);
      }
    auto& b = *reinterpret_cast<Mbarrier*>(bar);
    b.bytes -= map.box_rows * map.box_columns * 2;
    b.settle();
  });
}

// --- wgmma ---------------------------------------------------------------------------------------------------------------

// Where element (outer, k) of an operand lies, outer along M or N: the descriptor's start address, leading and stride byte
// offsets, and the permutation over 128 bytes (its mode 1, the only one known here).
inline uint32_t operand_address(uint64_t descriptor, bool along_k, int outer, int k) {
  uint32_t start = uint32_t(descriptor & 0x3fff) << 4, leading = uint32_t(descriptor >> 16 & 0x3fff) << 4,
           stride = uint32_t(descriptor >> 32 & 0x3fff) << 4;
  // Along K: rows of 128 bytes, 8 rows in a row, groups of 8 `stride` apart. Along M or N: 64 elements in 128 bytes, more of
  // them `leading` apart; 8 such rows along k, groups of 8 `stride` apart.
  uint32_t at = along_k ? outer / 8 * stride + outer % 8 * 128 + k * 2
                        : outer / 64 * leading + outer % 64 * 2 + k / 8 * stride + k % 8 * 128;
  return permuted(start + at);
}

template <typename T>
void multiply_operands(emulated::Thread* const lanes[32], size_t product) {
  const emulated::Thread::Product& p = lanes[0]->products[product];
  emulated::Block& block = *lanes[0]->block;
  auto read = [&](uint64_t descriptor, bool along_k, int outer, int k) {
    uint32_t at = operand_address(descriptor, along_k, outer, k);
    if (at + 2 > block.shared_bytes()) block.broken("operands of wgmma inside shared memory", {"byte %lld", (long long)at});
    T x;
    std::memcpy(&x, block.shared() + at, 2);
    return double(to_float(x));
  };
  std::vector<double> a(16 * 16), b(size_t(p.n) * 16);
  int first_row = lanes[0]->number / 32 % 4 * 16;
  for (int k = 0; k < 16; ++k) {
    for (int i = 0; i < 16; ++i) a[size_t(i * 16 + k)] = read(p.a, p.a_along_k, first_row + i, k);
    for (int j = 0; j < p.n; ++j) b[size_t(j * 16 + k)] = read(p.b, p.b_along_k, j, k);
  }
  for (int lane = 0; lane < 32; ++lane) {
    float* d = lanes[lane]->hidden_sums(lanes[lane]->products[product].sums);
    for (int at = 0; at < p.n / 2; ++at) {
      const double *x = &a[size_t(lane / 4 + at % 4 / 2 * 8) * 16], *y = &b[size_t(at / 4 * 8 + lane % 4 * 2 + at % 2) * 16];
      double sum = 0;
      for (int k = 0; k < 16; ++k) sum += x[k] * y[k];
      d[at] = float(double(d[at]) + sum);
    }
  }
}

inline void wgmma_fence() { emulated::thread().fenced = true; }
inline void wgmma_commit() { ++emulated::thread().open_products; }

template <typename T, bool a_along_k, bool b_along_k, int half_n>
void wgmma(float (&d)[half_n], uint64_t a, uint64_t b) {
  emulated::Thread& t = emulated::thread();
  if (!t.fenced) t.block->broken("wgmma.fence before the first wgmma", "none since the last wait");
  for (uint64_t descriptor : {a, b})
    if (descriptor >> 62 != 1 || (descriptor >> 49 & 7) != 0)
      t.block->broken("a descriptor that permutes over 128 bytes from offset 0", "another");
  t.hide_sums(d, half_n);
  t.products.push_back({d, a, b, 2 * half_n, a_along_k, b_along_k, t.open_products, multiply_operands<T>});
}

template <int pending>
void wgmma_wait() {
  emulated::Thread& own = emulated::thread();
  own.block->collective("wgmma.wait_group", 0xffffffffu, &own, [](void* const operands[32], uint32_t) {
    emulated::Thread* lanes[32];
    for (int i = 0; i < 32; ++i) lanes[i] = static_cast<emulated::Thread*>(operands[i]);
    auto done = [&](const emulated::Thread::Product& p) { return p.group < lanes[0]->open_products - pending; };
    for (size_t i = 0; i < lanes[0]->products.size(); ++i) {
      const auto& p = lanes[0]->products[i];
      for (auto* lane : lanes)
        if (lane->products.size() <= i || lane->products[i].a != p.a || lane->products[i].b != p.b)
          lane->block->broken("one wgmma for all lanes of a warp", "several");
      if (done(p)) p.multiply(lanes, i);
    }
    for (auto* lane : lanes) {
      std::erase_if(lane->products, done);
      lane->show_sums();
      lane->fenced = false;
    }
  });
}

// --- warpgroups ----------------------------------------------------------------------------------------------------------

inline void barrier_sync(int id, int threads) { emulated::thread().block->barrier_sync(id, threads); }
template <int>
void more_registers() {}
template <int>
void fewer_registers() {}

}  // namespace threefold::cuda::ptx
