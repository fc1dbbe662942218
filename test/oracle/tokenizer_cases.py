"""Small tokenizers of every kind, saved as transformers saves them, with the ids and texts it gives.

    python -B tokenizer_cases.py                             writes fixtures/tokenizers/
    python -B tokenizer_cases.py compare FOLDER OUT [COUNT]       writes COUNT (10,000) texts with the ids of FOLDER's tokenizer
"""

import base64
import gzip
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import tokenizer_pipelines
from tokenizer_texts import corpus, texts

SEED = 20240607
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "tokenizers"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


# A character map that stays small: case, ligatures, a combining sequence, a removal.
RULES = {**{chr(c): chr(c).lower() for c in range(ord("A"), ord("Z") + 1)}, "ﬁ": "fi", "①": "1", "㈱": "(株)", "e\u0301": "é", "\t": " ", "\n": " ", "\u3000": " ", "\u00a0": " ", "\u200b": ""}


def write(folder: Path, name: str, value) -> None:
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def wrapped(tokenizer: Tokenizer, folder: Path, **named) -> None:
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)


def around(before: str | None, after: str | None, tokenizer: Tokenizer):
    used = [t for t in (before, after) if t]
    single = " ".join([t for t in (before, "$A", after) if t])
    return processors.TemplateProcessing(single=single, special_tokens=[(t, tokenizer.token_to_id(t)) for t in dict.fromkeys(used)])


def byte_level(size: int = 600) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|endoftext|>"], show_progress=False)
    tokenizer.train_from_iterator(corpus(SEED), trainer)
    return tokenizer


def vocab_and_merges(tokenizer: Tokenizer) -> tuple[dict, list]:
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], model["merges"]


def sentence_piece(folder: Path, **options) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        lines, rules = Path(scratch, "corpus.txt"), Path(scratch, "rules.tsv")
        if options.pop("small_rules", False):
            rules.write_text("".join(f"{' '.join(f'{ord(c):X}' for c in old)}\t{' '.join(f'{ord(c):X}' for c in new)}\n" for old, new in RULES.items()))
            options["normalization_rule_tsv"] = str(rules)
        lines.write_text("\n".join(line.replace("\n", " ") for line in corpus(SEED)))
        sentencepiece.SentencePieceTrainer.train(
            input=str(lines), model_prefix=str(Path(scratch, "m")), vocab_size=options.pop("vocab_size", 700), character_coverage=0.98,
            num_threads=1, minloglevel=2, hard_vocab_limit=False, **options,
        )
        shutil.copy(Path(scratch, "m.model"), folder / "tokenizer.model")


