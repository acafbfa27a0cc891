"""The sample model's configuration, and saving it in the Hugging Face layout.

A checkpoint is written beside its folder and then swapped in, so that a reader never sees half of one.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from log_mel import MEL_BINS, WINDOW_S, feature_extractor
from train_tokenizer import LONGEST_TEXT_TOKENS, save_tokenizer
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

ENCODER_LAYERS: Final = 3
TEACHER_DECODER_LAYERS: Final = 2
STUDENT_DECODER_LAYERS: Final = 1
_WIDTH: Final = 128
_HEADS: Final = 4
_FRAMES_PER_S: Final = 50
_LATEST_FIRST_TIMESTAMP_S: Final = 2.0
# As Whisper does: symbols that stand for sounds or speakers, never for words.
_SYMBOLS: Final = tuple('"#()*+/:;<=>@[\\]^_`{|}~')
_CONTROL_TOKENS: Final = (
    "<|startoftranscript|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
)


def model_config(tokenizer: WhisperTokenizer, decoder_layers: int) -> WhisperConfig:
    """The architecture; 1.3 M parameters with two decoder layers."""
    end = tokenizer.eos_token_id
    return WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=MEL_BINS,
        d_model=_WIDTH,
        encoder_layers=ENCODER_LAYERS,
        decoder_layers=decoder_layers,
        encoder_attention_heads=_HEADS,
        decoder_attention_heads=_HEADS,
        encoder_ffn_dim=4 * _WIDTH,
        decoder_ffn_dim=4 * _WIDTH,
        max_source_positions=WINDOW_S * _FRAMES_PER_S,
        max_target_positions=LONGEST_TEXT_TOKENS,
        init_std=0.05,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=_id(tokenizer, "<|startoftranscript|>"),
        suppress_tokens=suppressed_tokens(tokenizer),
        begin_suppress_tokens=begin_suppressed_tokens(tokenizer),
        tie_word_embeddings=True,
    )


def generation_config(tokenizer: WhisperTokenizer) -> GenerationConfig:
    """Whisper's generation settings for two languages."""
    end = tokenizer.eos_token_id
    return GenerationConfig(
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=_id(tokenizer, "<|startoftranscript|>"),
        max_length=LONGEST_TEXT_TOKENS,
        is_multilingual=True,
        lang_to_id={f"<|{code}|>": _id(tokenizer, f"<|{code}|>") for code in ("en", "de")},
        task_to_id={task: _id(tokenizer, f"<|{task}|>") for task in ("transcribe", "translate")},
        no_timestamps_token_id=_id(tokenizer, "<|notimestamps|>"),
        prev_sot_token_id=_id(tokenizer, "<|startofprev|>"),
        max_initial_timestamp_index=int(_LATEST_FIRST_TIMESTAMP_S * _FRAMES_PER_S),
        return_timestamps=False,
        suppress_tokens=suppressed_tokens(tokenizer),
        begin_suppress_tokens=begin_suppressed_tokens(tokenizer),
    )


def suppressed_tokens(tokenizer: WhisperTokenizer) -> list[int]:
    """Symbols and control tokens that may never be generated."""
    return sorted(_id(tokenizer, token) for token in (*_SYMBOLS, *_CONTROL_TOKENS))


def begin_suppressed_tokens(tokenizer: WhisperTokenizer) -> list[int]:
    """A lone space and the end of text, which may not come first."""
    return [_id(tokenizer, "Ġ"), int(tokenizer.eos_token_id)]


def _id(tokenizer: WhisperTokenizer, token: str) -> int:
    return int(tokenizer.convert_tokens_to_ids(token))


def save_checkpoint(
    model: WhisperForConditionalGeneration, tokenizer: WhisperTokenizer, folder: Path
) -> None:
    """Write model, tokenizer and extractor beside `folder`, then swap them in."""
    fresh, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    model.generation_config = generation_config(tokenizer)
    model.save_pretrained(fresh)
    feature_extractor().save_pretrained(fresh)
    save_tokenizer(tokenizer, fresh)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        folder.rename(old)
    (fresh / "model.safetensors").chmod(0o644)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
