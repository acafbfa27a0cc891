"""Static quantization: answers near the float ones, one grid for what goes from graph to graph, refusals before work."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from exported_whisper import digests, exported, graph, operators, run_pass
from planned_inputs import write_clips, write_slow_clip

from pocket_opt.artifact import Artifact, Component, Port
from pocket_opt.data.dataset import Dataset
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.onnx_graphs.files import constant
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import Outcome
from pocket_opt.precision import Rule
from pocket_opt.runtimes.calibration import kept_mb

GRAPHS = ("encoder", "prefill", "decoder")


def quantized(workdir: Path, model: Artifact | None = None, **params: Any) -> Outcome:
    clips = str(Dataset.open("sample:calibration").source)
    given = {"calibration_path": clips, "calibration_clips": 2, "least_clips": 2, **params}
    return run_pass("quantize_qdq", model or exported("static"), workdir, **given)


@cache
def usual() -> Outcome:
    """The result with 16-bit activations and 8-bit weights."""
    return quantized(Path(mkdtemp(prefix="qdq-")))


def stored(component: str, outcome: Outcome | None = None) -> dict[str, np.ndarray[Any, Any]]:
    """The constants of a graph by name."""
    nodes = graph((outcome or usual()).artifact, component)
    return {name: constant(value) for name, value in nodes.initializers.items()}


def test_16_bit_activations_say_what_the_float_model_says() -> None:
    agreement = usual().did["agreement"]
    assert min(agreement["encoder_db"], agreement["logits_db"]) > 30
    assert min(agreement["encoder_cosine"], agreement["logits_cosine"]) > 0.999
    assert usual().did["clips"] == 2
    assert usual().artifact.metadata["session"]["entries"]["session.x64quantprecision"] == "1"
    looked = usual().did["calls_observed"]
    assert looked["encoder"] == looked["prefill"] == 2
    assert looked["decoder"] > 2


@pytest.mark.parametrize("component", GRAPHS)
def test_every_operator_reads_and_writes_levels(component: str) -> None:
    nodes = graph(usual().artifact, component)
    outside = ("QuantizeLinear", "DequantizeLinear")
    for node in nodes:
        if node.op_type not in outside and node.outputs[0].dtype != ir.DataType.INT64:
            users = [user.op_type for user in node.outputs[0].consumers()]
            assert users == ["QuantizeLinear"], node.name
            assert {value.producer().op_type for value in node.inputs if _is_made(value)} == {
                "DequantizeLinear"
            }
    before = operators(graph(exported("static"), component))
    after = operators(nodes)
    kept = {kind: count for kind, count in after.items() if kind not in outside}
    if component != "encoder":  # the transposed head is stored
        before["Transpose"] -= 1
    assert kept == before
    did = usual().did["components"][component]
    assert did["bytes_after"] < 0.7 * did["bytes_before"]
    assert did["nodes"] == sum(before.values())


def _is_made(value: ir.Value | None) -> bool:
    return value is not None and value.producer() is not None


def test_graphs_that_share_weights_share_their_bytes_and_caches_share_a_grid() -> None:
    prefill, decoder, encoder = (stored(name) for name in ("prefill", "decoder", "encoder"))
    shared = [name for name in prefill if name.endswith((".w8", ".weight.u16"))]
    assert len(shared) > 15
    for name in shared:
        assert np.array_equal(prefill[name], decoder[name])
    for layer in range(2):
        for kind in ("key", "value"):
            for part in ("scale", "zero_point"):
                new, past = f"new_{kind}_{layer}.u16.{part}", f"past_{kind}_{layer}.u16.{part}"
                assert prefill[new] == decoder[new] == decoder[past] == prefill[past]
                cross = f"cross_{kind}_{layer}.u16.{part}"
                assert encoder[cross] == prefill[cross] == decoder[cross]


@pytest.mark.parametrize("component", GRAPHS)
def test_only_caches_cross_the_border_in_levels(component: str) -> None:
    before, after = exported("static").components[component], usual().artifact.components[component]
    for old, new in zip((*before.inputs, *before.outputs), (*after.inputs, *after.outputs), strict=True):
        cache = old.name.startswith(("past_", "new_", "cross_"))
        assert new == Port(old.name, "uint16" if cache else old.dtype, old.shape)


def test_a_mask_costs_the_scores_nothing() -> None:
    constants = stored("decoder")
    scale = constants["decoder.layers.0.self_attn/Concat_output.u16.scale"]
    assert 65535 * scale < 100
    assert -100 < -65535 * constants["cache_mask.u16.scale"] < -20
    causal = stored("prefill")["const/causal_mask.u16"]
    assert causal.min() == 0


def test_the_same_bytes_twice(tmp_path: Path) -> None:
    assert digests(quantized(tmp_path).artifact) == digests(usual().artifact)


@pytest.mark.parametrize(
    ("params", "least"),
    [
        ({"weights": 4, "caches": 8, "kept": ("proj_out",)}, 5),
        ({"activations": 8, "rest": 8, "caches": 8, "embedding": 8, "method": "percentile"}, 5),
    ],
)
def test_fewer_bits_cost_decibels(tmp_path: Path, params: dict[str, Any], least: float) -> None:
    outcome = quantized(tmp_path, **params)
    found = outcome.did["agreement"]["logits_db"]
    assert least < found < usual().did["agreement"]["logits_db"]
    decoder = outcome.did["components"]["decoder"]
    if params.get("weights") == 4:
        assert decoder["weights"]["int8"] == 1
        assert decoder["weights"]["int4"] == usual().did["components"]["decoder"]["weights"]["int8"] - 1
        assert outcome.artifact.size("decoder") < usual().artifact.size("decoder")
    if params.get("caches") == 8:
        kinds = {port.name: port.dtype for port in outcome.artifact.components["decoder"].inputs}
        assert kinds["past_key_0"] == kinds["cross_value_1"] == "uint8"


def test_overrides_of_a_search_and_of_the_node_choose_bits_and_leave_layers_float(tmp_path: Path) -> None:
    rules = (
        Rule("decoder.layers.*.fc1", bits=4),
        Rule("encoder.layers.0.*", bits="none"),
        Rule("*.fc2", activations=8),
    )
    model = exported("static").carry(tmp_path / "searched")
    (model.root / "overrides.yaml").write_text(json.dumps({"decoder.layers.0.*": {"bits": 4}}))
    model = model.with_component("overrides", Component("json", ("overrides.yaml",))).save()
    outcome = quantized(tmp_path / "out", model, overrides=rules)
    parts = outcome.did["components"]
    assert (
        parts["decoder"]["weights"]["int4"] == parts["prefill"]["weights"]["int4"] == 8
    )  # fc2 has the default again
    assert parts["encoder"]["activations"]["uint8"] > 0
    left = parts["encoder"]["left_out"]["left float by an override"]
    assert left
    assert all(name.startswith("encoder.layers.0.") for name in left)
    assert "model.encoder.layers.0.fc1.weight" in stored("encoder", outcome)
    assert "model.encoder.layers.1.fc1.weight.w8" in stored("encoder", outcome)


def test_too_few_clips_are_refused_when_planning_and_when_counted(tmp_path: Path) -> None:
    step = load_pass("quantize_qdq")
    with pytest.raises(UserError, match="7 calibration clips are too few"):
        step.check(step.Params(calibration_clips=7))
    clips = write_clips(tmp_path / "clips", 3)
    with pytest.raises(UserError, match="3 calibration clips are too few") as caught:
        quantized(tmp_path / "out", calibration_path=str(clips), calibration_clips=8, least_clips=8)
    assert "data.calibration.path" in caught.value.fix


def test_a_clip_sampled_too_slowly_for_speech_is_refused(tmp_path: Path) -> None:
    clips = write_clips(tmp_path / "clips", 8)
    write_slow_clip(clips / "5.wav")
    with pytest.raises(UserError, match=r"5\.wav was sampled at 4000 Hz"):
        quantized(tmp_path / "out", calibration_path=str(clips), calibration_clips=8)


def test_what_is_kept_of_the_clips_has_a_limit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="8 calibration clips take 1 MB on disk") as caught:
        quantized(tmp_path, cache_mb=0.5, calibration_clips=8)
    assert "params.calibration_clips" in caught.value.fix
    features = Component("onnx", ("e.onnx",), (Port("features", "float32", (1, 80, 3000)),))
    small = Artifact(tmp_path, {"encoder": features}, {"dims": {"target_positions": 448}})
    assert kept_mb(small, 100) < 100  # of 2000 MB: 100 clips of whisper-small


def test_what_cannot_be_quantized_is_refused_before_a_clip_is_heard(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="dimensions that are open"):
        quantized(tmp_path / "open", exported())
    with pytest.raises(PocketOptError, match=r"the pattern 'decoder\.layers\.9\.\*' matches nothing"):
        quantized(tmp_path / "unknown", overrides=(Rule("decoder.layers.9.*", bits=4),))
    with pytest.raises(UserError, match="asks for what static quantization has not"):
        quantized(tmp_path / "dynamic", overrides=(Rule("decoder.*", bits=8, activations="dynamic"),))
    assert not (tmp_path / "open" / "encoder.onnx").exists()
