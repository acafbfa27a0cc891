"""The runner's command line, in a directory that was moved, with nothing but its four packages."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from runner_fixtures import SAMPLE_RATE, export, sound, talkative_checkpoint

from pocket_opt.bundle.layout import runner_files
from pocket_opt.models.whisper.runner.whisper import Whisper

ALLOWED = {
    "numpy",
    "onnxruntime",
    "tokenizers",
    "soundfile",
    # what these four consist of
    "_soundfile",
    "_soundfile_data",
    "cffi",
    "_cffi_backend",
    "pycparser",
    "typing_extensions",
    "runner",
}
GUARD = """
import importlib.abc, runpy, sys
class Guard(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in {allowed}:
            raise ModuleNotFoundError(f"the runner may not import {{top}}")
sys.meta_path.insert(0, Guard())
sys.argv = {argv}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle as it ships, in another place than where it was written, with two recordings."""
    first, moved = tmp_path_factory.mktemp("bundle") / "first", tmp_path_factory.mktemp("elsewhere") / "moved"
    source = talkative_checkpoint(tmp_path_factory.mktemp("source"), seed=6)
    export(source, first)
    place_runner(first)
    (first / "artifact.json").rename(first / "manifest.json")
    first.rename(moved)
    soundfile.write(moved / "low.wav", sound(2, 0), SAMPLE_RATE)
    soundfile.write(moved / "high.flac", np.stack([sound(3, 1)] * 2, axis=1), 44_100)
    return moved


def place_runner(directory: Path) -> None:
    (directory / "runner").mkdir()
    for name, source in runner_files({"family": "whisper"}).items():
        shutil.copy(source, directory / name)


def call(bundle: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [str(bundle / "run.py"), *arguments]
    program = GUARD.format(allowed=ALLOWED, argv=argv)
    return subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=bundle, capture_output=True, text=True, check=False
    )


def test_one_file(bundle: Path) -> None:
    done = call(bundle, "low.wav", "--threads", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.rstrip("\n") == Whisper(bundle, threads=1).transcribe([sound(2, 0)])[0].text


def test_several_files_with_every_option(bundle: Path) -> None:
    done = call(
        bundle, "low.wav", "high.flac", "--json", "--timestamps", "--language", "de", "--task", "translate"
    )
    assert (done.returncode, done.stderr) == (0, "")
    low, high = (json.loads(line) for line in done.stdout.splitlines())
    assert (low["file"], high["file"]) == ("low.wav", "high.flac")
    assert low["language"] == high["language"] == "de"
    assert low["tokens"]
    assert low["segments"][0].keys() == {"start", "end", "text", "words"}


def test_times_are_printed(bundle: Path) -> None:
    done = call(bundle, "low.wav", "high.flac", "--timestamps", "--language", "en")
    assert done.stdout.startswith("low.wav: [0.")
    assert " --> " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: FILE"),
        (["absent.wav"], "there is no file absent.wav"),
        (["low.wav", "--language", "xx"], "language 'xx': this model knows de, en"),
        (["low.wav", "--task", "sing"], "invalid choice: 'sing'"),
        (["low.wav", "--threads", "-1"], "--threads must be 0 or more"),
        (["low.wav", "--threads", "many"], "invalid int value"),
        (["low.wav", "--unknown"], "unrecognized arguments"),
        (
            ["low.wav", "--word-timestamps"],
            "build it with word_timestamps=true and decoder=kv_cache or basic",
        ),
    ],
)
def test_usage_errors(bundle: Path, arguments: list[str], message: str) -> None:
    done = call(bundle, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_file_that_is_no_audio_does_not_stop_the_others(bundle: Path) -> None:
    (bundle / "broken.wav").write_bytes(bytes(500))
    soundfile.write(bundle / "empty.wav", np.zeros(0), SAMPLE_RATE)
    done = call(bundle, "broken.wav", "empty.wav", "low.wav", "--language", "en")
    assert done.returncode == 1
    assert done.stdout.startswith("low.wav: ")
    errors = done.stderr.splitlines()
    assert len(errors) == 2
    assert errors[0].startswith("run.py: error: broken.wav: cannot be read as wav, flac, ogg or mp3")
    assert errors[1] == "run.py: error: empty.wav: holds no samples"


def test_a_directory_without_a_model_is_a_usage_error(tmp_path: Path) -> None:
    place_runner(tmp_path)
    soundfile.write(tmp_path / "a.wav", sound(1, 0), SAMPLE_RATE)
    done = call(tmp_path, "a.wav")
    assert done.returncode == 2
    assert "neither manifest.json nor artifact.json is there" in done.stderr


def test_a_damaged_manifest_is_a_usage_error(bundle: Path, tmp_path: Path) -> None:
    place_runner(tmp_path)
    soundfile.write(tmp_path / "a.wav", sound(1, 0), SAMPLE_RATE)
    (tmp_path / "manifest.json").write_bytes((bundle / "manifest.json").read_bytes()[:100])
    done = call(tmp_path, "a.wav")
    assert done.returncode == 2
    assert "manifest.json: damaged (" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_guard_refuses_other_packages(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text("import torch\n")
    assert "the runner may not import torch" in call(tmp_path).stderr
