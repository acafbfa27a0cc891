"""A tokenizer from the lists of older checkpoints: the same one, or a clear refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from whisper_fixtures import tiny_checkpoint

from pocket_opt.errors import UserError
from pocket_opt.models.whisper.tokenizer_file import tokenizer_table


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    directory = tiny_checkpoint(tmp_path / "lists").root
    (directory / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    return directory


def original(lists: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((lists.parent / "tokenizer.json").read_text())
    return table


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_lists_give_the_tokenizer_that_they_belong_to(lists: Path) -> None:
    assert tokenizer_table(lists) == original(lists)


def test_added_tokens_may_stand_in_the_configuration(lists: Path) -> None:
    added = json.loads((lists / "added_tokens.json").read_text())
    (lists / "added_tokens.json").unlink()
    decoder = {str(index): {"content": token, "special": True} for token, index in added.items()}
    edit(lists / "tokenizer_config.json", added_tokens_decoder=decoder)
    assert tokenizer_table(lists) == original(lists)


def test_the_end_of_text_may_stand_among_the_words(lists: Path) -> None:
    added = json.loads((lists / "added_tokens.json").read_text())
    end = {"<|endoftext|>": added.pop("<|endoftext|>")}
    (lists / "added_tokens.json").write_text(json.dumps(added))
    edit(lists / "vocab.json", **end)
    assert tokenizer_table(lists)["added_tokens"] == original(lists)["added_tokens"]


@pytest.mark.parametrize("missing", ["vocab.json", "merges.txt"])
def test_without_the_lists_there_is_no_tokenizer(lists: Path, missing: str) -> None:
    (lists / missing).unlink()
    with pytest.raises(UserError, match=r"lacks tokenizer\.json"):
        tokenizer_table(lists)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "added_tokens.json",
            '{"<|endoftext|>": 900}',
            "the ids of special tokens do not follow those in vocab",
        ),
        ("added_tokens.json", '{"<|endoftext|>": "x", "<|en|>": 1}', "give no tokenizer"),
        ("merges.txt", "zz qq\n", "give no tokenizer"),
        ("merges.txt", "a b c\n", "give no tokenizer"),
        ("vocab.json", '{"a": "x"}', "give no tokenizer"),
        ("vocab.json", "[", "vocab.json is damaged"),
    ],
)
def test_lists_that_do_not_fit_together_are_refused(
    lists: Path, name: str, content: str, message: str
) -> None:
    (lists / name).write_text(content)
    with pytest.raises(UserError, match=message):
        tokenizer_table(lists)
