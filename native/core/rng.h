// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
// Counter-based: a number depends on (seed, stream, position) alone, never on batch, slot or thread.
#pragma once

#include <array>
#include <cstdint>

namespace threefold {

using PhiloxBlock = std::array<uint32_t, 4>;

constexpr PhiloxBlock philox(PhiloxBlock c, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    uint64_t p0 = uint64_t(0xD2511F53u) * c[0], p1 = uint64_t(0xCD9E8D57u) * c[2];
    c = {uint32_t(p1 >> 32) ^ c[1] ^ k0, uint32_t(p1), uint32_t(p0 >> 32) ^ c[3] ^ k1, uint32_t(p0)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

// The block at `position` of `stream` under `seed`.
constexpr PhiloxBlock philox_at(uint64_t seed, uint64_t stream, uint64_t position) {
  return philox({uint32_t(position), uint32_t(position >> 32), uint32_t(stream), uint32_t(stream >> 32)},
                uint32_t(seed), uint32_t(seed >> 32));
}

// 24 random bits into [0, 1): every value is exact in fp32.
constexpr float uniform_from(uint32_t bits) { return float(bits >> 8) * 0x1p-24f; }

}  // namespace threefold
