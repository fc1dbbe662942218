// An in-order queue of ops with its own thread: enqueue returns at once, so JavaScript never blocks.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "core/status.h"

namespace threefold {

class Stream {
 public:
  // `settle` runs before each wait, on the stream's thread: it returns when all that ops have started has ended, and
  // throws where that failed (a device that works apart).
  explicit Stream(std::function<void()> settle = {});
  ~Stream();  // runs what is queued, then joins
  Stream(const Stream&) = delete;

  // Runs `fn` after everything enqueued before it. If it throws, the error, with the op's name, sticks to the
  // stream: later ops are skipped and every wait reports it until clear_error().
  void enqueue(const char* op, std::function<void()> fn);
  // Runs `fn` even after an error: for releasing memory.
  void enqueue_always(std::function<void()> fn);
  // Runs `fn` with the sticky error, or nullptr: for waits.
  void enqueue_wait(std::function<void(const Error*)> fn);
  // Blocks the calling thread until all is done and throws the sticky error: native tests only.
  void synchronize();
  void clear_error();
  // Microseconds spent running ops since the start.
  int64_t busy_microseconds();

 private:
  enum class Kind { op, always, wait };
  struct Item {
    Kind kind;
    const char* op;
    std::function<void()> fn;
    std::function<void(const Error*)> wait;
  };
  void push(Item item);
  void run();
  void keep(const char* op, const std::function<void()>& fn);

  std::function<void()> settle_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Item> queue_;
  bool stop_ = false;
  std::optional<Error> error_;
  int64_t busy_us_ = 0;
  std::thread thread_;
};

}  // namespace threefold
