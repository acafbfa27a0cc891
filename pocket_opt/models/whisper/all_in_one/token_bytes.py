"""The bytes that each token of a byte-level BPE stands for, as its `tokenizer.json` states them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pocket_opt.errors import PocketOptError
from pocket_opt.models.whisper.vocabulary import byte_characters

BYTE_LEVEL = "ByteLevel"


def token_bytes(tokenizer: Mapping[str, Any], size: int) -> list[bytes]:
    """What the ids below `size` add to a text; nothing for special tokens and for ids without a token.

    Follows `Tokenizer.decode(skip_special_tokens=True)` of the library tokenizers up to the joining of the bytes.

    Raises:
        PocketOptError: the tokenizer joins its tokens in another way.
    """
    decoder = (tokenizer.get("decoder") or {}).get("type")
    if decoder != BYTE_LEVEL:
        raise PocketOptError(
            f"the tokenizer decodes by {decoder!r}, which no graph here can do",
            where="tokenizer.json: decoder",
            allowed=BYTE_LEVEL,
            fix="keep the decoder in files of its own: decoder=kv_cache",
        )
    of_character = _bytes_of_characters()
    table = [b""] * size
    for token, index in tokenizer["model"]["vocab"].items():
        if index < size:
            table[index] = _spelled(token, of_character)
    for added in tokenizer.get("added_tokens", ()):
        if added["id"] < size:
            table[added["id"]] = b"" if added.get("special") else _spelled(added["content"], of_character)
    return table


def _bytes_of_characters() -> dict[str, int]:
    characters = byte_characters()
    printable = [ord(character) for character in characters if ord(character) < 256]
    hidden = [byte for byte in range(256) if byte not in printable]
    return dict(zip(characters, [*printable, *hidden], strict=True))


def _spelled(token: str, of_character: Mapping[str, int]) -> bytes:
    """Character by character; a token with a character that stands for no byte is text as it is."""
    if all(character in of_character for character in token):
        return bytes(of_character[character] for character in token)
    return token.encode()
