"""What an adapter needs to be timed: JSON lines in and out, and the loop that every stepwise engine is driven by.

Adapters run in environments of their own, so this file and they import nothing of pocket_opt: the standard library,
numpy, and the engine. An adapter is started as `python ADAPTER.py JOB.json`; the job names a checkpoint in the Hugging
Face layout, a directory for what is converted from it, the precision and the threads. The child answers one line
when it is ready, and then one line for each line it reads, until its input ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np


class Stepwise(Protocol):
    """An engine whose steps can be called one by one."""

    def encode(self, features: Any) -> None:
        """Run the encoder on `[1, mels, frames]`; decoding starts anew."""

    def decode(self, tokens: list[int]) -> Any:
        """Feed tokens after those fed since `encode`; logits `[vocab]` of what follows the last one."""


class Whole(Protocol):
    """An engine that only generates whole sequences; it chooses its tokens itself, end of text suppressed."""

    def encode(self, features: Any) -> None:
        """Run the encoder alone, to be timed."""

    def generate(self, features: Any, prompt: list[int], count: int) -> list[int]:
        """Encode and generate exactly `count` tokens after `prompt`."""

    def evidence(self, features: Any, prompt: list[int], count: int) -> tuple[list[int], Any]:
        """The same with the logits `[count, vocab]` of the places of the tokens."""


def run_stepwise(engine: Stepwise, features: Any, prompt: list[int], forced: list[int]) -> dict[str, Any]:
    """Times of one window: encoder, prompt, and a step for each forced token but the last.

    The greedy choice is part of a step; what would follow the last token is not asked.
    """
    marks = [time.perf_counter()]
    engine.encode(features)
    marks.append(time.perf_counter())
    for fed in (prompt, *([token] for token in forced[:-1])):
        int(engine.decode(fed).argmax())
        marks.append(time.perf_counter())
    encoder, first, *steps = np.diff(marks).tolist()
    return {
        "encoder_s": encoder,
        "first_s": first,
        "token_s": float(np.median(steps)),
        "total_s": marks[-1] - marks[0],
        "tokens": len(forced),
    }


def run_whole(engine: Whole, features: Any, prompt: list[int], forced: list[int]) -> dict[str, Any]:
    """The same for an engine that cannot be stepped: a token is what is left after the encoder, on average."""
    began = time.perf_counter()
    engine.encode(features)
    encoder = time.perf_counter() - began
    began = time.perf_counter()
    tokens = engine.generate(features, prompt, len(forced))
    total = time.perf_counter() - began
    if len(tokens) != len(forced):
        raise RuntimeError(f"generated {len(tokens)} tokens instead of {len(forced)}")
    return {
        "encoder_s": encoder,
        "first_s": None,
        "token_s": (total - encoder) / len(tokens),
        "total_s": total,
        "tokens": len(tokens),
    }


def forced_logits(engine: Stepwise, features: Any, prompt: list[int], forced: list[int]) -> Any:
    """Logits `[tokens, vocab]`: row i is what the engine predicts in the place of forced token i."""
    engine.encode(features)
    fed = (prompt, *([token] for token in forced[:-1]))
    return np.stack([np.array(engine.decode(tokens), np.float32) for tokens in fed])


def serve(open_engine: Callable[[dict[str, Any]], Any], packages: tuple[str, ...]) -> None:
    """Open the engine of the job that the command line names, say so, and do what is asked until there is no more."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what native libraries print must not mix with the replies

    def reply(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=replies, flush=True)

    job = json.loads(Path(sys.argv[1]).read_text())
    try:
        Path(job["work"]).mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        engine = open_engine(job)
        ready = {"load_s": time.perf_counter() - began, "size_mb": engine.size_mb}
        reply({**ready, "versions": {name: version(name) for name in packages}})
        for line in sys.stdin:
            reply(_answer(engine, json.loads(line)))
    except Exception as error:
        reply({"error": f"{type(error).__name__}: {error}"})
        raise


def _answer(engine: Any, request: dict[str, Any]) -> dict[str, Any]:
    """What a request asks for: an engine's own method of that name, or one of the three below."""
    do = request.pop("do")
    if hasattr(engine, f"do_{do}"):
        reply: dict[str, Any] = getattr(engine, f"do_{do}")(**request)
        return reply
    features, prompt, forced = np.load(request["features"]), request["prompt"], request["forced"]
    if do == "time":
        run = getattr(engine, "run", None) or partial(_runner(engine), engine)
        return {"runs": [run(features, prompt, forced) for _ in range(request["repeats"])]}
    if do == "tokens":
        return {"tokens": [int(token) for token in engine.generate(features, prompt, len(forced))]}
    if do == "logits":
        tokens = forced
        if hasattr(engine, "evidence"):
            tokens, logits = engine.evidence(features, prompt, len(forced))
        else:
            logits = forced_logits(engine, features, prompt, forced)
        np.save(request["to"], logits)
        return {"tokens": [int(token) for token in tokens]}
    raise ValueError(f"unknown request {do!r}")


def _runner(engine: Any) -> Callable[..., dict[str, Any]]:
    return run_whole if hasattr(engine, "generate") else run_stepwise


def size_mb(files: Iterable[Path]) -> float:
    """MB (10^6 bytes) of model files."""
    return sum(file.stat().st_size for file in files) / 1e6
