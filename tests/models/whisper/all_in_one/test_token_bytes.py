from __future__ import annotations

import pytest

from pocket_opt.errors import PocketOptError
from pocket_opt.models.whisper.all_in_one.token_bytes import token_bytes

TABLE = {
    "decoder": {"type": "ByteLevel"},
    "model": {"vocab": {"a": 0, "\u0120b": 1, "\u00c3": 2, "\u0100": 3, "beyond": 9}},
    "added_tokens": [
        {"id": 4, "content": "<|end|>", "special": True},
        {"id": 5, "content": "<|0.00|>", "special": False},
        {"id": 6, "content": "no byte: \u20ac", "special": False},
    ],
}


def test_a_token_is_its_bytes_and_a_special_one_is_none() -> None:
    found = token_bytes(TABLE, 8)
    assert found == [b"a", b" b", b"\xc3", b"\x00", b"", b"<|0.00|>", "no byte: \u20ac".encode(), b""]


def test_another_way_of_joining_is_refused() -> None:
    with pytest.raises(PocketOptError, match="decodes by 'WordPiece'") as caught:
        token_bytes({**TABLE, "decoder": {"type": "WordPiece"}}, 8)
    assert "decoder=kv_cache" in str(caught.value.fix)
