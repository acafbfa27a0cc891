"""The vocabulary of Whisper: bytes, words, special tokens, timestamps, in the order that every Whisper keeps.

Source: `whisper/tokenizer.py` of openai/whisper. Ids differ between models (51,864 tokens for English, 51,865, and
51,866 since large-v3, which adds Cantonese), so nothing relies on an id: ids follow from the order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pocket_opt.errors import UserError
from pocket_opt.models.layout import CONFIG, GENERATION_CONFIG, TOKENIZER, read_table

TIMESTAMP_STEP_S = 0.02
BYTES = 256
ENGLISH_WORDS = 50_256
"""Words of GPT-2's vocabulary, which only English-only models use."""

CANTONESE_SINCE = 51_866
"""Size of the vocabulary that has the hundredth language."""

END_OF_TEXT = "<|endoftext|>"
START_OF_TRANSCRIPT = "<|startoftranscript|>"
TASKS = ("translate", "transcribe")
NAMES_SINCE = {"<|nocaptions|>": "<|nospeech|>"}
_AFTER_TASKS = ("<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")

_LANGUAGE_CODES = """
en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr
bg lt la mi ml cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn
yo so af oc ka be tg sd gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su
yue
"""
LANGUAGES = tuple(_LANGUAGE_CODES.split())
"""Language codes in token order; models before large-v3 lack the last one."""


def told_languages(directory: Path) -> tuple[str, ...]:
    """Codes of the languages that the checkpoint in `directory` can be told.

    By what it states, else by its tokenizer, else by the size of its vocabulary; all of them if nothing tells.
    """
    stated = _table(directory / GENERATION_CONFIG)
    multilingual, ids = stated.get("is_multilingual"), stated.get("lang_to_id")
    if multilingual is False:
        return ("en",)
    if isinstance(ids, dict) and ids:
        return tuple(token.strip("<|>") for token in ids)
    try:
        vocabulary = read_vocabulary(_table(directory / TOKENIZER), 0, where=str(directory / TOKENIZER))
    except (UserError, KeyError, TypeError, AttributeError):
        return _languages_of_size(_table(directory / CONFIG).get("vocab_size"))
    return vocabulary.languages if multilingual or vocabulary.multilingual else ("en",)


def _languages_of_size(vocab: object) -> tuple[str, ...]:
    """The languages of the published models with `vocab` tokens."""
    if vocab == CANTONESE_SINCE - 2:
        return ("en",)
    return LANGUAGES[:-1] if vocab == CANTONESE_SINCE - 1 else LANGUAGES


def _table(path: Path) -> dict[str, Any]:
    try:
        return read_table(path)
    except UserError:
        return {}


def special_tokens(languages: tuple[str, ...]) -> tuple[str, ...]:
    """The special tokens from `<|endoftext|>` to `<|notimestamps|>`, in id order."""
    tags = (f"<|{name}|>" for name in (*languages, *TASKS))
    return (END_OF_TEXT, START_OF_TRANSCRIPT, *tags, *_AFTER_TASKS)


def timestamp_tokens(window_s: float) -> tuple[str, ...]:
    """`<|0.00|>` to the end of the window, every 20 ms."""
    return tuple(
        f"<|{step * TIMESTAMP_STEP_S:.2f}|>" for step in range(round(window_s / TIMESTAMP_STEP_S) + 1)
    )


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary with the special tokens and timestamps of Whisper at its end.

    Attributes:
        words: tokens before `<|endoftext|>`, its id.
        multilingual: whether the model is told language and task (English-only models have these tokens, too, but are
            not told).
    """

    words: int
    languages: tuple[str, ...]
    window_s: float
    multilingual: bool = True

    @classmethod
    def of_size(cls, size: int, window_s: float, languages: tuple[str, ...] | None = None) -> Vocabulary:
        """The vocabulary of `size` tokens; its words are what special tokens and timestamps leave.

        Raises:
            UserError: `size` has no room for them.
        """
        if languages is None:
            languages = LANGUAGES if size >= CANTONESE_SINCE else LANGUAGES[:-1]
        taken = len(special_tokens(languages)) + len(timestamp_tokens(window_s))
        if size < taken + BYTES:
            raise UserError(
                f"a vocabulary of {size} tokens has no room for Whisper's",
                where="vocab",
                allowed=f"at least {taken + BYTES}: {BYTES} bytes, {taken} special tokens and timestamps",
                fix="raise the vocabulary size",
            )
        return cls(size - taken, languages, window_s, size - taken != ENGLISH_WORDS)

    @property
    def size(self) -> int:
        """Tokens in all."""
        return self.words + len(self.special) + len(self.timestamps)

    @cached_property
    def special(self) -> tuple[str, ...]:
        """Special tokens in id order."""
        return special_tokens(self.languages)

    @cached_property
    def timestamps(self) -> tuple[str, ...]:
        """Timestamp tokens in id order."""
        return timestamp_tokens(self.window_s)

    def id(self, token: str) -> int:
        """The id of a special token."""
        return self.words + self.special.index(token)


def read_vocabulary(tokenizer: Mapping[str, Any], window_s: float, *, where: str) -> Vocabulary:
    """The vocabulary of a `tokenizer.json`; UserError unless it has Whisper's special tokens in Whisper's order.

    Args:
        where: the file, for errors.
    """
    ids = _added_ids(tokenizer)
    first = ids.get(END_OF_TEXT, 0)
    tags = sorted(
        (index, token) for token, index in ids.items() if first + 1 < index < ids.get("<|translate|>", 0)
    )
    languages = tuple(token.strip("<|>") for _, token in tags)
    expected = {token: first + index for index, token in enumerate(special_tokens(languages))}
    wrong = [token for token, index in expected.items() if ids.get(token) != index]
    if wrong:
        raise UserError(
            f"the tokenizer has no {wrong[0]} in its place",
            where=where,
            allowed=", ".join((END_OF_TEXT, START_OF_TRANSCRIPT, "languages", "<|translate|>", "...")),
            fix="use the tokenizer that belongs to the Whisper checkpoint",
        )
    return Vocabulary(first, languages, window_s, first != ENGLISH_WORDS)


def _added_ids(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """Id by token beyond the words; what models of 2022 call <|nocaptions|> is <|nospeech|>."""
    ids = {token["content"]: token["id"] for token in tokenizer.get("added_tokens", ())}
    return {NAMES_SINCE.get(token, token): index for token, index in ids.items()}


def byte_characters() -> tuple[str, ...]:
    """The printable character that stands for each byte, in GPT-2's id order (a space is `Ġ`, id 220)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return (*map(chr, printable), *(chr(256 + index) for index in range(len(hidden))))


SPACE_ID = byte_characters().index("\u0120")
