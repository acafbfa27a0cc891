"""The files of sherpa-onnx: stacked caches, metadata, words, and what the client does not know done in the graphs."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from exported_whisper import exported, run_pass
from layout_fixtures import LEVELS, clips, heard, laid_out, names, optimized, tokens

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.models.whisper.runner.onnxruntime_backend import open_backend
from pocket_opt.models.whisper.runner.whisper import Whisper

Array = np.ndarray


def metadata(artifact: Artifact) -> dict[str, str]:
    found: dict[str, str] = (
        onnxruntime.InferenceSession(artifact.path("encoder")).get_modelmeta().custom_metadata_map
    )
    return found


def client_greedy(artifact: Artifact, mel: Array, steps: int = 20) -> list[int]:
    """The loop of the client: no rules of its own, everything from the metadata."""
    facts = metadata(artifact)
    encoder, decoder = (onnxruntime.InferenceSession(artifact.path(name)) for name in ("encoder", "decoder"))
    cross_k, cross_v = encoder.run(None, {"mel": mel})[:2]
    shape = [int(facts[name]) for name in ("n_text_layer", "n_text_ctx", "n_text_state")]
    cache_k = cache_v = np.zeros((shape[0], 1, *shape[1:]), np.float32)
    prompt = [*map(int, facts["sot_sequence"].split(",")), int(facts["no_timestamps"])]
    said: list[int] = []
    fed, offset = prompt, 0
    while len(said) < steps:
        feeds = {
            "tokens": np.array([fed]),
            "in_n_layer_self_k_cache": cache_k,
            "in_n_layer_self_v_cache": cache_v,
            "n_layer_cross_k": cross_k,
            "n_layer_cross_v": cross_v,
            "offset": np.array([offset]),
        }
        logits, cache_k, cache_v = decoder.run(None, feeds)
        offset += len(fed)
        fed = [int(logits[0, -1].argmax())]
        if fed[0] == int(facts["eot"]):
            break
        said += fed
    return said


def features(artifact: Artifact, samples: Array) -> Array:
    return Whisper(artifact.root, threads=1).features([samples])


@pytest.mark.parametrize("level", LEVELS)
def test_the_tokens_stay(level: str) -> None:
    assert tokens(laid_out("sherpa_onnx", level)) == tokens(optimized(level))


def test_the_loop_of_the_client_gives_our_tokens() -> None:
    artifact, clip = laid_out("sherpa_onnx"), clips()[0]
    [ours] = Whisper(optimized("BASIC").root, threads=1).transcribe([clip])
    found = client_greedy(artifact, features(artifact, clip))
    assert found == list(ours.tokens[: len(found)])
    assert len(found) == min(20, len(ours.tokens))


def test_what_the_client_pads_with_is_silence_to_the_model() -> None:
    artifact, clip = laid_out("sherpa_onnx"), clips()[1]
    whole = features(artifact, clip)
    frames = 150  # the clip has 140
    padded = np.concatenate([whole[..., :frames], np.zeros((1, 80, 100), np.float32)], axis=2)
    longer = np.concatenate([whole[..., :frames], np.zeros((1, 80, 900), np.float32)], axis=2)
    encoder = onnxruntime.InferenceSession(artifact.path("encoder"))
    wanted = encoder.run(None, {"mel": whole})
    for given in (padded, longer):
        for found, expected in zip(encoder.run(None, {"mel": given}), wanted, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_probabilities_that_are_read_elsewhere_stay() -> None:
    before, after = heard(optimized("BASIC"))[0], heard(laid_out("sherpa_onnx"))[0]
    assert after.no_speech_prob == pytest.approx(before.no_speech_prob)
    assert after.avg_logprob == pytest.approx(before.avg_logprob)


def test_suppressed_tokens_are_forbidden_at_the_last_position_only() -> None:
    artifact = laid_out("sherpa_onnx")
    rules = json.loads(artifact.file("generation", "generation_config.json").read_text())
    backend = open_backend(artifact.root, artifact.describe(), 1)
    state = backend.encode(np.zeros((2, 80, 400), np.float32))
    logits, state = backend.decode(np.array([[1, 2, 3], [4, 5, 6]]), state)
    forbidden = sorted({*rules["suppress_tokens"], *rules["begin_suppress_tokens"]})
    assert np.flatnonzero(np.isneginf(logits[1, -1])).tolist() == forbidden
    assert np.isfinite(logits[:, :-1]).all()
    logits, _ = backend.decode(np.array([[7], [8]]), state)
    assert np.flatnonzero(np.isneginf(logits[0, -1])).tolist() == sorted(rules["suppress_tokens"])


def test_ports_and_shapes_are_those_of_the_client() -> None:
    artifact = laid_out("sherpa_onnx")
    assert names(artifact, "encoder") == (["mel"], ["n_layer_cross_k", "n_layer_cross_v", "encoder_hidden"])
    inputs = [(port.name, port.dtype, port.shape) for port in artifact.components["decoder"].inputs]
    assert inputs == [
        ("tokens", "int64", ("batch", "length")),
        ("in_n_layer_self_k_cache", "float32", (2, "batch", 64, 64)),
        ("in_n_layer_self_v_cache", "float32", (2, "batch", 64, 64)),
        ("n_layer_cross_k", "float32", (2, "batch", 200, 64)),
        ("n_layer_cross_v", "float32", (2, "batch", 200, 64)),
        ("offset", "int64", (1,)),
    ]
    outputs = names(artifact, "decoder")[1]
    assert outputs == ["logits", "out_n_layer_self_k_cache", "out_n_layer_self_v_cache"]


def test_metadata_has_ids_and_sizes() -> None:
    facts = metadata(laid_out("sherpa_onnx"))
    assert (facts["n_mels"], facts["n_text_ctx"], facts["n_text_layer"], facts["n_vocab"]) == (
        "80",
        "64",
        "2",
        "511",
    )
    assert facts["all_language_codes"] == "en,de"
    assert facts["sot_sequence"].split(",")[0] == facts["sot"]
    assert facts["is_multilingual"] == "1"
    assert int(facts["no_speech"]) == int(facts["no_timestamps"]) - 1


def test_words_are_bytes_with_their_ids() -> None:
    artifact = laid_out("sherpa_onnx")
    lines = (artifact.root / "tokens.txt").read_text().splitlines()
    words = {int(index): base64.b64decode(word) for word, index in (line.split() for line in lines)}
    assert sorted(words) == list(range(300))
    assert {words[index] for index in range(256)} == {bytes([value]) for value in range(256)}
    model = Whisper(artifact.root, threads=1)
    said = [255 + 10, 220, 255 + 30]
    assert b"".join(words[index] for index in said).decode().strip() == model.vocabulary.text(said)


def test_rows_can_be_chosen_from_a_state() -> None:
    artifact = laid_out("sherpa_onnx")
    backend = open_backend(artifact.root, artifact.describe(), 1)
    given = np.random.default_rng(0).standard_normal((2, 80, 400)).astype(np.float32)
    _, state = backend.decode(np.array([[5, 6], [7, 8]]), backend.encode(given))
    turned = backend.select(state, [1, 0, 1])
    straight, _ = backend.decode(np.array([[9], [9]]), state)
    chosen, _ = backend.decode(np.array([[9], [9], [9]]), turned)
    np.testing.assert_allclose(chosen, straight[[1, 0, 1]], rtol=1e-4, atol=1e-4)


def test_a_decoder_without_caches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="needs caches"):
        run_pass("layout_sherpa_onnx", exported("basic"), tmp_path)
