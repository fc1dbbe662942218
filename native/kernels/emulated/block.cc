#include "kernels/emulated/block.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>
#include <numeric>
#include <thread>

#include "core/status.h"
#include "core/thread_pool.h"

namespace threefold::emulated {
namespace {

constexpr int kWarp = 32, kMaxThreads = 1024;
#ifdef __SANITIZE_ADDRESS__
constexpr size_t kStack = 512 << 10;  // its frames are wider
#else
constexpr size_t kStack = 128 << 10;
#endif
constexpr size_t kSharedAlignment = 1024;  // what a 128-byte swizzle asks for

thread_local Thread* running = nullptr;

uint64_t next_random(uint64_t& state) {  // splitmix64
  uint64_t z = state += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

template <typename T>
void shuffle(T begin, T end, uint64_t& state) {
  for (auto n = end - begin; n > 1; --n) std::swap(begin[n - 1], begin[next_random(state) % uint64_t(n)]);
}

std::string text(Dim3 d) { return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")"; }

}  // namespace

Thread& thread() { return *running; }

Text::Text(const char* format, ...) {
  va_list list;
  va_start(list, format);
  std::vsnprintf(s, sizeof s, format, list);
  va_end(list);
}

void Thread::hide_sums(float* registers, int n) {
  if (hidden_sums(registers)) return;
  hidden.push_back({registers, std::vector<float>(registers, registers + n)});
  std::fill_n(registers, n, std::numeric_limits<float>::quiet_NaN());
}

float* Thread::hidden_sums(float* registers) {
  for (Hidden& h : hidden)
    if (h.registers == registers) return h.values.data();
  return nullptr;
}

void Thread::show_sums() {
  std::erase_if(hidden, [&](const Hidden& h) {
    if (std::any_of(products.begin(), products.end(), [&](const Product& p) { return p.sums == h.registers; })) return false;
    std::copy(h.values.begin(), h.values.end(), h.registers);
    return true;
  });
}

void Block::Free::operator()(unsigned char* p) const { std::free(p); }

void Block::run(const char* name, const Kernel& kernel, Dim3 grid_size, Dim3 block_size, Dim3 block_index, int64_t bytes, Order order) {
  name_ = name, kernel_ = &kernel, grid = grid_size, size = block_size, index = block_index, order_ = order;
  count_ = int(size.count());
  if (count_ < 1 || count_ > kMaxThreads)
    fail(name, "a block of 1 to 1024 threads", std::to_string(size.count()), "reporting this as a bug");
  if (shared_bytes_ != bytes) {  // exactly as long as asked for, so that AddressSanitizer sees an access past it
    void* memory = nullptr;
    if (posix_memalign(&memory, kSharedAlignment, size_t(std::max<int64_t>(bytes, 1)))) throw std::bad_alloc();
    shared_.reset(static_cast<unsigned char*>(memory));
    shared_bytes_ = bytes;
  }
  std::memset(shared_.get(), 0xff, size_t(bytes));  // NaN in every floating type
  while (int(threads_.size()) < count_) {
    threads_.push_back(std::make_unique<Thread>());
    threads_.back()->fiber = std::make_unique<Fiber>(kStack);
  }
  for (int i = 0; i < count_; ++i) {
    Thread& t = *threads_[i];
    t.number = i, t.lane = i % kWarp, t.block = this;
    t.index = {unsigned(i) % size.x, unsigned(i) / size.x % size.y, unsigned(i) / size.x / size.y};
    t.exited = false, t.ready = nullptr, t.open_group = 0;
    t.copies.clear(), t.products.clear(), t.hidden.clear();
    t.open_products = 0, t.fenced = false;
    t.fiber->start(&Block::thread_body, &t);
  }
  gathers_.assign(size_t((count_ + kWarp - 1) / kWarp), {});
  std::fill(barriers_, barriers_ + kBarriers, Barrier{});
  late_.clear();
  broken_ = false;
  random_ = order.seed * 0x2545F4914F6CDD1Du + index.x + 65537 * index.y + 4294967291u * uint64_t(index.z);
  asleep_ = 0;
  schedule();
  if (!broken_) return;
  threads_.clear();  // their fibers stand in the middle of the kernel
  fail(std::string(name_) + " block " + text(index), expected_.s, received_.s, "reporting this as a bug of the kernel");
}

void Block::thread_body(void* p) {
  auto& t = *static_cast<Thread*>(p);
  (*t.block->kernel_)();
  t.exited = true;
}

void Block::take_order(bool everyone) {
  turns_.resize(size_t(count_));
  std::iota(turns_.begin(), turns_.end(), 0);
  if (order_.kind == Order::reverse) std::reverse(turns_.begin(), turns_.end());
  if (order_.kind != Order::seeded) return;
  // Warps in any order, and the lanes of each; some warps sleep for a while, so that others run far ahead.
  std::vector<int> warps(gathers_.size());
  std::iota(warps.begin(), warps.end(), 0);
  shuffle(warps.begin(), warps.end(), random_);
  if (next_random(random_) % 8 == 0) asleep_ = next_random(random_) & next_random(random_);
  if (!everyone) std::erase_if(warps, [&](int w) { return asleep_ >> w & 1; });
  turns_.clear();
  for (int w : warps) {
    for (int i = w * kWarp; i < std::min(count_, (w + 1) * kWarp); ++i) turns_.push_back(i);
    shuffle(turns_.end() - std::min(count_ - w * kWarp, kWarp), turns_.end(), random_);
  }
}

// Gives one thread its turn where it can go on.
bool Block::turn(Thread& t) {
  if (t.exited || (t.ready && !t.ready(t.waits_on))) return false;
  t.ready = nullptr;
  running = &t;
  t.fiber->resume();
  running = nullptr;
  if (t.exited)
    for (Barrier& b : barriers_)
      if (b.arrived && b.expected == 0) release(b);  // those left may be all there are
  return true;
}

void Block::schedule() {
  take_order(true);
  for (;;) {
    bool moved = false;
    for (int i : turns_) {
      moved |= turn(*threads_[size_t(i)]);
      if (broken_) return;
    }
    if (alive() == 0) {
      if (!late_.empty())
        broken_ = true, expected_ = "every asynchronous copy to be waited for", received_ = {"%d under way at the end", int(late_.size())};
      return;
    }
    if (moved || turns_.size() < size_t(count_)) {
      if (order_.kind == Order::seeded) take_order(!moved);
      continue;
    }
    if (late_.empty()) return report_stuck();
    finish_late_work();
  }
}

bool Block::at_once() { return order_.kind == Order::seeded && next_random(random_) % 2; }

void Block::finish_late_work() {
  size_t at = order_.kind == Order::forward ? 0 : order_.kind == Order::reverse ? late_.size() - 1 : next_random(random_) % late_.size();
  auto work = std::move(late_[at]);
  late_.erase(late_.begin() + int64_t(at));
  work();
}

int Block::alive() const {
  return int(std::count_if(threads_.begin(), threads_.begin() + count_, [](auto& t) { return !t->exited; }));
}

void Block::wait(const char* why, bool (*ready)(void*), void* context) {
  if (ready(context)) return;
  Thread& t = thread();
  t.waits_for = why, t.ready = ready, t.waits_on = context;
  t.fiber->yield();
}

void Block::collective(const char* kind, uint32_t mask, void* operand, Complete complete) {
  Thread& t = thread();
  std::vector<Gather>& open = gathers_[size_t(t.number / kWarp)];
  uint32_t own = 1u << t.lane;
  if (!(mask & own)) broken({"%s with the calling lane in its mask", kind}, {"lane %d outside of it", t.lane});
  auto g = std::find_if(open.begin(), open.end(), [&](const Gather& x) { return x.mask & mask; });
  if (g == open.end()) g = open.insert(open.end(), Gather{kind, mask, 0, {}});
  if (g->mask != mask || std::strcmp(g->kind, kind) != 0)
    broken({"all lanes of a warp at one %s", g->kind}, {"thread %d at %s", t.number, kind});
  g->operands[t.lane] = operand;
  g->arrived |= own;
  if (g->arrived == mask) {
    complete(g->operands, mask);
    for (int lane = 0; lane < kWarp; ++lane)
      if (mask >> lane & 1) threads_[size_t(t.number / kWarp * kWarp + lane)]->released = true;
    open.erase(g);
    return;
  }
  t.released = false;
  wait(kind, [](void* p) { return static_cast<Thread*>(p)->released; }, &t);
}

bool Block::release(Barrier& b) {
  if (b.arrived < (b.expected ? b.expected : alive())) return false;
  b.arrived = b.expected = 0;
  ++b.generation;
  return true;
}

void Block::barrier_arrive(int id, int threads) {
  if (id < 0 || id >= kBarriers) broken("a barrier of 0 to 15", {"%d", id});
  Barrier& b = barriers_[id];
  if (threads % kWarp) broken("a barrier of whole warps", {"%d threads", threads});
  if (b.arrived && b.expected != threads)
    broken({"barrier %d with %d threads", id, b.expected}, {"%d", threads});
  b.expected = threads;
  ++b.arrived;
  release(b);
}

void Block::barrier_sync(int id, int threads) {
  if (id < 0 || id >= kBarriers) broken("a barrier of 0 to 15", {"%d", id});
  struct Here {
    Barrier* b;
    uint64_t generation;
  } here{&barriers_[id], barriers_[id].generation};
  barrier_arrive(id, threads);
  wait(id ? "a named barrier" : "__syncthreads", [](void* p) {
    auto* h = static_cast<Here*>(p);
    return h->b->generation != h->generation;
  }, &here);
}

void Block::broken(const Text& expected, const Text& received) {
  if (!broken_) broken_ = true, expected_ = expected, received_ = received;
  for (;;) thread().fiber->yield();
}

void Block::report_stuck() {
  std::string what;  // here, outside of the fibers
  for (int i = 0, shown = 0; i < count_ && shown < 4; ++i) {
    const Thread& t = *threads_[size_t(i)];
    if (t.exited || (i > 0 && !threads_[size_t(i - 1)]->exited && threads_[size_t(i - 1)]->waits_for == t.waits_for)) continue;
    what += (what.empty() ? "thread " : ", thread ") + std::to_string(i) + " at " + t.waits_for;
    ++shown;
  }
  broken_ = true, expected_ = "every thread to reach the barriers that others wait at";
  received_ = {"%s; %d have returned", what.c_str(), count_ - alive()};
}

namespace {

// A Block to run on, with its fibers, which cost address space: as many as the machine has cores, however many devices and
// threads ask. A thread that finds none waits.
class Runner {
 public:
  Runner() {
    std::unique_lock lock(pool().mutex);
    pool().freed.wait(lock, [] { return !pool().idle.empty() || pool().made < kMost; });
    if (pool().idle.empty()) {
      ++pool().made;
      block_ = std::make_unique<Block>();
    } else {
      block_ = std::move(pool().idle.back());
      pool().idle.pop_back();
    }
  }
  ~Runner() {
    {
      std::lock_guard lock(pool().mutex);
      pool().idle.push_back(std::move(block_));
    }
    pool().freed.notify_one();
  }
  Block* operator->() { return block_.get(); }

