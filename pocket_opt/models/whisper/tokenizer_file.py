"""The table of `tokenizer.json`: read, or built from the lists that older checkpoints have instead.

A Whisper tokenizer is a byte-level BPE: words with their ids (`vocab.json`), merges (`merges.txt`), and the special
tokens and timestamps after them (`added_tokens.json`, or `added_tokens_decoder` in `tokenizer_config.json`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pocket_opt.errors import UserError
from pocket_opt.models.layout import ADDED_TOKENS, MERGES, TOKENIZER, TOKENIZER_CONFIG, VOCAB, read_table

CONTROL = re.compile(r"<\|.*\|>")
TIMESTAMP = re.compile(r"<\|\d+\.\d\d\|>")


def tokenizer_table(directory: Path) -> dict[str, Any]:
    """The table of the `tokenizer.json` that the checkpoint in `directory` has or lacks.

    Raises:
        UserError: it is damaged, or is not there and cannot be built.
    """
    if (directory / TOKENIZER).is_file():
        return read_table(directory / TOKENIZER)
    if not all((directory / name).is_file() for name in (VOCAB, MERGES)):
        raise _unknown(directory, f"the checkpoint lacks {TOKENIZER}")
    vocab = read_table(directory / VOCAB)
    try:
        added = _added_tokens(directory, vocab)
        table = build_tokenizer(vocab, _merges(directory), added)
    except UserError:
        raise
    except Exception as error:  # tokenizers raises the bare class
        raise _unknown(directory, f"{VOCAB} and {MERGES} give no tokenizer ({error})") from error
    if added != {token["content"]: token["id"] for token in table["added_tokens"]}:
        raise _unknown(directory, f"the ids of special tokens do not follow those in {VOCAB}")
    return table


def build_tokenizer(
    vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], added: Mapping[str, int]
) -> dict[str, Any]:
    """The table of `tokenizer.json`, made by the library that will read it.

    Args:
        added: special tokens and timestamps; those that are not in `vocab` get the ids that follow it.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab=dict(vocab), merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(
        [
            AddedToken(token, normalized=False, special=not TIMESTAMP.fullmatch(token))
            for token in sorted(added, key=added.__getitem__)
        ]
    )
    table: dict[str, Any] = json.loads(tokenizer.to_str())
    return table


def _added_tokens(directory: Path, vocab: Mapping[str, int]) -> dict[str, int]:
    found = {token: index for token, index in vocab.items() if CONTROL.fullmatch(token)}
    if (directory / ADDED_TOKENS).is_file():
        return found | read_table(directory / ADDED_TOKENS)
    if (directory / TOKENIZER_CONFIG).is_file():
        listed = read_table(directory / TOKENIZER_CONFIG).get("added_tokens_decoder", {})
        return found | {token["content"]: int(index) for index, token in listed.items()}
    return found


def _merges(directory: Path) -> list[tuple[str, str]]:
    lines = (directory / MERGES).read_text(encoding="utf-8").split("\n")
    pairs = (line.split() for line in lines if line.strip() and not line.startswith("#version"))
    return [(first, second) for first, second in pairs]


def _unknown(directory: Path, what: str) -> UserError:
    return UserError(
        what,
        where=str(directory),
        allowed=f"{TOKENIZER}, or {VOCAB}, {MERGES} and {ADDED_TOKENS} that fit together",
        fix="save the tokenizer again: WhisperTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
    )
