"""The real clients load our layouts and give our tokens: the sample model, and whisper-tiny shapes at 30 s.

`pytest -m nightly tests/end_to_end/test_clients.py`; the clients are installed on first use.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import soundfile
from client_environments import folder, program
from exported_whisper import run_pass
from layout_fixtures import CHAINS, LEVELS

from pocket_opt import shipped
from pocket_opt.artifact import Artifact
from pocket_opt.bundle.clients import AUDIO, CLIENTS
from pocket_opt.data.dataset import Dataset
from pocket_opt.models.whisper.runner.audio import read_audio
from pocket_opt.models.whisper.runner.transcript import DecodeOptions, Transcript
from pocket_opt.models.whisper.runner.whisper import Whisper
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import execute

pytestmark = pytest.mark.nightly
RATE = 16_000
NEW = 64
DTYPES = dict(zip(LEVELS, ("fp32", "fp16", "q8", "q4"), strict=True))
TINY = {"d_model": 384, "encoder_layers": 4, "decoder_layers": 4, "heads": 6}
TAKEN_BY = {"sample": ("optimum", "transformers_js", "sherpa_onnx"), "tiny": tuple(CLIENTS)}

TOKENS = {
    "optimum": f"""
import json, soundfile
from optimum.onnxruntime import ORTModelForSpeechSeq2Seq
from transformers import WhisperProcessor
model, processor = ORTModelForSpeechSeq2Seq.from_pretrained("."), WhisperProcessor.from_pretrained(".")
audio, rate = soundfile.read("{AUDIO}", dtype="float32")
features = processor(audio, sampling_rate=rate, return_tensors="pt").input_features
print(json.dumps(model.generate(features, language="en", task="transcribe", max_new_tokens={NEW})[0].tolist()))
""",
    "transformers_js": f"""
import {{ env, pipeline }} from "@huggingface/transformers";
import {{ readFileSync }} from "node:fs";
env.allowRemoteModels = false;
env.localModelPath = "/";
const pipe = await pipeline("automatic-speech-recognition", process.cwd());
const pcm = readFileSync("{AUDIO}").subarray(44);
const audio = Float32Array.from({{ length: pcm.length / 2 }}, (_, i) => pcm.readInt16LE(2 * i) / 32768);
const {{ input_features }} = await pipe.processor(audio);
const asked = {{ inputs: input_features, language: "en", task: "transcribe", max_new_tokens: {NEW} }};
const ids = await pipe.model.generate(asked);
console.log(JSON.stringify(Array.from(ids.data, Number)));
""",
    "genai": f"""
import json
import onnxruntime_genai as og
model = og.Model(".")
processor = model.create_multimodal_processor()
prompt = "<|startoftranscript|><|en|><|transcribe|><|notimestamps|>"
params = og.GeneratorParams(model)
params.set_search_options(max_length={NEW} + 4)
generator = og.Generator(model, params)
generator.set_inputs(processor([prompt], audios=og.Audios.open("{AUDIO}")))
while not generator.is_done():
    generator.generate_next_token()
