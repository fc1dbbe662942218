// One block of an emulated grid: its threads as fibers, its shared memory, its barriers, and the scheduler that gives
// the threads their turns. What CUDA leaves open is chosen against the kernel: lanes of a warp run one at a time, in the
// order asked for; shared memory starts as NaN; an asynchronous copy or product takes effect when it can wait no longer (in
// a seeded order, some copies at once).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/emulated/fiber.h"

namespace threefold {
class ThreadPool;
}

namespace threefold::emulated {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  int64_t count() const { return int64_t(x) * y * z; }
};

// In which order warps and lanes get their turns, and blocks their place.
struct Order {
  enum Kind { forward, reverse, seeded } kind = forward;
  uint64_t seed = 0;
};

// printf into a fixed place: what a broken block reports must not be on the heap, since its fibers never return.
struct Text {
  char s[160] = "";
  Text() = default;
  Text(const char* format, ...) __attribute__((format(printf, 2, 3)));
};

class Block;

// One thread of the block that runs on this system thread.
struct Thread {
  Dim3 index;
  int number = 0, lane = 0;      // within the block; within the warp
  Block* block = nullptr;
  std::unique_ptr<Fiber> fiber;
  bool exited = false;
  bool (*ready)(void*) = nullptr;  // what it waits for; nullptr when it can run
  void* waits_on = nullptr;
  const char* waits_for = "";      // in words
  bool released = false;           // from its warp's collective
  struct Copy {                    // cp.async: done when waited for, not before
    void* to;
    const void* from;
    int bytes, filled;             // `filled` of `bytes` come from the source, the rest is 0
    int group;
  };
  std::vector<Copy> copies;
  int open_group = 0;              // copies of groups below it are committed

  struct Product {                 // wgmma: done when waited for, not before
    float* sums;                   // of this thread
    uint64_t a, b;                 // descriptors
    int n;
    bool a_along_k, b_along_k;
    int group;
    void (*multiply)(Thread* const lanes[32], size_t product);
  };
  std::vector<Product> products;
  int open_products = 0;           // products of groups below it are committed
  bool fenced = false;             // wgmma.fence since the last wait
  struct Hidden {                  // sums of products under way; their registers hold NaN
    float* registers;
    std::vector<float> values;
  };
  std::vector<Hidden> hidden;
  void hide_sums(float* registers, int n);
  float* hidden_sums(float* registers);
  void show_sums();                // those of no product under way
};

// A kernel as the grid runner calls it.
using Kernel = std::function<void()>;

class Block {
 public:
  Block() = default;
  Block(const Block&) = delete;

  // Runs one block to its end. Throws an Error that names the kernel where it cannot.
  void run(const char* name, const Kernel& kernel, Dim3 grid, Dim3 size, Dim3 index, int64_t shared_bytes, Order order);

  Dim3 grid, size, index;
  unsigned char* shared() { return shared_.get(); }
  int64_t shared_bytes() const { return shared_bytes_; }

  // --- called from inside a thread -----------------------------------------------------------------------------
  // Leaves until ready(context) holds. `why` names the wait in the report of a block that cannot go on.
  void wait(const char* why, bool (*ready)(void*), void* context);
  // Every lane of `mask` comes here with an operand; the last one calls complete(operands, mask), which reads and writes
  // them, and all go on. Lanes that come with another `kind` are an error.
  using Complete = void (*)(void* const operands[32], uint32_t mask);
  void collective(const char* kind, uint32_t mask, void* operand, Complete complete);
  // Named barrier `id`; `threads` 0 means all of the block that have not returned.
  void barrier_sync(int id, int threads = 0);
  void barrier_arrive(int id, int threads);
  // Ends the block with an error.
  [[noreturn]] void broken(const Text& expected, const Text& received);
  // Work that takes effect when no thread can go on without it, in an order of the scheduler's (copies of sm_90); or at_once().
  void later(std::function<void()> work) { at_once() ? work() : late_.push_back(std::move(work)); }
  // Whether an asynchronous copy takes effect where it starts, the other end of what CUDA allows: by chance in a seeded order.
  bool at_once();

 private:
  struct Gather {
    const char* kind;
    uint32_t mask, arrived;
    void* operands[32];
  };
  struct Barrier {
    int arrived = 0, expected = 0;
    uint64_t generation = 0;
  };
  static constexpr int kBarriers = 16;

  static void thread_body(void* thread);
  void schedule();
  bool turn(Thread& t);
  bool release(Barrier& b);
  int alive() const;
  void take_order(bool everyone);
  void finish_late_work();
  void report_stuck();

  const char* name_ = "";
  const Kernel* kernel_ = nullptr;
  Order order_;
  uint64_t random_ = 0, asleep_ = 0;          // asleep_: one bit a warp
  std::vector<std::unique_ptr<Thread>> threads_;
  int count_ = 0;
  std::vector<int> turns_;                    // threads in the order of their turns
  std::vector<std::vector<Gather>> gathers_;  // open collectives of each warp
  Barrier barriers_[kBarriers];
  std::vector<std::function<void()>> late_;
  struct Free {
    void operator()(unsigned char* p) const;
  };
  std::unique_ptr<unsigned char[], Free> shared_;
  int64_t shared_bytes_ = -1;
  bool broken_ = false;
  Text expected_, received_;
};

// The thread that is running.
Thread& thread();

// Runs every block of the grid, spread over the pool. Blocks do not wait for each other: they run in any order.
void run_grid(ThreadPool& pool, const char* name, const Kernel& kernel, Dim3 grid, Dim3 block, int64_t shared_bytes, Order order);

}  // namespace threefold::emulated
