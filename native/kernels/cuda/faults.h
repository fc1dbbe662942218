// How a kernel reports what only the values tell: an id outside its table, starts that fall. The first fault of a stream
// is kept in memory both sides see; the next wait turns it into the error the CPU would have thrown at once.
#pragma once

#include <cstdint>

namespace threefold {

// Texts are pointers of the host, which the device carries back unread.
struct Fault {
  int raised = 0;
  const char* where = nullptr;     // the op
  const char* expected = nullptr;  // may hold %lld for `bound`
  const char* received = nullptr;  // may hold %lld for `value`, then %lld for `at`
  const char* cure = nullptr;
  long long bound = 0, value = 0, at = 0;
};

}  // namespace threefold
