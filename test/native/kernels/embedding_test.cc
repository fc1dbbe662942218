#include <array>

#include "kernels/op_cases.h"

using namespace threefold;
using namespace threefold::test;
using namespace threefold::test::op_cases;

namespace {

constexpr int64_t kWidths[] = {1, 7, 32, 33, 100};

}  // namespace

TEST(embedding_forward_looks_rows_up) {
  for_each_device([](DType d) {
    for (int64_t h : kWidths)
      for (int64_t v : {5, 1025})
        for (bool learned : {false, true}) {
          int64_t t = 77, p = 9, offset = 2;
          Buffer table(d, {v, h}, random_values(1, v * h)), positions_table(d, {p, h}, random_values(2, p * h));
          Buffer ids(DType::i32, {t}, random_ids(3, t, v)), positions(DType::i32, {t}, random_ids(4, t, p - offset));
          auto got = run([&](Exec& ex) {
            Buffer out(d, {t, h});
            EmbeddingForward args{.ids = ids.view, .table = table.view, .out = out.view};
            if (learned) args.positions = positions.view, args.position_table = positions_table.view, args.position_offset = offset;
            ops.embedding_forward(ex, args);
            return std::vector<Buffer>{out};
          });
          Buffer want(d, {t, h});
          for (int64_t i = 0; i < t * h; ++i) {
            double row = table.get(int64_t(ids.get(i / h)) * h + i % h);
            want.set(i, learned ? row + positions_table.get((int64_t(positions.get(i / h)) + offset) * h + i % h) : row);
          }
          CHECK(same_bits(got[0], want));
        }
  });
}

TEST(embedding_scales_its_rows) {
  for_each_device([](DType d) {
    int64_t t = 9, v = 5, h = 33, p = 12;
    Values table = random_values(1, v * h), places = random_values(2, p * h), out(t * h), dtable(v * h), dout = random_values(3, t * h);
    Values id = random_ids(4, t, v), at = random_ids(5, t, p);
    for (int64_t i = 0; i < t * h; ++i) {
      out[i] = 5.5 * table[int64_t(id[i / h]) * h + i % h] + places[int64_t(at[i / h]) * h + i % h];
      dtable[int64_t(id[i / h]) * h + i % h] += 5.5 * dout[i];
    }
    Buffer ids(DType::i32, {t}, id), positions(DType::i32, {t}, at), rows(d, {v, h}, table), position_rows(d, {p, h}, places),
        dy(d, {t, h}, dout);
    auto got = run([&](Exec& ex) {
      Buffer y(d, {t, h}), drows(DType::f32, {v, h}, Values(v * h, 0));
      ops.embedding_forward(ex, {.scale = 5.5f, .ids = ids.view, .table = rows.view, .positions = positions.view,
                                  .position_table = position_rows.view, .out = y.view});
      ops.embedding_backward(ex, {.scale = 5.5f, .ids = ids.view, .dout = dy.view, .dtable = drows.view});
      return std::vector<Buffer>{y, drows};
    });
    check_close("scaled rows", got[0], out, relative_of(d), 1e-6);
    check_close("dtable", got[1], dtable, 1e-6, 1e-6);
  });
}

// The rows of one id are added in token order, onto what is there: bit-equal to a plain fp32 loop.
TEST(embedding_backward_adds_rows_in_token_order) {
  for_each_device([](DType d) {
    for (int64_t h : kWidths)
      for (int64_t v : {1, 5, 1025}) {
        int64_t t = 300, p = 40, offset = 2;
        Buffer ids(DType::i32, {t}, random_ids(3, t, v)), positions(DType::i32, {t}, random_ids(4, t, p - offset));
        Buffer dout(d, {t, h}, random_values(5, t * h, 0.1));
        Buffer want(DType::f32, {v, h}, random_values(6, v * h)), want_p(DType::f32, {p, h}, random_values(7, p * h));
        Buffer before(want), before_p(want_p);
        for (int64_t i = 0; i < t * h; ++i) {
          want.view.f32()[int64_t(ids.get(i / h)) * h + i % h] += float(dout.get(i));
          want_p.view.f32()[(int64_t(positions.get(i / h)) + offset) * h + i % h] += float(dout.get(i));
        }
        auto got = run([&](Exec& ex) {
          Buffer table(before), table_p(before_p);
          ops.embedding_backward(ex, {.ids = ids.view, .positions = positions.view, .position_offset = offset,
                                       .dout = dout.view, .dtable = table.view, .dposition_table = table_p.view});
          return std::vector<Buffer>{table, table_p};
        });
        CHECK(same_bits(got[0], want));
        CHECK(same_bits(got[1], want_p));
      }
  });
}

