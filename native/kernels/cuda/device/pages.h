// The paged cache as decode reads it: lengths, and where a key of a sequence lies.
#pragma once

#include "kernels/cuda/device/attention.h"

namespace threefold::cuda {

struct Pages {
  const int32_t *lengths, *table;  // [B], [B, max_blocks]
  int64_t pages, longest;          // pages of the cache; max_blocks * page_size
  int max_blocks, page_size;
  int64_t slot;                    // G D, elements
  Check length_check, page_check;

  Pages(Fault* fault, const AttentionDecode& a)
      : lengths(a.lengths.i32()), table(a.block_table.i32()), pages(a.keys.dim(0)), longest(a.block_table.dim(1) * a.keys.dim(1)),
        max_blocks(int(a.block_table.dim(1))), page_size(int(a.keys.dim(1))), slot(a.shape.kv_heads * a.shape.head_dim),
        length_check{fault, "attention_decode", "lengths of 1 to %lld", "%lld for sequence %lld", "more pages for that sequence"},
        page_check{fault, "attention_decode", "block_table pages of 0 to %lld", "%lld for sequence %lld", "the pages given to that sequence"} {}

  // 0 where the length is not one.
  __device__ int length(int sequence) const {
    int length = lengths[sequence];
    if (length >= 1 && length <= longest) return length;
    if (threadIdx.x == 0) length_check.raise(longest, length, sequence);
    return 0;
  }
  // The element of the cache where a key's heads begin, or -1 where the table names no page. Pages that no key is read from
  // (before a window) are not looked at.
  __device__ int64_t at(int sequence, int key) const {
    int page = table[int64_t(sequence) * max_blocks + key / page_size];
    if (page < 0 || page >= pages) {
      page_check.raise(pages - 1, page, sequence);
      return -1;
    }
    return (int64_t(page) * page_size + key % page_size) * slot;
  }
};

// The blocks of keys that one of the `splits` blocks of the grid takes: of every splits-th span, from the one that holds
// block `first` on, those from `first` to `last`.
struct SpanWalk {
  int first, last, splits, block;
  __device__ SpanWalk(int first_, int last_, int splits_, int split) : first(first_), last(last_), splits(splits_) {
    int span = first / kSpanBlocks;
    span += (split - span % splits + splits) % splits;
    block = max(first, span * kSpanBlocks);
  }
  __device__ bool done() const { return block > last; }
  __device__ bool ends_span() const { return block == last || block % kSpanBlocks == kSpanBlocks - 1; }
  __device__ void step() {
    if (++block % kSpanBlocks == 0) block += (splits - 1) * kSpanBlocks;
  }
};

// A folded span of one row in global memory: top, sum, o [D].
__device__ __forceinline__ float* partial_of(float* partials, int64_t row, int spans, int span, int d) {
  return partials + (row * spans + span) * (d + 2);
}

}  // namespace threefold::cuda
