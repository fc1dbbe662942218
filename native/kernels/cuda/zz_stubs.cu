#include "kernels/cuda/cuda.h"
namespace threefold::cuda {
void attention_forward(Exec&, const AttentionForward&) { fail("attention_forward", "a kernel", "none", "waiting"); }
void attention_backward(Exec&, const AttentionBackward&) { fail("attention_backward", "a kernel", "none", "waiting"); }
void attention_decode(Exec&, const AttentionDecode&) { fail("attention_decode", "a kernel", "none", "waiting"); }
}
