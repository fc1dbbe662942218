"""Tokenizers put together at random from the parts of the `tokenizers` library, and regular expressions of its engine.

Imported by tokenizer_cases.py; writes fixtures/tokenizers/pipelines.json.gz and regexes.json.gz.
"""

import gzip
import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, pre_tokenizers

CHARACTERS = list("aabbccddeeAABBCC  ,.!?'#-1209_\t\n\r") + [
    "é", "É", "ß", "Σ", "σ", "İ", "中", "文", "あ", "ー", "\u0301", "\u0308", "\u200d", "👍", "🏽", "\u00a0", "\ufeff", "\u0085", "\u2028", "²", "Ⅷ", "٣", "ﬁ", "①",
    "㈱", "\x00", "\x07", "▁", "Ġ", "Ａ", "ｱ", "ﾞ", "\u3000", "\ufffd", "क", "्", "한", "ᄒ", "ᅡ", "ᆫ", "\U000105d2", "\u0307", "ǆ", "ẞ", "<", ">",
]
ADDED = ["<s>", "</s>", "<m>", "<n>", "Day", "[x]"]
PATTERNS = [{"String": " "}, {"String": "a"}, {"Regex": r"\s+"}, {"Regex": r"\d"}, {"Regex": r" ?\p{L}+"}, {"Regex": " {2,}"}, {"String": "▁"}, {"Regex": r"\p{P}|b+"}]
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
BYTES = list(pre_tokenizers.ByteLevel.alphabet())


