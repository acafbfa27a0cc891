"""Decoding rules: complete for every runtime, and none that only one of them follows."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import GenerationConfig

from pocket_opt.models.whisper.checkpoint import WhisperDims
from pocket_opt.models.whisper.generation import complete_generation_config, generation_config
from pocket_opt.models.whisper.vocabulary import Vocabulary

DIMS = WhisperDims(64, 1, 1, 1, 1, 64, 64, 80, 51_865, 1_500, 448)
MULTILINGUAL, ENGLISH = Vocabulary.of_size(51_865, 30), Vocabulary.of_size(51_864, 30)
LEGACY = {
    "_from_model_config": True,
    "bos_token_id": 50_257,
    "decoder_start_token_id": 50_258,
    "eos_token_id": 50_257,
    "max_length": 225,
    "suppress_tokens": [],
    "transformers_version": "4.26.0.dev0",
}
"""What a fine-tune of 2022 has beside it."""


def complete(
    given: dict[str, Any], config: dict[str, Any] | None = None, vocabulary: Vocabulary = MULTILINGUAL
) -> tuple[dict[str, Any], dict[str, Any]]:
    return complete_generation_config(given, config or {}, vocabulary, DIMS)


def test_generation_rules_follow_the_vocabulary() -> None:
    vocabulary = Vocabulary.of_size(51_865, 30)
    config = generation_config(vocabulary, DIMS)
    assert config["lang_to_id"]["<|en|>"] == 50_259
    assert len(config["lang_to_id"]) == 99
    assert config["task_to_id"] == {"translate": 50_358, "transcribe": 50_359}
    assert config["begin_suppress_tokens"] == [220, 50_257]
    assert 50_257 not in config["suppress_tokens"]
    assert GenerationConfig.from_dict(config).no_timestamps_token_id == 50_363


def test_an_english_model_is_told_no_language() -> None:
    config = generation_config(Vocabulary.of_size(51_864, 30), DIMS)
    assert config["is_multilingual"] is False
    assert not {"lang_to_id", "task_to_id"} & set(config)
    assert config["eos_token_id"] == 50_256


def test_what_an_older_model_does_not_state_follows_from_its_vocabulary() -> None:
    derived = generation_config(MULTILINGUAL, DIMS)
    found, reset = complete(LEGACY)
    assert (found["is_multilingual"], len(found["lang_to_id"])) == (True, 99)
    assert found["task_to_id"] == derived["task_to_id"]
    assert found["no_timestamps_token_id"] == 50_363
    assert (found["max_length"], found["suppress_tokens"]) == (225, [])
    assert reset == {}
    assert GenerationConfig.from_dict(found).lang_to_id == derived["lang_to_id"]


def test_a_complete_table_stays_as_it_is() -> None:
    table = {**generation_config(MULTILINGUAL, DIMS), "max_new_tokens": 100, "alignment_heads": [[1, 2]]}
    assert complete(table) == (table, {})


@pytest.mark.parametrize("key", ["pad_token_id", "decoder_start_token_id", "task_to_id", "is_multilingual"])
def test_what_is_null_is_not_stated(key: str) -> None:
    table = generation_config(MULTILINGUAL, DIMS)
    assert complete({**table, key: None}) == (table, {})


def test_a_table_of_no_languages_is_not_stated() -> None:
    table = generation_config(MULTILINGUAL, DIMS)
    assert complete({**table, "lang_to_id": {}})[0] == table


def test_of_no_table_the_rules_are_those_of_the_configuration() -> None:
    config = {"suppress_tokens": [1, 2, 7], "begin_suppress_tokens": [220], "max_length": 100, "d_model": 64}
    assert complete({}, config)[0] == {
        **generation_config(MULTILINGUAL, DIMS),
        "suppress_tokens": [1, 2, 7],
        "begin_suppress_tokens": [220],
        "max_length": 100,
    }
    assert complete({"max_length": 50}, config)[0]["max_length"] == 50


def test_an_english_model_is_told_no_language_whatever_it_states() -> None:
    assert complete(LEGACY, vocabulary=ENGLISH)[0]["is_multilingual"] is False
    found, reset = complete({"is_multilingual": False, "task_to_id": {"transcribe": 1}})
    assert not {"lang_to_id", "task_to_id"} & set(found)
    assert reset == {"task_to_id": {"transcribe": 1}}


def test_tokens_that_the_configuration_of_an_english_model_forces_are_overruled() -> None:
    config = {"forced_decoder_ids": [[1, 50_258], [2, 50_358]]}
    found, reset = complete({}, config, ENGLISH)
    assert found["forced_decoder_ids"] == [[1, 50_362]]
    assert complete(found, config, ENGLISH) == (found, {})
    assert complete(found, {}, ENGLISH)[1] == {"forced_decoder_ids": [[1, 50_362]]}
    assert "forced_decoder_ids" not in complete({}, config, MULTILINGUAL)[0]
    assert reset == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("no_repeat_ngram_size", 3),
        ("repetition_penalty", 1.2),
        ("temperature", [0.0, 0.2]),
        ("compression_ratio_threshold", 1.35),
        ("logprob_threshold", -1.0),
        ("num_beams", 5),
        ("language", "german"),
        ("forced_decoder_ids", [[1, 50_261], [2, 50_359]]),
        ("eos_token_id", [50_257]),
    ],
)
def test_what_greedy_decoding_does_not_have_is_reset_and_named(key: str, value: object) -> None:
    table = generation_config(MULTILINGUAL, DIMS)
    assert complete({**table, key: value}) == (table, {key: value})


def test_settings_that_are_off_are_not_named() -> None:
    table = generation_config(MULTILINGUAL, DIMS)
    assert complete({**table, "do_sample": False, "no_speech_threshold": None}) == (table, {})
