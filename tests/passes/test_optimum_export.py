"""Export by Optimum: refusals without the toolchain, its pins in the key, and, where it is installed, what comes out.

The environment of a toolchain takes minutes to make, so what needs it is for `-m nightly` and for a home that has it:
`POCKET_OPT_TOOLCHAINS=HOME pytest -m nightly tests/passes/test_optimum_export.py`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from exported_whisper import exported, run_pass
from whisper_fixtures import tiny_checkpoint

from pocket_opt import api
from pocket_opt.artifact import Artifact, Component
from pocket_opt.cli.main import main
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.onnx_graphs.files import sqnr_db
from pocket_opt.passes.optimum_export import describe
from pocket_opt.toolchains import load_toolchain


def plan(*more: str) -> Any:
    return api.plan(level="BASIC", overrides=["nodes.export.pass=optimum_export", *more])


def test_a_plan_needs_only_the_pins() -> None:
    node = plan().graph["export"]
    assert node.tools["optimum/optimum-onnx"] == "0.1.0"
    assert len(node.tools) == len(load_toolchain("optimum").pins) + 2


def test_a_run_without_the_toolchain_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["level=BASIC", "tracking=none", "nodes.export.pass=optimum_export", f"output_dir={tmp_path}"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "the toolchain 'optimum' is not installed" in told
    assert "pocket-opt toolchain install optimum" in told
    assert not list(tmp_path.iterdir())


def test_the_pass_itself_refuses_too(tmp_path: Path) -> None:
    source = tiny_checkpoint(tmp_path / "source")
    with pytest.raises(UserError, match="is not installed"):
        run_pass("optimum_export", source, tmp_path / "out")
    with pytest.raises(PocketOptError, match="is exported already") as caught:
        run_pass("optimum_export", exported(), tmp_path / "late")
    assert "after=source" in caught.value.fix


def test_what_was_written_is_described(tmp_path: Path) -> None:
    model = exported()
    for name, new in (("encoder", "encoder_model.onnx"), ("decoder", "decoder_model.onnx")):
        (tmp_path / new).write_bytes(model.path(name).read_bytes())
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    found = describe(tmp_path, model, "automatic-speech-recognition")
    assert set(found.components) == {"encoder_model", "decoder_model", "generation", "processor"}
    assert found.components["encoder_model"].inputs == model.components["encoder"].inputs
    assert found.metadata["task"] == "automatic-speech-recognition"
    with pytest.raises(PocketOptError, match="Optimum wrote no graph"):
        describe(tmp_path / "nowhere", model, "automatic-speech-recognition")


# with the toolchain


@pytest.fixture
def toolchain(monkeypatch: pytest.MonkeyPatch) -> None:
    place = os.environ.get("POCKET_OPT_TOOLCHAINS")
    if not place:
        pytest.skip("POCKET_OPT_TOOLCHAINS names no home in which the toolchain is installed")
    monkeypatch.setenv("POCKET_OPT_HOME", place)


def run_graph(artifact: Artifact, name: str, feeds: dict[str, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(artifact.path(name), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


@pytest.mark.nightly
def test_our_export_computes_what_optimums_does(toolchain: None, tmp_path: Path) -> None:
    source = tiny_checkpoint(tmp_path / "source")
    theirs = run_pass("optimum_export", source, tmp_path / "optimum")
    assert theirs.did["task"] == "automatic-speech-recognition-with-past"
    ours = run_pass("export_onnx", source, tmp_path / "ours", decoder="basic").artifact
    random = np.random.default_rng(2)
    features = random.standard_normal((2, 80, 400)).astype(np.float32)
    tokens = random.integers(0, 300, (2, 11))
    encoded = run_graph(theirs.artifact, "encoder_model", {"input_features": features})["last_hidden_state"]
    ports = {port.name for port in ours.components["encoder"].inputs}
    own = run_graph(ours, "encoder", {ports.pop(): features})["encoder_hidden"]
    assert sqnr_db(encoded, own) > 80
    wanted = run_graph(
        theirs.artifact, "decoder_model", {"input_ids": tokens, "encoder_hidden_states": encoded}
    )["logits"]
    found = run_graph(ours, "decoder", {"tokens": tokens, "encoder_hidden": encoded})["logits"]
    assert sqnr_db(wanted, found) > 80
    assert (wanted.argmax(2) == found.argmax(2)).all()
    graphs = ("encoder", "decoder")
    merged = ("encoder_model", "decoder_model_merged")
    assert sum(map(ours.size, graphs)) <= sum(map(theirs.artifact.size, merged))


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("kind", "task", "outputs"),
    [
        ("bert", "feature-extraction", {"last_hidden_state"}),
        ("gpt2", "text-generation-with-past", {"logits"}),
    ],
)
def test_architectures_without_a_family(
    toolchain: None, tmp_path: Path, kind: str, task: str, outputs: set[str]
) -> None:
    from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

    models = {
        "bert": lambda: BertModel(
            BertConfig(
                hidden_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=128,
                vocab_size=100,
            )
        ),
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=100)),
    }
    root = tmp_path / "source"
    models[kind]().save_pretrained(root)
    files = ("model.safetensors", "config.json")
    source = Artifact(root, {"model": Component("transformers", files)}, {"weights": "random"})
    outcome = run_pass("optimum_export", source, tmp_path / "out")
    assert outcome.did["task"] == task
    graph = outcome.artifact.components["model"]
    assert outputs <= {port.name for port in graph.outputs}
    with pytest.raises(UserError, match=f"does not export a '{kind}' for the task 'object-detection'"):
        run_pass("optimum_export", source, tmp_path / "wrong", task="object-detection")