// Many tokens, more ids than 16 bits hold, some of them very often; and rows of many columns, aligned or not.
TEST(embedding_backward_takes_many_tokens_ids_and_columns) {
  for (auto [t, h, v] : {std::array<int64_t, 3>{5000, 4, 70000}, {70, 1040, 5}, {70, 1041, 300}}) {
    Values id = random_ids(3, t, v);
    for (int64_t i = 0; i < t; ++i)
      if (i % 3 == 0) id[i] = double(i % 2);
    for_each_device([&](DType d) {
      Buffer ids(DType::i32, {t}, id), dout(d, {t, h}, random_values(5, t * h, 0.1));
      Buffer got(DType::f32, {v, h}), want(DType::f32, {v, h});
      for (int64_t i = 0; i < v * h; ++i) got.view.f32()[i] = want.view.f32()[i] = float(i % 7);
      for (int64_t i = 0; i < t * h; ++i) want.view.f32()[int64_t(id[i / h]) * h + i % h] += float(dout.get(i));
      ops.embedding_backward(machine(2).ex, {.ids = ids.view, .dout = dout.view, .dtable = got.view});
      CHECK(same_bits(got, want));
    });
  }
}

TEST(embedding_takes_no_tokens) {
  for_each_device([](DType d) {
    Buffer ids(DType::i32, {0}), table(d, {5, 8}), out(d, {0, 8}), dtable(DType::f32, {5, 8}), before(dtable);
    Exec& ex = machine(1).ex;
    ops.embedding_forward(ex, {.ids = ids.view, .table = table.view, .out = out.view});
    ops.embedding_backward(ex, {.ids = ids.view, .dout = out.view, .dtable = dtable.view});
    ops.gather_rows(ex, {.x = table.view, .rows = ids.view, .out = out.view});
    CHECK(same_bits(dtable, before));
  });
}

// padding_idx of torch.nn.Embedding: its row keeps what it had, its positions and every other row get theirs.
TEST(embedding_backward_leaves_the_frozen_row) {
  for_each_device([](DType d) {
    int64_t t = 40, h = 33, v = 5, p = 40, frozen = 2;
    Buffer ids(DType::i32, {t}, random_ids(3, t, v)), positions(DType::i32, {t}, random_ids(4, t, p));
    Buffer dout(d, {t, h}, random_values(5, t * h)), before(DType::f32, {v, h}, random_values(6, v * h));
    auto backward = [&](int64_t frozen_id) {
      return run([&](Exec& ex) {
        Buffer table(before), table_p(DType::f32, {p, h});
        ops.embedding_backward(ex, {.ids = ids.view, .positions = positions.view, .frozen_id = frozen_id,
                                     .dout = dout.view, .dtable = table.view, .dposition_table = table_p.view});
        return std::vector<Buffer>{table, table_p};
      });
    };
    auto all = backward(-1), some = backward(frozen);
    for (int64_t i = 0; i < v * h; ++i) CHECK_EQ(some[0].get(i), i / h == frozen ? before.get(i) : all[0].get(i));
    CHECK(all[0].get(frozen * h) != before.get(frozen * h));
    CHECK(same_bits(some[1], all[1]));
  });
}

TEST(gather_rows_copies_rows) {
  for_each_device([](DType d) {
    for (int64_t h : {1, 7, 32, 33, 100, 1040, 4099}) {
      int64_t t = 50, r = 80;  // rows may repeat
      Buffer x(d, {t, h}, random_values(1, t * h)), rows(DType::i32, {r}, random_ids(2, r, t)), want(d, {r, h});
      for (int64_t i = 0; i < r * h; ++i) want.set(i, x.get(int64_t(rows.get(i / h)) * h + i % h));
      auto got = run([&](Exec& ex) {
        Buffer out(d, {r, h});
        ops.gather_rows(ex, {.x = x.view, .rows = rows.view, .out = out.view});
        return std::vector<Buffer>{out};
      });
      CHECK(same_bits(got[0], want));
    }
  });
}

TEST(embedding_names_a_bad_id) {
  for_each_device([] {
    Exec& ex = machine(1).ex;
    Buffer table(DType::f32, {5, 3}), out(DType::f32, {4, 3}), positions(DType::i32, {4}, {0, 1, 2, 3});
    for (double bad : {-1.0, 5.0}) {
      Buffer ids(DType::i32, {4}, {0, 4, bad, 1});
      std::string at = std::to_string(int(bad)) + " at position 2";
      std::string whole = "[embedding] expected token ids below 5, received " + at;
      CHECK(has(message_of([&] { ops.embedding_forward(ex, {.ids = ids.view, .table = table.view, .out = out.view}); }),
                whole.c_str()));
      CHECK(has(message_of([&] { ops.embedding_backward(ex, {.ids = ids.view, .dout = out.view, .dtable = table.view}); }),
                whole.c_str()));
      CHECK(has(message_of([&] { ops.gather_rows(ex, {.x = table.view, .rows = ids.view, .out = out.view}); }), at.c_str()));
    }
    Buffer ids(DType::i32, {4}, {0, 4, 2, 1}), narrow(DType::f32, {3, 3}), thin(DType::f32, {4, 2});
    const char* words = "positions below 3, received 3 at position 3";
    CHECK(has(message_of([&] {
                ops.embedding_forward(ex, {.ids = ids.view, .table = table.view, .positions = positions.view,
                                            .position_table = narrow.view, .out = out.view});
              }), words));
    CHECK(has(message_of([&] {
                ops.embedding_backward(ex, {.ids = ids.view, .positions = positions.view, .dout = out.view, .dtable = table.view,
                                             .dposition_table = narrow.view});
              }), words));
    CHECK(has(message_of([&] { ops.embedding_forward(ex, {.ids = ids.view, .table = table.view, .out = thin.view}); }), "out"));
  });
}
