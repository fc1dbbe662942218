// Decodes one .lzma file (`xz --format=lzma`) from standard input to standard output. A bundle carries it because a bare
// machine may have neither xz nor anything else that makes Node a third smaller than gzip does. After the format's
// specification (Pavlov, LZMA SDK, lzma-specification.txt), names as there. Uses the C library only.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

[[noreturn]] void stop(const char* received) {
  std::fprintf(stderr, "[unlzma] expected a whole .lzma file, received %s. Try copying the bundle again.\n", received);
  std::exit(1);
}

using Prob = uint16_t;
constexpr Prob kHalf = 1 << 10;  // of 1 << 11

struct Input {
  unsigned char buffer[1 << 16];
  size_t at = 0, size = 0;
  unsigned byte() {
    if (at == size) {
      size = std::fread(buffer, 1, sizeof buffer, stdin);
      at = 0;
      if (!size) stop("one that ends early");
    }
    return buffer[at++];
  }
};

struct RangeDecoder {
  Input in;
  uint32_t range = 0xffffffff, code = 0;
  void start() {
    if (in.byte()) stop("other bytes");
    for (int i = 0; i < 4; ++i) code = code << 8 | in.byte();
  }
  void normalize() {
    if (range >= 1u << 24) return;
    range <<= 8;
    code = code << 8 | in.byte();
  }
  unsigned bit(Prob& p) {
    uint32_t bound = (range >> 11) * p;
    unsigned result = code >= bound;
    if (result) {
      range -= bound, code -= bound;
      p = Prob(p - (p >> 5));
    } else {
      range = bound;
      p = Prob(p + ((2048 - p) >> 5));
    }
    normalize();
    return result;
  }
  unsigned direct(int bits) {
    unsigned result = 0;
    for (; bits > 0; --bits) {
      range >>= 1;
      unsigned one = code >= range;
      if (one) code -= range;
      result = result << 1 | one;
      normalize();
    }
    return result;
  }
  unsigned tree(Prob* probs, int bits) {
    unsigned m = 1;
    for (int i = 0; i < bits; ++i) m = m << 1 | bit(probs[m]);
    return m - (1u << bits);
  }
  unsigned reverse_tree(Prob* probs, int bits) {
    unsigned m = 1, symbol = 0;
    for (int i = 0; i < bits; ++i) {
      unsigned b = bit(probs[m]);
      m = m << 1 | b;
      symbol |= b << i;
    }
    return symbol;
  }
};

// The last `size` bytes written.
struct Window {
  unsigned char* data = nullptr;
  uint32_t size = 0, at = 0;
  uint64_t total = 0;
  void put(unsigned b) {
    data[at++] = static_cast<unsigned char>(b);
    ++total;
    if (at == size) flush();
  }
  unsigned back(uint32_t distance) const { return data[distance < at ? at - distance - 1 : size - (distance - at) - 1]; }
  bool holds(uint32_t distance) const { return distance < size && distance < total; }
  void flush() {
    if (std::fwrite(data, 1, at, stdout) != at || std::fflush(stdout)) {
      std::perror("[unlzma] writing");
      std::exit(1);
    }
    at = 0;
  }
};

struct LengthDecoder {
  Prob choice, choice2, low[16][8], middle[16][8], high[256];
  unsigned decode(RangeDecoder& rc, unsigned pos_state) {
    if (!rc.bit(choice)) return rc.tree(low[pos_state], 3);
    if (!rc.bit(choice2)) return 8 + rc.tree(middle[pos_state], 3);
    return 16 + rc.tree(high, 8);
  }
};

struct Probs {
  Prob is_match[12][16], is_rep[12], is_rep_g0[12], is_rep_g1[12], is_rep_g2[12], is_rep0_long[12][16];
  Prob pos_slot[4][64], pos_special[115], pos_align[16];
  LengthDecoder length, rep_length;
  Prob literal[0x300 << 12];  // lc + lp of 12 at most
};

RangeDecoder rc;
Window window;
Probs probs;

