#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>
#include <unistd.h>

#include "check.h"
#include "core/cores.h"
#include "core/rng.h"
#include "core/stream.h"
#include "core/tensor.h"
#include "core/thread_pool.h"

using namespace threefold;
using namespace threefold::test;

namespace {

template <typename F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "";
}
bool has(const std::string& message, const char* part) { return message.find(part) != std::string::npos; }

constexpr int kActivations = int(Category::activations), kWorkspace = int(Category::workspace);

}  // namespace

TEST(allocator_counts_bytes_and_peaks_by_category) {
  Allocator allocator;
  void* a = allocator.allocate(1000, Category::activations);
  void* b = allocator.allocate(10, Category::workspace);
  void* c = allocator.allocate(500, Category::activations);
  CHECK_EQ(reinterpret_cast<uintptr_t>(a) % 64 + reinterpret_cast<uintptr_t>(b) % 64, 0u);
  allocator.release(a, 1000, Category::activations);
  Allocator::Stats s = allocator.stats();
  CHECK_EQ(s.bytes[kActivations], 500);
  CHECK_EQ(s.peak[kActivations], 1500);
  CHECK_EQ(s.bytes[kWorkspace], 10);
  CHECK_EQ(s.total, 510);
  CHECK_EQ(s.total_peak, 1510);
  CHECK_EQ(s.blocks, 2);
  CHECK(s.cached >= 1000);
  allocator.reset_peaks();
  CHECK_EQ(allocator.stats().peak[kActivations], 500);
  CHECK_EQ(allocator.stats().total_peak, 510);
  allocator.release(b, 10, Category::workspace);
  allocator.release(c, 500, Category::activations);
  CHECK_EQ(allocator.stats().total, 0);
  CHECK_EQ(allocator.stats().blocks, 0);
}

TEST(allocator_reuses_and_gives_back) {
#ifdef __SANITIZE_ADDRESS__
  const int64_t almost = 100000;  // there sizes are not rounded
#else
  const int64_t almost = 99999;
#endif
  Allocator allocator;
  void* a = allocator.allocate(100000, Category::parameters);
  allocator.release(a, 100000, Category::parameters);
  int64_t cached = allocator.stats().cached;
  CHECK(cached >= 100000 && cached <= 112500);
  CHECK(allocator.allocate(almost, Category::gradients) == a);  // the same rounded size, another category
  CHECK_EQ(allocator.stats().cached, 0);
  CHECK_EQ(allocator.stats().bytes[int(Category::gradients)], almost);
  allocator.release(a, almost, Category::gradients);
  allocator.empty_cache();
  CHECK_EQ(allocator.stats().cached, 0);
  void* none = allocator.allocate(0, Category::host);
  CHECK(none != nullptr);
  allocator.release(none, 0, Category::host);
  allocator.release(nullptr, 8, Category::host);
  CHECK_EQ(allocator.stats().blocks, 0);
}

TEST(thread_pool_runs_every_item_once) {
  for (int threads : {1, 2, 3, 5}) {
    ThreadPool pool(threads);
    CHECK_EQ(pool.threads(), threads);
    for (int64_t count : {0, 1, 2, 7, 1000})
      for (int repeat = 0; repeat < 20; ++repeat) {
        std::vector<std::atomic<int>> hits(count + 1);
        pool.parallel_for(count, [&](int64_t i) { ++hits[i]; });
        int64_t good = 0;
        for (int64_t i = 0; i < count; ++i) good += hits[i] == 1;
        CHECK_EQ(good, count);
        std::atomic<int64_t> covered = 0;
        pool.parallel_blocks(count, 3, [&](int64_t begin, int64_t end) {
          if (begin % 3 == 0 && end > begin && end <= count && end - begin <= 3) covered += end - begin;
        });
        CHECK_EQ(covered.load(), count);
      }
  }
}

