// How many cores this process may keep busy.
#pragma once

#include <string>

namespace threefold {

// The cores of the affinity mask, or fewer where a container's CPU quota (Linux cgroups, version 1 or 2) allows less:
// more threads than that would be stopped in turn and wait for each other. `root` is where /proc and /sys are.
int usable_cores(const std::string& root = "");

}  // namespace threefold
