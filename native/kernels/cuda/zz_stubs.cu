#include "kernels/cuda/cuda.h"
namespace threefold::cuda {
void attention_forward(Exec&, const AttentionForward&) { fail("attention_forward", "a kernel", "none", "waiting"); }
void attention_backward(Exec&, const AttentionBackward&) { fail("attention_backward", "a kernel", "none", "waiting"); }
void attention_decode(Exec&, const AttentionDecode&) { fail("attention_decode", "a kernel", "none", "waiting"); }
void embedding_forward(Exec&, const EmbeddingForward&) { fail("embedding_forward", "a kernel", "none", "waiting"); }
void embedding_backward(Exec&, const EmbeddingBackward&) { fail("embedding_backward", "a kernel", "none", "waiting"); }
void gather_rows(Exec&, const GatherRows&) { fail("gather_rows", "a kernel", "none", "waiting"); }
void value_forward(Exec&, const ValueForward&) { fail("value_forward", "a kernel", "none", "waiting"); }
void value_backward(Exec&, const ValueBackward&) { fail("value_backward", "a kernel", "none", "waiting"); }
void unpack(Exec&, const Unpack&) { fail("unpack", "a kernel", "none", "waiting"); }
}
