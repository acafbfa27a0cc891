"""A stack of layers computes what the layers compute inside their model."""

from __future__ import annotations

from pathlib import Path

import torch
from whisper_fixtures import tiny_checkpoint

from pocket_opt.models.whisper.layer_stacks import decoder_stack, encoder_stack
from pocket_opt.models.whisper.torch_checkpoint import load_model


def test_stacks_compute_what_the_model_computes(tmp_path: Path) -> None:
    model = load_model(tiny_checkpoint(tmp_path).root)
    torch.manual_seed(3)
    features = [torch.randn(1, 80, 400) for _ in range(3)]
    tokens = [torch.randint(0, 300, (1, length)) for length in (5, 9, 7)]
    with torch.no_grad():
        encoder = encoder_stack(model, features)
        said = [model.model.encoder(one).last_hidden_state for one in features]
        decoder = decoder_stack(model, tokens, said)
        short = decoder.of_one_length()
        for clip, heard in enumerate(said):
            found = model.model.encoder.layer_norm(encoder(encoder.ticket(clip)))
            torch.testing.assert_close(found, heard)
            wanted = model.model.decoder(tokens[clip], encoder_hidden_states=heard).last_hidden_state
            found = model.model.decoder.layer_norm(decoder(decoder.ticket(clip)))
            torch.testing.assert_close(found, wanted)
            found = model.model.decoder.layer_norm(short(short.ticket(clip)))
            torch.testing.assert_close(found, wanted[:, :5])
    assert not encoder.hears
    assert decoder.hears
