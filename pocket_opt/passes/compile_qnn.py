"""Compile graphs of static shapes to context binaries of a Qualcomm NPU (HTP), through ONNX Runtime's QNN provider.

Applies to the static export (`encoder`, `prefill`, `decoder`), in floats or quantized; `mel` stays a graph for the CPU.
The NPU computes floats in 16 bits. Costs seconds for small models; 20 s for the encoder of whisper-small. A binary is
for one generation of the NPU and is checked here in Qualcomm's simulator: the provider is active, nothing is left to
the CPU, and the binary, loaded again, gives the same numbers to the last bit. The simulator computes about 10^8
products a second, so an encoder with more than `simulate_below` products is compiled again for few positions, and that
is run; of other graphs of that size only the structure is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, neutral
from pocket_opt.qnn.chip import PREFILL, ChipParams, about, check_chip, graphs_of
from pocket_opt.worker import silent

TEXT = (PREFILL, "decoder")
AT_RUN_TIME = ("htp_performance_mode", "qnn_context_priority", "enable_vtcm_backup_buffer_sharing")
"""Options that say how the NPU runs, not how it is compiled for; a bundle hands them on."""

EQUAL = "reloaded: equal to the last bit"


@dataclass(frozen=True)
class CompileQnnParams(ChipParams):
    """For what, and how.

    Attributes:
        optimization: how hard the compiler tries, 0 to 3.
        allow_fallback: let the CPU compute what the NPU cannot.
        share_weights: put `prefill` and `decoder` into one binary, in which their weights lie once. The simulator
            cannot load such a binary; what is checked are binaries of each alone, made of the same graphs.
        options: further options of the provider; see qnn/options.py.
        simulate_below: products in one call of a graph up to which the check runs it whole; 0 runs none.
    """

    optimization: int = field(default=3, metadata={"at_least": 0, "at_most": 3})
    allow_fallback: bool = False
    share_weights: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    simulate_below: float = neutral(4e9)


class CompileQnn(Pass[CompileQnnParams]):
    """Compiles one graph after the other, and checks each."""

    version = 3
    Params = CompileQnnParams
    compiles = True
    tools = ("onnx", "onnx_ir", "onnxruntime", "onnxruntime-qnn", "numpy")

    def check(self, params: CompileQnnParams) -> None:
        """Options are known; chip and generation are both given, for one without the other compiles for neither."""
        from pocket_opt.qnn.options import check_options

        check_options(params.options, where="options")
        if params.share_weights and params.allow_fallback:
            raise UserError(
                "what the CPU computes has no part in a binary with shared weights",
                where="share_weights",
                allowed="share_weights=true, or allow_fallback=true",
                fix="choose one of the two",
            )
        check_chip(params)

    def requires(self, inputs: Inputs, params: CompileQnnParams) -> None:
        """The provider is installed; the graphs are there, and of what the NPU can take."""
        from pocket_opt.onnx_graphs.files import require_graphs
        from pocket_opt.qnn.fitness import require_fitness
        from pocket_opt.runtimes.qnn import require_provider

        require_provider()
        graphs = graphs_of(inputs["model"])
        require_graphs(inputs["model"], graphs)
        if params.share_weights and PREFILL not in graphs:
            raise UserError(
                "there is no second graph to share weights with",
                where="share_weights, decoder.prefill=false",
                allowed="one of the two: either spares the weights of prefill",
                fix="leave one out",
            )
        require_fitness(inputs["model"], graphs, allow_fallback=params.allow_fallback)

    def run(
        self, inputs: Inputs, params: CompileQnnParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Write wrappers and binaries, and say what the NPU computes of each graph."""
        from pocket_opt.qnn.compilation import least_cosine
        from pocket_opt.qnn.context import component

        source = inputs["model"]
        graphs = graphs_of(source)
        artifact, did = source.carry(workdir, without=graphs), dict[str, Any]()
        least = least_cosine(source)
        for done, name in enumerate(graphs, start=1):
            part, wrapper = source.components[name], workdir / f"{name}.onnx"
            did[name] = _compile(source.path(name), wrapper, part, params, least)
            artifact = artifact.with_component(name, component(wrapper, part))
            did[name]["bytes"] = artifact.size(name)
            progress(done, len(graphs), "graphs")
        if params.share_weights:
            artifact, did["shared"] = _share(source, artifact, params)
        qnn = about(
            params,
            source,
            allow_fallback=params.allow_fallback,
            share_weights=params.share_weights,
            run_options={key: value for key, value in params.options.items() if key in AT_RUN_TIME},
        )
        generation = artifact.components["generation"]
        artifact = artifact.with_component("generation", generation, runtime="qnn", qnn=qnn)
        return Outcome(artifact, did)

    def ensures(self, inputs: Inputs, params: CompileQnnParams, outcome: Outcome) -> None:  # noqa: ARG002
        """Wrappers hold nothing but contexts, unless the CPU may have a part, and have the ports of the graphs."""
        from pocket_opt.qnn.context import check_ports, left_out

        for name in graphs_of(outcome.artifact):
            wrapper = outcome.artifact.path(name)
            check_ports(wrapper, outcome.artifact.components[name])
            if (left := left_out(wrapper)) and not params.allow_fallback:
                raise PocketOptError(
                    f"graph '{name}' was compiled, but {len(left)} nodes are left to the CPU",
                    where=", ".join(f"{node} ({operator})" for node, operator in left[:5]),
                    fix="report this with the model's shapes",
                )


