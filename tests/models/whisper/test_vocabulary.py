from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.models.whisper.tokenization_whisper import LANGUAGES as KNOWN_LANGUAGES
from whisper_fixtures import tiny_checkpoint

from pocket_opt.errors import UserError
from pocket_opt.models.whisper.vocabulary import (
    LANGUAGES,
    SPACE_ID,
    Vocabulary,
    byte_characters,
    read_vocabulary,
    told_languages,
)


@pytest.mark.parametrize(
    ("size", "end", "transcribe", "no_timestamps", "multilingual"),
    [
        (51_864, 50_256, 50_358, 50_362, False),
        (51_865, 50_257, 50_359, 50_363, True),
        (51_866, 50_257, 50_360, 50_364, True),
    ],
)
def test_ids_of_the_published_models(
    size: int, end: int, transcribe: int, no_timestamps: int, multilingual: bool
) -> None:
    vocabulary = Vocabulary.of_size(size, 30)
    assert vocabulary.size == size
    assert vocabulary.id("<|endoftext|>") == end == vocabulary.words
    assert vocabulary.id("<|startoftranscript|>") == end + 1
    assert vocabulary.id("<|transcribe|>") == transcribe
    assert vocabulary.id("<|notimestamps|>") == no_timestamps
    assert vocabulary.multilingual is multilingual
    assert (vocabulary.timestamps[0], vocabulary.timestamps[-1]) == ("<|0.00|>", "<|30.00|>")
    assert len(vocabulary.timestamps) == 1_501


def test_languages_are_in_whispers_order() -> None:
    assert tuple(KNOWN_LANGUAGES) == LANGUAGES


def test_byte_characters_are_those_of_gpt2() -> None:
    assert byte_characters() == tuple(bytes_to_unicode().values())
    assert SPACE_ID == 220


def test_a_vocabulary_without_room_is_refused() -> None:
    with pytest.raises(UserError, match="no room") as error:
        Vocabulary.of_size(1_000, 30)
    assert "at least 1864" in str(error.value)


def tokenizer_of_tiny(directory: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((tiny_checkpoint(directory).root / "tokenizer.json").read_text())
    return table


def test_a_tokenizer_is_read_back(tmp_path: Path) -> None:
    found = read_vocabulary(tokenizer_of_tiny(tmp_path), 4, where="x")
    assert (found.words, found.languages, found.multilingual) == (300, ("en", "de"), True)
    assert found.size == 511


def test_the_older_name_of_the_token_for_silence_is_known(tmp_path: Path) -> None:
    table = tokenizer_of_tiny(tmp_path)
    for token in table["added_tokens"]:
        token["content"] = token["content"].replace("<|nospeech|>", "<|nocaptions|>")
    assert read_vocabulary(table, 4, where="x").size == 511


def test_a_tokenizer_without_whispers_tokens_is_refused(tmp_path: Path) -> None:
    table = tokenizer_of_tiny(tmp_path)
    table["added_tokens"] = [
        token for token in table["added_tokens"] if token["content"] != "<|startofprev|>"
    ]
    with pytest.raises(UserError, match=r"no <\|startofprev\|> in its place"):
        read_vocabulary(table, 4, where="x")


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ('{"is_multilingual": true, "lang_to_id": {"<|en|>": 1, "<|de|>": 2}}', ("en", "de")),
        ('{"is_multilingual": false}', ("en",)),
        ("{}", LANGUAGES),
        ('{"lang_to_id": null}', LANGUAGES),
        ('{"lang_to_id": 3}', LANGUAGES),
        ("not JSON", LANGUAGES),
        (None, LANGUAGES),
    ],
)
def test_the_languages_that_a_checkpoint_can_be_told(
    settings: str | None, wanted: tuple[str, ...], tmp_path: Path
) -> None:
    if settings is not None:
        (tmp_path / "generation_config.json").write_text(settings)
    assert told_languages(tmp_path) == wanted


@pytest.mark.parametrize("settings", [None, "{}", '{"is_multilingual": null, "lang_to_id": null}'])
def test_a_checkpoint_that_states_no_languages_has_those_of_its_tokenizer(
    settings: str | None, tmp_path: Path
) -> None:
    tiny_checkpoint(tmp_path, languages=("en", "de", "fr"))
    (tmp_path / "generation_config.json").unlink()
    if settings is not None:
        (tmp_path / "generation_config.json").write_text(settings)
    assert told_languages(tmp_path) == ("en", "de", "fr")


@pytest.mark.parametrize(
    ("size", "languages"),
    [(51_864, ("en",)), (51_865, LANGUAGES[:-1]), (51_866, LANGUAGES), (None, LANGUAGES)],
)
@pytest.mark.parametrize("tokenizer", [None, "{}", '{"added_tokens": [3]}'])
def test_a_checkpoint_that_states_nothing_has_the_languages_of_its_size(
    size: int | None, languages: tuple[str, ...], tokenizer: str | None, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": size}))
    if tokenizer is not None:
        (tmp_path / "tokenizer.json").write_text(tokenizer)
    assert told_languages(tmp_path) == languages
