"""A small random Whisper as ONNX graphs, and short ways to run a pass on it and to look at the result."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
from whisper_fixtures import tiny_checkpoint

from pocket_opt.artifact import Artifact
from pocket_opt.onnx_graphs.inputs import random_inputs
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import Outcome, execute

ENCODER_LAYERS, DECODER_LAYERS, WIDTH, VOCAB = 3, 2, 64, 511
LINEAR = {"encoder": 6 * ENCODER_LAYERS + 2 * DECODER_LAYERS, "decoder": 8 * DECODER_LAYERS}
"""Linear layers by graph: the encoder also makes the cross-attention cache; the tied head is none."""
PRODUCTS = {"encoder": 2 * ENCODER_LAYERS, "decoder": 4 * DECODER_LAYERS + 1}
"""MatMul nodes without a constant matrix: two for each attention, and the tied head."""


@cache
def exported(
    decoder: str = "kv_cache", encoder_layers: int = ENCODER_LAYERS, decoder_layers: int = DECODER_LAYERS
) -> Artifact:
    """The exported artifact; its files are read-only, as in a store."""
    root = Path(mkdtemp(prefix="exported-whisper-"))
    source = tiny_checkpoint(
        root / "source", encoder_layers=encoder_layers, decoder_layers=decoder_layers, d_model=WIDTH
    )
    artifact = run_pass("export_onnx", source, root / "onnx", decoder=decoder).artifact
    for part in artifact.components.values():
        for name in part.files:
            (artifact.root / name).chmod(0o444)
    return artifact


def edited(component: str, workdir: Path, change: Callable[[ir.Graph], None]) -> Artifact:
    """The exported artifact in `workdir`, with one graph that `change` has edited in place."""
    carried = exported().carry(workdir, without=(component,))
    model = ir.load(exported().path(component))
    change(model.graph)
    part = exported().components[component]
    ir.save(model, workdir / part.files[0])
    return carried.with_component(component, part)


def run_pass(name: str, model: Artifact, workdir: Path, **params: Any) -> Outcome:
    """Run all steps of the pass `name` on `model`."""
    workdir.mkdir(parents=True, exist_ok=True)
    step = load_pass(name)
    return execute(step, {"model": model}, step.Params(**params), workdir)


def graph(artifact: Artifact, component: str) -> ir.Graph:
    """The graph in the file of `component`."""
    return ir.load(artifact.path(component)).graph


def operators(nodes: ir.Graph) -> Counter[str]:
    """Nodes by operator type."""
    return Counter(node.op_type for node in nodes)


def after_load(artifact: Artifact, component: str, workdir: Path) -> Counter[str]:
    """Nodes by operator type once ONNX Runtime has folded and fused the graph."""
    options = session_options(artifact)
    options.optimized_model_filepath = str(workdir / "optimized.onnx")
    onnxruntime.InferenceSession(artifact.path(component), options, providers=["CPUExecutionProvider"])
    return operators(ir.load(workdir / "optimized.onnx").graph)


def outputs(artifact: Artifact, component: str) -> list[np.ndarray[Any, Any]]:
    """What a graph answers to random inputs."""
    options = session_options(artifact)
    session = onnxruntime.InferenceSession(
        artifact.path(component), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, random_inputs(artifact.components[component]))


def session_options(artifact: Artifact) -> onnxruntime.SessionOptions:
    """The settings that the artifact recommends."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for key, value in artifact.metadata["session"]["entries"].items():
        options.add_session_config_entry(key, value)
    return options


def digests(artifact: Artifact) -> dict[str, str]:
    """SHA-256 of every file of the artifact's components."""
    files = [name for part in artifact.components.values() for name in part.files]
    return {name: hashlib.sha256((artifact.root / name).read_bytes()).hexdigest() for name in files}
