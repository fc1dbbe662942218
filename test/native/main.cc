#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>

#include "check.h"

int main(int argc, char** argv) {
  using namespace threefold::test;
  int passed = 0, failed = 0;
  for (const Case& c : cases()) {
    if (argc > 1 && !std::strstr(c.name, argv[1])) continue;
    failures() = {};
    auto begin = std::chrono::steady_clock::now();
    try {
      c.body();
    } catch (const std::exception& e) {
      record(c.name, 0, std::string("threw ") + e.what());
    }
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (failures().count) {
      ++failed;
      std::printf("FAILED %s (%d checks)\n%s", c.name, failures().count, failures().text.c_str());
    } else {
      ++passed;
    }
    if (seconds > 2) std::printf("slow: %s %.1f s\n", c.name, seconds);
    std::fflush(stdout);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed || !passed;
}
