#include "core/cores.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <thread>

namespace threefold {
namespace {

std::string first_line(const std::string& file) {
  std::string line;
  std::ifstream in(file);
  std::getline(in, line);
  return line;
}

// "200000 100000" is two cores, "max 100000" no limit.
double quota_of(const std::string& line) {
  double quota = 0, period = 0;
  if (std::sscanf(line.c_str(), "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0) return quota / period;
  return INFINITY;
}

// Of the process's own group (version 2) or controller (version 1) and every group around it, the smallest quota.
double quota(const std::string& root) {
  double least = INFINITY;
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    bool version2 = controllers.empty();
    if (!version2 && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
    for (;;) {
      std::string folder = root + "/sys/fs/cgroup" + (version2 ? "" : "/cpu") + (path == "/" ? "" : path);
      least = std::min(least, version2 ? quota_of(first_line(folder + "/cpu.max"))
                                       : quota_of(first_line(folder + "/cpu.cfs_quota_us") + " " +
                                                  first_line(folder + "/cpu.cfs_period_us")));
      if (path.empty() || path == "/") break;
      path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
  return least;
}

}  // namespace

int usable_cores(const std::string& root) {
  double allowed = std::min<double>(std::max(1u, std::thread::hardware_concurrency()), quota(root));
  return std::max(1, int(allowed));
}

}  // namespace threefold