unsigned literal(unsigned state, unsigned context, uint32_t rep0) {
  Prob* p = probs.literal + size_t(0x300) * context;
  unsigned symbol = 1;
  if (state >= 7) {
    unsigned match = window.back(rep0);
    while (symbol < 0x100) {
      unsigned match_bit = match >> 7 & 1, b = rc.bit(p[((1 + match_bit) << 8) + symbol]);
      match <<= 1;
      symbol = symbol << 1 | b;
      if (match_bit != b) break;
    }
  }
  while (symbol < 0x100) symbol = symbol << 1 | rc.bit(p[symbol]);
  return symbol & 0xff;
}

uint32_t distance(unsigned length) {
  unsigned slot = rc.tree(probs.pos_slot[length < 3 ? length : 3], 6);
  if (slot < 4) return slot;
  int bits = int(slot >> 1) - 1;
  uint32_t dist = (2 | (slot & 1)) << bits;
  if (slot < 14) return dist + rc.reverse_tree(probs.pos_special + dist - slot, bits);
  return dist + (rc.direct(bits - 4) << 4) + rc.reverse_tree(probs.pos_align, 4);
}

void decode(unsigned lc, unsigned lp, unsigned pb, uint64_t unpacked) {
  uint32_t rep0 = 0, rep1 = 0, rep2 = 0, rep3 = 0;
  unsigned state = 0;
  while (window.total < unpacked) {
    unsigned pos_state = unsigned(window.total) & ((1u << pb) - 1), length;
    if (!rc.bit(probs.is_match[state][pos_state])) {
      unsigned before = window.total ? window.back(0) : 0;
      window.put(literal(state, ((unsigned(window.total) & ((1u << lp) - 1)) << lc) + (before >> (8 - lc)), rep0));
      state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
      continue;
    }
    if (rc.bit(probs.is_rep[state])) {
      if (!window.holds(rep0)) stop("other bytes");
      if (!rc.bit(probs.is_rep_g0[state])) {
        if (!rc.bit(probs.is_rep0_long[state][pos_state])) {
          state = state < 7 ? 9 : 11;
          window.put(window.back(rep0));
          continue;
        }
      } else {
        uint32_t dist = rep1;
        if (rc.bit(probs.is_rep_g1[state])) {
          dist = rep2;
          if (rc.bit(probs.is_rep_g2[state])) dist = rep3, rep3 = rep2;
          rep2 = rep1;
        }
        rep1 = rep0, rep0 = dist;
      }
      length = probs.rep_length.decode(rc, pos_state);
      state = state < 7 ? 8 : 11;
    } else {
      rep3 = rep2, rep2 = rep1, rep1 = rep0;
      length = probs.length.decode(rc, pos_state);
      state = state < 7 ? 7 : 10;
      rep0 = distance(length);
      if (rep0 == 0xffffffff) return;  // the mark of the end
    }
    if (!window.holds(rep0)) stop("other bytes");
    for (unsigned i = 0; i < length + 2; ++i) window.put(window.back(rep0));
  }
}

}  // namespace

int main() {
  unsigned properties = rc.in.byte(), lc = properties % 9, lp = properties / 9 % 5, pb = properties / 45;
  if (pb > 4) stop("other bytes");
  for (int i = 0; i < 4; ++i) window.size |= uint32_t(rc.in.byte()) << 8 * i;
  if (window.size < 1 << 12) window.size = 1 << 12;
  uint64_t unpacked = 0;  // all ones: the end is marked
  for (int i = 0; i < 8; ++i) unpacked |= uint64_t(rc.in.byte()) << 8 * i;
  window.data = static_cast<unsigned char*>(std::malloc(window.size));
  if (!window.data) stop("too little memory");
  Prob* all = reinterpret_cast<Prob*>(&probs);
  for (size_t i = 0; i < sizeof probs / sizeof(Prob); ++i) all[i] = kHalf;
  rc.start();
  decode(lc, lp, pb, unpacked);
  window.flush();
}
