"""One file from samples to text beside our own host loop on the same graphs: time and size.

    python benchmarks/all_in_one.py --recipe whisper_tiny --level HIGH
    python benchmarks/all_in_one.py --recipe pocket_whisper --level MEDIUM recipe.model.weights=pretrained

Both models are opened in one process and take turns at one window of synthetic audio, from samples to the last of a
forced number of tokens. The host loop is fed its tokens and only looks for the most probable next one; the file
applies all decoding rules and makes the text besides. KEY=VALUE are further settings for both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from harness import models

from pocket_opt.bundle.loaded import LoadedModel
from pocket_opt.evaluation.forced import forced_clip, run_forced, run_whole
from pocket_opt.runtimes.base import OneGraphRuntime

REPLACED = ("mel", "encoder", "decoder", "processor")


def main(words: Sequence[str] | None = None) -> int:
    """Print medians and ratios."""
    parser = argparse.ArgumentParser(prog="all_in_one.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recipe", default="whisper_tiny")
    parser.add_argument("--level", default="HIGH")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    chosen = parser.parse_intermixed_args(words)
    with tempfile.TemporaryDirectory() as place:
        loop, whole = (
            LoadedModel(
                models.build(
                    chosen.recipe,
                    "cpu",
                    chosen.level,
                    [*chosen.overrides, f"decoder={decoder}"],
                    Path(place) / decoder,
                ),
                threads=chosen.threads,
            )
            for decoder in ("kv_cache", "all_in_one")
        )
        clip = forced_clip(loop.bundle.artifact.metadata["dims"], chosen.tokens)
        times: list[tuple[float, float]] = []
        for _ in range(2 + chosen.rounds):
            [host] = run_forced(loop.runtime, clip)["total"]
            [file] = run_whole(cast("OneGraphRuntime", whole.runtime), clip)["total"]
            times.append((host, file))
        replaced = sum(loop.bundle.artifact.size(name) for name in REPLACED)
        size = whole.bundle.artifact.size("all_in_one")
    counted = times[2:]
    host, file = (statistics.median(column) for column in zip(*counted, strict=True))
    ratio = statistics.median(file / host for host, file in counted)
    print(f"{chosen.recipe} {chosen.level}, {len(clip.tokens) + 1} tokens, {len(counted)} rounds in turns")
    print(f"host loop   {host:8.1f} ms  {replaced / 1e6:8.2f} MB in {', '.join(REPLACED)}")
    print(f"all_in_one  {file:8.1f} ms  {size / 1e6:8.2f} MB in one file")
    print(f"ratio       {ratio:8.3f}     {size / replaced:8.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
