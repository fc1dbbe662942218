// A function that can be left in the middle and gone on with: one thread of an emulated block. A body ends on the system's
// thread it began on; the next one may run on another.
//
// Why not a library: those that fit are packages of the system (Boost.Context), and the tests must run after
// `npm install` alone. makecontext starts a fiber on its own stack; _setjmp and _longjmp, which call no kernel, switch.
#pragma once

#include <csetjmp>
#include <cstddef>

namespace threefold::emulated {

class Fiber {
 public:
  using Body = void (*)(void* context);

  explicit Fiber(size_t stack_bytes);
  ~Fiber();
  Fiber(const Fiber&) = delete;

  // The body of the next run. The fiber must be done.
  void start(Body body, void* context);
  // Runs until the body yields or returns. Called from outside of every fiber.
  void resume();
  // Back to whoever called resume(). Called from inside.
  void yield();
  bool done() const { return done_; }

 private:
  static void enter(unsigned high, unsigned low);

  char* stack_;
  size_t stack_bytes_;
  Body body_ = nullptr;
  void* context_ = nullptr;
  std::jmp_buf inside_, outside_;
  bool entered_ = false, done_ = true;
  void* fake_stack_ = nullptr;  // AddressSanitizer's, while the fiber is away
  const void* caller_stack_ = nullptr;
  size_t caller_bytes_ = 0;
};

}  // namespace threefold::emulated