def _compile(
    source: Path, wrapper: Path, part: Any, params: CompileQnnParams, least: float
) -> dict[str, Any]:
    """Compile one graph and check it, at least so near to the CPU's numbers; what was done."""
    from pocket_opt.qnn import compilation
    from pocket_opt.qnn.shortening import few_positions, shortened
    from pocket_opt.scratch import scratch

    making = _making(params)
    compiled = compilation.compile_graph(source, wrapper, making, allow_fallback=params.allow_fallback)
    found: dict[str, Any] = {
        "npu_share": compiled.share,
        "operators": compiled.operators,
        "left_to_cpu": dict(compiled.left),
        "compile_s": round(compiled.seconds, 2),
    }
    products = compilation.multiplications(source)
    if products <= params.simulate_below:
        return found | _simulate(source, wrapper, part, compiled, params, least)
    if wrapper.stem != "encoder" or not params.simulate_below:
        return {**found, "checked": f"structure only: {products:.1e} products take too long to simulate"}
    del compiled
    with scratch("spot") as place:
        short = place / "short.onnx"
        positions = few_positions(part)
        part = shortened(source, short, positions)
        (place / "compiled").mkdir()
        wrapper = place / "compiled" / "short.onnx"
        compiled = compilation.compile_graph(short, wrapper, making, allow_fallback=params.allow_fallback)
        spot = _simulate(short, wrapper, part, compiled, params, least)
    return {**found, **spot, "checked": f"{positions} positions of the window; {spot['checked']}"}


def _share(source: Artifact, artifact: Artifact, params: CompileQnnParams) -> tuple[Artifact, dict[str, int]]:
    """The artifact with one binary in the place of those of TEXT; bytes before and after."""
    from pocket_opt.qnn.compilation import compile_shared
    from pocket_opt.qnn.context import component

    before = sum(artifact.size(name) for name in TEXT)
    for alone in {file for name in TEXT for file in artifact.components[name].files}:
        (artifact.root / alone).unlink()
    wrappers = {source.path(name): artifact.path(name) for name in TEXT}
    compile_shared(wrappers, _making(params))
    for name in TEXT:
        artifact = artifact.with_component(name, component(artifact.path(name), source.components[name]))
    files = {file for name in TEXT for file in artifact.components[name].files}
    after = sum((artifact.root / file).stat().st_size for file in files)
    return artifact, {"bytes_before": before, "bytes_after": after}


def _making(params: CompileQnnParams) -> dict[str, str]:
    """What the provider is told to compile."""
    from pocket_opt.models.whisper.runner.qnn_backend import provider_options

    return provider_options(
        {"soc_model": params.soc_model, "htp_arch": params.htp_arch},
        {
            **params.options,
            "vtcm_mb": str(params.vtcm_mb),
            "htp_graph_finalization_optimization_mode": str(params.optimization),
        },
    )


def _simulate(
    source: Path, wrapper: Path, part: Any, compiled: Any, params: CompileQnnParams, least: float
) -> dict[str, Any]:
    """Run a context beside the session that made it, and compare it with the CPU."""
    from pocket_opt.models.whisper.runner.qnn_backend import provider_options
    from pocket_opt.qnn import compilation

    chip = {"soc_model": params.soc_model, "htp_arch": params.htp_arch}
    outputs = compilation.require_same_when_reloaded(
        compiled, wrapper, provider_options(chip, {}), part, fallback=params.allow_fallback
    )
    cosine = compilation.require_near_cpu(source, part, outputs, least)
    return {"cosine_to_cpu": round(cosine, 6), "checked": EQUAL}


PASS = CompileQnn()
