"""Store the weights of OpenVINO models as 8- or 4-bit integers with NNCF; what is computed stays floating point.

Applies to matrix products with a constant operand, convolutions and embedding tables; a table that the output head
shares is stored once. Costs no data and seconds. 8 bits have a scale for each output channel, 4 bits one for each block
of inputs. The plugin widens the weights inside its kernels, so a step reads a quarter (an eighth) of the bytes.

Integer activations are not offered: without VNNI the plugin's integer products are slower than its 32-bit ones (AVX2,
1,500 positions, 384 to 1,536: 22.9 ms instead of 20.3), and with VNNI it quantizes activations by itself where weights
are compressed. Sources: NNCF documentation, "Weights compression"; OpenVINO, "Dynamic quantization".
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, positive
from pocket_opt.worker import silent

LEAST_DB = {8: 10.0, 4: 0.0}
"""Agreement on random inputs below which the rewrite is wrong, not only inexact, by bits."""

COMPRESSED = ("i8", "u8", "i4", "u4")


@dataclass(frozen=True)
class CompressWeightsOpenvinoParams:
    """What is compressed, and how.

    Attributes:
        components: models of the artifact.
        bits: of matrix weights. Embedding and output head are stored in `table_bits`.
        symmetric: no zero points.
        group_size: inputs that share a scale at 4 bits; the widths of the layers must be multiples of it.
        exclude: regular expressions of node names that are left alone; each must match.
    """

    components: tuple[str, ...] = ("encoder", "decoder")
    bits: Literal[4, 8] = 8
    table_bits: Literal[4, 8] = 8
    symmetric: bool = True
    group_size: int = positive(32)
    exclude: tuple[str, ...] = ()


class CompressWeightsOpenvino(Pass[CompressWeightsOpenvinoParams]):
    """Runs `nncf.compress_weights`."""

    version = 1
    Params = CompressWeightsOpenvinoParams
    tools = ("openvino", "nncf", "numpy")

    def check(self, params: CompressWeightsOpenvinoParams) -> None:
        """Patterns are regular expressions, and tables have no fewer bits than the rest."""
        for pattern in params.exclude:
            try:
                re.compile(pattern)
            except re.error as error:
                raise UserError(
                    f"'{pattern}' is no regular expression: {error}", where="exclude", fix="correct it"
                ) from None
        if params.table_bits < params.bits:
            raise UserError(
                "embedding and head cannot have fewer bits than the other weights",
                where=f"table_bits={params.table_bits}",
                fix=f"set bits={params.table_bits} too",
            )

    def requires(self, inputs: Inputs, params: CompressWeightsOpenvinoParams) -> None:
        """The components are IR, groups fill their rows, and every pattern matches."""
        from pocket_opt.openvino_graphs.files import require_ir

        require_ir(inputs["model"], params.components)
        width = inputs["model"].metadata["dims"]["d_model"]
        if params.bits == 4 and width % params.group_size:
            sizes = ", ".join(str(size) for size in (8, 16, 32, 64, 128) if width % size == 0)
            raise PocketOptError(
                f"groups of {params.group_size} do not fill rows of {width} inputs",
                where="parameter group_size",
                allowed=sizes or "(none for this width)",
                fix="choose an allowed group size" if sizes else "use bits=8",
            )
        _require_matches(inputs["model"], params)

    def run(
        self,
        inputs: Inputs,
        params: CompressWeightsOpenvinoParams,
        workdir: Path,
        progress: Progress = silent,
    ) -> Outcome:
        """Compress one model after the other."""
        from pocket_opt.openvino_graphs.files import read, save

        source = inputs["model"]
        artifact, reports = source.carry(workdir, without=params.components), dict[str, Any]()
        for done, name in enumerate(params.components, start=1):
            model = compress(read(source.path(name)), params)
            counts = stored_weights(model)
            artifact = artifact.with_component(name, save(model, workdir, name))
            reports[name] = {**counts, "bytes_before": source.size(name), "bytes_after": artifact.size(name)}
            _require_some(name, counts)
            progress(done, len(params.components), "models")
        sums = {
            key: sum(part[key] for part in reports.values())
            for key in ("tensors", "bytes_before", "bytes_after")
        }
        return Outcome(artifact, {**sums, "components": reports})

    def ensures(self, inputs: Inputs, params: CompressWeightsOpenvinoParams, outcome: Outcome) -> None:
        """The answers are like before."""
        from pocket_opt.openvino_graphs.checks import require_agreement

        require_agreement(
            inputs["model"], outcome.artifact, params.components, least_db=LEAST_DB[params.bits]
        )


def compress(model: Any, params: CompressWeightsOpenvinoParams) -> Any:
    """`model` with integer weights; NNCF sends no telemetry and prints nothing."""
    os.environ["NNCF_CI"] = "1"  # read when it is imported; the one switch of its telemetry
    import logging

    import nncf

    nncf.set_log_level(logging.ERROR)
    modes = nncf.CompressWeightsMode
    ignored = nncf.IgnoredScope(patterns=list(params.exclude), validate=False) if params.exclude else None
    backup = nncf.BackupMode.INT8_SYM if params.symmetric else nncf.BackupMode.INT8_ASYM
    if params.bits == 8:
        mode = modes.INT8_SYM if params.symmetric else modes.INT8_ASYM
        return nncf.compress_weights(model, mode=mode, ignored_scope=ignored)
    return nncf.compress_weights(
        model,
        mode=modes.INT4_SYM if params.symmetric else modes.INT4_ASYM,
        ratio=1.0,
        group_size=params.group_size,
        all_layers=params.table_bits == 4,
        backup_mode=backup,
        ignored_scope=ignored,
    )


def stored_weights(model: Any) -> dict[str, Any]:
    """How many weights are stored as integers, by type."""
    from pocket_opt.openvino_graphs.files import constants

    found = {kind: count for kind, count in constants(model).items() if kind in COMPRESSED}
    return {"tensors": sum(found.values()), "by_type": found}


def _require_matches(source: Artifact, params: CompressWeightsOpenvinoParams) -> None:
    """Raise PocketOptError for a pattern that matches no node, because it would silently do nothing."""
    from pocket_opt.openvino_graphs.files import read

    if not params.exclude:
        return
    models = [read(source.path(name)) for name in params.components]
    names = [node.get_friendly_name() for model in models for node in model.get_ordered_ops()]
    for pattern in params.exclude:
        if not any(re.match(pattern, name) for name in names):
            layers = [name for name in names if name.endswith("/MatMul")][:6]
            raise PocketOptError(
                f"the pattern '{pattern}' matches nothing",
                where="parameter exclude",
                allowed=f"regular expressions for {', '.join(layers)} ...",
                fix="correct the pattern or remove it",
            )


def _require_some(name: str, counts: dict[str, Any]) -> None:
    if not counts["tensors"]:
        raise PocketOptError(
            f"no weight of component '{name}' was compressed",
            where=str(counts),
            fix="take it out of the components, or loosen exclude",
        )


PASS = CompressWeightsOpenvino()
