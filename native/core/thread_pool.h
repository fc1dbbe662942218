// A persistent pool. Work is cut over outputs, never over a sum, so which thread runs which item, and how
// many threads there are, never changes a result.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace threefold {

class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // `threads` counts the caller: 1 starts no worker
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;

  int threads() const { return int(workers_.size()) + 1; }

  // Runs fn(i) for i in [0, count); returns when all are done. The first exception is rethrown here.
  // Called from one thread at a time (the stream's); a call from inside fn runs inline.
  void parallel_for(int64_t count, const std::function<void(int64_t)>& fn);

  // Runs fn(begin, end) over blocks of `grain` items: for cheap element-wise loops.
  void parallel_blocks(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& fn);

 private:
  void work();
  void drain();
  void join();

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> generation_{0};  // counts jobs: what a sleeping worker waits on
  // The next item of the open job, or kClosed and above between jobs. The caller never waits for a worker that
  // has not joined: it closes the job, then waits only for those inside (active_).
  std::atomic<uint64_t> ticket_;
  std::atomic<int> active_{0};
  int64_t count_ = 0;
  const std::function<void(int64_t)>* fn_ = nullptr;
  std::exception_ptr error_;
};

}  // namespace threefold
