// THE list of kernels: one argument struct and one line in THREEFOLD_KERNELS each. A device implements every line
// under the same name (cpu/<op>.cc, cuda/<op>.cu) and fills one Kernels table; blocks/ and binding/ call the table and
// know no device.
//
// Letters: T packed tokens, B sequences, R chosen rows, H hidden, N query heads, G key/value heads, D head size,
// F feed-forward size, V vocabulary, P positions. Storage is fp32, bf16 or fp16 ("any" below, one dtype per call unless
// said); sums are fp32. Gradients of parameters are fp32 and are ADDED to what is there.
//
// Contract 1 (bit-equal): every element of a forward output is summed in an order that depends on nothing but its own
// row. Contract 2: gradients depend on how rows are cut only through float rounding.
#pragma once

#include <vector>

#include "core/allocator.h"
#include "core/thread_pool.h"
#include "core/view.h"
#include "kernels/dropout.h"

namespace threefold {

enum class Act : uint8_t { none, relu, gelu_tanh, gelu_erf, silu };

struct Gpu;  // of a CUDA device: its stream and what launches need to know (cuda/launch.h)

// What a kernel runs on. Called on the stream's thread.
struct Exec {
  ThreadPool& pool;
  Allocator& allocator;
  Gpu* gpu = nullptr;
};

// Temporary memory of one kernel, counted as workspace.
template <typename T>
class Scratch {
 public:
  Scratch(Exec& ex, int64_t n)
      : allocator_(ex.allocator), bytes_(n * int64_t(sizeof(T))),
        data_(static_cast<T*>(allocator_.allocate(bytes_, Category::workspace))) {}
  ~Scratch() { allocator_.release(data_, bytes_, Category::workspace); }
  Scratch(const Scratch&) = delete;
  T* data() { return data_; }
  T& operator[](int64_t i) { return data_[i]; }

 private:
  Allocator& allocator_;
  int64_t bytes_;
  T* data_;
};

// out[M, N] = act(op(a) op(b) + bias) + residual; with accumulate, out (fp32) += op(a) op(b).
// Summation: b transposed (the forward form, K contiguous on both sides): K in chunks of 1024; inside a chunk one FMA
// chain per vector lane, lanes joined by a fixed tree. Other forms: K in chunks of 128, one FMA chain each. Chunk sums
// are added in fp32 in index order. Nothing depends on M, N, the tile, or the number of threads.
struct Matmul {
  View a;                      // any [M, K], or [K, M] with trans_a
  View b;                      // any [N, K] with trans_b, or [K, N]
  View out;                    // any [M, N]
  View bias{};                 // same dtype as b: [N]; optional
  View residual{};             // same dtype as out: [M, N]; optional, may be out itself
  bool trans_a = false, trans_b = true;
  Act act = Act::none;
  bool accumulate = false;
};

// out[n] += sum over t of x[t, n].
struct ColumnSum {
  View x;                      // any [T, N]
  View out;                    // fp32 [N]
};

// The score of query i against key j <= i is scale q.k, then softcap tanh(score / softcap) (Gemma Team 2024), then ALiBi's
// slope_n (j - i) (Press et al. 2022; slopes as in BLOOM for head counts that are no power of two).
struct AttentionShape {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;  // N, G, D; N is a multiple of G
  float scale = 1;
  float softcap = 0;           // 0 = off
  int64_t window = 0;          // a query sees the `window` newest keys, itself included; 0 = all
  bool alibi = false;
  int64_t row() const { return (heads + 2 * kv_heads) * head_dim; }
};

// Causal self-attention within each packed sequence, never a [T, T] matrix: keys are taken in blocks of 64 counted from
// the sequence's start, merged in order by online softmax (Dao et al. 2022).
struct AttentionForward {
  AttentionShape shape;
  View qkv;                    // any [T, (N + 2G) D]: queries, keys, values side by side
  View starts;                 // int32 [B + 1], first token of each sequence, then T
  View out;                    // any [T, N D]
  View lse{};                  // fp32 [T, N]: log-sum-exp of the scaled scores, for backward; optional
  DropoutMask dropout{};       // of the probabilities; the columns are keys, counted from the sequence's start
};
struct AttentionBackward {
  AttentionShape shape;
  View qkv, starts, out, lse;  // as in forward
  View dout;                   // any [T, N D]
  View dqkv;                   // any [T, (N + 2G) D], overwritten
  DropoutMask dropout{};       // as in forward
};
// One query per sequence against the paged cache; bit-equal to AttentionForward's row for any page size.
struct AttentionDecode {
  AttentionShape shape;
  View qkv;                    // any [B, (N + 2G) D]; only the queries are read
  View keys, values;           // any [pages, page_size, G, D]
  View block_table;            // int32 [B, max_blocks]: pages of each sequence, in order
  View lengths;                // int32 [B]: keys to attend to, the newest included
  View out;                    // any [B, N D]
};
// Copies the keys and values of each row into its cache slot.
struct KvAppend {
  AttentionShape shape;
  View qkv;                    // any [T, (N + 2G) D]
  View slots;                  // int32 [T]: page * page_size + place in the page
  View keys, values;           // any [pages, page_size, G, D]
};
// Rotary position embedding of the first R elements of queries and keys, in place (Su et al. 2021): pairs (i, i + R/2) as
// in Hugging Face LLaMA, or (2i, 2i + 1) when `interleaved`, as in GPT-J. `inverse` turns gradients back. With a cache, the turned
// keys and the values go into its slots too, as by kv_append.
struct Rotary {
  AttentionShape shape;
  View qkv;                    // any [T, (N + 2G) D]
  View positions;              // int32 [T]
  View table;                  // fp32 [P, R/2, 2]: cosine, sine
  bool interleaved = false, inverse = false;
  View slots{}, keys{}, values{};  // as in KvAppend; optional

