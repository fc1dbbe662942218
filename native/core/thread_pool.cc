#include "core/thread_pool.h"

#include <string>
#include <system_error>

#include "core/status.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace threefold {
namespace {

thread_local bool inside_pool = false;

inline void relax() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

// Ops of a small model last tens of microseconds, so a worker spins about that long before it sleeps.
constexpr int kSpins = 4000;
constexpr uint64_t kClosed = uint64_t(1) << 62;

}  // namespace

ThreadPool::ThreadPool(int threads) : ticket_(kClosed) {
  try {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  } catch (const std::system_error& e) {  // a thread that is neither joined nor detached would end the process
    int started = int(workers_.size()) + 1;
    join();
    fail("threads", std::to_string(threads) + " threads", std::to_string(started) + ", then: " + e.what(),
         "a smaller number of threads");
  }
}

ThreadPool::~ThreadPool() { join(); }

void ThreadPool::join() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (auto& w : workers_) w.join();
}

void ThreadPool::work() {
  inside_pool = true;
  for (uint64_t seen = 0; !stop_;) {
    for (int i = 0; i < kSpins && generation_ == seen && !stop_; ++i) relax();
    if (generation_ == seen) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return generation_ != seen || stop_; });
    }
    seen = generation_;
    active_.fetch_add(1);
    drain();
    active_.fetch_sub(1);
  }
}

// The job's fields are stable from a ticket below kClosed until this thread leaves (see parallel_for).
void ThreadPool::drain() {
  for (uint64_t i; (i = ticket_.fetch_add(1)) < kClosed && int64_t(i) < count_;) {
    try {
      (*fn_)(int64_t(i));
    } catch (...) {
      std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }
}

void ThreadPool::parallel_for(int64_t count, const std::function<void(int64_t)>& fn) {
  if (count <= 0) return;
  if (count == 1 || workers_.empty() || inside_pool) {
    for (int64_t i = 0; i < count; ++i) fn(i);
    return;
  }
  count_ = count;
  fn_ = &fn;
  error_ = nullptr;
  ticket_ = 0;
  {
    std::lock_guard lock(mutex_);
    ++generation_;
  }
  wake_.notify_all();
  inside_pool = true;
  drain();
  inside_pool = false;
  ticket_ = kClosed;
  // On a busy machine a worker may have lost its core in the middle of an item: let it have this one.
  for (int spins = 0; active_ != 0; ++spins) spins < kSpins ? relax() : std::this_thread::yield();
  if (error_) std::rethrow_exception(error_);
}

void ThreadPool::parallel_blocks(int64_t count, int64_t grain,
                                 const std::function<void(int64_t, int64_t)>& fn) {
  int64_t blocks = (count + grain - 1) / grain;
  parallel_for(blocks, [&](int64_t b) { fn(b * grain, std::min(count, (b + 1) * grain)); });
}

}  // namespace threefold
