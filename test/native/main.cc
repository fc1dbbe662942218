// Runs every TEST whose name contains the first argument; the last line is `N passed, N failed`.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>

#include "check.h"
#include "device.h"

namespace {

const char* running = "";

// Names the test that crashed, then lets the signal end the process. Under a sanitizer its own report says more.
[[maybe_unused]] void name_and_die(int signal) {
  std::fprintf(stderr, "CRASHED in %s\n", running);
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace threefold::test;
#ifndef __SANITIZE_ADDRESS__
  for (int signal : {SIGSEGV, SIGABRT, SIGFPE, SIGILL, SIGBUS}) std::signal(signal, name_and_die);
#endif
  try {
    for (const TestDevice& d : test_devices())
      if (std::getenv("THREEFOLD_TEST_MODULE")) std::printf("device %s\n", d.name.c_str());
  } catch (const std::exception& e) {
    std::printf("%s\n0 passed, 1 failed\n", e.what());
    return 1;
  }
  int passed = 0, failed = 0;
  for (const Case& c : cases()) {
    if (argc > 1 && !std::strstr(c.name, argv[1])) continue;
    failures() = {};
    running = c.name;
    auto begin = std::chrono::steady_clock::now();
    try {
      c.body();
    } catch (const std::exception& e) {
      record(c.name, 0, std::string("threw ") + e.what());
    } catch (...) {
      record(c.name, 0, "threw something that is no std::exception");
    }
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (failures().count) {
      ++failed;
      std::printf("FAILED %s (%d checks)\n%s", c.name, failures().count, failures().text.c_str());
    } else {
      ++passed;
    }
    if (seconds > 1) std::printf("slow   %s %.1f s\n", c.name, seconds);
    std::fflush(stdout);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed || !passed;
}