TEST(thread_pool_rethrows_and_goes_on) {
  for (int threads : {1, 3}) {
    ThreadPool pool(threads);
    for (int repeat = 0; repeat < 50; ++repeat) {
      std::string message = message_of([&] {
        pool.parallel_for(40, [](int64_t i) {
          if (i == 17) throw std::runtime_error("item 17");
        });
      });
      CHECK_EQ(message, std::string("item 17"));
      std::atomic<int> done = 0;
      pool.parallel_for(40, [&](int64_t) { ++done; });
      CHECK_EQ(done.load(), 40);
    }
  }
}

TEST(thread_pool_nested_calls_run_inline) {
  ThreadPool pool(3);
  std::atomic<int> done = 0, moved = 0;
  pool.parallel_for(10, [&](int64_t) {
    std::thread::id outer = std::this_thread::get_id();
    pool.parallel_for(10, [&](int64_t) {
      ++done;
      if (std::this_thread::get_id() != outer) ++moved;
    });
  });
  CHECK_EQ(done.load(), 100);
  CHECK_EQ(moved.load(), 0);
  CHECK_EQ(message_of([&] {
             pool.parallel_for(4, [&](int64_t) { pool.parallel_for(4, [](int64_t) { throw std::runtime_error("inner"); }); });
           }),
           std::string("inner"));
}

TEST(usable_cores_follow_the_quota_of_a_container) {
  namespace fs = std::filesystem;
  const fs::path root = fs::temp_directory_path() / ("threefold-cores-" + std::to_string(getpid()));
  auto put = [&](const char* file, const char* text) {
    fs::create_directories((root / file).parent_path());
    std::ofstream(root / file) << text << "\n";
  };
  int all = int(std::thread::hardware_concurrency());
  auto cores = [&] { return usable_cores(root.string()); };
  CHECK_EQ(cores(), all);  // no such files: not a container
  put("proc/self/cgroup", "0::/a/b");
  put("sys/fs/cgroup/a/b/cpu.max", "max 100000");
  CHECK_EQ(cores(), all);
  put("sys/fs/cgroup/a/cpu.max", "150000 100000");  // a group around it
  CHECK_EQ(cores(), 1);
  put("sys/fs/cgroup/a/cpu.max", "20000 100000");  // less than one core is still one thread
  CHECK_EQ(cores(), 1);
  put("sys/fs/cgroup/a/cpu.max", "6400000 100000");
  CHECK_EQ(cores(), std::min(all, 64));
  put("proc/self/cgroup", "3:memory:/x\n2:cpu,cpuacct:/docker");
  put("sys/fs/cgroup/cpu/docker/cpu.cfs_quota_us", "-1");
  put("sys/fs/cgroup/cpu/docker/cpu.cfs_period_us", "100000");
  CHECK_EQ(cores(), all);
  put("sys/fs/cgroup/cpu/docker/cpu.cfs_quota_us", "100000");
  CHECK_EQ(cores(), 1);
  fs::remove_all(root);
}

TEST(stream_runs_in_order_off_the_calling_thread) {
  std::vector<int> order;
  std::thread::id ran;
  {
    Stream stream;
    for (int i = 0; i < 100; ++i) stream.enqueue("op", [&, i] { order.push_back(i); });
    stream.enqueue("op", [&] { ran = std::this_thread::get_id(); });
    stream.synchronize();
    CHECK(ran != std::this_thread::get_id());
    stream.enqueue("op", [&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      order.push_back(100);
    });
    CHECK_EQ(order.size(), 100u);  // enqueue returned before the op ran
  }
  CHECK_EQ(order.size(), 101u);  // the destructor ran what was queued
  for (int i = 0; i < 101; ++i) CHECK_EQ(order[i], i);
}