class Maker:
    def __init__(self, seed: int):
        self.rng = random.Random(seed)

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def text(self) -> str:
        if self.chance(0.15):
            return self.rng.choice(["  ", "<s>a", "a <m> b", "<m>", "x<s><s>", "Day day", "ab<n>ab", "[x] [X]"]) + self.text()
        return "".join(self.rng.choice(CHARACTERS) for _ in range(self.rng.randrange(24)))

    def normalizer(self, depth: int = 0) -> dict:
        kind = self.rng.choice(["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "Strip", "Prepend", "Replace", "BertNormalizer", "ByteLevel", "Sequence"])
        fields = {
            "Strip": lambda: {"strip_left": self.chance(0.5), "strip_right": self.chance(0.5)},
            "Prepend": lambda: {"prepend": self.rng.choice(["▁", " ", "x"])},
            "Replace": lambda: {"pattern": self.rng.choice(PATTERNS), "content": self.rng.choice(["▁", "z", "$1", "zz"])},
            "BertNormalizer": lambda: {"clean_text": self.chance(0.6), "handle_chinese_chars": self.chance(0.6), "strip_accents": self.rng.choice([None, True, False]), "lowercase": self.chance(0.5)},
            "Sequence": lambda: {"normalizers": [self.normalizer(depth + 1) for _ in range(self.rng.randrange(3) if depth < 2 else 0)]},
        }.get(kind, dict)()
        return {"type": kind, **fields}

    def pre_tokenizer(self, depth: int = 0) -> dict:
        kind = self.rng.choice(["ByteLevel", "Split", "Split", "Metaspace", "Metaspace", "Whitespace", "WhitespaceSplit", "BertPreTokenizer", "Punctuation", "Digits", "CharDelimiterSplit", "FixedLength", "Sequence"])
        fields = {
            "ByteLevel": lambda: {"add_prefix_space": self.chance(0.5), "trim_offsets": True, "use_regex": self.chance(0.6)},
            "Split": lambda: {"pattern": self.rng.choice(PATTERNS), "behavior": self.rng.choice(BEHAVIORS), "invert": self.chance(0.3)},
            "Metaspace": lambda: {"replacement": "▁", "prepend_scheme": self.rng.choice(["always", "first", "never"]), "split": self.chance(0.5)},
            "Punctuation": lambda: {"behavior": self.rng.choice(BEHAVIORS)},
            "Digits": lambda: {"individual_digits": self.chance(0.5)},
            "CharDelimiterSplit": lambda: {"delimiter": self.rng.choice(" a▁")},
            "FixedLength": lambda: {"length": self.rng.randrange(1, 5)},
            "Sequence": lambda: {"pretokenizers": [self.pre_tokenizer(depth + 1) for _ in range(self.rng.randrange(4) if depth < 2 else 0)]},
        }.get(kind, dict)()
        return {"type": kind, **fields}

    def decoder(self, depth: int = 0) -> dict:
        kind = self.rng.choice(["ByteLevel", "Replace", "WordPiece", "ByteFallback", "Fuse", "Strip", "Metaspace", "BPEDecoder", "CTC", "Sequence", "Sequence"])
        fields = {
            "Replace": lambda: {"pattern": self.rng.choice(PATTERNS), "content": self.rng.choice([" ", "x", ""])},
            "WordPiece": lambda: {"prefix": "##", "cleanup": self.chance(0.5)},
            "Strip": lambda: {"content": self.rng.choice(" a"), "start": self.rng.randrange(3), "stop": int(self.chance(0.4))},
            "Metaspace": lambda: {"replacement": "▁", "prepend_scheme": self.rng.choice(["always", "first", "never"]), "split": True},
            "BPEDecoder": lambda: {"suffix": self.rng.choice(["</w>", "a"])},
            "CTC": lambda: {"pad_token": "b", "word_delimiter_token": "|", "cleanup": self.chance(0.5)},
            "ByteLevel": lambda: {"add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "Sequence": lambda: {"decoders": [self.decoder(depth + 1) for _ in range(self.rng.randrange(1, 4))] if depth < 2 else [{"type": "Fuse"}]},
        }.get(kind, dict)()
        return {"type": kind, **fields}

    def model(self) -> dict:
        kind = self.rng.choice(["BPE", "BPE", "Unigram", "WordPiece", "WordLevel"])
        base = sorted(set("abcdeABC▁ 12") | set(self.rng.sample(CHARACTERS, 12)) | (set(BYTES) if self.chance(0.2) else set()))
        fallback = [f"<0x{b:02X}>" for b in range(256)] if self.chance(0.15) else []
        word = lambda low, high: "".join(self.rng.choice(base) for _ in range(self.rng.randrange(low, high)))
        if kind == "BPE":
            return self.bpe(base, fallback)
        if kind == "Unigram":
            pieces = list(dict.fromkeys(["<unk>", *base, *(word(2, 5) for _ in range(40))])) + fallback
            score = lambda: -self.rng.randrange(1, 40) / 4 if self.chance(0.5) else -round(self.rng.random() * 12, 3)
            return {"type": kind, "unk_id": 0, "vocab": [[p, score() if i else 0.0] for i, p in enumerate(pieces)], "byte_fallback": bool(fallback)}
        if kind == "WordPiece":
            pieces = ["[UNK]", *base, *("##" + c for c in base), *(self.rng.choice(["", "##"]) + word(2, 4) for _ in range(40))]
            return {"type": kind, "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": self.rng.choice([100, 8]), "vocab": {p: i for i, p in enumerate(dict.fromkeys(pieces))}}
        words = dict.fromkeys(["[UNK]", *base, *(word(2, 3) for _ in range(30))])
        return {"type": kind, "unk_token": "[UNK]", "vocab": {w: i for i, w in enumerate(words)}}

    def bpe(self, base: list[str], fallback: list[str]) -> dict:
        prefix, suffix = "##" if self.chance(0.1) else "", "</w>" if self.chance(0.1) else ""
        tokens = list(base) + ([prefix + c for c in base] if prefix else [])
        tokens += [t + suffix for t in tokens] if suffix else []
        merges = []
        for _ in range(self.rng.randrange(60)):
            left, right = self.rng.choice(tokens), self.rng.choice(tokens)
            if (prefix and not right.startswith(prefix)) or (suffix and left.endswith(suffix)) or len(left) > 6 or len(right) > 6:
                continue
            merged = left + right[len(prefix):]
            tokens += [] if merged in tokens else [merged]
            merges.append([left, right])
        unknown = self.chance(0.85)
        tokens += [t for t in fallback if t not in tokens] + (["<unk>"] if unknown else [])
        spaced = any(" " in a + b for a, b in merges)
        return {"type": "BPE", "dropout": None, "unk_token": "<unk>" if unknown else None, "continuing_subword_prefix": prefix or None, "end_of_word_suffix": suffix or None, "fuse_unk": self.chance(0.5), "byte_fallback": bool(fallback), "ignore_merges": self.chance(0.2), "vocab": {t: i for i, t in enumerate(tokens)}, "merges": merges if spaced or self.chance(0.5) else [" ".join(m) for m in merges]}

    def tokenizer(self) -> dict:
        model = self.model()
        size = len(model["vocab"])
        flags = lambda: {"single_word": self.chance(0.3), "lstrip": self.chance(0.3), "rstrip": self.chance(0.3), "normalized": self.chance(0.3), "special": self.chance(0.5)}
        added = [{"id": size + i, "content": token, **flags()} for i, token in enumerate(self.rng.sample(ADDED, self.rng.randrange(5)))]
        return {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": self.normalizer() if self.chance(0.6) else None,
            "pre_tokenizer": self.pre_tokenizer() if self.chance(0.75) else None, "post_processor": None, "decoder": self.decoder() if self.chance(0.8) else None, "model": model,
        }

    def case(self) -> dict:
        data = self.tokenizer()
        tokenizer = Tokenizer.from_str(json.dumps(data))
        # Where no unknown token stands for it, the library leaves out what it cannot spell; we refuse it.
        spellable = data["model"]["type"] != "BPE" or data["model"]["unk_token"]
        strings = [self.text() for _ in range(8)] if spellable else []
        size = len(data["model"]["vocab"]) + len(data["added_tokens"])
        model_ids = size - len(data["added_tokens"])
        sequences = [[self.rng.randrange(model_ids) for _ in range(self.rng.randrange(1, 7))] for _ in range(5)]
        return {"json": data, "texts": strings, "ids": [tokenizer.encode(s, add_special_tokens=False).ids for s in strings], "sequences": sequences, "decoded": [tokenizer.decode(s, skip_special_tokens=False) for s in sequences]}


REGEXES = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[一-龥぀-ゟ゠-ヿ]+", r"[\p{Han}\p{Hiragana}]+|\w+|[^\w\s]+", r"\p{N}{1,3}", " {2,}", r"(?:a|ab)(?:c|bcd)(?:d*)", r"(?:a*)*b", r"(?:a?){3}b|(?:ab)+?c",
    r"(?>\w+)\s|\w", r"(?<=\d)\s+|\d(?=[a-z])", r"(?:(?=\w)\w\W?)+", r"a++|b*+c", r"\p{N}{1,2}+", r"[^\w]+", r"[\w]+", r"^a|a$", r".+", r"(?m:.+)", r"\p{^L}+|\P{M}",
    r"[a-c&&[^b]]+", r"a{,2}b", r"[]a-]+", r"(?<!a)b+", r"(?<=a|bc)d", r"\bab\b|\B,", r"x*", r"(?:)", r"\x{4e2d}|\u6587|\x41", r"\h+", r"\Aab|b\z|c\Z", r"[^\S\n]+", r"(?i:[a-c]+k|ſ)",
    r"(?i)é+|s", "a{", r"a{1}+", r"(?:b|)a",
]


def regex_case(source: str, rng: random.Random) -> dict:
    split = pre_tokenizers.Split(Regex(source), "isolated")
    letters = list("aabbccdd  \t\n\r\r\n'sSrRveVllLLtTmMdDkK1234567890.,!?_-") + ["é", "É", "ſ", "K", "中", "文", "あ", "ー", "\u0301", "\u200d", "👍", "🏽", "\u00a0", "\ufeff", "\u0085", "²", "Ⅷ", "ǅ", "ʰ", "\U00010400", "\U000105c0", "\x00"]
    texts = ["".join(rng.choice(letters) for _ in range(rng.randrange(36))) for _ in range(12)] + ["abcbd ad bcd aab,ab", "aaab abc\n"]
    return {"regex": source, "texts": texts, "pieces": [[piece for piece, _ in split.pre_tokenize_str(text)] for text in texts]}


def write(folder: Path, seed: int) -> None:
    maker = Maker(seed)
    rng = random.Random(seed)
    for name, data in (("pipelines", [maker.case() for _ in range(110)]), ("regexes", [regex_case(source, rng) for source in REGEXES])):
        target = folder / f"{name}.json.gz"
        target.write_bytes(gzip.compress(json.dumps(data, separators=(",", ":")).encode(), 9, mtime=0))
        assert json.loads(gzip.decompress(target.read_bytes())) == data
        print(f"{name}: {target.stat().st_size} bytes, {len(data)} cases")
