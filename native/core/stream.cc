#include "core/stream.h"

#include <chrono>
#include <future>
#include <new>

namespace threefold {

Stream::Stream(std::function<void()> settle) : settle_(std::move(settle)), thread_([this] { run(); }) {}

Stream::~Stream() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Stream::push(Item item) {
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(item));
  }
  wake_.notify_one();
}

void Stream::enqueue(const char* op, std::function<void()> fn) { push({Kind::op, op, std::move(fn), {}}); }
void Stream::enqueue_always(std::function<void()> fn) { push({Kind::always, "", std::move(fn), {}}); }
void Stream::enqueue_wait(std::function<void(const Error*)> fn) { push({Kind::wait, "", {}, std::move(fn)}); }

void Stream::synchronize() {
  std::promise<void> done;
  std::optional<Error> error;
  enqueue_wait([&](const Error* e) {
    if (e) error = *e;
    done.set_value();
  });
  done.get_future().wait();
  if (error) throw *error;
}

void Stream::clear_error() {
  enqueue_always([this] {
    if (settle_) keep("", settle_);  // what started before the error may have failed as well
    error_.reset();
  });
}

int64_t Stream::busy_microseconds() {
  std::lock_guard lock(mutex_);
  return busy_us_;
}

// Runs fn; what it throws becomes the sticky error, unless there is one.
void Stream::keep(const char* op, const std::function<void()>& fn) {
  try {
    fn();
  } catch (const Error& e) {
    std::string where = std::string(op) + (e.where == op || !*op ? "" : ": ");
    error_.emplace(where + (e.where == op ? "" : e.where), e.expected, e.received, e.cure);
  } catch (const std::exception& e) {
    error_.emplace(*op ? op : "device", "the op to finish", e.what(), "a smaller batch, or report this as a bug");
  }
}

void Stream::run() {
  using Clock = std::chrono::steady_clock;
  for (;;) {
    Item item;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || !queue_.empty(); });
      if (queue_.empty()) return;
      item = std::move(queue_.front());
      queue_.pop_front();
    }
    auto begin = Clock::now();
    if (item.kind == Kind::wait) {
      if (settle_ && !error_) keep("", settle_);
      item.wait(error_ ? &*error_ : nullptr);
    } else if (item.kind == Kind::always || !error_) {
      keep(item.op, item.fn);
    }
    item = Item{};  // what the op captured is gone before the next one starts
    auto us = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - begin).count();
    std::lock_guard lock(mutex_);
    busy_us_ += us;
  }
}

}  // namespace threefold
