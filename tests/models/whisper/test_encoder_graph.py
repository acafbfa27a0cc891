from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from graph_sessions import exported, open_session, random_features, reference, relative_error, run, source

from pocket_opt.passes import load_pass
from pocket_opt.passes.base import execute

SHAPES = [
    {},
    {"encoder_layers": 1, "decoder_layers": 4},
    {"encoder_layers": 2, "mels": 128},
    {"window_s": 2, "heads": 2, "d_model": 32},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_hidden_states_and_cross_cache_are_those_of_transformers(shape: dict[str, int], batch: int) -> None:
    model, artifact = reference(**shape), exported(**shape)
    dims = artifact.metadata["dims"]
    features = random_features(batch, dims["mels"], 2 * dims["source_positions"])
    found = run(open_session(artifact.path("encoder")), {"features": features})
    with torch.no_grad():
        hidden = model.model.encoder(torch.from_numpy(features)).last_hidden_state
        assert relative_error(found["encoder_hidden"], hidden.numpy()) < 1e-5
        for index, layer in enumerate(model.model.decoder.layers):
            for kind, project in (("key", layer.encoder_attn.k_proj), ("value", layer.encoder_attn.v_proj)):
                expected = project(hidden).unflatten(-1, (dims["decoder_heads"], -1)).transpose(1, 2)
                assert relative_error(found[f"cross_{kind}_{index}"], expected.numpy()) < 1e-5
    assert len(found) == 1 + 2 * dims["decoder_layers"]


def test_basic_encoder_has_no_cache() -> None:
    ports = exported("basic").components["encoder"].outputs
    assert [port.name for port in ports] == ["encoder_hidden"]


def test_a_silent_input_gives_finite_states() -> None:
    silence = np.full((1, 80, 400), -1.5, np.float32)
    found = run(open_session(exported().path("encoder")), {"features": silence})
    assert all(np.isfinite(value).all() for value in found.values())


def test_an_encoder_for_any_length_is_the_same_on_whole_windows_and_takes_shorter_ones(
    tmp_path: Path,
) -> None:
    step = load_pass("export_onnx")
    params = step.Params(audio_context="auto")
    session = open_session(execute(step, {"model": source()}, params, tmp_path).artifact.path("encoder"))
    features = random_features(2)
    whole = run(session, {"features": features})
    expected = run(open_session(exported().path("encoder")), {"features": features})
    for name, value in expected.items():
        np.testing.assert_allclose(whole[name], value, atol=1e-5)
    for frames in (2, 64, 398):
        assert run(session, {"features": features[:, :, :frames]})["encoder_hidden"].shape == (
            2,
            frames // 2,
            64,
        )
