"""A bundle of pocket_opt, opened by its own runtime: what is measured is what ships. Runs in this environment."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from protocol import serve

from pocket_opt.bundle.layout import open_bundle
from pocket_opt.runtimes import open_runtime
from pocket_opt.runtimes.base import DecodeOptions

TRIES = 5


class Ours:
    """The bundle, fed step by step through the methods that every runtime of pocket_opt has."""

    def __init__(self, job: dict[str, Any]) -> None:
        bundle = open_bundle(Path(job["bundle"]))
        self.size_mb = bundle.manifest["metrics"]["size"]["total_mb"]["value"]
        self.runtime = open_runtime(bundle.artifact, threads=job["threads"])

    def do_prepare(self, audio: str, to: str) -> dict[str, Any]:
        """Write the log-mel features of the clip; also the usual prompt, and the seconds that features take."""
        clip = np.load(audio)
        times = []
        for _ in range(TRIES):
            began = time.perf_counter()
            features = self.runtime.features([clip])
            times.append(time.perf_counter() - began)
        np.save(to, features)
        return {"prompt": self.runtime.prompt(DecodeOptions()), "mel_s": float(np.median(times))}

    def encode(self, features: Any) -> None:
        self.state = self.runtime.encode(features)

    def decode(self, tokens: list[int]) -> Any:
        logits, self.state = self.runtime.decode(np.array([tokens], np.int64), self.state)
        return logits[0, -1]


if __name__ == "__main__":
    serve(Ours, ("pocket_opt", "onnxruntime"))
