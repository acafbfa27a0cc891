"""OpenVINO: transformers' tokens, states that keep decodings apart, rows reordered, and what is said if it is missing."""

from __future__ import annotations

import importlib.util
import re
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from exported_whisper import exported
from openvino_models import built, converted

from pocket_opt.artifact import Artifact
from pocket_opt.config.schema import Intents
from pocket_opt.data.dataset import Dataset
from pocket_opt.errors import UserError
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import execute
from pocket_opt.runtimes import open_runtime
from pocket_opt.runtimes.base import DecodeOptions, SpeechRuntime
from pocket_opt.runtimes.openvino import probe
from pocket_opt.worker import silent

TEACHER = Path(__file__).parents[2] / "pocket_opt" / "sample" / "teacher"
BASIC = Intents(fusion="lossless")
MEDIUM = Intents(fusion="lossless", weights="fp16", rest="fp16")
HIGH = Intents(fusion="lossless", weights="int8", activations="dynamic", rest="fp16")
EXTREME = Intents(fusion="lossless", weights="int4", activations="dynamic", rest="fp16")
ASKED = list(product((1, 3), (("en", "transcribe"), ("de", "translate")), (False, True)))
Tokens = np.ndarray[Any, np.dtype[np.int64]]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    step = load_pass("load_source")
    params = step.Params(path=str(TEACHER), digest="")
    return execute(step, {}, params, tmp_path_factory.mktemp("teacher")).artifact


