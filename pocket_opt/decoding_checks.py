"""Settings of the decoding that contradict one another, refused when planning."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pocket_opt.config.schema import Config, Decoding
from pocket_opt.errors import UserError, unknown_name
from pocket_opt.evaluation.decoding import DETECT
from pocket_opt.graph import Node


def check_decoding(config: Config) -> None:
    """Raise UserError where the search, its numbers and the decoder do not fit together."""
    _check_numbers(config.decoding)
    _check_one_file(config)


def chosen_language(wanted: str | None, languages: Sequence[str]) -> str | None:
    """The code of the language to decode in, "auto" to detect it; None takes each clip's own.

    Args:
        languages: those that the model can be told.
    """
    if wanted is None:
        return None
    code, known = wanted.lower().strip("<|>"), [DETECT, *languages]
    if code not in known:
        raise unknown_name("language of this model", code, known, where="decoding.language")
    return code


def _check_one_file(config: Config) -> None:
    """What a caller does between the graphs, a file that holds them all cannot have; only it reads audio files."""
    if config.decoder.audio == "file" and config.decoder.name != "all_in_one":
        raise UserError(
            "only a graph that holds everything reads audio files by itself",
            where=f"decoder.audio=file decoder={config.decoder.name}",
            fix="choose decoder=all_in_one, or leave decoder.audio=samples: run.py reads files with any decoder",
        )
    outside = {
        "audio_context=auto": config.audio_context == "auto",
        "word_timestamps=true": config.word_timestamps,
    }
    for setting, asked in outside.items():
        if asked and config.decoder.name == "all_in_one":
            raise UserError(
                f"{setting} is done between the graphs, and decoder=all_in_one has one graph",
                where=f"{setting} decoder=all_in_one",
                allowed="audio_context=full, word_timestamps=false",
                fix=f"leave {setting.partition('=')[0]} as it is, or choose decoder=kv_cache",
            )


def check_words_timed(nodes: Sequence[Node], config: Config) -> None:
    """Raise UserError where times of words are asked for, and no node makes a decoder that tells them."""
    if not config.word_timestamps or config.level.intents.format == "source":
        return
    if not any(node.params.get("word_timestamps") for node in nodes):
        raise UserError(
            "no pass of this variant writes a decoder that tells the times of words",
            where="word_timestamps=true",
            allowed="a graph of passes with export_onnx",
            fix="set word_timestamps=false, or leave the pass of the node 'export' as it is",
        )


def _check_numbers(decoding: Decoding) -> None:
    """The numbers of the beam search fit its name."""
    if decoding.name == "greedy" and decoding.beams > 1:
        raise UserError(
            f"greedy decoding follows one sequence, not {decoding.beams}",
            where="decoding.beams",
            fix="choose decoding=beam, or leave decoding.beams=1",
        )
    if not math.isfinite(decoding.length_penalty):
        raise UserError(
            f"'{decoding.length_penalty}' is no length penalty",
            where="decoding.length_penalty",
            allowed="a finite number; 1 is usual",
            fix="change the value",
        )
