#include "kernels/emulated/fiber.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#else  // only AddressSanitizer must be told which stack is in use
inline void __sanitizer_start_switch_fiber(void**, const void*, size_t) {}
inline void __sanitizer_finish_switch_fiber(void*, const void**, size_t*) {}
#endif

namespace threefold::emulated {

Fiber::Fiber(size_t stack_bytes) : stack_bytes_(stack_bytes) {
  void* memory = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  stack_ = static_cast<char*>(memory);
  mprotect(stack_, 4096, PROT_NONE);  // a stack too deep is a fault, not another fiber's memory
}

Fiber::~Fiber() { munmap(stack_, stack_bytes_); }

void Fiber::start(Body body, void* context) {
  body_ = body, context_ = context;
  done_ = false;
}

void Fiber::resume() {
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, stack_, stack_bytes_);
  if (_setjmp(outside_) == 0) {
    if (entered_) _longjmp(inside_, 1);
    entered_ = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stack_;
    context.uc_stack.ss_size = stack_bytes_;
    context.uc_link = nullptr;
    uint64_t self = reinterpret_cast<uintptr_t>(this);
    makecontext(&context, reinterpret_cast<void (*)()>(&Fiber::enter), 2, unsigned(self >> 32), unsigned(self));
    setcontext(&context);
  }
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
}

// One stack serves body after body.
void Fiber::enter(unsigned high, unsigned low) {
  auto* self = reinterpret_cast<Fiber*>(uintptr_t(uint64_t(high) << 32 | low));
  __sanitizer_finish_switch_fiber(nullptr, &self->caller_stack_, &self->caller_bytes_);
  for (;;) {
    self->body_(self->context_);
    self->done_ = true;
    self->yield();
  }
}

void Fiber::yield() {
  __sanitizer_start_switch_fiber(&fake_stack_, caller_stack_, caller_bytes_);
  if (_setjmp(inside_) == 0) _longjmp(outside_, 1);
  __sanitizer_finish_switch_fiber(fake_stack_, &caller_stack_, &caller_bytes_);
}

}  // namespace threefold::emulated
