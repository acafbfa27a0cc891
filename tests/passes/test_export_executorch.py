"""One program with all methods: what XNNPACK takes of it, what it tells of itself, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from executorch_programs import checkpoint, lowered
from exported_whisper import exported, run_pass
from planned_inputs import write_clips
from torch import nn

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.executorch_graphs.methods import Method, constants, whisper_methods
from pocket_opt.executorch_graphs.quantization import compute_in_16_bits, observe_alike, observed
from pocket_opt.executorch_graphs.tables import ByteTable, FloatTable
from pocket_opt.models.whisper.checkpoint import open_checkpoint
from pocket_opt.models.whisper.runner.executorch_backend import open_program
from pocket_opt.passes import load_pass

STEP = load_pass("export_executorch")


NIGHTLY = pytest.param("int8", marks=pytest.mark.nightly), pytest.param("int4", marks=pytest.mark.nightly)


@pytest.mark.parametrize("weights", ["float32", *NIGHTLY])
def test_xnnpack_takes_all_but_the_lookups(weights: str) -> None:
    did = lowered(weights).did
    methods = did["methods"]
    assert methods["encoder"]["not_delegated"] == {}
    if weights == "float32":
        assert [methods[name]["parts"] for name in ("encoder", "prefill", "decoder")] == [1, 1, 1]
    left = set(methods["decoder"]["not_delegated"])
    assert left <= {"aten_index_select_default", "dim_order_ops__to_dim_order_copy_default"}
    assert methods["prefill"]["not_delegated"] == methods["decoder"]["not_delegated"]
    assert did["delegated_share"] > 0.9
    assert did["delegated"] == sum(sum(one["delegated"].values()) for one in methods.values())
    quantized = any("dequantize" in name for name in methods["decoder"]["delegated"])
    assert quantized == (weights != "float32")


@pytest.mark.nightly
def test_integer_weights_are_smaller() -> None:
    sizes = [lowered(weights).artifact.model_mb for weights in ("float32", "int8", "int4")]
    assert sizes[1] < 0.5 * sizes[0]
    assert sizes[2] < sizes[1]


def test_the_program_tells_lengths_and_ids() -> None:
    program = open_program(lowered().artifact.path("decoder"))
    dims = open_checkpoint(checkpoint().root).dims
    assert {"mel", "encoder", "decoder", "get_eos_id", "decoder_start_token_id"} <= program.method_names
    told = {name: program.load_method(name).execute([])[0] for name in lowered().did["constants"]}
    assert told == lowered().did["constants"]
    assert told["get_max_seq_len"] == dims.target_positions
    assert told["get_vocab_size"] == dims.vocab
    assert constants(dims, {"eos_token_id": [7, 8]})["get_eos_id"] == 7


def test_components_are_methods_of_one_file_that_counts_once() -> None:
    artifact = lowered().artifact
    assert {artifact.path(name) for name in ("mel", "encoder", "decoder")} == {artifact.path("mel")}
    assert artifact.model_mb == artifact.size("mel") / 1e6
    assert [port.name for port in artifact.components["decoder"].inputs[:4]] == [
        "tokens",
        "position",
        "cache_mask",
        "past_key_0",
    ]


def test_prefill_shares_the_weights_of_the_decoder() -> None:
    parts, stored = lowered().artifact.components, lowered().artifact.path("decoder").read_bytes()
    assert [parts[name].inputs[0].shape for name in ("prefill", "decoder")] == [(4,), (1,)]
    weights = open_checkpoint(checkpoint().root)
    for name, times in {"layers.0.fc1": 1, "layers.0.self_attn.k_proj": 1, "embed_tokens": 2}.items():
        assert stored.count(weights.read(f"model.decoder.{name}.weight").tobytes()) == times


@pytest.mark.parametrize("size", [0, 16, 48])
def test_groups_that_xnnpack_cannot_take_are_refused(size: int) -> None:
    with pytest.raises(UserError, match=r"(?s)group_size.*multiple of 32"):
        STEP.check(STEP.Params(weights="int4", group_size=size))


@pytest.mark.parametrize("weights", ["float32", "float16", "int4"])
def test_static_activations_are_of_8_bits_alone(weights: str) -> None:
    with pytest.raises(UserError, match=rf"(?s)weights={weights}.*activations=static with weights=int8"):
        STEP.check(STEP.Params(weights=weights, activations="static"))
    assert not STEP.calibrates(STEP.Params(weights="int8"))
    assert STEP.calibrates(STEP.Params(weights="int8", activations="static"))


def test_too_few_clips_fix_no_ranges(tmp_path: Path) -> None:
    static = {"weights": "int8", "activations": "static"}
    with pytest.raises(UserError, match=r"(?s)2 calibration clips are too few.*at least 8"):
        STEP.check(STEP.Params(**static, calibration_clips=2))
    STEP.check(STEP.Params(weights="int8", calibration_clips=2))
    few = str(write_clips(tmp_path / "clips", 3))
    with pytest.raises(UserError, match=r"(?s)3 calibration clips are too few.*data.calibration.path"):
        run_pass("export_executorch", checkpoint(), tmp_path / "out", calibration_path=few, **static)


def test_what_is_halved_is_a_method_with_linear_layers() -> None:
    with pytest.raises(UserError, match=r"(?s)'enoder'.*encoder"):
        STEP.check(STEP.Params(weights="float16", half=("enoder",)))


def test_nothing_but_linear_layers_gets_a_fixed_range() -> None:
    graph = observed(_methods()["decoder"], dynamic=False).graph
    observers = {node for node in graph.nodes if str(node.target).startswith("activation_post_process")}
    assert observers
    for node in observers:
        beside = {str(one.target) for one in (*node.all_input_nodes, *node.users) if one not in observers}
        assert any("linear" in target for target in beside), f"{node} is between {beside}"


def test_prefill_and_decoder_have_the_same_fixed_ranges() -> None:
    methods = _methods(prompt=3)
    graphs = {name: observed(methods[name], dynamic=False) for name in ("encoder", "prefill", "decoder")}
    observe_alike(graphs["prefill"], graphs["decoder"])
    graphs["decoder"](*methods["decoder"].examples())
    low, high = (
        [
            float(part.min_val)
            for part in graph.modules()
            if hasattr(part, "min_val") and not part.min_val.dim()
        ]
        for graph in (graphs["prefill"], graphs["decoder"])
    )
    assert low == high
    assert any(abs(value) < float("inf") for value in low)
    with pytest.raises(PocketOptError, match="observed at different places"):
        observe_alike(graphs["encoder"], graphs["decoder"])


def test_a_prompt_of_one_token_needs_no_prefill() -> None:
    assert list(_methods()) == ["mel", "encoder", "decoder"]
    assert list(_methods(prompt=2)) == ["mel", "encoder", "prefill", "decoder"]


@pytest.mark.nightly
def test_static_activations_are_calibrated_on_what_the_model_says(tmp_path: Path) -> None:
    params = {"weights": "int8", "activations": "static", "calibration_clips": 2, "least_clips": 2}
    outcome = run_pass(
        "export_executorch", checkpoint(), tmp_path, calibration_path="sample:calibration", **params
    )
    methods = outcome.did["methods"]
    assert methods["encoder"]["not_delegated"] == {}
    assert not any("choose_qparams" in name for name in methods["encoder"]["delegated"])


def test_16_bits_are_computed_between_32() -> None:
    module = nn.Sequential(nn.Linear(32, 8), nn.Sequential(nn.Linear(8, 8)))
    x = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    expected = module(x)
    compute_in_16_bits(module)
    assert {value.dtype for value in module.state_dict().values()} == {torch.float16}
    assert module(x).dtype == torch.float32
    torch.testing.assert_close(module(x), expected, atol=5e-3, rtol=1e-2)


def test_rows_of_the_8_bit_table_are_nearly_those_of_the_embedding() -> None:
    weight = torch.randn(20, 16, generator=torch.Generator().manual_seed(0))
    table, tokens = ByteTable(weight), torch.tensor([3, 0, 19])
    assert table.weight.dtype == torch.int8
    torch.testing.assert_close(table(tokens), weight[tokens], atol=0.02, rtol=0)
    torch.testing.assert_close(FloatTable(weight, half=True)(tokens), weight[tokens], atol=2e-3, rtol=1e-3)


def test_a_shortened_audio_context_is_refused() -> None:
    with pytest.raises(UserError, match=r"(?s)audio_context=auto.*audio_context=full"):
        STEP.check(STEP.Params(audio_context="auto"))


def test_graphs_are_no_source(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="safetensors"):
        run_pass("export_executorch", exported(), tmp_path)


def test_a_program_that_answers_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STEP.ensures.__globals__["LEAST_DB"], "float32", 200.0)
    with pytest.raises(PocketOptError, match=r"(?s)does not agree.*at least 200 dB"):
        STEP.ensures({"model": checkpoint()}, STEP.Params(), lowered())


def test_a_product_that_is_left_over_is_refused() -> None:
    outcome = lowered()
    methods = {"encoder": {"not_delegated": {"aten_bmm_default": 2}}}
    left = type(outcome)(outcome.artifact, {"methods": methods})
    with pytest.raises(PocketOptError, match=r"(?s)every product of method 'encoder'.*aten_bmm_default"):
        STEP.ensures({"model": checkpoint()}, STEP.Params(), left)


def _methods(prompt: int = 1) -> dict[str, Method]:
    opened = open_checkpoint(checkpoint().root)
    table = FloatTable(torch.zeros(opened.dims.vocab, opened.dims.d_model))
    return whisper_methods(opened, table, prompt)
