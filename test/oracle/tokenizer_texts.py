"""Seeded texts for the tokenizer oracle: several scripts, emoji, code, numbers, control characters, special tokens."""

import random
import unicodedata

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.", "I'm sure they'd've said it's fine, don't you think?",
    "How do I bake bread without yeast?", "He said: \"We'll see, won't we?\" (page 42)", "HELLO World, this IS a Test...",
    "Il était une fois une grande forêt où vivait un vieux cordonnier.", "Der Fuß läuft über die Straße; schön!",
    "El niño comió una manzana mañana por la mañana.", "Быстрая коричневая лиса прыгает через ленивую собаку.",
    "Η γρήγορη αλεπού ΠΗΔΑ πάνω από τον σκύλο ΟΔΟΣ.", "敏捷的棕色狐狸跳过了懒狗。今天是2024年3月5日。",
    "素早い茶色の狐がのろまな犬を飛び越える。カタカナﾊﾝｶｸ", "빠른 갈색 여우가 게으른 개를 뛰어넘는다.",
    "الثعلب البني السريع يقفز فوق الكلب الكسول.", "השועל החום המהיר קופץ מעל הכלב העצלן.",
    "तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है।", "สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ",
    "Cây cầu dài nhất thế giới ở đâu?", "Złoty, źdźbło, gęś i jaźń.", "İstanbul'da ışıklar söndü mü?",
    "def f(x):\n    return [i ** 2 for i in range(x) if i % 3 == 0]\n", "for (let i = 0; i < n; i++) { sum += a[i]; }\n",
    "<div class=\"a b\">&nbsp;</div>", "SELECT * FROM t WHERE a='b' AND c>=1.5e-3;", "x_1 = y**2 + z//3  # comment\t\tdone",
    "https://example.org/a/b?c=d&e=%20f#g", "C:\\Users\\name\\file.txt", "{\"a\": [1, 2.50, -3e10, null, true]}",
    "1234567890 12,345.67 ½ ² Ⅷ ٣٤٥ 一二三 0x1F", "\n\nHuman: Hi there!\n\nAssistant: Hello, how can I help?",
    "ＦＵＬＬＷＩＤＴＨ ﬁ ﬂ ① ㈱ ㌀ ℌ ™", "a\u0301e\u0308n\u0303 \u1e9b\u0323 \ud55c\uae00 \u1112\u1161\u11ab",
    "👍🏽 👨‍👩‍👧‍👦 🇩🇪🇫🇷 ❤️ 🤷🏿‍♀️ 🎉🎉🎉", "tabs\there\r\nand lines\rmixed\u2028with\u2029others\u0085end",
]
ODD = ["", " ", "  ", "   ", "\n", "\n\n\n", " \n ", "\t", "\u00a0", "\u3000", "\ufeff", "\ufeffa", "▁", "▁▁a", " ▁", "Ġ", "##a", "'", "''s", "'S 'LL 'ſ",
       "a ", " a", "  a  b   c    d ", "\r\n", "\x00", "\x01\x02", "\x7f", "\ufffd", "\u200b\u200d", "<0x0A>", "<0xZZ>", "\u0301", "e\u0301\u0301", "ß", "ẞ", "Σας ΣΑΣ"]
EMOJI = ["👍", "🏽", "😀", "👨‍👩‍👧", "🇺🇸", "❤️", "🤷🏿‍♀️", "🫠", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "1️⃣"]
SPACE = [" ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u2003", "   \n", "\u200b", "\u0085"]
ALPHABETS = ["abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
             "àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿœšž", "абвгдежзийклмнопрстуфхцчшщъыьэюя", "αβγδεζηθικλμνξοπρστυφχψως",
             "的一是不了人我在有他这中大来上国", "のにはをたがでてとしれさ", "가나다라마바사아자차카타파하", "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
             "कखगघचछजझटठडढतथदधनपफबभमयरलवशषसह\u093e\u093f\u0940\u0941\u094d", "กขคงจฉชซฌญ\u0e31\u0e34\u0e35\u0e48"]


def code_point(rng: random.Random) -> str:
    """Any assigned character, the rarer planes included."""
    while True:
        c = rng.choice([rng.randrange(0x80), rng.randrange(0x800), rng.randrange(0x10000), rng.randrange(0x10000, 0x30000), rng.randrange(0xE0000, 0xE0200)])
        if not 0xD800 <= c <= 0xDFFF and unicodedata.category(chr(c)) not in ("Cn", "Co"):
            return chr(c)


def word(rng: random.Random) -> str:
    alphabet = rng.choice(ALPHABETS)
    return "".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 9)))


def text(rng: random.Random, special: list[str]) -> str:
    kind = rng.randrange(10)
    if kind < 3:
        sentence = rng.choice(SENTENCES)
        a, b = sorted(rng.randrange(len(sentence) + 1) for _ in range(2))
        return sentence[a:b]
    if kind < 6:
        parts = []
        for _ in range(rng.randrange(1, 12)):
            parts.append(rng.choice([word, word, word, lambda r: r.choice(EMOJI), lambda r: r.choice(ODD), lambda r: str(r.randrange(10**6))])(rng))
            parts.append(rng.choice(SPACE + [" ", " ", " ", ""]))
        return "".join(parts)
    if kind < 7:
        return "".join(code_point(rng) for _ in range(rng.randrange(1, 20)))
    if kind < 8 and special:
        return "".join(rng.choice([rng.choice(special), word(rng), rng.choice(SPACE), ""]) for _ in range(rng.randrange(1, 10)))
    if kind < 9:
        return "".join(rng.choice([chr(rng.randrange(32)), chr(rng.randrange(127, 160)), word(rng), " "]) for _ in range(rng.randrange(1, 10)))
    return rng.choice(SENTENCES) + rng.choice(SPACE) + rng.choice(SENTENCES)


def texts(count: int, special: list[str], seed: int) -> list[str]:
    rng = random.Random(seed)
    fixed = (ODD + SENTENCES)[:count]
    return fixed + [text(rng, special) for _ in range(count - len(fixed))]


def corpus(seed: int) -> list[str]:
    """Lines to train the small tokenizers on."""
    rng = random.Random(seed)
    lines = []
    for _ in range(1500):
        words = " ".join(rng.choice(SENTENCES).split(" ")[:rng.randrange(1, 12)])
        lines.append(words if rng.random() < 0.7 else words + " " + " ".join(word(rng) for _ in range(3)))
    return lines
