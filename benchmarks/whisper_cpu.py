"""Whisper on the CPU: our levels and every peer that is installed, in one interleaved run.

    python benchmarks/whisper_cpu.py --install                      # environments of the peers, several GB, once
    python benchmarks/whisper_cpu.py --recipe whisper_tiny --recipe whisper_base --save result.json
    python benchmarks/whisper_cpu.py --engine cpu-HIGH --json       # one line for one engine, nothing else

All engines get one checkpoint with random weights at the real shapes, the same log-mel features of one window, the same
prompt, and generate the same number of tokens: a forced sequence, or, where an engine cannot be stepped, its own with
end of text suppressed. Each runs in a process of its own and must first show logits near those of fp32, see
`harness/gate.py`. Ratios are medians over rounds; on a busy machine only they mean something. KEY=VALUE are further
settings of the build, as on the command line of pocket_opt.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import environments, models, table
from harness.children import Child, EngineFailed
from harness.engines import ENVIRONMENTS, OURS, PEERS, REFERENCE, Engine, engine
from harness.floor import floor
from harness.gate import Verdict, verdict
from harness.machine import measure
from harness.rounds import Times, run_rounds

from pocket_opt.errors import PocketOptError
from pocket_opt.home import home
from pocket_opt.hosts import host

SOURCE, FEATURES = engine("cpu-NONE"), engine("cpu-BASIC")
"""Whose bundle holds the checkpoint that peers convert, and whose front end computes the features of all."""


class Comparison:
    """One model size: its checkpoint, its engines, and what every request to them holds.

    Attributes:
        source: a bundle whose model identifies the size; where peers take part, it holds their checkpoint.
    """

    def __init__(self, recipe: str, arguments: argparse.Namespace, source: Engine) -> None:
        self.recipe, self.arguments = recipe, arguments
        self.source = self.build(source)
        self.metadata = models.metadata(self.source)
        self.place = arguments.work / models.identity(self.source)
        self.place.mkdir(parents=True, exist_ok=True)
        self.children: dict[str, Child] = {}
        self.failures: dict[str, str] = {}
        self.request: dict[str, Any] = {}
        self.mel_s = 0.0

    def build(self, ours: Engine) -> Path:
        """The bundle of one of our variants."""
        return models.build(
            self.recipe, ours.target, ours.level, self.arguments.overrides, self.arguments.work
        )

    def open(self, chosen: Engine) -> Child:
        """Start the engine.

        Raises:
            EngineFailed: its environment is not installed, or it cannot be opened.
        """
        python = environments.python_of(chosen.environment, self.arguments.envs)
        if python is None:
            raise EngineFailed(f"its environment '{chosen.environment}' is not installed (--install)")
        generation = json.loads((self.source / "generation_config.json").read_text(encoding="utf-8"))
        job = {
            "checkpoint": str(self.source),
            "work": str(self.place / chosen.name),
            "precision": chosen.setting,
            "threads": self.arguments.threads,
            "end": generation["eos_token_id"],
            "features": str(self.place / "features.npy"),
            "bundle": str(self.build(chosen)) if chosen.target else "",
        }
        log = self.place / f"{chosen.name}.log"
        return Child(chosen.adapter, job, python, log, priority=self.arguments.priority)

    def prepare(self, ours: Child) -> None:
        """Have one of ours compute the features; any sequence will do until the reference has chosen one."""
        audio, features = self.place / "audio.npy", self.place / "features.npy"
        models.write_audio(self.metadata["dims"], audio)
        reply = ours.ask(do="prepare", audio=str(audio), to=str(features))
        room = self.metadata["dims"]["target_positions"] - len(reply["prompt"])
        forced = list(range(1, 1 + min(self.arguments.tokens, room)))
        self.request = {"features": str(features), "prompt": reply["prompt"], "forced": forced}
        self.mel_s = reply["mel_s"]

    def start(self, names: Sequence[str]) -> None:
        """Start the engines; those that cannot be are noted and left out."""
        for name in names:
            try:
                self.children[name] = self.open(engine(name))
            except (EngineFailed, PocketOptError) as error:
                self.failures[name] = str(error)

    def gate(self) -> dict[str, Verdict | None]:
        """Compare the logits of every engine with those of the reference along the same tokens."""
        reference, verdicts = self.children[REFERENCE.name], dict[str, Verdict | None]()
        self.request["forced"] = reference.ask(do="tokens", **self.request)["tokens"]
        expected, found = self.place / "expected.npy", self.place / "found.npy"
        for name in list(self.children):
            if name == REFERENCE.name:
                verdicts[name] = None
                continue
            try:
                tokens = self.children[name].ask(do="logits", to=str(found), **self.request)["tokens"]
                reference.ask(do="logits", to=str(expected), **{**self.request, "forced": tokens})
                verdicts[name] = verdict(engine(name), expected, found)
            except (EngineFailed, ValueError) as error:
                self.failures[name] = str(error)
                self.children.pop(name).close()
        return verdicts

    def rounds(self, count: int) -> dict[str, Times]:
        """Time all engines that are left."""
        return run_rounds(self.children, self.request, count)

    def close(self) -> None:
        """End all processes."""
        for child in self.children.values():
            child.close()


def compare(recipe: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the whole comparison of one size, print its table and return everything."""
    comparison = Comparison(recipe, arguments, SOURCE)
    names = list(dict.fromkeys([REFERENCE.name, *arguments.engines]))
    try:
        ours = comparison.open(FEATURES)
        comparison.prepare(ours)
        ours.close()
        comparison.start(names)
        if REFERENCE.name not in comparison.children:
            raise EngineFailed(f"the reference does not run: {comparison.failures[REFERENCE.name]}")
        verdicts = comparison.gate()
        rates = measure(arguments.threads, arguments.priority)
        times = comparison.rounds(arguments.rounds)
    finally:
        comparison.close()
    tokens = len(comparison.request["forced"])
    least = floor(comparison.metadata["dims"], rates, tokens)
    rows = [
        table.row(name, times[name], times[REFERENCE.name], child.ready, verdicts[name], least)
        for name, child in comparison.children.items()
    ]
    if not arguments.json:
        print(table.heading(recipe, host(), rates, least, comparison.mel_s))
        print(table.text(rows, comparison.failures), flush=True)
    return {
        "recipe": recipe,
        "host": host(),
        "threads": arguments.threads,
        "tokens": tokens,
        "rounds": arguments.rounds,
        "mel_s": comparison.mel_s,
        "rates": asdict(rates),
        "floor": asdict(least),
        "engines": rows,
        "failures": comparison.failures,
    }


