"""Tokens put together to words, as Whisper does it (openai/whisper, `tokenizer.py` and `timing.py`).

A token may be part of a character only, so text is cut where whole characters end; a word begins with a space, or is a
punctuation mark, which then joins its neighbour. Where words are not set apart by spaces, each character counts as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from string import punctuation
from typing import NamedTuple

BROKEN = "\ufffd"
"""What a tokenizer gives for bytes that are no whole character."""

OPENING = "\"'“¡¿([{-"
CLOSING = "\"'.。,，!！?？:：”)]}、"
UNSPACED = ("zh", "ja", "th", "lo", "my", "yue")
"""Codes of languages that set no spaces between words."""


class Piece(NamedTuple):
    """A text, spaces included, and how many tokens it is made of."""

    text: str
    tokens: int


def split_words(
    tokens: Sequence[int], decode: Callable[[Sequence[int]], str], language: str | None
) -> list[Piece]:
    """The words of `tokens`, none of them special; put together they are the text again."""
    pieces = _characters(tokens, decode)
    return _with_marks(pieces if language in UNSPACED else _at_spaces(pieces))


def _characters(tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[Piece]:
    """The shortest runs of tokens that are whole characters; bytes that are none anywhere stay as they are."""
    whole, pieces, begin, place = decode(tokens), list[Piece](), 0, 0
    for end in range(1, len(tokens) + 1):
        text = decode(tokens[begin:end])
        broken = text.find(BROKEN)
        if broken < 0 or whole[place + broken : place + broken + 1] in ("", BROKEN):
            pieces.append(Piece(text, end - begin))
            begin, place = end, place + len(text)
    return pieces


def _at_spaces(pieces: Sequence[Piece]) -> list[Piece]:
    words: list[Piece] = []
    for piece in pieces:
        if not words or piece.text.startswith(" ") or piece.text.strip() in punctuation:
            words.append(piece)
        else:
            words[-1] = _joined(words[-1], piece)
    return words


def _with_marks(words: Sequence[Piece]) -> list[Piece]:
    """Opening marks joined with the word after them, closing ones with the word before."""
    opened: list[Piece] = []
    for word in reversed(words):
        if opened and word.text.startswith(" ") and word.text.strip() in OPENING:
            opened[-1] = _joined(word, opened[-1])
        else:
            opened.append(word)
    closed: list[Piece] = []
    for word in reversed(opened):
        if closed and word.text in CLOSING and not closed[-1].text.endswith(" "):
            closed[-1] = _joined(closed[-1], word)
        else:
            closed.append(word)
    return closed


def _joined(first: Piece, second: Piece) -> Piece:
    return Piece(first.text + second.text, first.tokens + second.tokens)
