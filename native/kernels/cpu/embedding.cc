// Table look-ups and their deterministic backward.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/cpu/checks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

namespace threefold::cpu {
namespace {

// Every value is in [0, bound) once `offset` is added.
void check_ids(const char* what, const View& ids, int64_t t, int64_t bound, int64_t offset, const char* cure) {
  for (int64_t i = 0; i < t; ++i)
    if (int64_t id = ids.i32()[i] + offset; id < 0 || id >= bound)
      fail("embedding", std::string(what) + " below " + std::to_string(bound),
           std::to_string(id) + " at position " + std::to_string(i), cure);
}

constexpr const char* kTokenCure = "the tokenizer this model was made with";
constexpr const char* kPositionCure = "shorter sequences, or a model with more positions";

// table[ids[t] + offset] += scale dout[t], except in row `frozen`. The tokens of one id form a bucket, in token order; a
// bucket is one thread's.
void scatter_add(Exec& ex, const View& ids, int64_t offset, int64_t frozen, float scale, const View& dout, const View& table) {
  int64_t t = dout.dim(0), h = dout.dim(1), n = table.dim(0);
  const int32_t* id = ids.i32();
  std::vector<int64_t> start(n + 1);
  std::vector<int32_t> order(t), used;  // tokens by id; ids that occur
  for (int64_t i = 0; i < t; ++i)
    if (start[id[i] + offset + 1]++ == 0 && id[i] + offset != frozen) used.push_back(int32_t(id[i] + offset));
  std::partial_sum(start.begin(), start.end(), start.begin());
  std::vector<int64_t> next(start.begin(), start.end() - 1);
  for (int64_t i = 0; i < t; ++i) order[next[id[i] + offset]++] = int32_t(i);

  ex.pool.parallel_blocks(int64_t(used.size()), row_grain(h), [&](int64_t begin, int64_t end) {
    Scratch<float> wide(ex, h);
    for (int64_t u = begin; u < end; ++u) {
      float* row = table.f32() + used[u] * h;
      for (int64_t i = start[used[u]]; i < start[used[u] + 1]; ++i)
        isa().axpy(scale, load(dout, order[i] * h, h, wide.data()), row, h);
    }
  });
}

}  // namespace

void embedding_forward(Exec& ex, const EmbeddingForward& o) {
  int64_t t = o.out.dim(0), h = o.table.dim(1);
  check_ids("token ids", o.ids, t, o.table.dim(0), 0, kTokenCure);
  if (o.position_table) check_ids("positions", o.positions, t, o.position_table.dim(0), o.position_offset, kPositionCure);
  int64_t bytes = h * size_of(o.table.dtype);
  ex.pool.parallel_blocks(t, row_grain(h), [&](int64_t begin, int64_t end) {
    Scratch<float> a(ex, h), b(ex, h);
    for (int64_t i = begin; i < end; ++i) {
      int64_t id = o.ids.i32()[i];
      if (!o.position_table && o.scale == 1) {
        std::memcpy(o.out.as<char>() + i * bytes, o.table.as<char>() + id * bytes, bytes);
        continue;
      }
      float* out = target(o.out, i * h, a.data());
      const float* row = load(o.table, id * h, h, a.data());
      if (row != out) std::memcpy(out, row, h * sizeof(float));
      if (o.scale != 1) isa().scale(o.scale, out, h);
      if (o.position_table) {
        int64_t position = o.positions.i32()[i] + o.position_offset;
        isa().add(out, load(o.position_table, position * h, h, b.data()), out, h);
      }
      store(o.out, i * h, out, h);
    }
  });
}

void embedding_backward(Exec& ex, const EmbeddingBackward& o) {
  int64_t t = o.dout.dim(0);
  check_ids("token ids", o.ids, t, o.dtable.dim(0), 0, kTokenCure);
  if (o.dposition_table) check_ids("positions", o.positions, t, o.dposition_table.dim(0), o.position_offset, kPositionCure);
  scatter_add(ex, o.ids, 0, o.frozen_id, o.scale, o.dout, o.dtable);
  if (o.dposition_table) scatter_add(ex, o.positions, o.position_offset, -1, 1, o.dout, o.dposition_table);
}

void gather_rows(Exec& ex, const GatherRows& o) {
  int64_t r = o.out.dim(0), h = o.x.dim(1), bytes = h * size_of(o.x.dtype);
  expect_indices("gather_rows", "rows", o.rows, r, o.x.dim(0), "row numbers of this batch");
  ex.pool.parallel_blocks(r, row_grain(h), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::memcpy(o.out.as<char>() + i * bytes, o.x.as<char>() + o.rows.i32()[i] * bytes, bytes);
  });
}

}  // namespace threefold::cpu
