"""Files that are broken, or not what their name says, with where and what is said of them."""

from __future__ import annotations

import gzip
import io
import json
import zipfile

import pyarrow
from pyarrow import parquet

ROW = b'{"instruction": "q", "output": "a"}\n'
PICKLE = b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00]q\x00."


def parquet_bytes() -> bytes:
    """Return a parquet file of 2,000 rows."""
    content = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([{"a": str(n)} for n in range(2000)]), content)
    return content.getvalue()


def zip_bytes() -> bytes:
    """Return a zip archive with a JSON file in it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.json", "[]")
    return content.getvalue()


def safetensors_bytes() -> bytes:
    """Return the beginning of a safetensors file."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"\0\0\0\0"


MALFORMED: dict[str, tuple[str, bytes, str, str]] = {
    # what: (name, content, place behind the file's name, what is said)
    "empty": ("a.json", b"", "", "is empty"),
    "white space": ("a.jsonl", b" \n\t\n" * 40_000, "", "only white space"),
    "only a header": ("a.csv", b"instruction,output\n", "", "holds no rows"),
    "an empty list": ("a.json", b"[]", "", "holds no rows"),
    "a comma too many": ("a.json", b"[" + ROW + b",,\n]", ":3:1", "comma before the ]"),
    "cut off in a row": ("a.json", b"[\n" + ROW + b",\n" + ROW[:20], ":4", "ends too early"),
    "missing comma": ("a.json", b"[\n" + ROW + ROW + b"]", ":3:1", "Expecting ',' or ']'"),
    "single quotes": ("a.json", b"[{'a': 'it's'}]", ":1:12", "Expecting ',' delimiter"),
    "two lists": ("a.json", b'{"a": [{}], "b": [{}]}', "", "no list of rows"),
    "text after the end": ("a.json", b"[" + ROW + b"]\nend", ":3:1", "after the end"),
    "a line that is cut": ("a.jsonl", ROW + ROW[:20] + b"\n" + ROW, ":2", "not JSON"),
    "a line of an object and text": ("a.jsonl", ROW + ROW.strip() + b"end\n" + ROW, ":2", "after the end"),
    "a line that is a list": ("a.jsonl", ROW + b"[1]\n", ":2", "not an object"),
    "a zero byte in JSON": ("a.jsonl", ROW + b'{"a": "\0"}\n', ":2", "Invalid control character"),
    "half a character": ("a.jsonl", ROW + b'{"a": "\xed\xa0\x80"}\n', ":2, byte 43", "not valid UTF-8 text"),
    "one bad byte": ("a.jsonl", ROW * 9 + '{"a": "中文字'.encode() + b'\xff"}\n', ":10, byte", "UTF-8"),
    "JSON lines under .csv": ("a.csv", ROW, ":1", "is JSON"),
    "CSV under .json": ("a.json", b"instruction,output\nq,a\n", ":1", "a table (CSV)"),
    "CSV under .jsonl": ("a.jsonl", b'"instruction","output"\nq,a\n', ":1", "a table (CSV)"),
    "HTML": ("a.json", b"\n<!DOCTYPE html><html>", ":1", "web page"),
    "git LFS pointer": ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid", ":1", "git lfs pull"),
    "zip under .json": ("a.json", zip_bytes(), ":1", "zip archive"),
    "zip": ("a.zip", zip_bytes(), "", "unpack it"),
    "pickle": ("a.pkl", PICKLE, "", "never read"),
    "pickle under .jsonl": ("a.jsonl", PICKLE, ":1", "never read"),
    "safetensors": ("a.safetensors", safetensors_bytes(), "", "a model's weights"),
    "too few and too many cells": ("a.csv", b"a,b\n1,2\n1\n", ":3", "than 2 cells"),
    "text behind a quote": ("a.csv", b'a,b\n1,2\n"1"x,2\n', ":3", "quotes"),
    "a quote never closed": ("a.csv", b'a,b\n1,2\n"1,2\n3,4\n', ":3", "quotes"),
    "two columns of one name": ("a.csv", b"a,b,a\n1,2,3\n", ":1", "'a'"),
    "a zero byte in a cell": ("a.tsv", b"a\tb\n1\t\0\n", ":2", "NUL"),
    "a zero byte in text": ("a.txt", b"one\n\ntwo\0\n", ":3", "NUL"),
    "cut .gz": ("a.jsonl.gz", gzip.compress(ROW * 9999)[:-20], "", "incomplete"),
    "no .gz": ("a.jsonl.gz", ROW, "", "incomplete"),
    "cut .zst": (
        "a.jsonl.zst",
        pyarrow.Codec("zstd").compress(ROW * 9999, asbytes=True)[:-20],
        "",
        "incomplete",
    ),
    "cut parquet": ("a.parquet", parquet_bytes()[:-100], "", "cannot be read as a Parquet"),
    "damaged parquet": ("a.parquet", parquet_bytes().replace(b"\x15", b"\xff", 3), "", "cannot be read"),
    "no parquet": ("a.parquet", b"nothing of the kind", "", "cannot be read as a Parquet"),
    "cut arrow": ("a.arrow", b"ARROW1\0\0" + b"\xff" * 90, "", "cannot be read as an Arrow"),
    "cut xlsx": ("a.xlsx", zip_bytes()[:60], "", "cannot be read as an Excel"),
    "a zip under .xlsx": ("a.xlsx", zip_bytes(), "", "cannot be read as an Excel"),
}
