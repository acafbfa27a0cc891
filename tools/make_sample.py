"""Rebuild the shipped sample from nothing: speech, tokenizer, teacher, student, and the error rates of both.

Needs espeak-ng and the packages named in `tools/README.md`. Seeds are fixed, but training is bounded by the
clock: weights differ between machines, while audio and tokenizer do not (with the same espeak-ng).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Final

_TOOLS: Final = Path(__file__).resolve().parent
_STUDENT_SHARE: Final = 0.18


def commands(work: Path, sample: Path, minutes: float) -> list[list[str]]:
    """The steps in order, each a script of this folder with its arguments."""
    student_minutes = _STUDENT_SHARE * minutes
    teacher = str(sample / "teacher")
    student = str(sample / "student")
    return [
        ["build_evaluation.py", "--sample", str(sample)],
        ["synthesize_speech.py", "--work", str(work)],
        ["train_tokenizer.py", "--work", str(work)],
        [
            "train_whisper.py",
            "--work",
            str(work),
            "--output",
            teacher,
            "--minutes",
            f"{minutes - student_minutes:.1f}",
        ],
        [
            *("distill_whisper.py", "--work", str(work), "--teacher", teacher, "--output", student),
            *("--minutes", f"{student_minutes:.1f}"),
        ],
        ["evaluate_sample.py", "--sample", str(sample), "--model", "teacher"],
        ["evaluate_sample.py", "--sample", str(sample), "--model", "student"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder, about 2 GB")
    parser.add_argument("--sample", type=Path, default=_TOOLS.parent / "pocket_opt" / "sample")
    parser.add_argument(
        "--minutes", type=float, default=95.0, help="training time, teacher and student together"
    )
    args = parser.parse_args()
    for script, *arguments in commands(args.work, args.sample, args.minutes):
        print(f"== {script}", flush=True)
        subprocess.run([sys.executable, str(_TOOLS / script), *arguments], check=True)


if __name__ == "__main__":
    main()
