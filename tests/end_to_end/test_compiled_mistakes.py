"""What goes wrong with compiled models, by the command: one clear error, nothing half-written, and a sweep goes on.

Faults of Qualcomm's native library cannot be had at will, so a module of its name crashes, or hangs, where the library
is loaded. The rest is real.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from compiled_whisper import compiled
from executorch_programs import lowered
from planned_inputs import write_clips, write_slow_clip
from real_command import Command
from variant_fixtures import make

from pocket_opt.artifact import Artifact
from pocket_opt.bundle import write_bundle
from pocket_opt.cli.main import main

FAULTS = {
    "crash": "import os, signal\n\ndef __getattr__(name):\n    os.kill(os.getpid(), signal.SIGSEGV)\n",
    "hang": "import time\n\ndef __getattr__(name):\n    time.sleep(600)\n",
}
COMPILE = "'compile' (pass compile_qnn)"
BARE = ("~nodes.quality", "tracking=none")
"""Only build: what is to fail comes before anything is measured."""


Build = Callable[..., None]


def test_a_sweep_goes_on_after_a_crash_and_after_a_time_out(build: Build, tmp_path: Path) -> None:
    build("target=cpu,sd8elite", library=fault(tmp_path, "crash"), says="it crashed with SIGSEGV")
    build("target=cpu,sd8elite", "timeout_s=8", library=fault(tmp_path, "hang"), says="ran longer than 8 s")


def test_graphs_of_open_shapes_are_refused_before_they_are_compiled(build: Build) -> None:
    build("target=sd8elite", "nodes.export.params.decoder=kv_cache", says="a dimension is not fixed")


def test_clips_that_will_not_do_are_told_before_a_graph_is_observed(build: Build, tmp_path: Path) -> None:
    slow, many = (write_clips(tmp_path / name, count) for name, count in (("a", 8), ("b", 16)))
    write_slow_clip(slow / "5.wav")
    limit = "nodes.qdq.params.cache_mb=1"
    for clips, more, says in (
        (slow, (), "5.wav was sampled at 4000 Hz"),
        (many, (limit,), "16 calibration clips take 2 MB on disk"),
    ):
        words = ("target=sd8elite", "level=HIGH", f"data.calibration.path={clips}", *more)
        build(*words, says=says, node="'qdq' (pass quantize_qdq)")


def test_two_chips_have_directories_and_binaries_of_their_own(cached_command: Command) -> None:
    done = cached_command.run("-m", "target=sd8elite,sd8gen3", *BARE)
    assert done.returncode == 0, done.stderr
    made = {path.parent.name: path for path in bundles(cached_command)}
    chips = {name: json.loads((path / "manifest.json").read_text()) for name, path in made.items()}
    assert {name: about["metadata"]["qnn"]["chip"] for name, about in chips.items()} == {
        "sd8elite": "SM8750",
        "sd8gen3": "SM8650",
    }
    binaries = [(path / "decoder_qnn.bin").read_bytes() for path in made.values()]
    assert binaries[0] != binaries[1]


@pytest.fixture
def build(
    cached_command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Build:
    """Run a sweep in which the NPU fails: one error, the CPU's bundle if it is among them, nothing of the NPU's."""
    command = cached_command

    def build(*words: str, says: str, library: Path | None = None, node: str = COMPILE) -> None:
        monkeypatch.setenv("PYTHONPATH", str(library or ""))
        code = main(command.arguments("-m", *words, *BARE))
        text = "".join(capsys.readouterr())
        assert code == 1, text
        assert says in text
        assert f"node {node} failed" in text
        assert [line[:7] for line in text.splitlines()].count("error: ") == 1, text
        assert "Traceback" not in text
        made = [path.parent.name for path in bundles(command)]
        assert made == (["cpu"] if "cpu" in words[0] else [])
        assert not list((command.home / "store" / "parts").glob("*"))
        assert not list((command.home / "scratch").glob("*/*"))
        shutil.rmtree(command.output)

    return build


def bundles(command: Command) -> list[Path]:
    return [path.parent for path in sorted(command.output.rglob("manifest.json"))]


def fault(folder: Path, kind: str) -> Path:
    """A directory that holds the library's stand-in."""
    site = folder / kind
    site.mkdir()
    (site / "onnxruntime_qnn.py").write_text(FAULTS[kind])
    return site


def spoilt_context(root: Path) -> None:
    """The decoder's binary loses its end."""
    path = root / "decoder_qnn.bin"
    path.write_bytes(path.read_bytes()[:1000])


def other_backend(root: Path) -> None:
    """The program wants a backend that no build of ExecuTorch has."""
    path = root / "model.pte"
    path.write_bytes(path.read_bytes().replace(b"XnnpackBackend", b"XenonackBacken"))


@pytest.mark.parametrize(
    ("made", "change", "says"),
    [
        (lambda: compiled().artifact, spoilt_context, "a context binary cannot be loaded: decoder.onnx"),
        (lambda: lowered().artifact, other_backend, "XenonackBacken"),
    ],
    ids=["truncated context", "missing backend"],
)
def test_a_bundle_that_cannot_run_says_why(
    made: Callable[[], Artifact],
    change: Callable[[Path], None],
    says: str,
    speech: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = written_bundle(made(), tmp_path)
    clip = str(speech / "clips" / "0.wav")
    whole = ["transcribe", "--bundle", str(bundle), "--language", "en", "--max-new-tokens", "2", clip]
    assert main(whole) == 0
    capsys.readouterr()
    for path in bundle.rglob("*.*"):
        path.chmod(0o644)
    change(bundle)
    assert main(whole) == 1
    text = "".join(capsys.readouterr())
    assert says in text
    assert [line[:7] for line in text.splitlines()].count("error: ") == 1, text
    assert "build" in text.partition("next:")[2]
    assert "Traceback" not in text


def written_bundle(artifact: Artifact, folder: Path) -> Path:
    """The artifact as a bundle whose files are its own."""
    copy = Path(shutil.copytree(artifact.root, folder / "artifact"))
    for path in copy.iterdir():
        path.chmod(0o644)
    own = Artifact(copy, artifact.components, artifact.metadata).save()
    variant = make(folder / "fake", "HIGH", weights="random").variant
    return write_bundle(variant, own, folder / "bundle").path
