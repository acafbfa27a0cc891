"""The NPU's simulator: it really runs, it needs its package, and damaged binaries are told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from compiled_whisper import compiled
from runner_fixtures import sound

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.runtimes import open_runtime
from pocket_opt.runtimes.base import DecodeOptions
from pocket_opt.runtimes.qnn import probe
from pocket_opt.worker import silent


def test_doctor_runs_one_operator() -> None:
    assert probe({}, silent).startswith("MatMul in the simulator of HTP v79, onnxruntime-qnn 2.7")


def test_rows_of_a_batch_are_decoded_apart() -> None:
    runtime = open_runtime(compiled().artifact, threads=1)
    options = DecodeOptions("en", max_new_tokens=4)
    sounds = [sound(1, 0), sound(2, 1)]
    assert [one.tokens for one in runtime.transcribe(sounds, options)] == [
        runtime.transcribe([one], options)[0].tokens for one in sounds
    ]


def test_a_truncated_binary_is_told(tmp_path: Path) -> None:
    artifact = compiled().artifact
    damaged = artifact.carry(tmp_path)
    binary = tmp_path / artifact.components["decoder"].files[1]
    whole = binary.read_bytes()
    binary.unlink()
    binary.write_bytes(whole[:1000])
    with pytest.raises(PocketOptError, match=r"a context binary cannot be loaded: decoder.onnx") as caught:
        open_runtime(damaged.save())
    assert "build it again" in caught.value.fix


def test_without_the_package_the_refusal_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="onnxruntime-qnn, which is not installed"):
        open_runtime(compiled().artifact)


def test_audio_is_read_after_the_simulator_was_loaded(tmp_path: Path) -> None:
    """libsndfile crashes where the simulator comes first."""
    import soundfile

    soundfile.write(tmp_path / "clip.wav", np.zeros(100, np.float32), 16_000)
    code = (
        "import sys; from pathlib import Path\n"
        "from pocket_opt.models.whisper.runner.qnn_backend import devices\n"
        "from pocket_opt.runtimes.qnn import probe\n"
        "probe({}, None)\n"
        "from pocket_opt.models.whisper.runner.audio import read_audio\n"
        "print(len(read_audio(Path(sys.argv[1]), 16000)))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "clip.wav")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip().splitlines()[-1:]) == (0, ["100"]), done.stderr
