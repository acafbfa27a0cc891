"""Wall time, peak memory and size of a whole build from a checkpoint: ours, and Optimum's nearest equivalent.

    python benchmarks/whisper_cpu.py --install                     # Optimum's environment, once
    python benchmarks/build_cost.py --recipe whisper_small --level HIGH

Random weights at the real shapes, made before the clock starts. Ours runs twice, each time in an empty home: only
building, and the whole command with its measurements and tracking. Optimum exports and then quantizes dynamically to
8 bits, without measuring anything. Our peak is held against what is promised: three times the fp32 weights plus 1 GB.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness import environments, models
from harness.cost import Cost, watch

import pocket_opt
from pocket_opt.home import home

ALLOWANCE_BYTES = 1_000_000_000
TASK = "automatic-speech-recognition-with-past"


def main(words: Sequence[str] | None = None) -> int:
    """Run all, print a line for each; 1 if something failed or the promise is broken."""
    parser = argparse.ArgumentParser(prog="build_cost.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recipe", default="whisper_tiny")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--level", default="HIGH")
    parser.add_argument("--envs", type=Path, default=home() / "benchmarks" / "environments")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    chosen = parser.parse_intermixed_args(words)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        checkpoint = models.build(chosen.recipe, "cpu", "NONE", chosen.overrides, folder / "checkpoint")
        weights = _bytes(checkpoint, "*.safetensors")
        print(f"{chosen.recipe}, level {chosen.level}, fp32 weights {weights / 1e6:.1f} MB", flush=True)
        failed = False
        for name, measures in (("ours, build only", False), ("ours, whole command", True)):
            output = folder / f"outputs-{measures}"
            cost = _ours(chosen, checkpoint, output, measures=measures)
            failed |= bool(cost.exit_code) or cost.peak_bytes > 3 * weights + ALLOWANCE_BYTES
            bundles = [
                file.parent for file in output.glob(f"{chosen.recipe}/{chosen.target}/*/manifest.json")
            ]
            _tell(name, cost, _bytes(bundles[0], "*.onnx*", "*.data", "*.bin") if bundles else 0)
        failed |= _optimum(chosen.envs.absolute(), checkpoint, folder / "optimum")
    return int(failed)


def _ours(chosen: argparse.Namespace, checkpoint: Path, output: Path, *, measures: bool) -> Cost:
    """Our command on the checkpoint, with nothing in the store."""
    given = [f"recipe.model.path={checkpoint}", "recipe.model.weights=pretrained", *chosen.overrides]
    if not measures:
        planned = pocket_opt.plan(chosen.recipe, chosen.target, chosen.level, given)
        given += ["tracking=none"]
        given += [f"nodes.{node.name}.enabled=false" for node in planned.graph if node.kind == "measure"]
    choices = [f"recipe={chosen.recipe}", f"target={chosen.target}", f"level={chosen.level}"]
    command = [sys.executable, "-m", "pocket_opt", *choices, *given, f"output_dir={output}"]
    return watch(command, {**os.environ, "POCKET_OPT_HOME": str(output) + "-home"})


def _optimum(envs: Path, checkpoint: Path, folder: Path) -> bool:
    """Optimum's export and quantization, one line; whether it failed."""
    python = environments.python_of("optimum", envs)
    if python is None:
        print(f"optimum              not measured: not installed in {envs}")
        return False
    tool, exported, quantized = str(python.with_name("optimum-cli")), f"{folder}-fp32", f"{folder}-int8"
    steps = [
        watch([tool, *words], os.environ)
        for words in (
            ["export", "onnx", "-m", str(checkpoint), "--task", TASK, exported],
            ["onnxruntime", "quantize", "--avx2", "--per_channel", "--onnx_model", exported, "-o", quantized],
        )
    ]
    peak, failures = max(step.peak_bytes for step in steps), [step.exit_code for step in steps]
    cost = Cost(sum(step.wall_s for step in steps), peak, next(filter(None, failures), 0))
    needed = ("encoder_model*.onnx*", "decoder_model_merged*.onnx*")
    _tell("optimum, int8", cost, _bytes(Path(quantized), *needed))
    return bool(cost.exit_code)


def _bytes(folder: Path, *patterns: str) -> int:
    """Size of the files that match."""
    return sum(file.stat().st_size for pattern in patterns for file in folder.rglob(pattern))


def _tell(name: str, cost: Cost, size: int) -> None:
    state = "" if not cost.exit_code else f"  FAILED with {cost.exit_code}"
    print(
        f"{name:20} {cost.wall_s:7.1f} s  peak {cost.peak_bytes / 1e9:5.2f} GB  {size / 1e6:8.1f} MB{state}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
