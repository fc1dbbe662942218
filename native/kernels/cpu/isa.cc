#include "kernels/cpu/isa.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

namespace threefold::cpu {

extern const Isa isa_portable;
#if defined(__x86_64__)
extern const Isa isa_avx2, isa_avx512;
#endif

namespace {

// What this CPU can run, best last.
std::vector<const Isa*> runnable() {
  std::vector<const Isa*> list = {&isa_portable};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    list.push_back(&isa_avx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
      list.push_back(&isa_avx512);
  }
#endif
  return list;
}

std::atomic<const Isa*> chosen{nullptr};

}  // namespace

std::vector<const char*> available_isas() {
  std::vector<const char*> names;
  for (const Isa* i : runnable()) names.push_back(i->name);
  return names;
}

void select_isa(const char* name) {
  std::string all;
  for (const Isa* i : runnable()) {
    if (!std::strcmp(i->name, name)) {
      chosen = i;
      return;
    }
    all += (all.empty() ? "" : ", ") + std::string(i->name);
  }
  fail("THREEFOLD_ISA", "an instruction set this CPU has (" + all + ")", std::string("\"") + name + "\"", "one of these, or unset it");
}

const Isa& isa() {
  const Isa* i = chosen.load(std::memory_order_relaxed);
  if (i) return *i;
  const char* asked = std::getenv("THREEFOLD_ISA");
  select_isa(asked && *asked ? asked : runnable().back()->name);
  return *chosen;
}

}  // namespace threefold::cpu
