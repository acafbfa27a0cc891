"""Store what an OpenVINO model still keeps in 32 bits in 16; it is widened when the model is compiled.

Applies to every constant that 16 bits can hold; the mel front end is left alone (its tables are a few kilobytes, and
its logarithm is of small numbers). Half the size of what it touches, no slower. A table of sinusoidal positions is not
stored at all but computed at load (`../openvino_graphs/sinusoids.py`). Source: OpenVINO documentation, "Compressing a
model to FP16".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocket_opt.errors import PocketOptError
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.worker import silent

LEAST_DB = 40.0
"""Agreement on random inputs below which the rewrite is wrong, not only inexact."""


@dataclass(frozen=True)
class StoreFp16OpenvinoParams:
    """`components`: models of the artifact."""

    components: tuple[str, ...] = ("encoder", "decoder")


class StoreFp16Openvino(Pass[StoreFp16OpenvinoParams]):
    """Writes the models again, with constants in 16 bits."""

    version = 2
    Params = StoreFp16OpenvinoParams
    tools = ("openvino", "numpy")

    def requires(self, inputs: Inputs, params: StoreFp16OpenvinoParams) -> None:
        """The components are IR."""
        from pocket_opt.openvino_graphs.files import require_ir

        require_ir(inputs["model"], params.components)

    def run(
        self, inputs: Inputs, params: StoreFp16OpenvinoParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Store one model after the other."""
        from pocket_opt.openvino_graphs.files import read, save

        source = inputs["model"]
        artifact, reports = source.carry(workdir, without=params.components), dict[str, Any]()
        for done, name in enumerate(params.components, start=1):
            model = read(source.path(name))
            counts = halve(model)
            artifact = artifact.with_component(name, save(model, workdir, name))
            sizes = {"bytes_before": source.size(name), "bytes_after": artifact.size(name)}
            reports[name] = {**counts, **sizes}
            if not counts["tensors"]:
                raise PocketOptError(
                    f"nothing of component '{name}' could be stored in 16 bits",
                    where=str(reports[name]),
                    fix="take it out of the components",
                )
            progress(done, len(params.components), "models")
        keys = ("tensors", "computed", "bytes_before", "bytes_after")
        sums = {key: sum(part[key] for part in reports.values()) for key in keys}
        return Outcome(artifact, {**sums, "components": reports})

    def ensures(self, inputs: Inputs, params: StoreFp16OpenvinoParams, outcome: Outcome) -> None:
        """The answers are like before."""
        from pocket_opt.openvino_graphs.checks import require_agreement

        require_agreement(inputs["model"], outcome.artifact, params.components, least_db=LEAST_DB)


def halve(model: Any) -> dict[str, int]:
    """Put float16 constants and a Convert (or a formula) in the place of float32 ones; returns how many, and not.

    `ov.save_model(compress_to_fp16=True)` does so too, but does nothing for a model with integer weights.
    """
    import numpy as np
    from openvino import opset13 as ops

    from pocket_opt.onnx_graphs.sinusoids import is_sinusoidal
    from pocket_opt.openvino_graphs.sinusoids import computed

    counts = {"tensors": 0, "computed": 0, "too_large_for_16_bits": 0}
    for node in model.get_ordered_ops():
        is_float = node.get_type_name() == "Constant" and node.get_element_type().get_type_name() == "f32"
        if not is_float or node.data.size < 2:
            continue
        if not np.abs(node.data).max() < np.finfo(np.float16).max:
            counts["too_large_for_16_bits"] += 1
            continue
        readers = list(node.output(0).get_target_inputs())
        is_formula = is_sinusoidal(node.data)
        if is_formula:
            wide = computed(node.data.shape)
        else:
            half = ops.constant(node.data.astype(np.float16))
            half.set_friendly_name(f"{node.get_friendly_name()}.fp16")
            wide = ops.convert(half, "f32")
        wide.set_friendly_name(node.get_friendly_name())
        for reader in readers:
            reader.replace_source_output(wide.output(0))
        counts["computed" if is_formula else "tensors"] += 1
    model.validate_nodes_and_infer_types()
    return counts


PASS = StoreFp16Openvino()
