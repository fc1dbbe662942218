#include "kernels/checks.h"

#include <cmath>

namespace threefold {
namespace {

constexpr const char* kDocumented = "passing the tensor this op documents";

bool is_float(DType t) { return t == DType::f32 || t == DType::bf16 || t == DType::f16; }

// Floating, of the given rank.
void expect_rank(const char* where, const char* what, const View& v, int rank) {
  if (v.shape.rank != rank || !is_float(v.dtype))
    fail(where, std::string(what) + " of fp32, bf16 or fp16 with " + std::to_string(rank) + " dimension" + (rank > 1 ? "s" : ""),
         std::string(name_of(v.dtype)) + " " + v.shape.text(), kDocumented);
}

// int32 of one dimension, whatever its values.
void expect_list(const char* where, const char* what, const View& v) {
  if (v.shape.rank != 1) fail(where, std::string(what) + " of int32 with 1 dimension", v.shape.text(), kDocumented);
  expect(where, what, v, DType::i32, {v.dim(0)});
}

// The sizes themselves, and that `v` is [rows, (N + 2G) D] of floats.
void expect_qkv(const char* where, const char* what, const AttentionShape& s, const View& v) {
  if (s.kv_heads < 1 || s.heads < 1 || s.heads % s.kv_heads)
    fail(where, "query heads that are a multiple of the key/value heads",
         std::to_string(s.heads) + " and " + std::to_string(s.kv_heads), "the head counts of the model's config");
  if (s.head_dim < 1 || s.head_dim > kMaxHeadDim)
    fail(where, "a head size of 1 to " + std::to_string(kMaxHeadDim), std::to_string(s.head_dim),
         "a model with more, smaller heads");
  if (s.window < 0 || !(s.softcap >= 0))
    fail(where, "a window and a softcap of 0 (off) or more", std::to_string(s.window) + " and " + std::to_string(s.softcap),
         "the numbers of the model's config");
  if (s.alibi && s.softcap > 0) fail(where, "ALiBi or a softcap", "both", "a model that has one of them");
  if (!is_float(v.dtype))
    fail(where, std::string(what) + " of fp32, bf16 or fp16", name_of(v.dtype), "casting it");
  expect(where, what, v, v.dtype, {v.shape.rank == 2 ? v.dim(0) : 0, s.row()});
}

void expect_starts(const char* where, const View& starts) {
  if (starts.shape.rank != 1 || starts.dim(0) < 1)
    fail(where, "starts of int32 [B + 1]", starts.shape.text(), "the starts of the packed batch");
  expect(where, "starts", starts, DType::i32, {starts.dim(0)});
}

// None, or one for T tokens.
void expect_mask(const char* where, const DropoutMask& mask, int64_t tokens) {
  if (!(mask.p >= 0 && mask.p < 1)) fail(where, "a dropout of 0 or more and below 1", std::to_string(mask.p), "--dropout 0.1");
  if (mask) expect(where, "row numbers of dropout", mask.rows, DType::i32, {tokens});
}

void expect_cache(const char* where, const AttentionShape& s, DType dtype, const View& keys, const View& values) {
  if (keys.shape.rank != 4) fail(where, "keys of [pages, page_size, G, D]", keys.shape.text(), "the cache made for this model");
  expect(where, "keys", keys, dtype, {keys.dim(0), keys.dim(1), s.kv_heads, s.head_dim});
  expect(where, "values", values, dtype, keys.shape);
}

}  // namespace

void check(const Matmul& o) {
  const char* where = "matmul";
  for (auto [name, v] : {std::pair{"a", &o.a}, {"b", &o.b}, {"out", &o.out}}) {
    if (v->shape.rank != 2) fail(where, std::string(name) + " with 2 dimensions", v->shape.text(), "a two-dimensional view");
    if (!is_float(v->dtype))
      fail(where, std::string(name) + " in fp32, bf16 or fp16", name_of(v->dtype), "casting it first");
  }
  int64_t m = o.out.dim(0), n = o.out.dim(1), k = o.a.dim(o.trans_a ? 0 : 1);
  expect(where, "a", o.a, o.a.dtype, o.trans_a ? Shape{k, m} : Shape{m, k});
  expect(where, "b", o.b, o.b.dtype, o.trans_b ? Shape{n, k} : Shape{k, n});
  if (o.bias) expect(where, "bias", o.bias, o.b.dtype, {n});
  if (o.residual) expect(where, "residual", o.residual, o.out.dtype, {m, n});
  if (o.accumulate && o.out.dtype != DType::f32)
    fail(where, "an fp32 output to accumulate into", name_of(o.out.dtype), "an fp32 gradient");
  if (o.accumulate && (o.bias || o.residual || o.act != Act::none))
    fail(where, "no bias, residual or activation with accumulate", "one of them", "a matmul without accumulate");
}

void check(const ColumnSum& o) {
  if (o.x.shape.rank != 2) fail("column_sum", "x with 2 dimensions", o.x.shape.text(), "a two-dimensional view");
  expect("column_sum", "out", o.out, DType::f32, {o.x.dim(1)});
}

void check(const AttentionForward& o) {
  const char* where = "attention_forward";
  expect_qkv(where, "qkv", o.shape, o.qkv);
  expect_starts(where, o.starts);
  int64_t tokens = o.qkv.dim(0);
  expect(where, "out", o.out, o.qkv.dtype, {tokens, o.shape.heads * o.shape.head_dim});
  if (o.lse) expect(where, "lse", o.lse, DType::f32, {tokens, o.shape.heads});
  expect_mask(where, o.dropout, tokens);
}

void check(const AttentionBackward& o) {
  const char* where = "attention_backward";
  expect_qkv(where, "qkv", o.shape, o.qkv);
  expect_starts(where, o.starts);
  Shape out = {o.qkv.dim(0), o.shape.heads * o.shape.head_dim};
  expect(where, "out", o.out, o.qkv.dtype, out);
  expect(where, "lse", o.lse, DType::f32, {o.qkv.dim(0), o.shape.heads});
  expect(where, "dout", o.dout, o.qkv.dtype, out);
  expect(where, "dqkv", o.dqkv, o.qkv.dtype, o.qkv.shape);
  expect_mask(where, o.dropout, o.qkv.dim(0));
}

void check(const AttentionDecode& o) {
  const char* where = "attention_decode";
  expect_qkv(where, "qkv", o.shape, o.qkv);
  int64_t batch = o.qkv.dim(0);
  expect_cache(where, o.shape, o.qkv.dtype, o.keys, o.values);
  expect(where, "block_table", o.block_table, DType::i32, {batch, o.block_table.shape.rank == 2 ? o.block_table.dim(1) : 0});
  expect(where, "lengths", o.lengths, DType::i32, {batch});
  expect(where, "out", o.out, o.qkv.dtype, {batch, o.shape.heads * o.shape.head_dim});
}

void check(const KvAppend& o) {
  const char* where = "kv_append";
  expect_qkv(where, "qkv", o.shape, o.qkv);
  expect_cache(where, o.shape, o.qkv.dtype, o.keys, o.values);
  expect(where, "slots", o.slots, DType::i32, {o.qkv.dim(0)});
}

void check(const Rotary& o) {
  const char* where = "rotary";
  expect_qkv(where, "qkv", o.shape, o.qkv);
  expect(where, "positions", o.positions, DType::i32, {o.qkv.dim(0)});
  if (o.table.shape.rank != 3 || 2 * o.table.dim(1) > o.shape.head_dim)
    fail(where, "table of [P, R/2, 2] with R at most " + std::to_string(o.shape.head_dim), o.table.shape.text(),
         "the rotary table of this model");
  expect(where, "table", o.table, DType::f32, {o.table.dim(0), o.table.dim(1), 2});
  if (o.keys) check(o.appended());
}

namespace {

void expect_heads(const char* where, const AttentionShape& s, const View& qkv, const View& q_weight, const View& k_weight) {
  expect_rank(where, "qkv", qkv, 2);
  expect(where, "qkv", qkv, qkv.dtype, {qkv.dim(0), s.row()});
  expect(where, "q_weight", q_weight, qkv.dtype, {s.head_dim});
  expect(where, "k_weight", k_weight, qkv.dtype, {s.head_dim});
}

void expect_norm(const char* where, const View& x, const View& weight, bool rms, const View& mean, const View& rstd) {
  expect_rank(where, "x", x, 2);
  expect(where, "weight", weight, x.dtype, {x.dim(1)});
  if (mean && !rms) expect(where, "mean", mean, DType::f32, {x.dim(0)});
  if (rstd) expect(where, "rstd", rstd, DType::f32, {x.dim(0)});
}

void expect_activation(const char* where, const View& x, bool gated, const View& out, const char* name) {
  expect_rank(where, "x", x, 2);
  if (gated && x.dim(1) % 2) fail(where, "x of [T, 2F]", x.shape.text(), "gate and up of one size");
  expect(where, name, out, x.dtype, {x.dim(0), gated ? x.dim(1) / 2 : x.dim(1)});
}

}  // namespace

void check(const HeadNormForward& o) {
  expect_heads("head_norm_forward", o.shape, o.qkv, o.q_weight, o.k_weight);
  expect("head_norm_forward", "out", o.out, o.qkv.dtype, o.qkv.shape);
}

void check(const HeadNormBackward& o) {
  const char* where = "head_norm_backward";
  expect_heads(where, o.shape, o.qkv, o.q_weight, o.k_weight);
  expect(where, "dqkv", o.dqkv, o.qkv.dtype, o.qkv.shape);
  if (o.dq_weight) expect(where, "dq_weight", o.dq_weight, DType::f32, {o.shape.head_dim});
  if (o.dk_weight) expect(where, "dk_weight", o.dk_weight, DType::f32, {o.shape.head_dim});
}

void check(const NormForward& o) {
  const char* where = "norm_forward";
  expect_norm(where, o.x, o.weight, o.rms, o.mean, o.rstd);
  if (o.bias) expect(where, "bias", o.bias, o.x.dtype, {o.x.dim(1)});
  if (o.residual) expect(where, "residual", o.residual, o.x.dtype, o.x.shape);
  expect(where, "out", o.out, o.x.dtype, o.x.shape);
}

void check(const NormBackward& o) {
  const char* where = "norm_backward";
  if (!o.rstd || (!o.mean && !o.rms)) fail(where, "mean and rstd of the forward pass", "none", "keeping them in forward");
  expect_norm(where, o.x, o.weight, o.rms, o.mean, o.rstd);
  expect(where, "dout", o.dout, o.x.dtype, o.x.shape);
  expect(where, "dx", o.dx, o.x.dtype, o.x.shape);
  if (o.residual_grad) expect(where, "residual_grad", o.residual_grad, o.x.dtype, o.x.shape);
  if (o.dweight) expect(where, "dweight", o.dweight, DType::f32, {o.x.dim(1)});
  if (o.dbias) expect(where, "dbias", o.dbias, DType::f32, {o.x.dim(1)});
}

void check(const ActivationForward& o) { expect_activation("activation_forward", o.x, o.gated, o.out, "out"); }

void check(const ActivationBackward& o) {
  expect_activation("activation_backward", o.x, o.gated, o.dout, "dout");
  expect("activation_backward", "dx", o.dx, o.x.dtype, o.x.shape);
}

void check(const EmbeddingForward& o) {
  const char* where = "embedding";
  expect_rank(where, "table", o.table, 2);
  expect_rank(where, "out", o.out, 2);
  int64_t t = o.out.dim(0), h = o.table.dim(1);
  expect(where, "out", o.out, o.table.dtype, {t, h});
  expect(where, "token ids", o.ids, DType::i32, {t});
  if (!o.position_table) return;
  expect_rank(where, "position_table", o.position_table, 2);
  expect(where, "position_table", o.position_table, o.table.dtype, {o.position_table.dim(0), h});
  expect(where, "positions", o.positions, DType::i32, {t});
}

void check(const EmbeddingBackward& o) {
  const char* where = "embedding";
  expect_rank(where, "dout", o.dout, 2);
  expect_rank(where, "dtable", o.dtable, 2);
  int64_t t = o.dout.dim(0), h = o.dout.dim(1);
  expect(where, "dtable", o.dtable, DType::f32, {o.dtable.dim(0), h});
  expect(where, "token ids", o.ids, DType::i32, {t});
  if (!o.dposition_table) return;
  expect_rank(where, "dposition_table", o.dposition_table, 2);
  expect(where, "dposition_table", o.dposition_table, DType::f32, {o.dposition_table.dim(0), h});
  expect(where, "positions", o.positions, DType::i32, {t});
}

void check(const GatherRows& o) {
  const char* where = "gather_rows";
  expect_rank(where, "x", o.x, 2);
  expect_rank(where, "out", o.out, 2);
  expect(where, "out", o.out, o.x.dtype, {o.out.dim(0), o.x.dim(1)});
  expect(where, "rows", o.rows, DType::i32, {o.out.dim(0)});
}

namespace {

// Returns R.
int64_t expect_logprob(const char* where, const View& hidden, const View& weight, const View& bias, const View& rows,
                       const View& targets, const View& lse) {
  expect_rank(where, "hidden", hidden, 2);
  expect_rank(where, "weight", weight, 2);
  expect(where, "weight", weight, hidden.dtype, {weight.dim(0), hidden.dim(1)});
  if (bias) expect(where, "bias", bias, hidden.dtype, {weight.dim(0)});
  expect_list(where, "rows", rows);
  int64_t r = rows.dim(0);
  expect(where, "targets", targets, DType::i32, {r});
  expect(where, "lse", lse, DType::f32, {r});
  return r;
}

int64_t expect_value(const char* where, const View& hidden, const View& weight, const View& rows) {
  expect_rank(where, "hidden", hidden, 2);
  expect(where, "weight", weight, hidden.dtype, {hidden.dim(1)});
  expect_list(where, "rows", rows);
  return rows.dim(0);
}

}  // namespace

void check(const LogprobForward& o) {
  const char* where = "logprob_forward";
  int64_t r = expect_logprob(where, o.hidden, o.weight, o.bias, o.rows, o.targets, o.lse);
  expect(where, "logprobs", o.logprobs, DType::f32, {r});
  if (o.entropy) expect(where, "entropy", o.entropy, DType::f32, {r});
}

void check(const LogprobBackward& o) {
  const char* where = "logprob_backward";
  int64_t r = expect_logprob(where, o.hidden, o.weight, o.bias, o.rows, o.targets, o.lse);
  expect(where, "dlogprobs", o.dlogprobs, DType::f32, {r});
  if (o.dentropy) {
    expect(where, "dentropy", o.dentropy, DType::f32, {r});
    expect(where, "entropy", o.entropy, DType::f32, {r});
  }
  if (o.dhidden) expect(where, "dhidden", o.dhidden, o.hidden.dtype, o.hidden.shape);
  if (o.dweight) expect(where, "dweight", o.dweight, DType::f32, o.weight.shape);
  if (o.dbias) expect(where, "dbias", o.dbias, DType::f32, {o.weight.dim(0)});
}

void check(const ValueForward& o) {
  int64_t r = expect_value("value_forward", o.hidden, o.weight, o.rows);
  expect("value_forward", "values", o.values, DType::f32, {r});
}

void check(const ValueBackward& o) {
  const char* where = "value_backward";
  int64_t r = expect_value(where, o.hidden, o.weight, o.rows);
  expect(where, "dvalues", o.dvalues, DType::f32, {r});
  if (o.dhidden) expect(where, "dhidden", o.dhidden, o.hidden.dtype, o.hidden.shape);
  if (o.dweight) expect(where, "dweight", o.dweight, DType::f32, {o.hidden.dim(1)});
}

void check(const Sample& o) {
  const char* where = "sample";
  expect_rank(where, "logits", o.logits, 2);
  int64_t rows = o.logits.dim(0);
  expect(where, "logits", o.logits, DType::f32, o.logits.shape);
  expect(where, "inv_temperature", o.inv_temperature, DType::f32, {rows});
  expect(where, "top_k", o.top_k, DType::i32, {rows});
  expect(where, "top_p", o.top_p, DType::f32, {rows});
  expect(where, "seeds", o.seeds, DType::i32, {rows, 2});
  expect(where, "positions", o.positions, DType::i32, {rows});
  expect(where, "tokens", o.tokens, DType::i32, {rows});
  expect(where, "logprobs", o.logprobs, DType::f32, {rows});
  if (o.logits.dim(1) == 0) fail(where, "a vocabulary of 1 or more", "logits " + o.logits.shape.text(), "checking the model");
  if (o.min_p) expect(where, "min_p", o.min_p, DType::f32, {rows});
  if (!o.edit_starts) return;
  expect(where, "edit_starts", o.edit_starts, DType::i32, {rows + 1});
  expect_rank(where, "edits", o.edits, 2);
  expect(where, "edits", o.edits, DType::f32, {o.edits.dim(0), 3});
  expect(where, "edit_ids", o.edit_ids, DType::i32, {o.edits.dim(0)});
}

void check(const GradientControl& o) {
  expect("gradient_control", "control", o.control, DType::f32, {3});
  for (const View& g : o.grads) expect("gradient_control", "gradients", g, DType::f32, g.shape);
}

void check(const AdamW& o) {
  const char* where = "adamw";
  expect_rank(where, "param", o.param, 1);
  for (auto [what, v] : {std::pair{"master", &o.master}, {"grad", &o.grad}, {"m", &o.m}, {"v", &o.v}})
    expect(where, what, *v, DType::f32, o.param.shape);
  expect(where, "control", o.control, DType::f32, {3});
  if (o.step < 1) fail(where, "a step of 1 or more", std::to_string(o.step), "counting applied steps from 1");
}

void check(const Unpack& o) {
  expect_rank("unpack", "out", o.out, 2);
  expect("unpack", "bad", o.bad, DType::i32, {1});
}

void check(const Fill& o) {
  if (size_of(o.out.dtype) != 4) fail("fill", "fp32 or int32", name_of(o.out.dtype), "filling fp32 and casting");
}

void check(const Cast& o) {
  expect("cast", "out", o.out, o.out.dtype, o.in.shape);
  if (o.in.dtype != o.out.dtype && (o.in.dtype == DType::i32 || o.out.dtype == DType::i32))
    fail("cast", "fp32, bf16 or fp16", std::string(name_of(o.in.dtype)) + " to " + name_of(o.out.dtype),
         "keeping whole numbers as int32");
}

void check(const Add& o) {
  expect_rank("add", "a", o.a, o.a.shape.rank);
  expect("add", "b", o.b, o.a.dtype, o.a.shape);
  expect("add", "out", o.out, o.a.dtype, o.a.shape);
}

void check(const Dropout& o) {
  expect_rank("dropout", "x", o.x, 2);
  if (o.residual) expect("dropout", "residual", o.residual, o.x.dtype, o.x.shape);
  expect("dropout", "out", o.out, o.x.dtype, o.x.shape);
  expect("dropout", "positions", o.positions, DType::i32, {o.x.dim(0)});
  expect_mask("dropout", o.mask, o.x.dim(0));
}

void check(const Ema& o) {
  expect("ema", "average", o.average, DType::f32, o.average.shape);
  expect("ema", "value", o.value, DType::f32, o.average.shape);
}

}  // namespace threefold
