// Column sums in two passes: pieces of rows, each by a fixed tree, then the pieces in index order.
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device/four.h"
#include "kernels/cuda/device/shared.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launch.h"

namespace threefold::cuda {
namespace {

constexpr int kPiece = 128, kLanes = 32, kRows = 8, kColumns = 4 * kLanes, kThreads = 256;

// x [T, N] -> sums [pieces, N]. Thread (r, c) adds rows r, r + 8, .. of the piece in order; then the 8 rows of threads.
template <typename T>
__global__ void __launch_bounds__(kLanes* kRows)
    column_pieces_kernel(const T* x, int64_t rows, int64_t n, bool wide, float* sums) {
  auto* parts = shared_array<Four<float>>();
  int lane = threadIdx.x % kLanes, r = threadIdx.x / kLanes;
  int64_t groups = (n + kColumns - 1) / kColumns, piece = blockIdx.x / groups;
  int64_t column = blockIdx.x % groups * kColumns + lane * 4;
  int count = column < n ? int(n - column < 4 ? n - column : 4) : 0;
  Four<float> sum{};
  Four<T> v[kPiece / kRows];
#pragma unroll
  for (int i = 0; i < kPiece / kRows; ++i) {
    int64_t row = piece * kPiece + i * kRows + r;
    v[i] = load_four(x + row * n + column, row < rows ? count : 0, wide);
  }
#pragma unroll
  for (int i = 0; i < kPiece / kRows; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) sum.v[j] += to_float(v[i].v[j]);
  parts[threadIdx.x] = sum;
  for (int with = kRows / 2; with > 0; with /= 2) {
    __syncthreads();
    if (r < with)
#pragma unroll
      for (int j = 0; j < 4; ++j) parts[threadIdx.x].v[j] += parts[threadIdx.x + with * kLanes].v[j];
  }
  if (r == 0) store_four(sums + piece * n + column, count, n % 4 == 0, parts[lane]);
}

// out [N] += sums [pieces, N]
__global__ void __launch_bounds__(kThreads) column_join_kernel(const float* sums, int64_t pieces, int64_t n, float* out) {
  int64_t column = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= n) return;
  float total = 0;
#pragma unroll 8
  for (int64_t i = 0; i < pieces; ++i) total += sums[i * n + column];
  out[column] += total;
}

}  // namespace

void column_sum(Exec& ex, const ColumnSum& o) {
  int64_t rows = o.x.dim(0), n = o.x.dim(1), pieces = (rows + kPiece - 1) / kPiece;
  if (rows == 0 || n == 0) return;
  Scratch<float> sums(ex, pieces * n);
  with_type(o.x.dtype, [&]<typename T>(T) {
    constexpr int kPieceThreads = kLanes * kRows;
    launch(ex, {"column_pieces", {unsigned(pieces) * blocks_for(n, kColumns)}, {kPieceThreads}, kPieceThreads * sizeof(Four<float>)},
           column_pieces_kernel<T>, o.x.as<T>(), rows, n, fours(o.x.as<T>(), n), sums.data());
  });
  launch(ex, {"column_join", {blocks_for(n, kThreads)}, {kThreads}}, column_join_kernel, sums.data(), pieces, n, o.out.f32());
}

}  // namespace threefold::cuda
