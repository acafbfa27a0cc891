"""Our export of Whisper beside Optimum's: agreement, size and speed of the fp32 graphs, at real shapes.

    pocket-opt toolchain install optimum                      # once
    python benchmarks/export_reference.py --recipe whisper_tiny

Random weights. Both exports are those of one checkpoint; ours is fused as at level BASIC. The same features and tokens
go through both, in turns: encoder with the cross-attention cache of four prompt tokens, then further tokens one at a
time. Optimum's graphs are called without its Python classes, so only graphs are compared.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import pocket_opt
from pocket_opt.artifact import Artifact
from pocket_opt.onnx_graphs.checks import open_session
from pocket_opt.onnx_graphs.files import sqnr_db
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import Outcome, execute
from pocket_opt.runtimes.calibration import decoder_inputs

PROMPT, STEPS = 4, 16


class Graphs:
    """Sessions by component, called by names."""

    def __init__(self, artifact: Artifact, names: Sequence[str]) -> None:
        self._sessions = {name: open_session(artifact, name) for name in names}

    def run(self, name: str, feeds: dict[str, Any]) -> dict[str, Any]:
        session = self._sessions[name]
        taken = {port.name: feeds[port.name] for port in session.get_inputs()}
        return dict(zip([port.name for port in session.get_outputs()], session.run(None, taken), strict=True))


class Ours:
    def __init__(self, artifact: Artifact) -> None:
        self.artifact, self.graphs = artifact, Graphs(artifact, ("encoder", "decoder"))

    def start(self, features: Any, prompt: Any) -> tuple[Any, dict[str, Any]]:
        encoded = self.graphs.run("encoder", {"features": features})
        feeds = decoder_inputs(self.artifact, encoded, prompt)
        return self.step(prompt, feeds)

    def step(self, tokens: Any, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        found = self.graphs.run("decoder", {**state, "tokens": tokens})
        grown = {name.replace("present", "past"): array for name, array in found.items() if name != "logits"}
        return found["logits"], {**state, **grown}


class Optimums:
    def __init__(self, artifact: Artifact) -> None:
        names = ("encoder_model", "decoder_model", "decoder_with_past_model")
        self.graphs = Graphs(artifact, names)

    def start(self, features: Any, prompt: Any) -> tuple[Any, dict[str, Any]]:
        hidden = self.graphs.run("encoder_model", {"input_features": features})["last_hidden_state"]
        found = self.graphs.run("decoder_model", {"input_ids": prompt, "encoder_hidden_states": hidden})
        return found["logits"], self._past(found)

    def step(self, tokens: Any, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        feeds = {**state, "input_ids": tokens, "cache_position": np.array([self._length(state)])}
        found = self.graphs.run("decoder_with_past_model", feeds)
        return found["logits"], {**state, **self._past(found)}

    def _past(self, found: dict[str, Any]) -> dict[str, Any]:
        present = {name: array for name, array in found.items() if name.startswith("present")}
        return {name.replace("present", "past_key_values"): array for name, array in present.items()}

    def _length(self, state: dict[str, Any]) -> int:
        return int(state["past_key_values.0.decoder.key"].shape[2])


def main(words: Sequence[str] | None = None) -> int:
    """Print agreement, sizes, medians and ratios; 1 where the exports disagree."""
    parser = argparse.ArgumentParser(
        prog="export_reference.py", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--recipe", default="whisper_tiny")
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as place:
        ours, theirs = export_both(chosen.recipe, Path(place))
        least = compare(ours, theirs, chosen.rounds)
    return 0 if least > 60 else 1


def export_both(recipe: str, folder: Path) -> tuple[Artifact, Artifact]:
    """One random checkpoint, exported and fused by us, and exported by Optimum."""
    root = pocket_opt.plan(recipe, "cpu", "BASIC", ["recipe.model.weights=random"]).roots["source"]
    source = _run("random_weights", {}, folder / "source", **root.params).artifact
    exported = _run("export_onnx", {"model": source}, folder / "export").artifact
    ours = _run("fuse", {"model": exported}, folder / "ours").artifact
    return ours, _run("optimum_export", {"model": source}, folder / "optimum", merged=False).artifact


def compare(ours: Artifact, theirs: Artifact, rounds: int) -> float:
    """Print the comparison; gives the least SQNR of logits in dB."""
    random = np.random.default_rng(0)
    dims = ours.metadata["dims"]
    features = random.standard_normal((1, dims["mels"], 2 * dims["source_positions"])).astype(np.float32)
    tokens = random.integers(0, dims["vocab"], (1, PROMPT + STEPS))
    engines = {"ours": Ours(ours), "optimum": Optimums(theirs)}
    logits: dict[str, Any] = {}
    times: dict[str, dict[str, list[float]]] = {name: {"start": [], "step": []} for name in engines}
    for turn in range(rounds + 1):
        for name, engine in engines.items():
            began = time.perf_counter()
            found, state = engine.start(features, tokens[:, :PROMPT])
            middle = time.perf_counter()
            said = [found[:, -1:]]
            for place in range(PROMPT, PROMPT + STEPS):
                found, state = engine.step(tokens[:, place : place + 1], state)
                said.append(found)
            end = time.perf_counter()
            logits[name] = np.concatenate(said, axis=1)
            if turn:
                times[name]["start"].append(1000 * (middle - began))
                times[name]["step"].append(1000 * (end - middle) / STEPS)
    level = sqnr_db(logits["optimum"], logits["ours"])
    top1 = float((logits["optimum"].argmax(-1) == logits["ours"].argmax(-1)).mean())
    print(f"logits of {PROMPT}+{STEPS} tokens: SQNR {level:.1f} dB, equal top choice {100 * top1:.0f} %")
    for name, artifact in (("ours", ours), ("optimum", theirs)):
        size = sum(artifact.size(part) for part, one in artifact.components.items() if one.inputs) / 1e6
        start, step = (statistics.median(times[name][phase]) for phase in ("start", "step"))
        print(f"{name:<8} {size:7.1f} MB   encoder and prompt {start:7.1f} ms   one token {step:6.2f} ms")
    for phase in ("start", "step"):
        pairs = zip(times["ours"][phase], times["optimum"][phase], strict=True)
        ratio = statistics.median(mine / other for mine, other in pairs)
        print(f"ours of optimum, {phase}: {ratio:.2f}")
    return level


def _run(name: str, inputs: dict[str, Artifact], workdir: Path, **params: Any) -> Outcome:
    workdir.mkdir()
    step = load_pass(name)
    return execute(step, inputs, step.Params(**params), workdir)


if __name__ == "__main__":
    raise SystemExit(main())
