"""Small random Whisper checkpoints for tests, written once per session and shape."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from pocket_opt.artifact import Artifact
from pocket_opt.models.whisper.checkpoint import WhisperDims
from pocket_opt.models.whisper.random_checkpoint import write_random_checkpoint
from pocket_opt.models.whisper.source import source_artifact
from pocket_opt.models.whisper.vocabulary import Vocabulary

WORDS_AND_BYTES = 300


def tiny_checkpoint(
    directory: Path,
    *,
    encoder_layers: int = 3,
    decoder_layers: int = 2,
    d_model: int = 64,
    heads: int = 4,
    mels: int = 80,
    window_s: int = 4,
    target_positions: int = 64,
    languages: tuple[str, ...] = ("en", "de"),
    multilingual: bool = True,
    seed: int = 1,
) -> Artifact:
    """Write a complete random checkpoint into `directory` and return it as a saved source artifact.

    It has all of Whisper's special tokens, random biases, and decodes at least 20 distinct tokens in 30.
    """
    vocabulary = Vocabulary(WORDS_AND_BYTES, languages, window_s, multilingual)
    dims = WhisperDims(
        d_model=d_model,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        encoder_heads=heads,
        decoder_heads=heads,
        encoder_ffn_dim=2 * d_model,
        decoder_ffn_dim=2 * d_model,
        mels=mels,
        vocab=vocabulary.size,
        source_positions=50 * window_s,
        target_positions=target_positions,
    )
    cached = _written(dims, vocabulary, seed)
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copytree(cached, directory, dirs_exist_ok=True)
    return source_artifact(directory, dims, weights="random").save()


@cache
def _written(dims: WhisperDims, vocabulary: Vocabulary, seed: int) -> Path:
    directory = Path(mkdtemp(prefix="tiny-whisper-"))
    write_random_checkpoint(directory, dims, vocabulary, seed=seed)
    return directory
