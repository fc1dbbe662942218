"""Chat templates of public model families: their texts, and where the assistant speaks.

chat/NAME.jinja is the template, chat/NAME.marked.jinja the same with {% generation %} written into it by hand around what
a model writes itself. transformers renders both; they must give the same text, and the second says where the answers are.
Writes fixtures/chat/templates.json.gz.
"""

import gzip
import json
import tempfile
from pathlib import Path

from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from tokenizer_cases import MAKERS

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "fixtures" / "chat" / "templates.json.gz"
TOKENS = {
    "qwen2": ("", "<|im_end|>"), "qwen2.5": ("", "<|im_end|>"), "qwen3": ("", "<|im_end|>"), "llama2": ("<s>", "</s>"), "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "gemma": ("<bos>", "<eos>"), "mistral": ("<s>", "</s>"), "zephyr": ("<s>", "</s>"), "phi3": ("<s>", "<|endoftext|>"), "r1": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
}
ADDED = {
    "qwen2": ["<|im_start|>", "<|im_end|>"], "qwen2.5": ["<|im_start|>", "<|im_end|>"], "qwen3": ["<|im_start|>", "<|im_end|>"], "llama2": ["<s>", "</s>"],
    "llama3": ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], "gemma": ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"], "mistral": ["<s>", "</s>"],
    "zephyr": ["<s>", "</s>"], "phi3": ["<s>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"], "r1": ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"],
}


def talk(*contents: str, system: str | None = None) -> list[dict]:
    roles = ["user", "assistant"]
    messages = [] if system is None else [{"role": "system", "content": system}]
    return messages + [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]


CONVERSATIONS = [
    talk("Hi", "Hello!"),
    talk("Hi", "Hello!", "How are you?", "Fine, thanks.", "And now?", "Still fine."),
    talk("Hi", "Hello!", "Bye", "Bye", system="Be brief."),
    talk("  spaces around \n", "\n an answer with spaces \n\n", "x", " y "),
    talk("ok", "ok", "ok", "ok", "ok", "ok"),
    talk("What is <|im_end|>?", "It ends a turn: <|im_end|>\n<|im_start|>user\nno", "[/INST] </s>", "<|assistant|>\n<|end|> <end_of_turn> <s>"),
    talk("2+2?", "<think>\ntwo and two\n</think>\n\n4", "3+3?", "<think>\nthree\n</think>\n\n6"),
    talk("2+2?", "<think>a</think>4", "thanks", "welcome"),
    talk("Short", "<"),
    talk("Leer", "", "Noch", "voll"),
    talk("你好", "你好!👍🏽", "e\u0301\u0301", "ﬁ ﬂ\ttab"),
    talk("code?", "```python\nprint('a')\n```", "{{ bos_token }}", "{% generation %}x{% endgeneration %}"),
]
TOOLS = [
    talk("Weather?", "Let me look.") + [{"role": "tool", "content": "sunny"}, {"role": "assistant", "content": "Sunny."}, {"role": "user", "content": "thanks"}, {"role": "assistant", "content": "Welcome."}],
    talk("Both?", "<think>\nlook\n</think>\n\nLooking.") + [{"role": "tool", "content": "a"}, {"role": "tool", "content": "b"}, {"role": "assistant", "content": "<think>\nseen\n</think>\n\nDone."}],
]


def render(template: str, messages: list[dict], name: str, prompt: bool, spans: bool = False):
    bos, eos = TOKENS[name]
    return render_jinja_template([messages], chat_template=template, add_generation_prompt=prompt, return_assistant_tokens_mask=spans, bos_token=bos, eos_token=eos)


def case(name: str, messages: list[dict]) -> dict:
    plain, marked = (HERE / "chat" / f"{name}{kind}.jinja" for kind in ("", ".marked"))
    plain, marked = plain.read_text(), marked.read_text()
    try:
        text = render(plain, messages, name, False)[0][0]
    except Exception as error:
        return {"messages": messages, "error": str(error)}
    (marked_text,), (spans,) = render(marked, messages, name, False, True)
    assert marked_text == text, f"{name}: the marked template differs:\n{marked_text!r}\n{text!r}"
    prompt = render(plain, messages[:-1], name, True)[0][0]
    # Python counts code points, JavaScript UTF-16 units: the answers stand here as texts.
    pieces, end = [], 0
    for start, stop in spans:
        pieces += [text[end:start], text[start:stop]]
        end = stop
    return {"messages": messages, "text": text, "prompt": prompt, "pieces": [*pieces, text[end:]]}


def with_tokens(folder: Path, name: str) -> list[dict]:
    """Ids and mask of apply_chat_template, for a tokenizer of fixtures/tokenizers that has the template's tokens."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = (HERE / "chat" / f"{name}.marked.jinja").read_text()
    cases = []
    for messages in CONVERSATIONS[:5] + CONVERSATIONS[10:11]:
        try:
            done = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
        except Exception:
            continue
        cases.append({"messages": messages, "ids": done["input_ids"], "mask": done["assistant_masks"]})
    return cases


def main() -> None:
    data = {"templates": {}, "tokens": {}}
    for name, (bos, eos) in TOKENS.items():
        data["templates"][name] = {
            "template": (HERE / "chat" / f"{name}.jinja").read_text(), "marked": (HERE / "chat" / f"{name}.marked.jinja").read_text(), "bos": bos, "eos": eos, "added": ADDED[name],
            "cases": [case(name, messages) for messages in CONVERSATIONS + (TOOLS if name in ("qwen2.5", "qwen3") else [])],
        }
    for template, tokenizer in (("llama3", "llama3"), ("qwen2", "qwen2"), ("llama2", "spm-llama"), ("mistral", "spm-llama-legacy")):
        with tempfile.TemporaryDirectory() as scratch:
            MAKERS[tokenizer](Path(scratch))
            data["tokens"][template] = {"tokenizer": tokenizer, "cases": with_tokens(Path(scratch), template)}
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(gzip.compress(json.dumps(data, separators=(",", ":")).encode(), 9, mtime=0))
    assert json.loads(gzip.decompress(TARGET.read_bytes())) == data
    refused = sum("error" in c for t in data["templates"].values() for c in t["cases"])
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes, {sum(len(t['cases']) for t in data['templates'].values())} conversations, {refused} refused by their templates")


if __name__ == "__main__":
    main()
