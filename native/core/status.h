// The one error shape of the engine: `[where] expected X, received Y. Try Z.`
#pragma once

#include <stdexcept>
#include <string>

namespace threefold {

// Thrown across the borders of the modules that hold a device each.
struct __attribute__((visibility("default"))) Error : std::runtime_error {
  Error(std::string where_, std::string expected_, std::string received_, std::string cure_)
      : std::runtime_error("[" + where_ + "] expected " + expected_ + ", received " + received_ +
                           ". Try " + cure_ + "."),
        where(std::move(where_)),
        expected(std::move(expected_)),
        received(std::move(received_)),
        cure(std::move(cure_)) {}
  std::string where, expected, received, cure;
};

[[noreturn]] inline void fail(std::string where, std::string expected, std::string received,
                              std::string cure) {
  throw Error(std::move(where), std::move(expected), std::move(received), std::move(cure));
}

}  // namespace threefold
