"""The C++ of `bundle.layout=android`, compiled for this machine, says what run.py says.

`ONNXRUNTIME_HEADERS=DIR pytest -m nightly tests/end_to_end/test_android_sources.py`, with g++ and a folder that holds
onnxruntime_cxx_api.h of ONNX Runtime 1.23 or later (Debian's libonnxruntime-dev, or the `headers` of the archive for
Android); the library is that of the installed package. On x86-64 with onnxruntime-qnn the NPU's simulator is asked, too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import onnxruntime
import pytest
import soundfile
from compiled_whisper import ELITE, compiled
from exported_whisper import exported, run_pass
from layout_fixtures import clips
from runner_fixtures import SAMPLE_RATE

from pocket_opt.artifact import Artifact
from pocket_opt.models.whisper.runner.audio import read_audio
from pocket_opt.models.whisper.runner.transcript import DecodeOptions
from pocket_opt.models.whisper.runner.whisper import Whisper

HEADERS = Path(os.environ.get("ONNXRUNTIME_HEADERS", "/usr/include/onnxruntime"))
pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(
        shutil.which("g++") is None or not (HEADERS / "onnxruntime_cxx_api.h").is_file(),
        reason="needs g++ and ONNXRUNTIME_HEADERS=DIR with onnxruntime_cxx_api.h",
    ),
]


@cache
def built(target: str, *, prefill: bool = True) -> tuple[Artifact, Path]:
    """The layout for a target, and its program."""
    root = Path(mkdtemp(prefix=f"android-{target}-"))
    model = exported("static") if target == "cpu" else compiled().artifact
    if not prefill:
        parts = {name: part for name, part in model.components.items() if name != "prefill"}
        model = replace(model, components=parts)
    artifact = run_pass("layout_android", model, root / "model", target=target).artifact
    sources, program = artifact.root / "android" / "cpp", root / "whisper"
    [library] = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*")
    (root / "libonnxruntime.so.1").symlink_to(library)
    files = [sources / "main.cpp", sources / "whisper.cpp", root / "libonnxruntime.so.1"]
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{HEADERS}", f"-Wl,-rpath,{root}", "-o", program]
    subprocess.run(["g++", *flags, *files], check=True)
    return artifact, program


@cache
def recordings() -> tuple[Path, ...]:
    folder = Path(mkdtemp(prefix="recordings-"))
    for number, clip in enumerate(clips()):
        soundfile.write(folder / f"{number}.wav", clip, SAMPLE_RATE, subtype="PCM_16")
    return tuple(sorted(folder.iterdir()))


def said(
    target: str, recording: Path, language: str, *options: str, prefill: bool = True
) -> tuple[list[int], str]:
    """Tokens and text as the program prints them, after what Qualcomm's library says."""
    artifact, program = built(target, prefill=prefill)
    command = [str(program), str(artifact.root / "assets" / f"whisper_{target}"), str(recording), language]
    done = subprocess.run([*command, *options], capture_output=True, check=True)
    lines = done.stdout.decode(errors="replace").split("\n")
    place = next(index for index, line in enumerate(lines) if not line.strip(" 0123456789"))
    return [int(token) for token in lines[place].split()], plain("\n".join(lines[place + 1 :]))


def plain(text: str) -> str:
    """Without halves of characters, which are written in more than one way, and the space around."""
    return text.replace("\ufffd", "").strip()


@pytest.mark.parametrize("language", ["en", "de", ""])
def test_the_program_says_what_the_runner_says(language: str) -> None:
    model = Whisper(built("cpu")[0].root, threads=1)
    for recording in recordings():
        samples = read_audio(recording, SAMPLE_RATE)
        [ours] = model.transcribe([samples], DecodeOptions(language or None))
        tokens, text = said("cpu", recording, language)
        assert tokens == list(ours.tokens)
        assert text == plain(ours.text)


def test_the_prompt_goes_token_by_token_where_there_is_no_prefill() -> None:
    recording = recordings()[0]
    assert not list(built("cpu", prefill=False)[0].root.rglob("prefill*"))
    assert said("cpu", recording, "en", prefill=False) == said("cpu", recording, "en")


def test_so_it_does_on_the_simulated_npu() -> None:
    qnn = pytest.importorskip("onnxruntime_qnn")
    chip = [f"{name}={ELITE[name]}" for name in ("soc_model", "htp_arch")]
    options = [qnn.get_library_path(), f"backend_path={qnn.get_qnn_htp_path()}", *chip]
    recording = recordings()[0]
    tokens, _ = said("sd8elite", recording, "en", *options)
    [ours] = Whisper(built("sd8elite")[0].root).transcribe(
        [read_audio(recording, SAMPLE_RATE)], DecodeOptions("en")
    )
    assert tokens == list(ours.tokens)


def test_what_it_cannot_do_is_told() -> None:
    artifact, program = built("cpu")
    command = [str(program), str(artifact.root / "assets" / "whisper_cpu"), str(recordings()[0]), "xx"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (1, "this model knows no language 'xx'")
