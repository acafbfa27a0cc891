"""What sherpa-onnx reads beside the graphs: metadata in the encoder's file, and the words with their ids.

Source: sherpa-onnx, scripts/whisper/export-onnx.py (names and forms) and csrc/offline-whisper-model.cc (what is read).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator

from pocket_opt.artifact import Artifact
from pocket_opt.models.layout import TOKENIZER, read_table
from pocket_opt.models.whisper.layouts.artifacts import generation_table, vocabulary_of
from pocket_opt.models.whisper.vocabulary import (
    END_OF_TEXT,
    SPACE_ID,
    START_OF_TRANSCRIPT,
    byte_characters,
)


def encoder_metadata(artifact: Artifact) -> dict[str, str]:
    """Sizes and special ids of the model, as the client names them."""
    vocabulary, dims = vocabulary_of(artifact), artifact.metadata["dims"]
    multilingual = bool(generation_table(artifact).get("is_multilingual", vocabulary.multilingual))
    languages = vocabulary.languages if multilingual else ()
    start, transcribe = vocabulary.id(START_OF_TRANSCRIPT), vocabulary.id("<|transcribe|>")
    spoken = [vocabulary.id(f"<|{language}|>") for language in languages]
    opening = [start, spoken[0], transcribe] if spoken else [start]
    never = generation_table(artifact).get("suppress_tokens") or ()
    return {
        "model_type": "whisper",
        "version": "1",
        "maintainer": "pocket_opt",
        "n_mels": str(dims["mels"]),
        "n_audio_ctx": str(dims["source_positions"]),
        "n_audio_state": str(dims["d_model"]),
        "n_audio_head": str(dims["encoder_heads"]),
        "n_audio_layer": str(dims["encoder_layers"]),
        "n_vocab": str(dims["vocab"]),
        "n_text_ctx": str(dims["target_positions"]),
        "n_text_state": str(dims["d_model"]),
        "n_text_head": str(dims["decoder_heads"]),
        "n_text_layer": str(dims["decoder_layers"]),
        "sot_sequence": _listed(opening),
        "all_language_tokens": _listed(spoken),
        "all_language_codes": ",".join(languages),
        "sot": str(start),
        "sot_index": "0",
        "eot": str(vocabulary.id(END_OF_TEXT)),
        "blank_id": str(SPACE_ID),
        "is_multilingual": str(int(multilingual)),
        "no_speech": str(vocabulary.id("<|nospeech|>")),
        "non_speech_tokens": _listed(never),
        "transcribe": str(transcribe),
        "translate": str(vocabulary.id("<|translate|>")),
        "sot_prev": str(vocabulary.id("<|startofprev|>")),
        "sot_lm": str(vocabulary.id("<|startoflm|>")),
        "no_timestamps": str(vocabulary.id("<|notimestamps|>")),
    }


def token_lines(artifact: Artifact) -> Iterator[str]:
    """The lines of `tokens.txt`: the bytes of each word in base64, and its id."""
    words = read_table(artifact.file("processor", TOKENIZER))["model"]["vocab"]
    byte_of = {character: bytes([value]) for value, character in _bytes()}
    for word, index in sorted(words.items(), key=lambda entry: int(entry[1])):
        if all(character in byte_of for character in word):
            raw = b"".join(byte_of[character] for character in word)
            yield f"{b64encode(raw).decode()} {index}\n"


def _bytes() -> Iterator[tuple[int, str]]:
    """Every byte with the printable character that stands for it; printable ones stand for themselves."""
    characters = byte_characters()
    own = {ord(character): character for character in characters if ord(character) < 256}
    others = (character for character in characters if ord(character) >= 256)
    for value in range(256):
        yield value, own.get(value) or next(others)


def _listed(ids: object) -> str:
    assert isinstance(ids, list | tuple)
    return ",".join(map(str, ids))
