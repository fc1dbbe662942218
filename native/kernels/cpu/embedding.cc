// Token and learned position embeddings, and row gathering.
#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

namespace threefold::cpu {
namespace {

constexpr int64_t kGrain = 64;  // rows

void check_ids(const char* where, const char* what, const View& ids, int64_t offset, int64_t limit) {
  for (int64_t t = 0; t < ids.numel(); ++t) {
    int64_t id = ids.i32()[t] + offset;
    if (id < 0 || id >= limit)
      fail(where, std::string(what) + " below " + std::to_string(limit - offset), std::to_string(ids.i32()[t]) + " at " + std::to_string(t),
           "ids made with this model's tokenizer");
  }
}

// dtable[ids[t] + offset] += dout[t] for every t, the rows of one id in order of t. Cut over ids.
void add_rows(Exec& ex, const View& ids, int64_t offset, int64_t skip, const View& dout, const View& dtable) {
  int64_t t = ids.numel(), h = dtable.dim(1);
  std::vector<int32_t> order(t);
  std::iota(order.begin(), order.end(), 0);
  const int32_t* id = ids.i32();
  std::stable_sort(order.begin(), order.end(), [id](int32_t a, int32_t b) { return id[a] < id[b]; });
  std::vector<int64_t> runs;  // where each id's rows begin in `order`
  for (int64_t i = 0; i < t; ++i)
    if (i == 0 || id[order[i]] != id[order[i - 1]]) runs.push_back(i);
  runs.push_back(t);
  ex.pool.parallel_blocks(int64_t(runs.size()) - 1, 8, [&](int64_t begin, int64_t end) {
    Scratch<float> row(ex, h);
    for (int64_t r = begin; r < end; ++r) {
      if (id[order[runs[r]]] == skip) continue;
      float* out = dtable.f32() + (id[order[runs[r]]] + offset) * h;
      for (int64_t i = runs[r]; i < runs[r + 1]; ++i) isa().add(out, load(dout, order[i] * h, h, row.data()), out, h);
    }
  });
}

}  // namespace

void embedding_forward(Exec& ex, const EmbeddingForward& o) {
  const char* where = "embedding";
  int64_t t = o.ids.numel(), h = o.table.dim(1);
  expect(where, "out", o.out, o.table.dtype, {t, h});
  check_ids(where, "token ids", o.ids, 0, o.table.dim(0));
  if (o.position_table) check_ids(where, "positions", o.positions, o.position_offset, o.position_table.dim(0));
  ex.pool.parallel_blocks(t, kGrain, [&](int64_t begin, int64_t end) {
    Scratch<float> rows(ex, 3 * h);
    for (int64_t i = begin; i < end; ++i) {
      const float* x = load(o.table, o.ids.i32()[i] * h, h, rows.data());
      float* y = target(o.out, i * h, rows.data() + 2 * h);
      if (o.position_table)
        isa().add(x, load(o.position_table, (o.positions.i32()[i] + o.position_offset) * h, h, rows.data() + h), y, h);
      else
        std::memcpy(y, x, h * sizeof(float));
      store(o.out, i * h, y, h);
    }
  });
}

void embedding_backward(Exec& ex, const EmbeddingBackward& o) {
  const char* where = "embedding_backward";
  int64_t t = o.ids.numel(), h = o.dtable.dim(1);
  expect(where, "dout", o.dout, o.dout.dtype, {t, h});
  expect(where, "dtable", o.dtable, DType::f32, o.dtable.shape);
  check_ids(where, "token ids", o.ids, 0, o.dtable.dim(0));
  add_rows(ex, o.ids, 0, o.frozen_id, o.dout, o.dtable);
  if (!o.dposition_table) return;
  check_ids(where, "positions", o.positions, o.position_offset, o.dposition_table.dim(0));
  add_rows(ex, o.positions, o.position_offset, -1, o.dout, o.dposition_table);
}

void gather_rows(Exec& ex, const GatherRows& o) {
  int64_t r = o.rows.numel(), h = o.x.dim(1), bytes = h * size_of(o.x.dtype);
  expect("gather_rows", "out", o.out, o.x.dtype, {r, h});
  check_ids("gather_rows", "rows", o.rows, 0, o.x.dim(0));
  ex.pool.parallel_blocks(r, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::memcpy(o.out.as<char>() + i * bytes, o.x.as<char>() + o.rows.i32()[i] * bytes, bytes);
  });
}

}  // namespace threefold::cpu
