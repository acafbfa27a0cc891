from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.numpy import load_file, save_file
from whisper_fixtures import tiny_checkpoint

from pocket_opt.artifact import Artifact, Port
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.onnx_graphs import writing
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import Outcome, execute
from pocket_opt.runtimes import open_runtime

DIMS = {"mels": 80, "frames": 400, "positions": 200, "vocab": 511, "width": 64}


@cache
def source() -> Artifact:
    return tiny_checkpoint(Path(mkdtemp(prefix="source-")))


def export(model: Artifact, workdir: Path, **params: Any) -> Outcome:
    step = load_pass("export_onnx")
    workdir.mkdir(parents=True, exist_ok=True)
    return execute(step, {"model": model}, step.Params(**params), workdir)


@cache
def exported(decoder: str = "kv_cache") -> Outcome:
    return export(source(), Path(mkdtemp(prefix="exported-")), decoder=decoder)


def test_ports_are_those_of_the_contract() -> None:
    parts = exported().artifact.components
    assert parts["mel"].inputs == (Port("audio", "float32", ("batch", "samples")),)
    assert parts["mel"].outputs == (Port("features", "float32", ("batch", 80, 400)),)
    assert parts["encoder"].inputs == parts["mel"].outputs
    cross = [
        Port(f"cross_{kind}_{layer}", "float32", ("batch", 4, 200, 16))
        for layer in range(2)
        for kind in ("key", "value")
    ]
    assert parts["encoder"].outputs == (Port("encoder_hidden", "float32", ("batch", 200, 64)), *cross)
    inputs = {port.name: port for port in parts["decoder"].inputs}
    assert inputs["tokens"] == Port("tokens", "int64", ("batch", "length"))
    assert inputs["past_key_1"] == Port("past_key_1", "float32", ("batch", 4, "past", 16))
    assert [inputs[port.name] for port in cross] == cross
    outputs = {port.name: port for port in parts["decoder"].outputs}
    assert outputs["logits"] == Port("logits", "float32", ("batch", "length", 511))
    assert outputs["present_value_0"].shape == ("batch", 4, "past + length", 16)
    assert (len(inputs), len(outputs)) == (9, 5)


def test_ports_of_the_basic_decoder() -> None:
    part = exported("basic").artifact.components["decoder"]
    hidden = Port("encoder_hidden", "float32", ("batch", 200, 64))
    assert part.inputs == (Port("tokens", "int64", ("batch", "length")), hidden)
    assert part.outputs == (Port("logits", "float32", ("batch", "length", 511)),)


def test_static_shapes_are_fixed_in_every_graph_but_the_front_end() -> None:
    parts = exported("static").artifact.components
    graphs = {name: parts[name] for name in ("encoder", "prefill", "decoder")}
    assert parts["mel"] == exported().artifact.components["mel"]
    ports = [port for part in graphs.values() for port in (*part.inputs, *part.outputs)]
    assert all(isinstance(size, int) for port in ports for size in port.shape)
    for name, length in {"prefill": 4, "decoder": 1}.items():
        inputs = {port.name: port.shape for port in graphs[name].inputs}
        outputs = {port.name: port.shape for port in graphs[name].outputs}
        assert (inputs["tokens"], inputs["position"]) == ((1, length), (length,))
        assert (inputs["past_key_0"], outputs["new_key_0"]) == ((1, 4, 64, 16), (1, 4, length, 16))
        assert outputs["logits"] == (1, length, 511)


def test_the_prompt_of_an_english_model_is_shorter(tmp_path: Path) -> None:
    english = tiny_checkpoint(tmp_path / "source", multilingual=False)
    prefill = export(english, tmp_path / "onnx", decoder="static").artifact.components["prefill"]
    assert prefill.inputs[0].shape == (1, 2)


def test_without_prefill_the_prompt_goes_through_the_graph_of_one_token(tmp_path: Path) -> None:
    alone = export(source(), tmp_path / "onnx", decoder="static", prefill=False).artifact
    both = exported("static").artifact
    assert set(both.components) - set(alone.components) == {"prefill"}
    features = np.random.default_rng(0).standard_normal((1, 80, 400)).astype(np.float32)
    prompt = np.array([[301, 5, 7, 9]])
    found, expected = (
        model.decode(prompt, model.encode(features))[0]
        for model in (open_runtime(alone, threads=1), open_runtime(both, threads=1))
    )
    assert np.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("decoder", ["kv_cache", "basic", "static"])
