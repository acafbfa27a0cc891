"""The bundle as a model of MLflow: saved without a pickle, loaded without pocket_opt's help, answering like the runner."""

from __future__ import annotations

import base64
from pathlib import Path

import mlflow
import pytest
import soundfile
import yaml
from layout_fixtures import clips, laid_out, optimized
from openvino_models import converted
from runner_fixtures import SAMPLE_RATE
from variant_fixtures import make

from pocket_opt.artifact import Artifact
from pocket_opt.bundle import Bundle, write_bundle
from pocket_opt.models.whisper.runner.audio import read_audio
from pocket_opt.models.whisper.runner.transcript import DecodeOptions
from pocket_opt.models.whisper.runner.whisper import Whisper
from pocket_opt.tracking import Settings, log_bundle, settings_for
from pocket_opt.tracking_model import save_model

EXPERIMENTS = ["1"]
"""The first that is made; 0 is MLflow's own."""


def bundle(root: Path, model: Artifact) -> Bundle:
    made = make(root / "fake", "HIGH", weights="random")
    return write_bundle(made.variant, model, root / "bundle")


def saved(root: Path, model: Artifact) -> Path:
    made = bundle(root, model)
    save_model(root / "model", made.path, made.manifest)
    return root / "model"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "recording.wav"
    soundfile.write(path, clips()[0], SAMPLE_RATE)
    return path


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("native"), optimized("HIGH"))


def expected(recording: Path, language: str = "en") -> str:
    [heard] = Whisper(optimized("HIGH").root).transcribe(
        [read_audio(recording, SAMPLE_RATE)], DecodeOptions(language)
    )
    return heard.text


def test_a_list_of_files_gives_their_texts(native: Path, recording: Path) -> None:
    model = mlflow.pyfunc.load_model(str(native))
    texts = model.predict([str(recording), str(recording)], params={"language": "en"})
    assert texts == [expected(recording)] * 2


def test_a_recording_may_be_in_the_request(native: Path, recording: Path) -> None:
    model = mlflow.pyfunc.load_model(str(native))
    inline = f"data:audio/wav;base64,{base64.b64encode(recording.read_bytes()).decode()}"
    assert model.predict([inline], params={"language": "de"}) == [expected(recording, "de")]
    with pytest.raises(ValueError, match="a data URL in base64"):
        model.predict(["data:audio/wav,RIFF"])


def test_what_cannot_be_heard_is_an_error(native: Path, recording: Path, tmp_path: Path) -> None:
    model = mlflow.pyfunc.load_model(str(native))
    with pytest.raises(ValueError, match="there is no such file"):
        model.predict([str(tmp_path / "missing.wav")])
    with pytest.raises(ValueError, match="this model knows"):
        model.predict([str(recording)], params={"language": "xx"})


def test_it_holds_no_pickle_and_names_what_it_needs(native: Path) -> None:
    files = [path for path in native.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".cloudpickle")]
    assert "mlflow_model.py" in {path.name for path in files}
    needed = (native / "requirements.txt").read_text().splitlines()
    assert {line.split("==")[0] for line in needed} == {
        "mlflow",
        "numpy",
        "onnxruntime",
        "soundfile",
        "tokenizers",
    }
    table = yaml.safe_load((native / "MLmodel").read_text())
    assert "language" in table["signature"]["params"]


def test_two_models_live_in_one_process(native: Path, recording: Path, tmp_path: Path) -> None:
    other = saved(tmp_path, laid_out("sherpa_onnx", "HIGH"))
    models = [mlflow.pyfunc.load_model(str(path)) for path in (native, other)]
    texts = [model.predict([str(recording)], params={"language": "en"}) for model in models]
    assert texts[0] == texts[1] == [expected(recording)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_for(None, tmp_path_factory.mktemp("store"), upload_models=True)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_what_was_recorded_is_loaded_from_the_store(
    runtime: str, store: Settings, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of a user: a bundle is recorded with its files, found in MLflow by its run, loaded and asked."""
    artifact = optimized("HIGH") if runtime == "onnxruntime" else converted()
    made = make(tmp_path / "fake", "HIGH", weights="random", target=runtime)
    place = write_bundle(made.variant, artifact, tmp_path / "bundle").path
    tracked = log_bundle(place, store)
    assert not tracked.warning
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    run = f"source_run_id = '{tracked.run_id}'"
    [found] = mlflow.search_logged_models(filter_string=run, experiment_ids=EXPERIMENTS, output_format="list")
    [heard] = Whisper(artifact.root).transcribe([read_audio(recording, SAMPLE_RATE)], DecodeOptions("en"))
    for uri in (f"models:/{found.model_id}", f"runs:/{tracked.run_id}/{found.name}"):
        model = mlflow.pyfunc.load_model(uri)
        assert model.predict([str(recording)], params={"language": "en"}) == [heard.text]
