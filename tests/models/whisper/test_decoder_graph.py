from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from graph_sessions import (
    exported,
    open_session,
    random_features,
    random_tokens,
    reference,
    reference_logits,
    relative_error,
    run,
    stepwise_logits,
)

SHAPES = [{}, {"encoder_layers": 1, "decoder_layers": 4}, {"mels": 128, "multilingual": False}]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("batch", "cuts"),
    [(1, (11,)), (2, (4, 1, 1, 3, 2)), (3, (1,) * 7), (1, (2, 9)), (5, (6, 1))],
    ids=str,
)
def test_any_division_into_steps_gives_the_logits_of_transformers(
    shape: dict[str, int], batch: int, cuts: tuple[int, ...]
) -> None:
    artifact = exported(**shape)
    dims = artifact.metadata["dims"]
    features = random_features(batch, dims["mels"])
    tokens = random_tokens(batch, sum(cuts), dims["vocab"])
    expected = reference_logits(reference(**shape), features, tokens)
    assert relative_error(stepwise_logits(artifact, features, tokens, cuts), expected) < 1e-5


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (3, 9), (2, 64)])
def test_basic_decoder_gives_the_logits_of_transformers(
    shape: dict[str, int], batch: int, length: int
) -> None:
    artifact = exported("basic", **shape)
    dims = artifact.metadata["dims"]
    features = random_features(batch, dims["mels"])
    tokens = random_tokens(batch, length, dims["vocab"])
    hidden = run(open_session(artifact.path("encoder")), {"features": features})["encoder_hidden"]
    found = run(open_session(artifact.path("decoder")), {"tokens": tokens, "encoder_hidden": hidden})
    assert relative_error(found["logits"], reference_logits(reference(**shape), features, tokens)) < 1e-5


def test_a_later_token_does_not_change_an_earlier_answer() -> None:
    artifact = exported()
    tokens = random_tokens(1, 8, artifact.metadata["dims"]["vocab"])
    changed = tokens.copy()
    changed[0, 5:] = (changed[0, 5:] + 1) % 100
    first, second = (stepwise_logits(artifact, random_features(1), t, (2, 6)) for t in (tokens, changed))
    assert np.abs(first[:, :5] - second[:, :5]).max() < 1e-5
    assert np.abs(first[:, 5:] - second[:, 5:]).max() > 1e-2


def test_more_tokens_than_positions_are_refused() -> None:
    artifact = exported()
    tokens = random_tokens(1, artifact.metadata["dims"]["target_positions"] + 1, 100)
    with pytest.raises(Exception, match="Add"):
        stepwise_logits(artifact, random_features(1), tokens, (tokens.shape[1],))


@pytest.mark.parametrize("decoder", ["kv_cache", "basic"])
def test_the_tied_embedding_is_stored_once(decoder: str) -> None:
    artifact = exported(decoder)
    dims = artifact.metadata["dims"]
    graph = ir.load(artifact.path("decoder")).graph
    tables = [value for value in graph.initializers.values() if dims["vocab"] in tuple(value.shape or ())]
    assert [value.name for value in tables] == ["model.decoder.embed_tokens.weight"]
    assert {use.node.name for use in tables[0].uses()} == {
        "decoder.embed_tokens/Gather",
        "proj_out/Transpose",
    }


def test_nodes_carry_their_module_and_weights_their_state_dict_name() -> None:
    graph = ir.load(exported().path("decoder")).graph
    names = [node.name or "" for node in graph]
    assert len(set(names)) == len(names)
    assert {"decoder.layers.0.self_attn.q_proj/MatMul", "decoder.layers.1.fc2/Add", "proj_out/MatMul"} < set(
        names
    )
    assert all("/" in name for name in names)
    weights = {name for name in graph.initializers if not name.startswith("const/")}
    assert weights <= set(reference().state_dict())
