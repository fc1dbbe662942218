#include "kernels/cpu/isa.h"

#include <atomic>
#include <cstdlib>
#include <string>

#include "kernels/cpu/isa_tables.h"

namespace threefold::cpu {
namespace {

std::atomic<const Isa*> current{nullptr};

std::vector<const Isa*> available() {
  std::vector<const Isa*> sets{&portable_isa};
#if defined(__x86_64__)
  __builtin_cpu_init();
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (avx2) sets.push_back(&avx2_isa);
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    sets.push_back(&avx512_isa);
#endif
  return sets;
}

const Isa& find(const char* where, const std::string& name) {
  std::string list;
  for (const Isa* set : available()) {
    if (name == set->name) return *set;
    list += (list.empty() ? "" : ", ") + std::string(set->name);
  }
  fail(where, "an instruction set this CPU has (" + list + ")", "\"" + name + "\"",
       "one of these names, or leaving it unset to use the best");
}

const Isa& first_use() {
  static const Isa& chosen = []() -> const Isa& {
    const char* name = std::getenv("THREEFOLD_ISA");
    return name && *name ? find("THREEFOLD_ISA", name) : *available().back();
  }();
  const Isa* none = nullptr;
  return current.compare_exchange_strong(none, &chosen) ? chosen : *none;
}

}  // namespace

const Isa& isa() {
  const Isa* set = current.load(std::memory_order_acquire);
  return set ? *set : first_use();
}

void select_isa(const char* name) { current = &find("select_isa", name ? name : ""); }

std::vector<const char*> available_isas() {
  std::vector<const char*> names;
  for (const Isa* set : available()) names.push_back(set->name);
  return names;
}

}  // namespace threefold::cpu
