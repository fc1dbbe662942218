// The harness itself is seen to fail.
#include "check.h"

#include <cmath>
#include <limits>

#include "core/status.h"

using threefold::test::failures_of;

TEST(check_records_what_is_wrong) {
  CHECK_EQ(failures_of([] { CHECK(1 + 1 == 3); }).count, 1);
  CHECK_EQ(failures_of([] { CHECK_EQ(2, 3); }).count, 1);
  CHECK_EQ(failures_of([] { CHECK_NEAR(1.0, 1.1, 0.01); }).count, 1);
  CHECK_EQ(failures_of([] { CHECK_NEAR(std::nan(""), 0.0, 1e9); }).count, 1);
  CHECK_EQ(failures_of([] { CHECK_NEAR(0.0, std::nan(""), 1e9); }).count, 1);
  CHECK(failures_of([] { CHECK_EQ(2, 3); }).text.find("check_test.cc") != std::string::npos);
  CHECK(failures_of([] { CHECK_EQ(2, 3); }).text.find("got 2, want 3") != std::string::npos);
}

TEST(check_accepts_what_is_right) {
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK_EQ(failures_of([&] {
             CHECK(true);
             CHECK_EQ(std::size_t{3}, 3);
             CHECK_NEAR(1.0, 1.005, 0.01);
             CHECK_NEAR(infinity, infinity, 0.0);
           }).count,
           0);
}

TEST(check_throws_wants_the_right_message) {
  auto wrong_shape = [] { threefold::fail("matmul", "[2, 3]", "[3, 2]", "transA"); };
  CHECK_THROWS(wrong_shape(), "[matmul] expected [2, 3], received [3, 2]. Try transA.");
  CHECK_EQ(failures_of([&] { CHECK_THROWS(wrong_shape(), "another message"); }).count, 1);
  CHECK_EQ(failures_of([] { CHECK_THROWS(1 + 1, "anything"); }).count, 1);
}