def alone(name: str, recipe: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time one engine by itself: the medians that others can put beside their own."""
    chosen = engine(name)
    comparison = Comparison(recipe, arguments, chosen if chosen.target else SOURCE)
    try:
        ours = comparison.open(chosen if chosen.target else FEATURES)
        comparison.children[""] = ours
        comparison.prepare(ours)
        child = ours if chosen.target else comparison.open(chosen)
        comparison.children = {name: child}
        times = comparison.rounds(arguments.rounds)[name]
    finally:
        comparison.close()
    return {
        "encoder_s": times.median("encoder_s"),
        "total_s": times.median("total_s"),
        "size_mb": child.ready["size_mb"],
        "tokens": len(comparison.request["forced"]),
    }


def main(words: Sequence[str] | None = None) -> int:
    """The command line; 1 if an engine could not be measured, 2 for a mistake in the arguments."""
    arguments = _arguments(words)
    try:
        if arguments.install:
            for name in ENVIRONMENTS:
                print(f"{name} -> {arguments.envs / name}", flush=True)
                environments.install(name, arguments.envs)
            return 0
        if arguments.engine:
            found = alone(arguments.engine, arguments.recipe[0], arguments)
            print(json.dumps(found) if arguments.json else table.line(arguments.engine, found))
            return 0
        results = [compare(recipe, arguments) for recipe in arguments.recipe]
    except (EngineFailed, PocketOptError) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    if arguments.json:
        print(json.dumps(results))
    if arguments.save:
        arguments.save.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return int(any(result["failures"] for result in results))


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="whisper_cpu.py", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add(
        "--recipe",
        action="append",
        help="whisper_tiny (the default), whisper_base ...; may be given several times",
    )
    add("--engines", help="comma-separated; the default is every peer and ours")
    add("--engine", help="one engine by itself, e.g. cpu-HIGH; prints one line of JSON")
    add("--json", action="store_true", help="print JSON instead of the table")
    add("--save", type=Path, metavar="FILE", help="also write everything that was measured there, as JSON")
    add("--rounds", type=int, default=5)
    add("--tokens", type=int, default=64)
    add("--threads", type=int, default=2)
    add(
        "--priority",
        type=int,
        default=0,
        help="niceness of the engines, e.g. -15 on a busy machine (needs the right)",
    )
    add("--envs", type=Path, default=home() / "benchmarks" / "environments", help="environments of the peers")
    add("--work", type=Path, default=home() / "benchmarks" / "models", help="what is built and converted")
    add("--install", action="store_true", help="make the environments and end")
    add("overrides", nargs="*", metavar="KEY=VALUE")
    chosen = parser.parse_intermixed_args(words)
    chosen.recipe = chosen.recipe or ["whisper_tiny"]
    chosen.engines = chosen.engines.split(",") if chosen.engines else [*OURS, *(peer.name for peer in PEERS)]
    try:
        for name in [*chosen.engines, *([chosen.engine] if chosen.engine else [])]:
            engine(name)
    except ValueError as error:
        parser.error(str(error))
    if unknown := [word for word in chosen.overrides if "=" not in word]:
        parser.error(f"not KEY=VALUE: {unknown[0]}")
    if min(chosen.rounds, chosen.tokens, chosen.threads) < 1:
        parser.error("--rounds, --tokens and --threads must be 1 or more")
    chosen.work, chosen.envs = chosen.work.absolute(), chosen.envs.absolute()
    return chosen


if __name__ == "__main__":
    sys.exit(main())
