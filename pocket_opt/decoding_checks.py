"""Settings of the decoding that contradict one another, refused when planning."""

from __future__ import annotations

import math

from pocket_opt.config.schema import Config, Decoding
from pocket_opt.errors import UserError


def check_decoding(config: Config) -> None:
    """Raise UserError where the search, its numbers and the decoder do not fit together."""
    _check_numbers(config.decoding)
    _check_one_file(config)


def _check_one_file(config: Config) -> None:
    """What a caller does between the graphs, a file that holds them all cannot have; only it reads audio files."""
    if config.decoder.audio == "file" and config.decoder.name != "all_in_one":
        raise UserError(
            "only a graph that holds everything reads audio files by itself",
            where=f"decoder.audio=file decoder={config.decoder.name}",
            fix="choose decoder=all_in_one, or leave decoder.audio=samples: run.py reads files with any decoder",
        )
    if config.audio_context == "auto" and config.decoder.name == "all_in_one":
        raise UserError(
            "audio_context=auto is done between the graphs, and decoder=all_in_one has one graph",
            where="audio_context=auto decoder=all_in_one",
            allowed="audio_context=full",
            fix="leave audio_context as it is, or choose decoder=kv_cache",
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
