"""Writes lib/data/tokenizers/unicodeData.ts: what Python `tokenizers` takes for a letter, a mark, punctuation.

Its parts carry Unicode tables of different ages (the regex engine's, the normalizer's, the punctuation rule's), and the
ICU of a Node is younger or older than each. With the tables in the repository, ids do not depend on the Node version.
Needs `node` beside Python: the characters whose decomposition is younger than the normalizer are found by comparing.
"""

import base64
import json
import subprocess
from pathlib import Path

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co".split()
POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
BLOCK = 4096

NODE = """
const out = []
for (let c = 0; c < 0x110000; c++) {
  if (c >= 0xd800 && c <= 0xdfff) continue
  const s = String.fromCodePoint(c)
  const [d, k] = [s.normalize('NFD'), s.normalize('NFKD')]
  if (d !== s || k !== s) out.push([c, d, k])
}
process.stdout.write(JSON.stringify(out))
"""


def matched(pattern: str) -> set[int]:
    """The code points a regex of the library matches, found by deleting them."""
    remove = normalizers.Replace(Regex(pattern), "")
    found: set[int] = set()
    for i in range(0, len(POINTS), BLOCK):
        block = POINTS[i : i + BLOCK]
        found |= set(block) - {ord(c) for c in remove.normalize_str("".join(map(chr, block)))}
    return found


def split_off(pre_tokenizer) -> set[int]:
    """The code points that become a piece of their own between two letters."""
    return {c for c in POINTS if len(pre_tokenizer.pre_tokenize_str("a" + chr(c) + "a")) == 3}


def removed(normalizer) -> set[int]:
    return {c for c in POINTS if normalizer.normalize_str(chr(c)) == ""}


def varint(n: int) -> bytes:
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def category_runs(members: dict[str, set[int]]) -> bytes:
    """Runs over all code points: category index (255 is none), then the run's length as a varint."""
    of = {c: i for i, name in enumerate(CATEGORIES) for c in members[name]}
    out = bytearray()
    start = 0
    for c in range(1, 0x110001):
        if c < 0x110000 and of.get(c) == of.get(start):
            continue
        out += bytes([of.get(start, 255)]) + varint(c - start)
        start = c
    return bytes(out)


def ranges(points: set[int]) -> bytes:
    """Gap since the last range's end, then length, both varints."""
    out = bytearray()
    spans: list[list[int]] = []
    for c in sorted(points):
        if spans and c == spans[-1][1]:
            spans[-1][1] = c + 1
        else:
            spans.append([c, c + 1])
    end = 0
    for first, last in spans:
        out += varint(first - end) + varint(last - first)
        end = last
    return bytes(out)


def literal(name: str, about: str, data: bytes) -> str:
    text = base64.b64encode(data).decode()
    lines = [text[i : i + 112] for i in range(0, len(text), 112)]
    return f"/** {about} */\nexport const {name} =\n  '" + "' +\n  '".join(lines) + "'\n"


def main() -> None:
    members = {name: matched(rf"\p{{{name}}}") for name in CATEGORIES}
    marks = members["Mn"] | members["Mc"] | members["Me"]
    accents = removed(normalizers.StripAccents())
    decomposed, compatible = normalizers.NFD(), normalizers.NFKD()
    younger = marks - accents
    for c, d, k in json.loads(subprocess.run(["node", "-e", NODE], capture_output=True, check=True, text=True).stdout):
        # A newer decomposition also means a newer composition, which starts with its first character.
        if decomposed.normalize_str(chr(c)) != d:
            younger |= {c, ord(d[0])}
        if compatible.normalize_str(chr(c)) != k:
            younger.add(c)
    bert = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    parts = [
        f"// Made by test/oracle/unicode.py from tokenizers {tokenizers.__version__}.\n\n"
        "export const categoryNames = [\n  " + ", ".join(f"'{name}'" for name in CATEGORIES) + ",\n] as const\n",
        literal("categoryRuns", "General categories of the regex engine: category index (255 none), length; base64 of varints.", category_runs(members)),
        literal("bertPunctuation", "Code points BertPreTokenizer and Punctuation split off: gap, length; base64 of varints.", ranges(split_off(pre_tokenizers.Punctuation()))),
        literal("bertRemoved", "Code points BertNormalizer's clean_text removes.", ranges(removed(bert))),
        literal("bertAccents", "Code points BertNormalizer's strip_accents removes.", ranges(removed(normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)))),
        literal("numeric", "Code points Digits splits off.", ranges(split_off(pre_tokenizers.Digits(individual_digits=True)))),
        literal("youngerThanNormalizer", "Code points whose decomposition, composition or combining class the normalizers do not know.", ranges(younger)),
    ]
    target = Path(__file__).parents[2] / "lib" / "data" / "tokenizers" / "unicodeData.ts"
    target.write_text("\n".join(parts))
    print(f"{target.name}: {target.stat().st_size} bytes, {len(younger)} code points younger than the normalizers")


if __name__ == "__main__":
    main()