@pytest.fixture(scope="module")
def models(teacher: Artifact, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The sample model at every level."""
    intents = {"BASIC": BASIC, "MEDIUM": MEDIUM, "HIGH": HIGH, "EXTREME": EXTREME}
    return {name: built(teacher, wanted, tmp_path_factory.mktemp(name)) for name, wanted in intents.items()}


@pytest.fixture(scope="module")
def reference(teacher: Artifact) -> SpeechRuntime:
    return open_runtime(teacher, threads=1)


@pytest.fixture(scope="module")
def basic(models: dict[str, Artifact]) -> SpeechRuntime:
    return open_runtime(models["BASIC"], threads=1)


@pytest.fixture(scope="module")
def small() -> tuple[SpeechRuntime, SpeechRuntime]:
    """The same random weights in both runtimes."""
    return open_runtime(exported(), threads=1), open_runtime(converted(), threads=1)


@pytest.mark.parametrize(("batch", "asked", "timestamps"), ASKED)
def test_tokens_are_those_of_transformers(
    reference: SpeechRuntime, basic: SpeechRuntime, batch: int, asked: tuple[str, str], timestamps: bool
) -> None:
    audio = [clip.samples() for clip in Dataset.open("sample:evaluation").limit(4)]
    options = DecodeOptions(*asked, timestamps)
    for first in range(0, len(audio), batch):
        clips = audio[first : first + batch]
        expected, found = (
            [heard.tokens for heard in runtime.transcribe(clips, options)] for runtime in (reference, basic)
        )
        assert found == expected, f"clips from {first}"


def test_a_decoder_without_cache_gives_the_same_tokens(
    teacher: Artifact, basic: SpeechRuntime, tmp_path: Path
) -> None:
    plain = open_runtime(built(teacher, BASIC, tmp_path, decoder="basic"), threads=1)
    audio = [clip.samples() for clip in Dataset.open("sample:evaluation").limit(3)]
    found, expected = (
        [heard.tokens for heard in runtime.transcribe(audio, DecodeOptions("en"))]
        for runtime in (plain, basic)
    )
    assert found == expected


def test_every_level_runs_and_is_smaller_than_the_one_before(
    reference: SpeechRuntime, models: dict[str, Artifact]
) -> None:
    audio = [clip.samples() for clip in Dataset.open("sample:evaluation").limit(8)]
    options = DecodeOptions("en", max_new_tokens=24)
    expected = [heard.tokens for heard in reference.transcribe(audio, options)]
    equal, sizes = {}, {}
    for name, artifact in models.items():
        said = [heard.tokens for heard in open_runtime(artifact, threads=1).transcribe(audio, options)]
        equal[name] = sum(one == other for one, other in zip(said, expected, strict=True))
        sizes[name] = sum((artifact.root / f"{part}.bin").stat().st_size for part in ("encoder", "decoder"))
    assert equal["BASIC"] == equal["MEDIUM"] == len(audio)
    assert equal["HIGH"] >= len(audio) - 3
    assert equal["EXTREME"] >= 1
    assert sizes["MEDIUM"] < 0.51 * sizes["BASIC"]
    assert sizes["HIGH"] < 0.6 * sizes["MEDIUM"]
    assert sizes["EXTREME"] < 0.8 * sizes["HIGH"]


def test_several_decodings_may_start_from_one_state(small: tuple[SpeechRuntime, SpeechRuntime]) -> None:
    for runtime in small:
        state = runtime.encode(runtime.features([_noise(0), _noise(1)]))
        _, one = runtime.decode(_tokens(2, 3, 1), state)
        _, two = runtime.decode(_tokens(2, 5, 2), state)
        first, one = runtime.decode(_tokens(2, 1, 3), one)
        second, _ = runtime.decode(_tokens(2, 1, 4), two)
        again, _ = runtime.decode(_tokens(2, 1, 5), one)
        runtime.found = (first, second, again)  # type: ignore[attr-defined]
    for expected, found in zip(small[0].found, small[1].found, strict=True):  # type: ignore[attr-defined]
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("decoder", ["kv_cache", "basic"])
def test_rows_are_reordered_repeated_and_left_out(decoder: str) -> None:
    runtimes = [open_runtime(made(decoder), threads=1) for made in (exported, converted)]
    states = [runtime.encode(runtime.features([_noise(0), _noise(1)])) for runtime in runtimes]
    length = 3
    for rows in ([1, 0, 1], [2, 0, 1], [1, 1, 0], [0, 2], [1, 0, 0, 1], [3]):
        states = [runtime.select(state, rows) for runtime, state in zip(runtimes, states, strict=True)]
        tokens = _tokens(len(rows), length, sum(rows))
        answers = [runtime.decode(tokens, state) for runtime, state in zip(runtimes, states, strict=True)]
        np.testing.assert_allclose(answers[1][0], answers[0][0], atol=1e-3)
        states, length = [state for _, state in answers], 1


def test_a_request_is_used_again_once_its_state_is_gone(small: tuple[SpeechRuntime, SpeechRuntime]) -> None:
    runtime = small[1]
    backend = runtime._backend  # type: ignore[attr-defined]
    options = DecodeOptions("en", max_new_tokens=4)
    runtime.transcribe([_noise(0)], options)
    before = len(backend._decoders), len(backend._encoders)
    for _ in range(3):
        runtime.transcribe([_noise(1)], options)
    assert (len(backend._decoders), len(backend._encoders)) == before
    assert before[0] <= 2


def test_without_openvino_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    hidden = "pocket_opt.runtimes.openvino.find_spec"
    monkeypatch.setattr(hidden, lambda name: None if name == "openvino" else found(name))
    with pytest.raises(UserError, match=r"(?s)OpenVINO, which is not installed.*pocket_opt\[openvino\]"):
        open_runtime(converted())


def test_the_probe_runs_an_operator() -> None:
    assert probe({}, silent).startswith("MatMul on CPU, openvino 20")


def _noise(kind: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return 0.1 * np.random.default_rng(kind).standard_normal(32_000).astype(np.float32)


def _tokens(batch: int, length: int, seed: int) -> Tokens:
    return np.random.default_rng(seed).integers(0, 500, (batch, length))


def test_the_lines_of_the_page_run_a_bundle(
    basic: SpeechRuntime,
    models: dict[str, Artifact],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "openvino.md").read_text(encoding="utf-8")
    [lines] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    folder = shutil.copytree(models["BASIC"].root, tmp_path / "bundle")
    samples = next(iter(Dataset.open("sample:evaluation"))).samples()
    soundfile.write(folder / "recording.wav", samples, basic.sample_rate, subtype="FLOAT")
    monkeypatch.chdir(folder)
    exec(lines, {})
    [expected] = basic.transcribe([samples], DecodeOptions("en"))
    assert capsys.readouterr().out.strip() == expected.text.strip()
