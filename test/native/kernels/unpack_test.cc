#include <cstring>
#include <filesystem>
#include <fstream>
#include <unistd.h>

#include "core/mapped_file.h"
#include "kernels/op_cases.h"

using namespace threefold;
using namespace threefold::test;
using namespace threefold::test::op_cases;

namespace {

struct Kind {
  StoredType type;
  int64_t size;
};
const Kind kKinds[] = {{StoredType::f64, 8}, {StoredType::f32, 4}, {StoredType::bf16, 2}, {StoredType::f16, 2}};

// Numbers as a file holds them, behind `shift` bytes that break every alignment.
std::vector<char> stored_bytes(const Kind& kind, const Values& values, size_t shift) {
  std::vector<char> bytes(shift + values.size() * kind.size);
  for (size_t i = 0; i < values.size(); ++i) {
    char* at = bytes.data() + shift + i * kind.size;
    double wide = values[i];
    float narrow = float(wide);
    bf16 b = to_bf16(narrow);
    f16 h = to_f16(narrow);
    const void* from = kind.type == StoredType::f64   ? static_cast<const void*>(&wide)
                       : kind.type == StoredType::f32 ? static_cast<const void*>(&narrow)
                       : kind.type == StoredType::bf16 ? static_cast<const void*>(&b)
                                                       : static_cast<const void*>(&h);
    std::memcpy(at, from, kind.size);
  }
  return bytes;
}

struct Place {
  int64_t rows, columns, offset, block, block_stride, row_stride, column_stride;
};
// As it is; transposed; columns of a wider transposed tensor; rows of a taller one; heads in turns.
const Place kPlaces[] = {{5, 7, 0, 5, 0, 7, 1}, {5, 7, 0, 5, 0, 1, 5}, {5, 7, 6, 5, 0, 1, 19}, {4, 9, 27, 4, 0, 9, 1}, {6, 3, 6, 2, 18, 3, 1}};

int64_t place_of(const Place& p, int64_t r, int64_t c) {
  return p.offset + r / p.block * p.block_stride + r % p.block * p.row_stride + c * p.column_stride;
}

}  // namespace

TEST(unpack_gathers_and_converts) {
  for_each_device([](DType d) {
    for (const Kind& kind : kKinds)
      for (const Place& p : kPlaces)
        for (size_t shift : {0, 1, 3}) {
          Values source = random_values(uint64_t(p.rows), 200, 4);
          std::vector<char> bytes = stored_bytes(kind, source, shift);
          Buffer want(d, {p.rows, p.columns});
          for (int64_t r = 0; r < p.rows; ++r)
            for (int64_t c = 0; c < p.columns; ++c) want.set(r * p.columns + c, source[place_of(p, r, c)]);
          auto got = run([&](Exec& ex) {
            Buffer out(d, {p.rows, p.columns}), bad(DType::i32, {1}, {-1});
            for (int64_t r = 0; r < p.rows; r += 2)  // in stretches, as a large parameter is
              ops.unpack(ex, {.bytes = bytes.data() + shift, .type = kind.type, .offset = p.offset, .block = p.block,
                               .block_stride = p.block_stride, .row_stride = p.row_stride, .column_stride = p.column_stride,
                               .first_row = r, .out = out.view.rows(r, std::min(p.rows, r + 2)), .bad = bad.view});
            return std::vector<Buffer>{out, bad};
          });
          CHECK(same_bits(got[0], want));
          CHECK_EQ(got[1].get(0), -1);
          if (p.columns > 1) CHECK(!same_bits(got[0], Buffer(d, {p.rows, p.columns}, Values(source.rbegin(), source.rbegin() + p.rows * p.columns))));
        }
  });
}

TEST(unpack_finds_the_first_number_that_is_not_finite) {
  for_each_device([] {
    for (const Kind& kind : kKinds)
      for (double poison : {double(NAN), double(INFINITY), -double(INFINITY)})
        for (int64_t at : {0, 17, 699}) {
          Values source(700, 0.5);
          source[at] = poison;
          source[699] = NAN;
          std::vector<char> bytes = stored_bytes(kind, source, 0);
          auto got = run([&](Exec& ex) {
            Buffer out(DType::f32, {100, 7}), bad(DType::i32, {1}, {-1});
            for (int64_t r : {0, 50})  // what the first half found stays
              ops.unpack(ex, {.bytes = bytes.data(), .type = kind.type, .block = 100, .row_stride = 7, .first_row = r,
                               .out = out.view.rows(r, r + 50), .bad = bad.view});
            return std::vector<Buffer>{bad};
          });
          CHECK_EQ(got[0].get(0), double(at));
        }
  });
}

TEST(mapped_files_give_their_bytes_and_refuse_the_rest) {
  namespace fs = std::filesystem;
  const fs::path path = fs::temp_directory_path() / ("threefold-map-" + std::to_string(getpid()));
  std::ofstream(path, std::ios::binary) << std::string(10000, 'a') << "end";
  {
    MappedFile file(path.string());
    CHECK_EQ(file.size(), 10003);
    CHECK_EQ(std::string(file.bytes(10000, 10003), 3), "end");
    file.release(0, 10003);
    CHECK_EQ(file.bytes(0, 1)[0], 'a');  // it comes from the file again
    CHECK(has(message_of([&] { file.bytes(0, 10004); }), path.c_str()));
    CHECK(has(message_of([&] { file.bytes(5, 4); }), "bytes 5 to 4"));
    fs::resize_file(path, 5000);
    CHECK(has(message_of([&] { file.bytes(0, 6000); }), "a file of 5000 bytes"));
  }
  fs::resize_file(path, 0);
  CHECK_EQ(MappedFile(path.string()).size(), 0);
  fs::remove(path);
  CHECK(has(message_of([&] { MappedFile(path.string()); }), path.c_str()));
  CHECK(has(message_of([&] { MappedFile(fs::temp_directory_path().string()); }), "regular file"));
}
