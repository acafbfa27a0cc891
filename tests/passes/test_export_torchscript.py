"""One TorchScript program: what is in it, how much is stored, and what PyTorch lacks; a model torch.export refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from executorch_programs import SHAPE, checkpoint
from exported_whisper import exported, run_pass
from torchscript_programs import written
from whisper_fixtures import tiny_checkpoint

from pocket_opt.artifact import Port
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.executorch_graphs.layers import read
from pocket_opt.executorch_graphs.lowering import capture
from pocket_opt.executorch_graphs.methods import Method, whisper_methods
from pocket_opt.executorch_graphs.tables import FloatTable
from pocket_opt.models.whisper.checkpoint import open_checkpoint
from pocket_opt.models.whisper.runner.torchscript_backend import method, open_program
from pocket_opt.passes import load_pass
from pocket_opt.torchscript_graphs import program
from pocket_opt.torchscript_graphs.listener import Listener, StackedDecoder, StackedEncoder
from pocket_opt.torchscript_graphs.storage import StoredHalf

STEP = load_pass("export_torchscript")
IDS = {
    "start": 1,
    "end": 2,
    "no_speech": 3,
    "no_timestamps": 4,
    "latest_first": -1,
    "never": [],
    "never_first": [],
}


@pytest.mark.parametrize("weights", ["float32", "float16", "int8"])
def test_every_linear_layer_is_stored_as_asked(weights: str) -> None:
    outcome = written(weights)
    assert outcome.did["linear_layers"] == {"encoder": 10, "decoder": 9}
    assert ("quantized::linear_dynamic" in outcome.did["operators"]) == (weights == "int8")
    assert outcome.did["bytes"] == outcome.artifact.model_mb * 1e6


def test_fewer_bits_are_fewer_bytes() -> None:
    sizes = [written(weights).did["bytes"] for weights in ("float32", "float16", "int8")]
    assert sizes[1] < 0.65 * sizes[0]
    assert sizes[2] < 0.65 * sizes[0]


def test_head_and_table_are_one_tensor() -> None:
    source = open_checkpoint(checkpoint().root)
    table = source.dims.vocab * source.dims.d_model
    rest = sum(source.read(name).size for name in source.tensors) - table
    assert written().did["bytes"] < 4 * (rest + 2 * table)


def test_16_bits_are_widened_when_loaded(tmp_path: Path) -> None:
    layer = torch.nn.Linear(512, 256)
    program.write(program.scripted(StoredHalf(layer)), tmp_path / "x.ptl", prepack=False, names=["forward"])
    assert (tmp_path / "x.ptl").stat().st_size < 2.2 * 512 * 256
    x = torch.randn(4, 512, generator=torch.Generator().manual_seed(0))
    [found] = method(open_program(tmp_path / "x.ptl"), "forward")([x])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, layer(x), atol=2e-3, rtol=1e-2)


def test_a_loop_is_one_component() -> None:
    artifact = written(loop=True).artifact
    assert set(artifact.models) == {"all_in_one"}
    assert artifact.metadata["decoder"] == "all_in_one"


def test_a_decoding_loop_is_what_torch_export_refuses() -> None:
    class Decoding(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            mel, encoder, decoder = (methods[name].module for name in ("mel", "encoder", "decoder"))
            dims = source.dims
            caches = (2 * dims.decoder_layers, dims.decoder_heads, dims.target_positions, 16)
            self.made = Listener(mel, StackedEncoder(encoder), StackedDecoder(decoder), IDS, caches)

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            tokens: torch.Tensor = self.made.listen(features, torch.tensor([1]), 4, 0, False)[0]
            return tokens

    source = open_checkpoint(checkpoint().root)
    methods = whisper_methods(source, FloatTable(read(source, "decoder.embed_tokens.weight")))
    ports = methods["encoder"].inputs
    with torch.no_grad():
        assert len(Decoding()(torch.zeros(ports[0].shape))) in range(1, 5)
    with pytest.raises(
        PocketOptError, match=r"(?s)torch.export refuses this model: .*data-dependent.*torchscript"
    ):
        capture(Method(Decoding(), ports, (Port("tokens", "int64", ("length",)),)))


def test_a_module_of_a_user_s_is_refused_with_the_way_out_and_runs_as_a_program(tmp_path: Path) -> None:
    class Settling(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            while bool(x.norm() > 1):
                x = self.layer(x) * 0.25
            return x

    module = Settling().eval()
    with pytest.raises(PocketOptError, match="data-dependent") as caught:
        capture(Method(module, (Port("x", "float32", (2, 8)),), (Port("y", "float32", (2, 8)),)))
    assert caught.value.fix.startswith("choose target=torchscript")
    program.write(program.scripted(module), tmp_path / "x.ptl", prepack=False, names=["forward"])
    run = method(open_program(tmp_path / "x.ptl"), "forward")
    for scale in (0.01, 1.0, 100.0):
        x = torch.full((2, 8), scale)
        torch.testing.assert_close(run([x])[0], module(x).detach())


def test_xnnpack_is_asked_for_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "can_prepack", lambda: False)
    with pytest.raises(PocketOptError, match=r"(?s)optimize_for_mobile needs a PyTorch.*prepack=false"):
        run_pass("export_torchscript", checkpoint(), tmp_path, prepack=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"audio_context": "auto"}, "audio_context=auto"),
        ({"loop": True, "beams": 2}, "follows one sequence"),
    ],
)
def test_what_fixed_programs_exclude_is_refused(params: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        STEP.check(STEP.Params(**params))


def test_graphs_are_no_source(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="safetensors"):
        run_pass("export_torchscript", exported(), tmp_path)


@pytest.mark.parametrize("weights", ["float32", "float16", "int8"])
@pytest.mark.parametrize("loop", [False, True])
def test_a_program_of_another_model_does_not_pass(loop: bool, weights: str, tmp_path: Path) -> None:
    other = tiny_checkpoint(tmp_path, **SHAPE, seed=2)
    with pytest.raises(
        PocketOptError, match="does not agree with its module|does not say what its modules say"
    ):
        STEP.ensures({"model": other}, STEP.Params(loop=loop, weights=weights), written(weights, loop=loop))