  KvAppend appended() const { return {shape, qkv, slots, keys, values}; }
};
// RMSNorm of each query and key head (Dehghani et al. 2023, as in Qwen3 and Gemma3); values are copied.
struct HeadNormForward {
  AttentionShape shape;
  float eps = 1e-6f, weight_offset = 0;
  View qkv;                    // any [T, (N + 2G) D]
  View q_weight, k_weight;     // any [D]
  View out;                    // as qkv
};
struct HeadNormBackward {
  AttentionShape shape;
  float eps = 1e-6f, weight_offset = 0;
  View qkv, q_weight, k_weight;  // as in forward
  View dqkv;                   // as qkv: the gradient of out in, that of qkv out
  View dq_weight{}, dk_weight{};  // fp32 [D]; optional
};

// LayerNorm (Ba et al. 2016), or RMSNorm (Zhang and Sennrich 2019) when `rms`; xhat * (weight + weight_offset) + bias
// + residual.
struct NormForward {
  bool rms = false;
  float eps = 1e-5f, weight_offset = 0;
  View x;                      // any [T, H]
  View weight;                 // any [H]
  View bias{};                 // any [H]; optional
  View residual{};             // any [T, H]; optional, may be out itself
  View out;                    // any [T, H]
  View mean{}, rstd{};         // fp32 [T], for backward; optional (mean unused when rms)
};
struct NormBackward {
  bool rms = false;
  float weight_offset = 0;
  View x, weight, mean, rstd;  // as in forward
  View dout;                   // any [T, H]
  View dx;                     // any [T, H], overwritten; may be dout or residual_grad
  View residual_grad{};        // any [T, H], added to dx; optional
  View dweight{}, dbias{};     // fp32 [H]; optional
};

// out = act(x), or act(gate) * up when gated, with x = [gate | up].
struct ActivationForward {
  Act act = Act::none;
  bool gated = false;
  View x;                      // any [T, F], or [T, 2F] when gated
  View out;                    // any [T, F]
};
struct ActivationBackward {
  Act act = Act::none;
  bool gated = false;
  View x;                      // as in forward; for a plain relu its output serves as well
  View dout;                   // any [T, F]
  View dx;                     // as x, overwritten; may be dout when not gated
};

// out[t] = scale table[ids[t]] + position_table[positions[t] + position_offset]. An id outside the table is an error.
struct EmbeddingForward {
  float scale = 1;
  View ids;                    // int32 [T]
  View table;                  // any [V, H]
  View positions{};            // int32 [T]; with position_table
  View position_table{};       // any [P, H]; optional
  int64_t position_offset = 0;
  View out;                    // any [T, H]
};
// Deterministic: the rows of one id are added in token order. The row of `frozen_id` gets no gradient (padding_idx of
// torch.nn.Embedding; -1 = none).
struct EmbeddingBackward {
  float scale = 1;
  View ids, positions{};       // as in forward
  int64_t position_offset = 0;
  int64_t frozen_id = -1;
  View dout;                   // any [T, H]
  View dtable;                 // fp32 [V, H]
  View dposition_table{};      // fp32 [P, H]; optional
};

struct GatherRows {
  View x;                      // any [T, H]
  View rows;                   // int32 [R]
  View out;                    // any [R, H]
};

// Log-prob of a target and entropy under softmax(logits * inv_temperature), in vocabulary tiles: never [T, V]. Logits are
// cap(hidden weight^T + bias) with cap(x) = softcap tanh(x / softcap) (Gemma Team 2024).
struct LogprobForward {
  View hidden;                 // any [T, H], after the final norm
  View weight;                 // any [V, H]
  View bias{};                 // any [V]; optional
  float softcap = 0;           // 0 = off
  View rows;                   // int32 [R]: which rows of hidden, each at most once
  View targets;                // int32 [R]
  float inv_temperature = 1;
  View logprobs;               // fp32 [R]
  View lse;                    // fp32 [R], for backward
  View entropy{};              // fp32 [R]; optional (needed by backward when dentropy is given)
};
struct LogprobBackward {
  View hidden, weight, bias{};
  float softcap = 0;
  View rows, targets;
  float inv_temperature = 1;
  View lse, entropy{};         // from forward
  View dlogprobs;              // fp32 [R]
  View dentropy{};             // fp32 [R]; optional
  View dhidden{};              // any [T, H], overwritten (0 in rows not chosen); optional
  View dweight{};              // fp32 [V, H]; optional
  View dbias{};                // fp32 [V]; optional
};

// values[r] = hidden[rows[r]] . weight
struct ValueForward {
  View hidden;                 // any [T, H]
  View weight;                 // any [H]
  View rows;                   // int32 [R]
  View values;                 // fp32 [R]
};
struct ValueBackward {
  View hidden, weight, rows;
  View dvalues;                // fp32 [R]
  View dhidden{};              // any [T, H], overwritten; optional
  View dweight{};              // fp32 [H]; optional
};

// Draws the next token of each row from softmax(logits / temperature) by inverse CDF in index order, after the edits and
// the cuts: top-k, top-p, then min-p relative to the likeliest token (ties at a cut: lower index first). The uniform
// number is Philox(seed of the row, stream 1, position), so a draw does not depend on the batch. logprobs are before any
// edit or cut, by LogprobForward's function, bit-equal to it; temperature 0 means greedy (lowest index wins a tie) with
// log-probs at temperature 1.
//
// An edit changes one token's logit x of one row for the draw: x + bias, then divided by `repetition` where that is above
// 0 and multiplied where it is not (Keskar et al. 2019, as transformers), then minus `presence`.
struct Sample {
  View logits;                 // fp32 [B, V], before their cap
  float softcap = 0;           // as in LogprobForward
  View inv_temperature;        // fp32 [B]; 0 = greedy
  View top_k;                  // int32 [B]; 0 = off
  View top_p;                  // fp32 [B]; 1 = off
  View min_p{};                // fp32 [B]; 0 = off; optional
  View edit_starts{};          // int32 [B + 1]: the edits of each row; optional, with the three below
  View edit_ids{};             // int32 [E]
  View edits{};                // fp32 [E, 3]: bias, repetition (1 = none), presence
  View seeds;                  // int32 [B, 2]: low and high half of the row's seed
  View positions;              // int32 [B]: index of the token drawn, within its sequence
  View tokens;                 // int32 [B], out
  View logprobs;               // fp32 [B], out
};

// control = {global L2 norm of all gradients, factor to multiply gradients by, 1 when all are finite else 0}.
// The factor is `scale` * min(1, clip / (norm + 1e-6)) as torch.nn.utils.clip_grad_norm_; clip 0 = off. Norm is of the
// scaled gradients. Summed in double over fixed pieces in order.
struct GradientControl {
  std::vector<View> grads;     // fp32 each
  float clip = 0, scale = 1;
  View control;                // fp32 [3], out
};
// AdamW with decoupled decay (Loshchilov and Hutter 2019), torch.optim.AdamW's order of operations, on one stretch of a
// flat unit. Does nothing when control says the gradients are not finite.
struct AdamW {
  View param;                  // any [n]; rounded from master after the step
  View master;                 // fp32 [n]; the same memory as param when param is fp32
  View grad, m, v;             // fp32 [n]
  View control;                // fp32 [3], from GradientControl
  float lr = 0, beta1 = 0, beta2 = 0, eps = 0, weight_decay = 0;
  int64_t step = 1;            // counted from 1, applied steps only
};

// out[r, c] = the number at offset + R / block * block_stride + R % block * row_stride + c * column_stride of stored bytes
// (host memory, any alignment), with R = first_row + r: a parameter from where it lies in a file.
enum class StoredType : uint8_t { f64, f32, bf16, f16 };
struct Unpack {
  const char* bytes = nullptr;
  StoredType type = StoredType::f32;
  int64_t offset = 0, block = 1, block_stride = 0, row_stride = 0, column_stride = 1;  // elements
  int64_t first_row = 0;
  View out;                    // any [R, C]
  View bad;                    // int32 [1]: where it is negative it becomes R * C + c of the first number that is not finite
};

struct Fill {
  View out;                    // fp32 or int32
  float value = 0;
};
// Same shape; converts between fp32, bf16 and fp16 (round to nearest even), or copies.
struct Cast {
  View in, out;
};
struct Add {
  View a, b, out;              // any, one shape and dtype; out may be a or b
};
// out = x * mask / (1 - p) (+ residual). Backward is the same call on the gradient.
struct Dropout {
  DropoutMask mask;
  View positions;              // int32 [T]: of each token in its sequence
  View x;                      // any [T, H]
  View residual{};             // any [T, H]; optional, may be out itself
  View out;                    // any [T, H]; may be x
};
// average -= (average - value) (1 - decay): an exponential moving average, as torch.lerp computes it.
struct Ema {
  View average, value;         // fp32, one shape
  float decay = 0;
};

#define THREEFOLD_KERNELS(K)                                                                       \
  K(matmul, Matmul) K(column_sum, ColumnSum)                                                       \
  K(attention_forward, AttentionForward) K(attention_backward, AttentionBackward)                  \
  K(attention_decode, AttentionDecode) K(kv_append, KvAppend) K(rotary, Rotary)                    \
  K(head_norm_forward, HeadNormForward) K(head_norm_backward, HeadNormBackward)                    \
  K(norm_forward, NormForward) K(norm_backward, NormBackward)                                      \
  K(activation_forward, ActivationForward) K(activation_backward, ActivationBackward)              \
  K(embedding_forward, EmbeddingForward) K(embedding_backward, EmbeddingBackward)                  \
  K(gather_rows, GatherRows)                                                                       \
  K(logprob_forward, LogprobForward) K(logprob_backward, LogprobBackward)                          \
  K(value_forward, ValueForward) K(value_backward, ValueBackward)                                  \
  K(sample, Sample) K(gradient_control, GradientControl) K(adamw, AdamW)                           \
  K(unpack, Unpack) K(fill, Fill) K(cast, Cast) K(add, Add) K(dropout, Dropout) K(ema, Ema)

struct Kernels {
#define THREEFOLD_ENTRY(name, Args) void (*name)(Exec&, const Args&) = nullptr;
  THREEFOLD_KERNELS(THREEFOLD_ENTRY)
#undef THREEFOLD_ENTRY
};

}  // namespace threefold
