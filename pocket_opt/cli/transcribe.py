"""`transcribe --bundle DIR FILE...`: the text of audio files by a bundle."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path


def run(arguments: Sequence[str]) -> int:
    """Print one line a file, or JSON."""
    from pocket_opt.models.whisper.runner.command import add_decoding_arguments

    parser = argparse.ArgumentParser(prog="pocket-opt transcribe", description=__doc__)
    parser.add_argument(
        "files", nargs="+", type=Path, help="audio files: wav, flac, mp3, ogg; aac where ffmpeg is installed"
    )
    parser.add_argument("--bundle", required=True, type=Path, help="directory of a bundle")
    add_decoding_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a file")
    options = parser.parse_args(arguments)

    from pocket_opt.bundle.loaded import LoadedModel

    model = LoadedModel(options.bundle)
    for path in options.files:
        found = model.transcribe(
            path,
            language=options.language,
            task=options.task,
            timestamps=options.timestamps,
            max_new_tokens=options.max_new_tokens,
            beams=options.beams,
            length_penalty=options.length_penalty,
            fallback=options.fallback,
            condition_on_previous=options.condition_on_previous,
            word_timestamps=options.word_timestamps,
        ).result
        if options.json:
            lines = [json.dumps({"file": str(path), **asdict(found)}, ensure_ascii=False)]
        elif options.timestamps or options.word_timestamps:
            parts = found.words if options.word_timestamps else found.segments
            lines = [f"{path.name} [{part.start:.2f} - {part.end:.2f}] {part.text.strip()}" for part in parts]
        else:
            lines = [f"{path.name}: {found.text}" if len(options.files) > 1 else found.text]
        sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0