print(json.dumps(generator.get_sequence(0).tolist()))
""",
}
"""The ids that a client chooses, where it tells them."""

SHERPA_FEATURES = f"""
import kaldi_native_fbank as knf
import numpy as np, soundfile
audio, rate = soundfile.read("{AUDIO}", dtype="float32")
options = knf.WhisperFeatureOptions()
options.dim = 80
front = knf.OnlineWhisperFbank(options)
front.accept_waveform(rate, audio.tolist())
front.input_finished()
power = np.stack([front.get_frame(i) for i in range(front.num_frames_ready)])[:2950]
log = np.log10(np.maximum(power, 1e-10))
np.save("features.npy", ((np.maximum(log, log.max() - 8) + 4) / 4).T[None].astype(np.float32))
"""
"""What sherpa-onnx computes inside: features of the frames that there are, at most 29.5 s."""


@cache
def optimized(model: str, level: str) -> Artifact:
    root = Path(mkdtemp(prefix=f"client-{model}-{level}-"))
    if model == "sample":
        place = str(shipped.locate("sample:teacher", holding="config.json", where="test"))
        name, params = "load_source", {"path": place}
    else:
        name, params = "random_weights", TINY
    step = load_pass(name)
    (root / "source").mkdir()
    made = execute(step, {}, step.Params(**params), root / "source").artifact
    for number, (name, params) in enumerate([("export_onnx", {}), ("fuse", {}), *CHAINS[level]]):
        made = run_pass(name, made, root / str(number), **params).artifact
    return made


def laid_out(model: str, level: str, layout: str, workdir: Path) -> Path:
    params = {"dtype": DTYPES[level]} if layout == "transformers_js" else {}
    run_pass(f"layout_{layout}", optimized(model, level), workdir, **params)
    return workdir


def record(model: str, place: Path) -> None:
    """One clip of the sample, or many in a row until the window is full."""
    clips = Dataset.open("sample:evaluation").clips
    samples = [read_audio(clip.path, RATE) for clip in clips[: 1 if model == "sample" else 20]]
    soundfile.write(place / AUDIO, np.concatenate(samples)[: 30 * RATE], RATE, subtype="PCM_16")


def ours(model: str, level: str, place: Path) -> Transcript:
    whisper = Whisper(optimized(model, level).root)
    [heard] = whisper.transcribe([read_audio(place / AUDIO, RATE)], DecodeOptions("en", max_new_tokens=NEW))
    return heard


def run(client: str, lines: str, place: Path) -> str:
    """What the script `lines` prints in the directory `place`."""
    command = program(client)
    script = place / "script.py"
    if command == ["node"]:  # modules are looked up from where the script lies
        script = folder(client) / "script.mjs"
    script.write_text(lines)
    done = subprocess.run([*command, str(script)], capture_output=True, text=True, cwd=place, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1].strip()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("layout", TAKEN_BY["sample"])
def test_the_lines_on_the_card_print_our_text(layout: str, level: str, tmp_path: Path) -> None:
    place = laid_out("sample", level, layout, tmp_path / "bundle")
    record("sample", place)
    text = run(layout, CLIENTS[layout].lines, place)
    assert text == ours("sample", level, place).text
    assert len(text.split()) > 5


@pytest.mark.parametrize("layout", sorted(TOKENS))
def test_tokens_are_ours_at_30_s(layout: str, tmp_path: Path) -> None:
    place = laid_out("tiny", "BASIC", layout, tmp_path / "bundle")
    record("tiny", place)
    expected = list(ours("tiny", "BASIC", place).tokens)
    found = json.loads(run(layout, TOKENS[layout], place))
    prompt = found.index(expected[0])
    assert found[prompt : prompt + NEW] == expected
    assert len(set(expected)) >= 20


def test_words_of_sherpa_onnx_are_ours_at_30_s(tmp_path: Path) -> None:
    """It tells words, and its features are not quite Whisper's; the runner is given the same."""
    place = laid_out("tiny", "BASIC", "sherpa_onnx", tmp_path / "bundle")
    record("tiny", place)
    words = run("sherpa_onnx", CLIENTS["sherpa_onnx"].lines, place).split()
    run("sherpa_onnx", SHERPA_FEATURES + "print('done')", place)
    features = np.load(place / "features.npy")
    whisper = Whisper(optimized("tiny", "BASIC").root)
    own = whisper.features([read_audio(place / AUDIO, RATE)])
    distance = np.abs(features - own[..., : features.shape[2]])
    assert np.median(distance) < 0.05  # its frames lie half a hop beside Whisper's
    whole = np.full_like(own, max(features.max() - 2.0, -1.5))
    whole[..., : features.shape[2]] = features
    whisper._backend.features = lambda batch: whole  # type: ignore[method-assign, attr-defined]
    [heard] = whisper.transcribe([np.zeros(RATE, np.float32)], DecodeOptions("en", max_new_tokens=NEW))
    expected = heard.text.split()
    assert words[: len(expected)] == expected
    assert len(set(expected)) >= 20


def test_genai_prints_our_text(tmp_path: Path) -> None:
    place = laid_out("tiny", "HIGH", "genai", tmp_path / "bundle")
    record("tiny", place)
    found = run("genai", CLIENTS["genai"].lines, place).split()
    expected = ours("tiny", "HIGH", place).text.split()
    same = sum(a == b for a, b in zip(found, expected, strict=False))
    assert same >= 0.8 * len(expected)  # integer kernels and the last frame of the features differ


def test_nothing_of_the_client_stays_behind(tmp_path: Path) -> None:
    """What a client writes (Node's cache) must not end in the bundle."""
    place = laid_out("sample", "BASIC", "transformers_js", tmp_path / "bundle")
    record("sample", place)
    before = {path for path in place.rglob("*") if path.is_file()}
    run("transformers_js", CLIENTS["transformers_js"].lines, place)
    assert {path for path in place.rglob("*") if path.is_file()} == before
    shutil.rmtree(place)
