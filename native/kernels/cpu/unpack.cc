// Stored numbers to a parameter: gathered from where they lie, converted, checked.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/checks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

namespace threefold::cpu {
namespace {

int64_t size_of_stored(StoredType type) { return type == StoredType::f64 ? 8 : type == StoredType::f32 ? 4 : 2; }

// Files align nothing, so elements are copied out of their bytes.
template <typename T>
void gather(const char* bytes, int64_t stride, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    T x;
    std::memcpy(&x, bytes + i * stride * int64_t(sizeof(T)), sizeof(T));
    if constexpr (sizeof(T) == 8)
      out[i] = float(x);
    else
      out[i] = to_float(x);
  }
}

void gather_row(StoredType type, const char* bytes, int64_t stride, int64_t n, float* out) {
  switch (type) {
    case StoredType::f64: return gather<double>(bytes, stride, n, out);
    case StoredType::f32: return stride == 1 ? void(std::memcpy(out, bytes, n * 4)) : gather<float>(bytes, stride, n, out);
    case StoredType::bf16: return gather<bf16>(bytes, stride, n, out);
    case StoredType::f16: return gather<f16>(bytes, stride, n, out);
  }
}

// The place of the first number that is not finite in storage of this type, or n.
int64_t first_bad(const float* x, int64_t n, DType type) {
  constexpr float kPastF16 = 65520;  // rounds to infinity
  if (type == DType::f16) return std::find_if(x, x + n, [](float v) { return !(std::abs(v) < kPastF16); }) - x;
  uint32_t worst = 0;
  for (int64_t i = 0; i < n; ++i) {  // one pass that the compiler can vectorise; almost always nothing is found
    uint32_t bits;
    std::memcpy(&bits, x + i, 4);
    worst = std::max(worst, bits & 0x7f800000u);
  }
  if (worst != 0x7f800000u) return n;
  return std::find_if(x, x + n, [](float v) { return !std::isfinite(v); }) - x;
}

}  // namespace

void unpack(Exec& ex, const Unpack& o) {
  int64_t rows = o.out.dim(0), columns = o.out.dim(1), size = size_of_stored(o.type);
  bool same = o.column_stride == 1 && ((o.type == StoredType::f32 && o.out.dtype == DType::f32) ||
                                       (o.type == StoredType::bf16 && o.out.dtype == DType::bf16) ||
                                       (o.type == StoredType::f16 && o.out.dtype == DType::f16));
  std::atomic<int64_t> bad{std::numeric_limits<int64_t>::max()};
  ex.pool.parallel_blocks(rows, row_grain(columns), [&](int64_t begin, int64_t end) {
    Scratch<float> wide(ex, columns);
    for (int64_t r = begin; r < end; ++r) {
      int64_t row = o.first_row + r;
      const char* bytes = o.bytes + (o.offset + row / o.block * o.block_stride + row % o.block * o.row_stride) * size;
      float* out = target(o.out, r * columns, wide.data());
      gather_row(o.type, bytes, o.column_stride, columns, out);
      if (same)
        std::memcpy(o.out.as<char>() + r * columns * size, bytes, columns * size);
      else
        store(o.out, r * columns, out, columns);
      if (int64_t at = first_bad(out, columns, o.out.dtype); at < columns) {
        int64_t index = row * columns + at, seen = bad;
        while (index < seen && !bad.compare_exchange_weak(seen, index)) {
        }
      }
    }
  });
  int32_t& result = o.bad.i32()[0];
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (bad != std::numeric_limits<int64_t>::max() && result < 0) result = int32_t(std::min(bad.load(), kMost));
}

}  // namespace threefold::cpu
