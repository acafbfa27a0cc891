"""The command line of a bundle: `python run.py FILE... [--language de] [--timestamps] [--beams 5] [--json]`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from .audio import AudioError, read_audio
from .opening import open_model
from .transcript import TASKS, DecodeOptions, Fallback, RequestError, Transcript


def main(directory: Path, arguments: Sequence[str] | None = None) -> int:
    """Transcribe files with the model in `directory`.

    Returns 0, or 1 if a file could not be read; usage errors exit with 2.
    """
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if missing := [str(file) for file in chosen.files if not file.is_file()]:
        parser.error(f"there is no file {', '.join(missing)}")
    if chosen.threads < 0:
        parser.error("--threads must be 0 or more")
    try:
        options = DecodeOptions(
            chosen.language,
            chosen.task,
            chosen.timestamps,
            chosen.max_new_tokens,
            beams=chosen.beams,
            length_penalty=chosen.length_penalty,
            fallback=Fallback() if chosen.fallback else None,
            condition_on_previous=chosen.condition_on_previous,
            word_timestamps=chosen.word_timestamps,
        )
        model = open_model(directory, threads=chosen.threads)
        model.check(options)
    except (OSError, RequestError) as error:
        parser.error(str(error))
    failed = False
    for file in chosen.files:
        try:
            samples = read_audio(file, model.sample_rate)
            began = time.perf_counter()
            [heard] = model.transcribe([samples], options)
            seconds = time.perf_counter() - began
        except AudioError as error:
            print(f"{parser.prog}: error: {error}", file=sys.stderr)
            failed = True
        else:
            print(_show(file, heard, seconds, chosen))
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py", description="Transcribe audio files with the Whisper model that lies beside this file."
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="wav, flac, ogg or mp3, any rate")
    add_decoding_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object for each file")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="0: let the runtime decide")
    return parser


def _count(word: str) -> int:
    """A number from 1 on, for argparse."""
    if (number := int(word)) < 1:
        raise argparse.ArgumentTypeError(f"{word}: must be 1 or more")
    return number


def add_decoding_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked of a model: the fields of DecodeOptions that people set, by their names."""
    parser.add_argument("--language", help="code of the spoken language, e.g. de; detected if left out")
    parser.add_argument("--task", choices=TASKS, default=TASKS[0])
    parser.add_argument("--timestamps", action="store_true", help="predict and print times")
    parser.add_argument("--word-timestamps", action="store_true", help="find and print the time of each word")
    parser.add_argument(
        "--max-new-tokens", type=int, metavar="N", help="of each window; what the model allows"
    )
    parser.add_argument("--beams", type=int, default=1, metavar="N", help="1 (greedy) to 5")
    parser.add_argument(
        "--length-penalty", type=float, default=1.0, metavar="X", help="above 0: longer texts"
    )
    parser.add_argument(
        "--no-fallback",
        dest="fallback",
        action="store_false",
        help="in audio longer than a window: decode every window once, however improbable or repetitive",
    )
    parser.add_argument(
        "--condition-on-previous",
        action="store_true",
        help="in audio longer than a window: tell each window what was said before it",
    )


def _show(file: Path, heard: Transcript, seconds: float, arguments: argparse.Namespace) -> str:
    if arguments.json:
        return json.dumps({"file": str(file), **asdict(heard), "seconds": seconds}, ensure_ascii=False)
    lines = [heard.text]
    if arguments.timestamps or arguments.word_timestamps:
        parts = heard.words if arguments.word_timestamps else heard.segments
        lines = [f"[{part.start:.2f} --> {part.end:.2f}] {part.text.strip()}" for part in parts]
    prefix = f"{file}: " if len(arguments.files) > 1 else ""
    return "\n".join(prefix + line for line in lines)
