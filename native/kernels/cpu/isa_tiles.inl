// Register tiles of matrix products. Part of isa_body.inl.
// Accumulators are arrays of constant size in fully unrolled loops: the compiler then keeps them in registers.

// c[m, n] (+)= sum_k a[m, k] b[n, k] for a tile of MR x NR. One vector of sums per element, then one tree.
// With Ahead the next NR rows of b are prefetched: for few rows of a, when b comes from memory.
template <int MR, int NR, bool Ahead, typename B>
void dot_tile(const float* a, int64_t lda, const B* b, int64_t ldb, int64_t k, float* c, int64_t ldc, bool add) {
  V acc[NR][MR];
#pragma GCC unroll 8
  for (int j = 0; j < NR; ++j)
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) acc[j][i] = Vec::zero();
  int64_t p = 0;
  for (; p + L <= k; p += L) {
    V av[MR];
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) av[i] = Vec::load(a + i * lda + p, All{});
#pragma GCC unroll 8
    for (int j = 0; j < NR; ++j) {
      V bv = Vec::load(b + j * ldb + p, All{});
      if (Ahead) __builtin_prefetch(b + (NR + j) * ldb + p);
#pragma GCC unroll 8
      for (int i = 0; i < MR; ++i) acc[j][i] = Vec::fma(av[i], bv, acc[j][i]);
    }
  }
  if (p < k) {
    Some rest{k - p};
    V av[MR];
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) av[i] = Vec::load(a + i * lda + p, rest);
#pragma GCC unroll 8
    for (int j = 0; j < NR; ++j) {
      V bv = Vec::load(b + j * ldb + p, rest);
#pragma GCC unroll 8
      for (int i = 0; i < MR; ++i) acc[j][i] = Vec::fma(av[i], bv, acc[j][i]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < NR; j += 4) {
      V none = Vec::zero();
      F4 s = Vec::sum4(acc[j][i], j + 1 < NR ? acc[j + 1 < NR ? j + 1 : 0][i] : none,
                       j + 2 < NR ? acc[j + 2 < NR ? j + 2 : 0][i] : none,
                       j + 3 < NR ? acc[j + 3 < NR ? j + 3 : 0][i] : none);
      float* to = c + i * ldc + j;
      if (j + 4 <= NR) {
        F4 old{};
        if (add) __builtin_memcpy(&old, to, sizeof old);
        if (add) s = old + s;
        __builtin_memcpy(to, &s, sizeof s);
      } else {
#pragma GCC unroll 4
        for (int x = 0; x < NR - j; ++x) to[x] = add ? to[x] + s[x] : s[x];
      }
    }
  }
}

template <typename B>
using DotTile = void (*)(const float*, int64_t, const B*, int64_t, int64_t, float*, int64_t, bool);

// Rows of the tables: 1 to dot_rows rows of a. One row alone takes 8 rows of b at a time, more take 4.
constexpr int kDotRows = Vec::dot_rows;
template <typename B, int NR, bool Ahead, int... I>
constexpr DotTile<B> dot_tile_of(int rows, std::integer_sequence<int, I...>) {
  DotTile<B> tiles[] = {dot_tile<I + 1, NR, Ahead, B>...};
  return tiles[rows - 1];
}
template <typename B, bool Ahead>
struct DotTiles {
  DotTile<B> of[kDotRows][4] = {};
  constexpr DotTiles() {
    constexpr std::make_integer_sequence<int, kDotRows> all{};
    for (int i = 0; i < kDotRows; ++i) {
      of[i][0] = dot_tile_of<B, 1, Ahead>(i + 1, all);
      of[i][1] = dot_tile_of<B, 2, Ahead>(i + 1, all);
      of[i][2] = dot_tile_of<B, 3, Ahead>(i + 1, all);
      of[i][3] = dot_tile_of<B, 4, Ahead>(i + 1, all);
    }
  }
};
template <typename B, bool Ahead>
constexpr DotTiles<B, Ahead> kDotTiles{};