 private:
  struct Pool {
    std::mutex mutex;
    std::condition_variable freed;
    std::vector<std::unique_ptr<Block>> idle;
    int made = 0;
  };
  static Pool& pool() {
    static auto* all = new Pool;  // never ends: a device may still work when the process does
    return *all;
  }
  static inline const int kMost = std::clamp(int(std::thread::hardware_concurrency()), 1, 16);
  std::unique_ptr<Block> block_;
};

}  // namespace

void run_grid(ThreadPool& pool, const char* name, const Kernel& kernel, Dim3 grid, Dim3 block, int64_t shared_bytes, Order order) {
  int64_t count = grid.count();
  std::vector<int64_t> places(static_cast<size_t>(count));
  std::iota(places.begin(), places.end(), 0);
  if (order.kind == Order::reverse) std::reverse(places.begin(), places.end());
  uint64_t state = order.seed;
  if (order.kind == Order::seeded) {
    static std::atomic<uint64_t> launches;  // each in another order
    order.seed = state += 0x9E3779B97F4A7C15u * ++launches;
    shuffle(places.begin(), places.end(), state);
  }
  pool.parallel_for(count, [&](int64_t i) {
    Runner runner;
    int64_t at = places[size_t(i)];
    Dim3 index{unsigned(at % grid.x), unsigned(at / grid.x % grid.y), unsigned(at / grid.x / grid.y)};
    runner->run(name, kernel, grid, block, index, shared_bytes, order);
  });
}

}  // namespace threefold::emulated