TEST(stream_error_sticks_until_cleared) {
  Stream stream;
  int ran = 0, always = 0;
  stream.enqueue("first", [&] { ++ran; });
  stream.enqueue("matmul", [] { fail("matmul", "a", "b", "c"); });
  stream.enqueue("later", [&] { ++ran; });
  stream.enqueue_always([&] { ++always; });
  for (int wait = 0; wait < 2; ++wait)  // every wait reports it
    CHECK_EQ(message_of([&] { stream.synchronize(); }), std::string("[matmul] expected a, received b. Try c."));
  CHECK_EQ(ran, 1);
  CHECK_EQ(always, 1);
  stream.clear_error();
  stream.enqueue("later", [&] { ++ran; });
  CHECK_EQ(message_of([&] { stream.synchronize(); }), std::string());
  CHECK_EQ(ran, 2);

  stream.enqueue("layer_forward", [] { fail("matmul", "a", "b", "c"); });
  stream.enqueue("other", [] { fail("other", "x", "y", "z"); });  // skipped: the first error stays
  CHECK(has(message_of([&] { stream.synchronize(); }), "[layer_forward: matmul] expected a"));
  stream.clear_error();
  stream.enqueue("odd", [] { throw std::runtime_error("boom"); });
  std::string message = message_of([&] { stream.synchronize(); });
  CHECK(has(message, "[odd]") && has(message, "boom"));
  stream.clear_error();
  stream.synchronize();
}

TEST(stream_lets_go_of_what_an_op_held_before_the_next) {
  Stream stream;
  auto held = std::make_shared<int>(1);
  long count = 0;
  stream.enqueue("op", [held] {});
  stream.enqueue("failing", [held] { throw std::runtime_error("boom"); });
  stream.enqueue("skipped", [held] {});
  stream.enqueue_always([&] { count = held.use_count(); });
  CHECK(has(message_of([&] { stream.synchronize(); }), "boom"));
  CHECK_EQ(count, 1);
}

TEST(stream_counts_busy_time) {
  Stream stream;
  stream.enqueue("op", [] { std::this_thread::sleep_for(std::chrono::milliseconds(3)); });
  stream.synchronize();
  stream.synchronize();  // the time of an op is booked once it is done
  CHECK(stream.busy_microseconds() >= 3000);
}

