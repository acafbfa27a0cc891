"""Runtimes by name, and the reference's own steps."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runner_fixtures import export, sound, talkative_checkpoint

from pocket_opt.artifact import Artifact
from pocket_opt.errors import UserError
from pocket_opt.runtimes import RUNTIMES, distributions, open_runtime
from pocket_opt.runtimes.base import DecodeOptions, SpeechRuntime


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return talkative_checkpoint(tmp_path_factory.mktemp("source"), seed=6)


@pytest.fixture(scope="module")
def runtimes(source: Artifact, tmp_path_factory: pytest.TempPathFactory) -> list[SpeechRuntime]:
    exported = export(source, tmp_path_factory.mktemp("models") / "exported")
    return [open_runtime(source, threads=1), open_runtime(exported, threads=1)]


def test_both_runtimes_take_the_same_steps(runtimes: list[SpeechRuntime]) -> None:
    found = []
    for runtime in runtimes:
        assert (runtime.sample_rate, runtime.window_s) == (16_000, 4.0)
        assert runtime.load_seconds > 0
        features = runtime.features([sound(2, 0), sound(6, 1)])
        state = runtime.encode(features)
        hidden = runtime.encoder_hidden(state).copy()
        prompt = np.array([runtime.prompt(DecodeOptions("de"))] * 2, np.int64)
        first, state = runtime.decode(prompt, state)
        second, state = runtime.decode(np.array([[50], [60]]), state)
        found.append((features, hidden, first.copy(), second.copy()))
    for ours, theirs, tolerance in zip(*found, (1e-4, 1e-3, 2e-3, 2e-3), strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, atol=tolerance)


def test_what_the_model_does_not_know_is_the_users_error(runtimes: list[SpeechRuntime]) -> None:
    for runtime in runtimes:
        for options in (DecodeOptions("fr"), DecodeOptions(task="sing")):
            with pytest.raises(UserError, match="this model knows"):
                runtime.transcribe([sound(1, 0)], options)


@pytest.mark.parametrize(
    ("name", "message"), [("onnxruntim", "did you mean 'onnxruntime'"), (None, "no runtime")]
)
def test_unknown_runtime(source: Artifact, name: str | None, message: str) -> None:
    metadata = {key: value for key, value in source.metadata.items() if key != "runtime"}
    artifact = replace(source, metadata={**metadata, "runtime": name} if name else metadata)
    with pytest.raises(UserError, match=message):
        open_runtime(artifact)


def test_distributions_are_installed() -> None:
    from importlib.metadata import version

    for name in RUNTIMES:
        assert all(version(package) for package in distributions(name))


def test_names_and_keys_need_no_runtime(tmp_path: Path) -> None:
    program = (
        "import sys; from pocket_opt.runtimes import distributions; distributions('transformers');"
        "from pocket_opt.runtimes.base import DecodeOptions; DecodeOptions();"
        "print([name for name in ('torch', 'transformers', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
