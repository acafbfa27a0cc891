"""The runner: its rules against transformers' own, its steps, whole clips."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from runner_fixtures import SAMPLE_RATE, export, sound, talkative_checkpoint
from transformers import GenerationConfig
from transformers.generation.logits_process import (
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
    WhisperTimeStampLogitsProcessor,
)
from transformers.models.whisper.generation_whisper import WhisperGenerationMixin

from pocket_opt.artifact import Artifact
from pocket_opt.models.whisper.runner.long_form import split_runs
from pocket_opt.models.whisper.runner.rules import Rules, log_sum_exp
from pocket_opt.models.whisper.runner.transcript import DecodeOptions, RequestError
from pocket_opt.models.whisper.runner.vocabulary import Vocabulary
from pocket_opt.models.whisper.runner.whisper import Whisper, without_silence
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import execute
from pocket_opt.runtimes.transformers import TransformersRuntime


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return talkative_checkpoint(tmp_path_factory.mktemp("source"), seed=6)


@pytest.fixture(scope="module")
def exported(source: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(source, tmp_path_factory.mktemp("models") / "kv_cache").root


@pytest.fixture(scope="module")
def basic(source: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(source, tmp_path_factory.mktemp("models") / "basic", "basic").root


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Whisper:
    directory = tmp_path_factory.mktemp("english")
    checkpoint = talkative_checkpoint(directory / "source", seed=1, multilingual=False)
    return Whisper(export(checkpoint, directory / "exported").root, threads=1)


@pytest.fixture(scope="module")
def model(exported: Path) -> Whisper:
    return Whisper(exported, threads=1)


# ---- rules


def random_sequence(rng: np.random.Generator, vocabulary: Vocabulary, last: int) -> list[int]:
    """Text and times in any order, mostly rising."""
    times = sorted(rng.integers(vocabulary.timestamp_begin, last, 4).tolist())
    words = rng.integers(0, vocabulary.end, 6).tolist()
    pieces = [*words[:2], times[0], *words[2:4], times[1], times[1], words[4], times[2], times[3], words[5]]
    first = int(rng.integers(0, len(pieces)))
    return pieces[first : first + int(rng.integers(0, 6))]


@pytest.mark.parametrize("timestamps", [False, True])
def test_rules_are_those_of_transformers(source: Artifact, timestamps: bool) -> None:
    table = json.loads((source.root / "generation_config.json").read_text())
    table |= {
        "suppress_tokens": [1, 5, 320, 100_000, -1],
        "begin_suppress_tokens": [7, table["eos_token_id"]],
    }
    size = source.metadata["dims"]["vocab"]
    vocabulary = Vocabulary(source.root / "tokenizer.json", table)
    rules = Rules(table, vocabulary, size)
    config = GenerationConfig(**table)
    prompt = [vocabulary.start, 300, 301]
    processors = [
        SuppressTokensAtBeginLogitsProcessor(table["begin_suppress_tokens"], begin_index=len(prompt)),
        SuppressTokensLogitsProcessor(table["suppress_tokens"]),
    ]
    if timestamps:
        processors.append(WhisperTimeStampLogitsProcessor(config, begin_index=len(prompt)))
    rng = np.random.default_rng(0)
    for _ in range(120):
        sequence = random_sequence(rng, vocabulary, size)
        scores = rng.normal(0, 4, (2, size)).astype(np.float32)
        scores[1, vocabulary.timestamp_begin :] += rng.normal(0, 6)
        expected, ids = torch.from_numpy(scores.copy()), torch.tensor([prompt + sequence] * 2)
        for processor in processors:
            expected = processor(ids, expected)
        generated = np.array([sequence, sequence], np.int64).reshape(2, len(sequence))
        rules.apply(scores, generated, timestamps=timestamps)
        np.testing.assert_array_equal(scores, expected.numpy())


def test_runs_are_cut_as_in_transformers(model: Whisper) -> None:
    begin = model.vocabulary.timestamp_begin
    rng = np.random.default_rng(1)
    for _ in range(300):
        tokens = random_sequence(rng, model.vocabulary, begin + 200) or [5]
        segments, frames = WhisperGenerationMixin._retrieve_segment(
            seek_sequence=torch.tensor(tokens),
            seek_outputs=[None],
            time_offset=torch.zeros(1, dtype=torch.float64),
            timestamp_begin=begin,
            seek_num_frames=torch.tensor([400]),
            time_precision=0.02,
            time_precision_features=0.01,
            input_stride=2,
            prev_idx=0,
            idx=0,
            return_token_timestamps=False,
            decoder_input_ids=torch.zeros(1, 3),
        )
        runs, read_on = split_runs(tokens, begin)
        assert runs == [part["tokens"].tolist() for part in segments]
        assert (2 * read_on or 400) == (int(frames) or 400)


def test_log_sum_exp() -> None:
    scores = np.random.default_rng(0).normal(0, 50, (3, 40)).astype(np.float32)
    scores[1, 5:] = -np.inf
    scores[2] = -np.inf
    expected = torch.logsumexp(torch.from_numpy(scores), -1).numpy()
    np.testing.assert_allclose(log_sum_exp(scores), expected, rtol=1e-6)


# ---- vocabulary


def test_prompts(model: Whisper, english: Whisper) -> None:
    ids = model.vocabulary._tokenizer.token_to_id
    named = [ids(f"<|{name}|>") for name in ("startoftranscript", "de", "translate", "notimestamps")]
    assert model.prompt(DecodeOptions("de", "translate")) == named
    assert model.prompt(DecodeOptions("<|DE|>", "translate", timestamps=True)) == named[:3]
    assert model.prompt(DecodeOptions()) == [named[0], ids("<|en|>"), ids("<|transcribe|>"), named[3]]
    start = english.vocabulary._tokenizer.token_to_id("<|startoftranscript|>")
    assert english.prompt(DecodeOptions("en", timestamps=True)) == [start]
    assert len(english.prompt(DecodeOptions())) == 2


def test_text_leaves_out_times_and_special_tokens(model: Whisper) -> None:
    words = model.vocabulary._tokenizer.encode(" schließe die Tür").ids
    vocabulary = model.vocabulary
    assert vocabulary.text(
        [vocabulary.timestamp_begin, vocabulary.start, *words, vocabulary.timestamp_begin + 9]
    ) == ("schließe die Tür")


def test_what_the_model_does_not_know(model: Whisper, english: Whisper) -> None:
    silence = [np.zeros(100, np.float32)]
    with pytest.raises(RequestError, match=r"'fr': this model knows de, en$"):
        model.transcribe(silence, DecodeOptions("fr"))
    with pytest.raises(RequestError, match="'sing': this model knows transcribe, translate"):
        model.transcribe(silence, DecodeOptions(task="sing"))
    with pytest.raises(RequestError, match=r"'de': this model knows en$"):
        english.transcribe(silence, DecodeOptions("de"))
    with pytest.raises(RequestError, match=r"'translate': this model knows transcribe$"):
        english.transcribe(silence, DecodeOptions(task="translate"))


# ---- the steps


def test_a_state_can_be_continued_in_several_ways(model: Whisper) -> None:
    state = model.encode(model.features([sound(2, 0), sound(1, 1)]))
    prompt = np.array([model.prompt(DecodeOptions("en"))] * 2, np.int64)
    _, prompted = model.decode(prompt, state)
    once, _ = model.decode(np.array([[50], [60]]), prompted)
    other, _ = model.decode(np.array([[70], [80]]), prompted)
    again, _ = model.decode(np.array([[50], [60]]), prompted)
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 0.01


def test_pieces_and_whole_give_the_same_logits_with_and_without_cache(model: Whisper, basic: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, 300, (2, 12))
    audio = [sound(2, 0), sound(4, 1)]
    found = []
    for runtime in (model, Whisper(basic, threads=1)):
        state = runtime.encode(runtime.features(audio))
        assert runtime.encoder_hidden(state).shape == (2, 200, 64)
        whole, _ = runtime.decode(tokens, state)
        pieces = []
        for first, last in ((0, 4), (4, 5), (5, 12)):
            logits, state = runtime.decode(tokens[:, first:last], state)
            pieces.append(logits)
        found += [whole, np.concatenate(pieces, axis=1)]
    for logits in found[1:]:
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, found[0], atol=2e-3)


def test_features_are_padded_and_cut_to_the_window(model: Whisper) -> None:
    long = sound(6, 0)
    features = model.features([long, long[:100], np.zeros(0, np.float32)])
    assert features.shape == (3, 80, 400)
    np.testing.assert_array_equal(features[0], model.features([long[: 4 * SAMPLE_RATE]])[0])
    padded = np.pad(long[:100], (0, 4 * SAMPLE_RATE - 100))
    np.testing.assert_allclose(features[1], model.features([padded])[0], atol=1e-6)


def test_padding_is_left_out_but_half_a_second() -> None:
    features = np.random.default_rng(0).normal(0, 1, (2, 80, 400)).astype(np.float32)
    features[0, :, 100:] = -1.5
    features[1, :, 120:] = -1.2
    assert without_silence(features).shape == (2, 80, 192)
    np.testing.assert_array_equal(without_silence(features), features[:, :, :192])
    assert without_silence(features[:1]).shape == (1, 80, 160)
    assert without_silence(np.full((1, 80, 400), -1.5, np.float32)).shape == (1, 80, 64)
    assert without_silence(np.random.default_rng(0).normal(0, 1, (1, 80, 400))).shape == (1, 80, 400)


def test_a_shortened_audio_context_is_read_from_the_metadata(source: Artifact, tmp_path: Path) -> None:
    step = load_pass("export_onnx")
    found = execute(step, {"model": source}, step.Params(audio_context="auto"), tmp_path)
    model = Whisper(found.artifact.root, threads=1)
    features = model.features([sound(1, 0)])
    assert features.shape == (1, 80, 400)
    assert model.encoder_hidden(model.encode(features)).shape[1] < 100
    assert model.transcribe([sound(1, 0)], DecodeOptions("en"))[0].tokens


def test_probabilities_are_those_of_transformers(model: Whisper, source: Artifact) -> None:
    audio = sound(4, 1)
    [heard] = model.transcribe([audio], DecodeOptions("en"))
    reference = TransformersRuntime(source.root, threads=1)
    features = torch.from_numpy(reference.features([audio]))
    found = reference._model.generate(
        features, language="en", task="transcribe", return_dict_in_generate=True, output_scores=True
    )
    tokens = torch.tensor([*heard.tokens, reference.vocabulary.end])[: len(found["scores"])]
    scores = [step[0] for step in found["scores"]]
    expected = WhisperGenerationMixin._retrieve_avg_logprobs(scores, tokens, temperature=0)
    assert heard.avg_logprob == pytest.approx(float(expected), rel=1e-3)
    logits, _ = reference.decode(np.array([[reference.vocabulary.start]]), reference.encode(features.numpy()))
    no_speech = reference.vocabulary._tokenizer.token_to_id("<|nospeech|>")
    assert heard.no_speech_prob == pytest.approx(
        float(torch.softmax(torch.from_numpy(logits[0, 0]), -1)[no_speech]), rel=1e-3
    )


# ---- whole clips


def test_language_is_detected_once_and_for_each_clip(model: Whisper) -> None:
    audio = [sound(4, kind) for kind in range(6)]
    together = model.transcribe(audio)
    alone = [model.transcribe([clip])[0] for clip in audio]
    assert [part.language for part in together] == [part.language for part in alone]
    assert {part.language for part in together} <= {"en", "de"}
    first = together[0].language
    long = model.transcribe([np.concatenate([audio[0], *audio])])[0]
    assert long.language == first


@pytest.mark.parametrize("count", [0, 1, 3])
def test_no_clips_and_empty_clips(model: Whisper, count: int) -> None:
    heard = model.transcribe([np.zeros(0, np.float32)] * count, DecodeOptions("en"))
    assert len(heard) == count
    assert all(part.segments == () or part.segments[0].end == 0 for part in heard)


@pytest.mark.parametrize("level", ["disabled", "basic", "extended"])
def test_session_settings_of_the_metadata_are_used(exported: Path, tmp_path: Path, level: str) -> None:
    shutil.copytree(exported, tmp_path / "model")
    description = json.loads((tmp_path / "model" / "artifact.json").read_text())
    entries = {"session.x64quantprecision": 1}
    description["metadata"]["session"] = {"graph_optimization": level, "entries": entries}
    (tmp_path / "model" / "artifact.json").unlink()
    (tmp_path / "model" / "artifact.json").write_text(json.dumps(description))
    model = Whisper(tmp_path / "model", threads=1)
    options = model._backend._decoder.get_session_options()
    names = {"disabled": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED"}
    assert options.graph_optimization_level.name == names[level]
    assert options.get_session_config_entry("session.x64quantprecision") == "1"
    assert options.intra_op_num_threads == 1


def test_directories_without_a_model(tmp_path: Path, source: Artifact, exported: Path) -> None:
    with pytest.raises(RequestError, match=r"neither manifest\.json nor artifact\.json"):
        Whisper(tmp_path)
    with pytest.raises(
        RequestError, match="made for the runtime 'transformers'; known are executorch, .*onnxruntime"
    ):
        Whisper(source.root)
    table = json.loads((exported / "artifact.json").read_text())
    table["components"] = {name: table["components"][name] for name in ("encoder", "generation", "processor")}
    shutil.copytree(exported, tmp_path / "model", ignore=lambda *_: ["artifact.json"])
    (tmp_path / "model" / "artifact.json").write_text(json.dumps(table))
    with pytest.raises(RequestError, match="lists no decoder, mel to run"):
        Whisper(tmp_path / "model")