def make_bytelevel(folder: Path) -> None:
    wrapped(byte_level(), folder, bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>")


def make_opt_files(folder: Path) -> None:
    vocab, merges = vocab_and_merges(byte_level())
    vocab = {"</s>" if token == "<|endoftext|>" else token: i for token, i in vocab.items()}
    token = {"content": "</s>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    write(folder, "vocab.json", vocab)
    write(folder, "merges.txt", "#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in merges))
    write(folder, "added_tokens.json", {"<extra>": len(vocab), "<pad>": len(vocab) + 1})
    write(folder, "special_tokens_map.json", {"bos_token": token, "eos_token": token, "unk_token": token, "pad_token": "<pad>"})
    write(folder, "tokenizer_config.json", {"add_bos_token": True, "bos_token": {"__type": "AddedToken", **token}, "eos_token": {"__type": "AddedToken", **token}, "tokenizer_class": "GPT2Tokenizer"})
    write(folder, "config.json", {"model_type": "opt", "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1})


def make_gpt2_files(folder: Path) -> None:
    vocab, merges = vocab_and_merges(byte_level())
    write(folder, "vocab.json", vocab)
    write(folder, "merges.txt", "".join(" ".join(m) + "\n" for m in merges))
    decoder = {str(vocab["<|endoftext|>"]): {"content": "<|endoftext|>", "special": True, "normalized": False}, str(len(vocab)): {"content": "<|im_start|>", "special": False, "lstrip": True, "rstrip": True, "normalized": False}}
    write(folder, "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True, "added_tokens_decoder": decoder})


def make_llama3(folder: Path) -> None:
    tokenizer = byte_level()
    data = json.loads(tokenizer.to_str())
    data["model"]["ignore_merges"] = True
    data["model"]["vocab"]["Ġzyzzyva"] = len(data["model"]["vocab"])
    data["added_tokens"] = []
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), around("<|begin_of_text|>", None, tokenizer)])
    wrapped(tokenizer, folder, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")


def make_o200k(folder: Path) -> None:
    tokenizer = byte_level()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(O200K), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    wrapped(tokenizer, folder, bos_token="<|endoftext|>", eos_token="<|endoftext|>")


def make_qwen2(folder: Path) -> None:
    vocab, merges = vocab_and_merges(byte_level())
    added = [{"id": vocab["<|endoftext|>"], "content": "<|endoftext|>", "special": True}] + [{"id": len(vocab) + i, "content": t, "special": i < 2} for i, t in enumerate(["<|im_start|>", "<|im_end|>", "<tool_call>"])]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    data = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [{**a, **flags} for a in added], "normalizer": {"type": "NFC"}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}, "post_processor": None, "decoder": None, "model": {"type": "BPE", "vocab": vocab, "merges": merges}}
    write(folder, "tokenizer.json", data)
    decoder = {str(a["id"]): {"content": a["content"], "special": a["special"], **flags} for a in added}
    write(folder, "tokenizer_config.json", {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": None, "unk_token": None, "added_tokens_decoder": decoder, "add_bos_token": True})
    write(folder, "config.json", {"model_type": "qwen2"})


def make_unigram(folder: Path) -> None:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=700, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(corpus(SEED), trainer)
    tokenizer.post_processor = around("<s>", "</s>", tokenizer)
    wrapped(tokenizer, folder, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def make_wordpiece(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=700, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False)
    tokenizer.train_from_iterator(corpus(SEED), trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    wrapped(tokenizer, folder, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")


def make_added_tokens(folder: Path) -> None:
    """Flags of added tokens, those of tokenizer_config.json over those of tokenizer.json."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)])
    tokenizer.train_from_iterator(corpus(SEED), trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>"], show_progress=False))
    tokenizer.add_tokens([AddedToken("<left>", lstrip=True), AddedToken("<right>", rstrip=True), AddedToken("Word", single_word=True), AddedToken("ßtraße", normalized=True), AddedToken("<both>", lstrip=True, rstrip=True, special=True), AddedToken("<", normalized=False), AddedToken("<flip>", normalized=False)])
    wrapped(tokenizer, folder, unk_token="<unk>", eos_token="<eos>")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    flip = tokenizer.token_to_id("<flip>")
    config["added_tokens_decoder"] = {str(flip): {"content": "<flip>", "lstrip": True, "special": True, "normalized": False}}
    write(folder, "tokenizer_config.json", config)


def make_llama_file(folder: Path) -> None:
    """A tokenizer.json as Llama 2 came with it."""
    with tempfile.TemporaryDirectory() as scratch:
        make_spm_llama(Path(scratch))
        data = json.loads(AutoTokenizer.from_pretrained(scratch).backend_tokenizer.to_str())
    data["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
    data["pre_tokenizer"] = None
    data["model"]["unk_token"] = "<unk>"
    write(folder, "tokenizer.json", data)
    write(folder, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "clean_up_tokenization_spaces": True})


def make_spm_llama(folder: Path) -> None:
    sentence_piece(folder, model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True, user_defined_symbols=["<|im_start|>"], control_symbols=["<ctl>"])
    write(folder, "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "legacy": False})


def make_spm_llama_legacy(folder: Path) -> None:
    make_spm_llama(folder)
    write(folder, "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": True, "legacy": True, "bos_token": "<s>", "eos_token": "</s>"})
    write(folder, "config.json", {"model_type": "llama"})


def make_llama_json(folder: Path) -> None:
    """A tokenizer.json whose class builds its pre-tokenizer anew."""
    make_llama_file(folder)
    write(folder, "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizerFast", "legacy": None, "add_bos_token": False})


def make_spm_gemma(folder: Path) -> None:
    sentence_piece(folder, model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False, allow_whitespace_only_pieces=True, pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>", unk_piece="<unk>", user_defined_symbols=["<mask>", "<start_of_turn>", "<end_of_turn>", "  ", "   "])
    write(folder, "tokenizer_config.json", {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True})
    write(folder, "config.json", {"model_type": "gemma2"})


def make_spm_t5(folder: Path) -> None:
    sentence_piece(folder, model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    write(folder, "tokenizer_config.json", {"tokenizer_class": "T5Tokenizer"})


MAKERS = {name.removeprefix("make_").replace("_", "-"): make for name, make in list(globals().items()) if name.startswith("make_")}


def expected(folder: Path, count: int, seed: int) -> dict:
    """What transformers makes of texts and of ids at random."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    special = list(tokenizer.get_added_vocab())[:12]
    rng = random.Random(seed)
    strings = texts(count, special, seed)
    plain = [tokenizer.encode(s, add_special_tokens=False) for s in strings]
    whole = [tokenizer.encode(s) for s in strings]
    size = len(tokenizer)
    known = [i for i in range(size) if tokenizer.convert_ids_to_tokens(i) is not None]
    sequences = [[rng.choice(known) for _ in range(rng.randrange(1, 9))] for _ in range(60)]
    decode = lambda ids, skip: tokenizer.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
    return {
        "texts": strings, "plain": plain, "special": whole,
        "decoded": [decode(ids, False) for ids in plain], "skipped": [decode(ids, True) for ids in whole],
        "sequences": sequences, "sequenceTexts": [decode(ids, False) for ids in sequences],
        "bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "size": max(known) + 1,
    }


def expected_of_sentencepiece(folder: Path, count: int, seed: int) -> dict:
    """What SentencePiece itself makes of them, for a model that no class of transformers claims."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    strings = [s for s in texts(count, [], seed) if "\x00" not in s]
    plain = [processor.encode(s) for s in strings]
    # An unknown piece is decoded to " ⁇ " there, and white space at the start is lost.
    decoded = [processor.decode(ids) if processor.unk_id() not in ids and s.lstrip(" ▁") == s else None for s, ids in zip(strings, plain)]
    return {"texts": strings, "plain": plain, "special": plain, "decoded": decoded, "bos": processor.bos_id(), "eos": processor.eos_id(), "size": processor.vocab_size()}


def save(name: str, folder: Path, data: dict) -> None:
    files = {path.name: base64.b64encode(path.read_bytes()).decode() for path in sorted(folder.iterdir())}
    text = json.dumps({"files": files, **data}, ensure_ascii=True, separators=(",", ":"))
    target = FIXTURES / f"{name}.json.gz"
    target.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    back = json.loads(gzip.decompress(target.read_bytes()))
    assert back["plain"] == data["plain"]
    print(f"{name}: {target.stat().st_size} bytes, {len(data['texts'])} texts")


def fixtures() -> None:
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for name, make in MAKERS.items():
        with tempfile.TemporaryDirectory() as scratch:
            make(Path(scratch))
            save(name, Path(scratch), expected(Path(scratch), 200, SEED + 1))
    for model_type in ("unigram", "bpe"):
        with tempfile.TemporaryDirectory() as scratch:
            sentence_piece(Path(scratch), model_type=model_type, byte_fallback=model_type == "bpe", small_rules=True)
            save(f"spm-plain-{model_type}", Path(scratch), expected_of_sentencepiece(Path(scratch), 200, SEED + 2))
    tokenizer_pipelines.write(FIXTURES, SEED + 4)


def compare(folder: Path, target: Path, count: int) -> None:
    """`folder` is a model folder, or the name of a fixture above."""
    if str(folder) in MAKERS:
        folder, name = Path(tempfile.mkdtemp()), str(folder)
        MAKERS[name](folder)
    data = expected(folder, count, SEED + 3)
    target.write_text(json.dumps({"folder": str(folder), "texts": data["texts"], "plain": data["plain"], "special": data["special"], "decoded": data["decoded"]}))
    print(f"{len(data['texts'])} texts with the ids of {folder} in {target}")


if __name__ == "__main__":
    if len(sys.argv) > 3 and sys.argv[1] == "compare":
        compare(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 10_000)
    else:
        fixtures()