template <typename B>
void dot_block(const float* a, int64_t lda, int64_t m, const B* b, int64_t ldb, int64_t n, int64_t k, float* c,
               int64_t ldc, bool add) {
  if (m == 1) {  // eight streams of b keep the memory busy, and eight chains the multipliers
    for (; n >= 8; n -= 8, b += 8 * ldb, c += 8) dot_tile<1, 8, true, B>(a, lda, b, ldb, k, c, ldc, add);
  }
  int64_t strips = (m + kDotRows - 1) / kDotRows;  // of nearly equal height
  auto tile = [&](const auto& tiles, int64_t s, int64_t j) IN_TARGET {
    int64_t i = m * s / strips, rows = m * (s + 1) / strips - i, cols = n - j < 4 ? n - j : 4;
    tiles.of[rows - 1][cols - 1](a + i * lda, lda, b + j * ldb, ldb, k, c + i * ldc + j, ldc, add);
  };
  // A strip of a stays in the first-level cache while b streams past, except with few rows: b then comes from memory, once.
  if (m > 24) {
    for (int64_t s = 0; s < strips; ++s)
      for (int64_t j = 0; j < n; j += 4) tile(kDotTiles<B, false>, s, j);
  } else {
    for (int64_t j = 0; j < n; j += 4)
      for (int64_t s = 0; s < strips; ++s) tile(kDotTiles<B, true>, s, j);
  }
}

// c[m, n] = sum_k a(m, k) b[k, n] for MR rows and NV vectors, the last one partial when Tail.
template <int MR, int NV, bool Tail>
void outer_tile(const float* a, int64_t a_row, int64_t a_col, const float* b, int64_t ldb, int64_t k, float* c,
                int64_t ldc, bool resume, Some last) {
  constexpr int F = Tail ? NV - 1 : NV;  // whole vectors
  V acc[MR][NV];
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < F; ++v) acc[i][v] = resume ? Vec::load(c + i * ldc + v * L, All{}) : Vec::zero();
    if (Tail) acc[i][NV - 1] = resume ? Vec::load(c + i * ldc + (NV - 1) * L, last) : Vec::zero();
  }
  for (int64_t p = 0; p < k; ++p, a += a_col, b += ldb) {
    V bv[NV];
#pragma GCC unroll 4
    for (int v = 0; v < F; ++v) bv[v] = Vec::load(b + v * L, All{});
    if (Tail) bv[NV - 1] = Vec::load(b + (NV - 1) * L, last);
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) {
      V av = Vec::set(a[i * a_row]);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[i][v] = Vec::fma(av, bv[v], acc[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < F; ++v) Vec::store(c + i * ldc + v * L, acc[i][v], All{});
    if (Tail) Vec::store(c + i * ldc + (NV - 1) * L, acc[i][NV - 1], last);
  }
}

using OuterTile = void (*)(const float*, int64_t, int64_t, const float*, int64_t, int64_t, float*, int64_t, bool, Some);

constexpr int kOuterRows = Vec::outer_rows, kOuterVectors = Vec::outer_vectors;
template <int NV, bool Tail, int... I>
constexpr OuterTile outer_tile_of(int rows, std::integer_sequence<int, I...>) {
  OuterTile tiles[] = {outer_tile<I + 1, NV, Tail>...};
  return tiles[rows - 1];
}
struct OuterTiles {
  OuterTile of[kOuterRows][kOuterVectors][2] = {};
  template <int... N>
  constexpr void fill(std::integer_sequence<int, N...>) {
    constexpr std::make_integer_sequence<int, kOuterRows> all{};
    for (int i = 0; i < kOuterRows; ++i)
      ((of[i][N][0] = outer_tile_of<N + 1, false>(i + 1, all), of[i][N][1] = outer_tile_of<N + 1, true>(i + 1, all)), ...);
  }
  constexpr OuterTiles() { fill(std::make_integer_sequence<int, kOuterVectors>{}); }
};
constexpr OuterTiles kOuterTiles{};

void outer_block(const float* a, int64_t a_row, int64_t a_col, int64_t m, const float* b, int64_t ldb, int64_t n,
                 int64_t k, float* c, int64_t ldc, bool resume) {
  constexpr int64_t kWide = kOuterVectors * L;
  int64_t strips = (m + kOuterRows - 1) / kOuterRows;
  for (int64_t j = 0; j < n; j += kWide) {  // this panel of b stays in the first-level cache
    int64_t wide = n - j < kWide ? n - j : kWide;
    int64_t vectors = (wide + L - 1) / L, last = wide - (vectors - 1) * L;
    for (int64_t s = 0, i = 0; s < strips; ++s) {
      int64_t mr = (m - i + strips - s - 1) / (strips - s);
      kOuterTiles.of[mr - 1][vectors - 1][last < L](a + i * a_row, a_row, a_col, b + j, ldb, k, c + i * ldc + j, ldc,
                                                    resume, Some{last});
      i += mr;
    }
  }
}
