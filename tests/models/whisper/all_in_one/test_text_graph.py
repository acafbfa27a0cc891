"""The text of a graph is that of the library tokenizers, for every row and for bytes that are no text."""

from __future__ import annotations

import json
import random
from functools import cache

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from tokenizers import Tokenizer

from pocket_opt.models.whisper.all_in_one.text_graph import WHITE_SPACE, build_text
from pocket_opt.models.whisper.all_in_one.token_bytes import token_bytes
from pocket_opt.models.whisper.graph_builder import GraphBuilder
from pocket_opt.models.whisper.vocabulary import byte_characters
from pocket_opt.shipped import locate

TEXTS = (
    "a",
    "Zoe",
    "\u00e4\u00f6\u00fc",
    "\u65e5\u672c\u8a9e",
    "\U0001f600",
    "\ufffd",
    "\ufeff",
    "\u200b",
    "\ud7ff",
    "\U0010ffff",
)
DAMAGED = (
    *(b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\xf0\x9f\x98", b"\xe2\x82"),
    *(b"\xff", b"\x80", b"\xc3", b"\xf0\x9f", b"\xe2\x80"),
)
"""Overlong, surrogate, too high, cut short, and bytes that are never text."""


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.from_str(json.dumps(table()))


@cache
def table() -> dict:
    return json.loads(
        (locate("sample:teacher", holding="config.json", where="-") / "tokenizer.json").read_text()
    )


@cache
def session() -> onnxruntime.InferenceSession:
    graph = GraphBuilder("text")
    tokens = graph.input("tokens", ir.DataType.INT64, ("batch", "length"))
    said = graph.input("said", ir.DataType.BOOL, ("batch", "length"))
    text = build_text(graph, tokens, said, token_bytes(table(), 431))
    graph.output(text, "text", ("batch",), ir.DataType.STRING)
    return onnxruntime.InferenceSession(ir.to_proto(graph.build()).SerializeToString())


def decoded(rows: list[list[int]]) -> list[str]:
    length = max(map(len, rows))
    tokens = np.zeros((len(rows), length), np.int64)
    said = np.zeros((len(rows), length), np.bool_)
    for place, row in enumerate(rows):
        tokens[place, : len(row)], said[place, : len(row)] = row, True
    return list(session().run(None, {"tokens": tokens, "said": said})[0])


def expected(rows: list[list[int]]) -> list[str]:
    return [tokenizer().decode(row, skip_special_tokens=True).strip() for row in rows]


def spelled(text: bytes) -> list[int]:
    characters = byte_characters()
    printable = [ord(character) for character in characters if ord(character) < 256]
    order = [*printable, *(byte for byte in range(256) if byte not in printable)]
    return [order.index(byte) for byte in text]


def test_rows_of_random_tokens() -> None:
    random_tokens = np.random.default_rng(0)
    for _ in range(100):
        rows = [random_tokens.integers(0, 431, random_tokens.integers(0, 40)).tolist() for _ in range(3)]
        rows[0] = rows[0] or [1]
        assert decoded(rows) == expected(rows)


def test_text_white_space_and_damaged_utf8() -> None:
    random.seed(0)
    for _ in range(300):
        kinds = [[text.encode() for text in TEXTS], [*map(str.encode, WHITE_SPACE)], DAMAGED]
        rows = [
            spelled(b"".join(random.choice(random.choice(kinds)) for _ in range(random.randint(1, 9))))
            for _ in range(3)
        ]
        assert decoded(rows) == expected(rows)


@pytest.mark.parametrize("space", WHITE_SPACE, ids=lambda space: f"U+{ord(space):04X}")
def test_white_space_is_stripped_at_both_ends_only(space: str) -> None:
    assert decoded([spelled(f"{space}a{space}b{space}".encode())]) == [f"a{space}b"]


def test_nothing_said_is_an_empty_text() -> None:
    assert decoded([[429], [430]]) == ["", ""]
    assert decoded([[1, 2], []]) == [expected([[1, 2]])[0], ""]


def test_a_long_row() -> None:
    row = np.random.default_rng(1).integers(0, 300, 448).tolist()
    assert decoded([row, [5]]) == expected([row, [5]])
