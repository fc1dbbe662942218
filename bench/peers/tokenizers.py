"""The other side of bench/tokenizer/encode.mjs: Python `tokenizers`, in a virtual environment of its own.

    python3 -m venv /tmp/peer && /tmp/peer/bin/pip install tokenizers==0.23.3

Reads the texts as one line of JSON, then for each line with a method's name encodes them all and prints how long it took.
"""

import sys

# This file has the name of the package it needs.
sys.path.pop(0)

import json
import time

from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file(sys.argv[1])
texts = json.loads(sys.stdin.readline())
for line in sys.stdin:
    encode = getattr(tokenizer, line.strip())
    started = time.perf_counter()
    encodings = encode(texts, add_special_tokens=False)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "tokens": sum(len(e.ids) for e in encodings)}), flush=True)