def test_the_description_says_what_readers_need(decoder: str) -> None:
    artifact = exported(decoder).artifact
    assert artifact.metadata["runtime"] == "onnxruntime"
    assert artifact.metadata["decoder"] == decoder
    assert artifact.metadata["weights"] == "random"
    assert artifact.metadata["dims"] == source().metadata["dims"]
    assert artifact.metadata["session"]["graph_optimization"] == "all"
    generation = json.loads(artifact.path("generation").read_text())
    assert generation["decoder_start_token_id"] == 301
    assert artifact.file("generation", "config.json").is_file()
    assert artifact.components["processor"] == source().components["processor"]
    assert "model" not in artifact.components
    assert Artifact.load(artifact.root) == artifact


def test_the_recommended_session_settings_are_accepted() -> None:
    options = onnxruntime.SessionOptions()
    for key, value in exported().artifact.metadata["session"]["entries"].items():
        options.add_session_config_entry(key, value)
    onnxruntime.InferenceSession(exported().artifact.path("decoder"), options)


def test_counts_are_those_of_the_files() -> None:
    artifact, did = exported().artifact, exported().did
    for name in ("mel", "encoder", "decoder"):
        graph = onnx.load(artifact.path(name)).graph
        assert did[name]["nodes"] == len(graph.node)
        assert did[name]["parameters"] == sum(int(np.prod(tensor.dims)) for tensor in graph.initializer)
        assert did[name]["bytes"] == artifact.path(name).stat().st_size
        assert did[name]["weight_bytes"] <= did[name]["bytes"] < did[name]["weight_bytes"] + 60_000


def test_two_directories_give_the_same_bytes_without_paths(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "elsewhere" / "model")
    again = export(Artifact.load(tmp_path / "elsewhere" / "model"), tmp_path / "far" / "away").artifact
    for name in ("mel", "encoder", "decoder"):
        raw = again.path(name).read_bytes()
        assert raw == exported().artifact.path(name).read_bytes()
        assert b"elsewhere" not in raw
        assert str(Path.home()).encode() not in raw


def test_large_graphs_keep_their_weights_in_a_second_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing.save_model, "__kwdefaults__", {"external_over": 100_000})
    artifact = export(source(), tmp_path).artifact
    assert artifact.components["mel"].files == ("mel.onnx",)
    assert artifact.components["decoder"].files == ("decoder.onnx", "decoder.onnx.data")
    assert artifact.path("decoder").stat().st_size < 100_000
    feeds = {"features": np.zeros((1, 80, 400), np.float32)}
    found, expected = (
        onnxruntime.InferenceSession(a.path("encoder")).run(None, feeds)[0]
        for a in (artifact, exported().artifact)
    )
    assert np.array_equal(found, expected)


def change(directory: Path, **tensors: np.ndarray | None) -> Artifact:
    """A copy of the source with some tensors replaced or (None) removed."""
    artifact = tiny_checkpoint(directory)
    kept = {**load_file(directory / "model.safetensors"), **tensors}
    save_file(
        {name: value for name, value in kept.items() if value is not None}, directory / "model.safetensors"
    )
    return artifact


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (np.full(128, np.inf, np.float32), "holds values that are not finite"),
        (np.zeros(127, np.float32), r"has shape \[127\]"),
        (None, "no tensor"),
    ],
)
def test_unusable_weights_are_named(tmp_path: Path, tensor: np.ndarray | None, message: str) -> None:
    name = "model.decoder.layers.1.fc1.bias"
    broken = change(tmp_path / "source", **{name: tensor})
    with pytest.raises(PocketOptError, match=message) as error:
        export(broken, tmp_path / "exported")
    assert name in str(error.value)


def test_what_cannot_be_exported_is_refused_first(tmp_path: Path) -> None:
    broken = tiny_checkpoint(tmp_path / "source")
    (broken.root / "model.safetensors").unlink()
    with pytest.raises(UserError, match="holds no weights"):
        export(broken, tmp_path / "exported")


def test_an_invalid_graph_does_not_pass(tmp_path: Path) -> None:
    outcome = export(source(), tmp_path)
    proto = onnx.load(outcome.artifact.path("mel"))
    proto.graph.node[0].op_type = "Slize"
    onnx.save(proto, outcome.artifact.path("mel"))
    with pytest.raises(PocketOptError, match="component 'mel' is not valid ONNX"):
        load_pass("export_onnx").ensures({"model": source()}, None, outcome)


def test_a_graph_with_another_port_does_not_pass(tmp_path: Path) -> None:
    outcome = export(source(), tmp_path)
    proto = onnx.load(outcome.artifact.path("encoder"))
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 128
    onnx.save(proto, outcome.artifact.path("encoder"))
    with pytest.raises(PocketOptError, match="the ports of component 'encoder' changed"):
        load_pass("export_onnx").ensures({"model": source()}, None, outcome)
