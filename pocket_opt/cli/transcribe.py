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
    parser = argparse.ArgumentParser(prog="pocket-opt transcribe", description=__doc__)
    parser.add_argument(
        "files", nargs="+", type=Path, help="audio files: wav, flac, mp3, ogg; aac where ffmpeg is installed"
    )
    parser.add_argument("--bundle", required=True, type=Path, help="directory of a bundle")
    parser.add_argument("--language", help="language of the speech, e.g. de; default: detect it")
    parser.add_argument("--task", choices=("transcribe", "translate"), default="transcribe")
    parser.add_argument("--timestamps", action="store_true", help="print the times of segments")
    parser.add_argument("--beams", type=int, default=1, metavar="N", help="1 (greedy) to 5; default: 1")
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
            beams=options.beams,
            length_penalty=options.length_penalty,
            fallback=options.fallback,
            condition_on_previous=options.condition_on_previous,
        ).result
        if options.json:
            lines = [json.dumps({"file": str(path), **asdict(found)}, ensure_ascii=False)]
        elif options.timestamps:
            lines = [
                f"{path.name} [{part.start:.2f} - {part.end:.2f}] {part.text}" for part in found.segments
            ]
        else:
            lines = [f"{path.name}: {found.text}" if len(options.files) > 1 else found.text]
        sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0
