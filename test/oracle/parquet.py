"""Parquet files of the same rows in every form that pyarrow writes, and those rows as JSONL.

Writes test/fixtures/parquet/<name>.parquet, rows.jsonl, and large/unpacks.parquet, which is small and unpacks to 60 MB. Times are left as text in the JSONL, as the reader gives them.
"""

import datetime
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "parquet"
ROWS = 83
MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
SCHEMA = pa.schema([
    ("prompt", pa.string()),
    ("response", pa.string()),
    ("source", pa.string()),
    ("note", pa.string()),
    ("messages", pa.list_(MESSAGE)),
    ("input_ids", pa.list_(pa.int32())),
    ("data", pa.struct([("question", pa.string()), ("answers", pa.list_(pa.struct([("text", pa.string()), ("votes", pa.int64())])))])),
    ("tags", pa.list_(pa.list_(pa.string()))),
    ("big", pa.int64()),
    ("small", pa.int8()),
    ("score", pa.float64()),
    ("half", pa.float32()),
    ("good", pa.bool_()),
    ("when", pa.timestamp("ms")),
])


def words(rng, least, most):
    return " ".join(rng.choice(["the", "moon", "säule", "月", "😀", "seven", "a\nline"]) for _ in range(rng.randint(least, most)))


def make_rows():
    rng = random.Random(20)
    rows = []
    for i in range(ROWS):
        maybe = lambda value: None if rng.random() < 0.3 else value
        rows.append({
            "prompt": f"question {i}: {words(rng, 1, 9)}",
            "response": words(rng, 0, 20),
            "source": rng.choice(["web", "book", "talk"]),
            "note": maybe(words(rng, 0, 3)),
            "messages": maybe([{"role": ["user", "assistant"][k % 2], "content": maybe(words(rng, 0, 4))} for k in range(rng.randint(0, 4))]),
            "input_ids": [rng.randint(0, 90000) for _ in range(rng.randint(0, 7))],
            "data": maybe({"question": words(rng, 1, 3), "answers": maybe([{"text": words(rng, 1, 2), "votes": maybe(rng.randint(-5, 5))} for _ in range(rng.randint(0, 3))])}),
            "tags": [[words(rng, 1, 1) for _ in range(rng.randint(0, 2))] for _ in range(rng.randint(0, 2))],
            "big": rng.choice([0, 2**53 - 1, -(2**53) + 1, 7]),
            "small": rng.randint(-128, 127),
            "score": rng.random(),
            "half": rng.randint(-8, 8) / 4,
            "good": maybe(rng.random() < 0.5),
            "when": datetime.datetime(2024, 1, 1) + datetime.timedelta(milliseconds=rng.randint(0, 10**9)),
        })
    return rows


DELTA = {"prompt": "DELTA_BYTE_ARRAY", "response": "DELTA_LENGTH_BYTE_ARRAY", "big": "DELTA_BINARY_PACKED", "small": "DELTA_BINARY_PACKED",
         "score": "BYTE_STREAM_SPLIT", "half": "BYTE_STREAM_SPLIT", "good": "RLE", "data.answers.list.element.text": "DELTA_BYTE_ARRAY"}
FORMS = {
    "snappy": {"compression": "snappy"},
    "zstd-groups": {"compression": "zstd", "row_group_size": 20},
    "gzip-v2": {"compression": "gzip", "data_page_version": "2.0"},
    "lz4": {"compression": "lz4", "row_group_size": 50},
    "brotli": {"compression": "brotli"},
    "plain": {"compression": "none", "use_dictionary": False},
    "small-pages": {"compression": "snappy", "data_page_size": 128, "write_batch_size": 8, "dictionary_pagesize_limit": 300},
    "small-pages-v2": {"compression": "zstd", "data_page_size": 128, "write_batch_size": 8, "data_page_version": "2.0"},
    "delta-v2": {"compression": "snappy", "data_page_version": "2.0", "use_dictionary": False, "column_encoding": DELTA},
    "delta": {"compression": "none", "use_dictionary": False, "column_encoding": DELTA, "write_page_checksum": True},
}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    rows = make_rows()
    table = pa.Table.from_pylist(rows, SCHEMA)
    for name, options in FORMS.items():
        path = OUT / f"{name}.parquet"
        pq.write_table(table, path, **options)
        assert pq.read_table(path).to_pylist() == rows, name
        print(f"{name}: {path.stat().st_size} bytes")
    # 60 MB in a few kilobytes: what a reader has to refuse
    (OUT / "large").mkdir(exist_ok=True)
    pq.write_table(pa.table({"text": ["x" * 1000000] * 60}), OUT / "large" / "unpacks.parquet", compression="zstd", use_dictionary=False, write_statistics=False)
    with open(OUT / "rows.jsonl", "w", encoding="utf8") as out:
        for row in rows:
            when = row["when"].isoformat(timespec="milliseconds") + "Z"
            out.write(json.dumps({**row, "when": when}, ensure_ascii=False) + "\n")


main()
