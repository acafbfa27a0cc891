"""Small Whisper models taken through the passes of the OpenVINO target, and what the plugin makes of them."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import openvino as ov
from exported_whisper import exported, run_pass

from pocket_opt.artifact import Artifact
from pocket_opt.config.schema import Decoder, Intents
from pocket_opt.targets import load_target


@cache
def converted(decoder: str = "kv_cache") -> Artifact:
    """The small random model as OpenVINO IR, 32 bits; its files are read-only, as in a store."""
    artifact = run_pass("convert_openvino", exported(decoder), Path(mkdtemp(prefix="openvino-"))).artifact
    for part in artifact.components.values():
        for name in part.files:
            (artifact.root / name).chmod(0o444)
    return artifact


def built(source: Artifact, intents: Intents, workdir: Path, decoder: str = "kv_cache") -> Artifact:
    """`source` (a checkpoint) taken through every step that the target asks for."""
    for step in load_target("openvino").steps(intents, Decoder(decoder)):  # type: ignore[arg-type]
        if not step.off:
            source = run_pass(step.pass_name, source, workdir / step.name, **step.params).artifact
    return source


def kernels(artifact: Artifact, component: str) -> Counter[str]:
    """Nodes by type once the CPU plugin has fused the model."""
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(artifact.path(component), "CPU", settings)
    nodes = compiled.get_runtime_model().get_ordered_ops()
    return Counter(node.get_rt_info()["layerType"].value for node in nodes)