TEST(philox_known_answers) {
  // From the Random123 distribution, kat_vectors.
  CHECK(philox({0, 0, 0, 0}, 0, 0) == (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  CHECK(philox({~0u, ~0u, ~0u, ~0u}, ~0u, ~0u) == (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0) ==
        (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
  CHECK(philox_at(0xa4093822 | uint64_t(0x299f31d0) << 32, 0x13198a2e | uint64_t(0x03707344) << 32,
                  0x243f6a88 | uint64_t(0x85a308d3) << 32)[0] == 0xd16cfe09);
  CHECK_EQ(uniform_from(0), 0.0f);
  CHECK_EQ(uniform_from(~0u), 1 - 0x1p-24f);
}

TEST(half_floats_round_trip_exactly) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    float b = to_float(bf16{uint16_t(bits)}), h = to_float(f16{uint16_t(bits)});
    if (std::isnan(b))
      CHECK(std::isnan(to_float(to_bf16(b))));
    else
      CHECK_EQ(to_bf16(b).bits, bits);
    if (std::isnan(h))
      CHECK(std::isnan(to_float(to_f16(h))));
    else
      CHECK_EQ(to_f16(h).bits, bits);
  }
  CHECK_EQ(to_float(f16{0x3c00}), 1.0f);
  CHECK_EQ(to_float(f16{0x7bff}), 65504.0f);
  CHECK_EQ(to_float(f16{0x0001}), 0x1p-24f);
  CHECK_EQ(to_float(bf16{0x3f80}), 1.0f);
}

// Between two neighbours, the middle goes to the even one and anything else to the nearer.
TEST(half_floats_round_to_nearest_even) {
  auto check = [](auto convert, auto widen, uint32_t last) {
    for (uint32_t bits = 0; bits < last; ++bits)
      for (uint32_t sign : {0u, 0x8000u}) {
        float low = widen(uint16_t(sign | bits)), high = widen(uint16_t(sign | (bits + 1)));
        float middle = low + (high - low) / 2;
        CHECK_EQ(convert(middle), (sign | bits) + (bits & 1));
        CHECK_EQ(convert(std::nextafter(middle, low)), sign | bits);
        CHECK_EQ(convert(std::nextafter(middle, high)), sign | (bits + 1));
      }
  };
  check([](float x) -> uint32_t { return to_bf16(x).bits; }, [](uint16_t b) { return to_float(bf16{b}); }, 0x7f7f);
  check([](float x) -> uint32_t { return to_f16(x).bits; }, [](uint16_t b) { return to_float(f16{b}); }, 0x7bff);
  CHECK_EQ(to_f16(65519.996f).bits, 0x7bff);
  CHECK_EQ(to_f16(65520.0f).bits, 0x7c00);
  CHECK_EQ(to_f16(-1e30f).bits, 0xfc00);
  CHECK_EQ(to_f16(1e-30f).bits, 0);
  CHECK_EQ(to_bf16(3.4e38f).bits, 0x7f80);
}

TEST(dtype_names) {
  for (DType t : {DType::f32, DType::bf16, DType::f16, DType::i32}) CHECK(dtype_from(name_of(t)) == t);
  CHECK(has(message_of([] { dtype_from("float64"); }), "\"float64\""));
}

TEST(shapes_are_checked) {
  CHECK_EQ((Shape{2, 3, 4}).numel(), 24);
  CHECK_EQ((Shape{2, 0}).numel(), 0);
  CHECK_EQ((Shape{2, 3}).text(), std::string("[2, 3]"));
  CHECK((Shape{2, 3}) == (Shape{2, 3}) && !((Shape{2, 3}) == (Shape{2, 3, 1})));
  CHECK(has(message_of([] { Shape{1, 2, 3, 4, 5}; }), "4 dimensions"));
  CHECK(has(message_of([] { Shape{1, -2}; }), "-2"));
  View v{nullptr, DType::bf16, {2, 3}};
  CHECK(has(message_of([&] { expect("op", "x", v, DType::f32, {2, 3}); }), "[op] expected x of fp32 [2, 3], received bf16 [2, 3]"));
  CHECK(has(message_of([&] { expect("op", "x", v, DType::bf16, {3, 2}); }), "received bf16 [2, 3]"));
  CHECK_EQ(message_of([&] { expect("op", "x", v, DType::bf16, {2, 3}); }), std::string());
}

TEST(tensor_views_stay_inside) {
  auto allocator = std::make_shared<Allocator>();
  Tensor t(allocator, DType::bf16, {4, 6}, Category::activations, true);
  CHECK_EQ(message_of([&] { t.view(18, {6}); }), std::string());
  CHECK(has(message_of([&] { t.view(19, {6}); }), "[6] at element 19"));
  CHECK(has(message_of([&] { t.view(-1, {6}); }), "tensor.view"));
  CHECK(has(message_of([&] { t.view(12, {2, 6}).view(7, {6}); }), "inside [2, 6]"));
  View whole = t.on_stream(), part = t.view(12, {2, 6}).view(6, {6}).on_stream();
  CHECK(part.data == static_cast<char*>(whole.data) + 18 * 2);
  CHECK(whole.rows(3, 4).data == part.data);
  CHECK(part.dtype == DType::bf16 && part.shape == (Shape{6}));
}

TEST(tensor_memory_starts_at_the_first_touch_and_ends_with_the_last_handle) {
  auto allocator = std::make_shared<Allocator>();
  {
    Tensor kept;
    {
      Tensor t(allocator, DType::f32, {10}, Category::gradients, true);
      CHECK(t.defined() && !kept.defined());
      CHECK_EQ(allocator->stats().total, 0);
      float sum = 0;
      for (int i = 0; i < 10; ++i) sum += t.on_stream().f32()[i];
      CHECK_EQ(sum, 0.0f);
      CHECK_EQ(allocator->stats().bytes[int(Category::gradients)], 40);
      kept = t.view(3, {2});
    }
    CHECK_EQ(allocator->stats().total, 40);
  }
  CHECK_EQ(allocator->stats().total, 0);
  Tensor untouched(allocator, DType::f32, {10}, Category::gradients);
  CHECK_EQ(allocator->stats().blocks, 0);
}
