"""The decoding rules of a Whisper checkpoint, `generation_config.json`, so that every runtime decodes by the same ones.

Older checkpoints lack what newer ones state (languages, tasks, where timestamps begin), and runtimes fill the gaps in
different ways; some state settings of `generate()` that the stand-alone runner does not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pocket_opt.models.whisper.checkpoint import WhisperDims
from pocket_opt.models.whisper.vocabulary import END_OF_TEXT, SPACE_ID, START_OF_TRANSCRIPT, TASKS, Vocabulary

FROM_CONFIG = ("begin_suppress_tokens", "max_length", "suppress_tokens")
"""Rules that checkpoints from before `generation_config.json` state in `config.json`."""

ALSO_KEPT = ("alignment_heads", "max_new_tokens", "transformers_version")
"""Settings beside the derived ones that the runner follows, or that change no token."""


def generation_config(vocabulary: Vocabulary, dims: WhisperDims) -> dict[str, Any]:
    """The table of `generation_config.json`: the decoding rules that follow from the vocabulary's order."""
    start, end = vocabulary.id(START_OF_TRANSCRIPT), vocabulary.id(END_OF_TEXT)
    control = (*(f"<|{task}|>" for task in TASKS), "<|startoflm|>", "<|startofprev|>", "<|nospeech|>")
    config: dict[str, Any] = {
        "begin_suppress_tokens": [SPACE_ID, end],
        "bos_token_id": end,
        "decoder_start_token_id": start,
        "eos_token_id": end,
        "is_multilingual": vocabulary.multilingual,
        "max_initial_timestamp_index": 50,
        "max_length": dims.target_positions,
        "no_timestamps_token_id": vocabulary.id("<|notimestamps|>"),
        "pad_token_id": end,
        "prev_sot_token_id": vocabulary.id("<|startofprev|>"),
        "return_timestamps": False,
        "suppress_tokens": [start, *(vocabulary.id(token) for token in control)],
    }
    if vocabulary.multilingual:
        tags = [f"<|{name}|>" for name in vocabulary.languages]
        config["lang_to_id"] = {tag: vocabulary.id(tag) for tag in tags}
        config["task_to_id"] = {task: vocabulary.id(f"<|{task}|>") for task in TASKS}
    return config


def complete_generation_config(
    given: Mapping[str, Any], config: Mapping[str, Any], vocabulary: Vocabulary, dims: WhisperDims
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a checkpoint states, completed by what follows from its vocabulary, and without what no runner here follows.

    Greedy decoding is all that is measured: penalties, forbidden repetitions, beams, thresholds and temperatures to
    fall back to would have level NONE decode in another way than every other.

    Args:
        given: its `generation_config.json`; empty if it has none.
        config: its `config.json`.

    Returns:
        The table to write, and the settings of `given` that are not in it because they would change the result.
    """
    stated = {key: value for key, value in given.items() if value not in (None, {})}
    stated.pop("_from_model_config", None)
    multilingual = stated.get("is_multilingual", "lang_to_id" in stated or vocabulary.multilingual)
    derived = generation_config(replace(vocabulary, multilingual=bool(multilingual)), dims)
    older = {key: config[key] for key in FROM_CONFIG if isinstance(config.get(key), type(derived[key]))}
    kept = {
        key: value
        for key, value in stated.items()
        if key in ALSO_KEPT or isinstance(value, type(derived.get(key)))
    }
    table = derived | older | kept
    if not multilingual and config.get("forced_decoder_ids"):
        # What config.json forces, generate() takes for an English-only model unless something else is forced here.
        table["forced_decoder_ids"] = [[1, table["no_timestamps_token_id"]]]
    reset = {k: v for k, v in stated.items() if v is not False and v != table.get(k)}
    return table, reset
