"""Train the byte-level BPE of the sample model and add Whisper's special tokens in Whisper's order.

Layout of the vocabulary: 256 bytes, the merges, 10 special tokens, then one timestamp token every 0.02 s.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from command_grammar import draw_commands
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from transformers import WhisperTokenizer

VOCABULARY_SIZE: Final = 640
WINDOW_S: Final = 4
TIMESTAMP_STEP_S: Final = 0.02
LONGEST_TEXT_TOKENS: Final = 64
SPECIAL_TOKENS: Final = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|de|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)
TIMESTAMP_TOKENS: Final = tuple(
    f"<|{n * TIMESTAMP_STEP_S:.2f}|>" for n in range(int(WINDOW_S / TIMESTAMP_STEP_S) + 1)
)


def train_bpe(sentences: Sequence[str]) -> dict[str, Any]:
    """Vocabulary and merges of a byte-level BPE; the leading space is Whisper's convention."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(SPECIAL_TOKENS) - len(TIMESTAMP_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f" {sentence}" for sentence in sentences], trainer)
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return model


def whisper_tokenizer(bpe: Mapping[str, Any]) -> WhisperTokenizer:
    """A Hugging Face Whisper tokenizer: the BPE, then special tokens, then (not special) timestamps."""
    merges = [tuple(merge) for merge in bpe["merges"]]
    tokenizer = WhisperTokenizer(
        vocab=bpe["vocab"], merges=merges, pad_token=SPECIAL_TOKENS[0], model_max_length=LONGEST_TEXT_TOKENS
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL_TOKENS[1:])})
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in TIMESTAMP_TOKENS])
    check_layout(tokenizer)
    return tokenizer


def check_layout(tokenizer: WhisperTokenizer) -> None:
    """Raise ValueError unless ids follow Whisper's order without gaps."""
    expected = range(VOCABULARY_SIZE - len(SPECIAL_TOKENS) - len(TIMESTAMP_TOKENS), VOCABULARY_SIZE)
    found = tokenizer.convert_tokens_to_ids([*SPECIAL_TOKENS, *TIMESTAMP_TOKENS])
    if len(tokenizer) != VOCABULARY_SIZE or found != list(expected):
        raise ValueError(f"special tokens at {found[:12]}..., {len(tokenizer)} in all; expected {expected}")


def training_text(seed: int, count: int) -> list[str]:
    """English and German sentences of the training split."""
    commands = draw_commands(random.Random(seed), count, held_out=False)
    return [text for command in commands for text in (command.english, command.german)]


def save_tokenizer(tokenizer: WhisperTokenizer, folder: Path) -> None:
    """Write `tokenizer.json`, and for older loaders vocabulary, merges, added tokens, normalizer."""
    tokenizer.save_pretrained(folder)
    bpe = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    added = {token: index for token, index in tokenizer.get_vocab().items() if token not in bpe["vocab"]}
    merges = "\n".join(["#version: 0.2", *(" ".join(merge) for merge in bpe["merges"])])
    _write_json(folder / "vocab.json", bpe["vocab"])
    _write_json(folder / "added_tokens.json", dict(sorted(added.items(), key=itemgetter(1))))
    _write_json(folder / "normalizer.json", {})
    (folder / "merges.txt").write_text(merges + "\n", encoding="utf-8")


def _write_json(path: Path, content: Mapping[str, int]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()
    tokenizer = whisper_tokenizer(train_bpe(training_text(args.seed, 5000)))
    save_tokenizer(tokenizer, args.work / "tokenizer")
    ids = tokenizer(" schließe die jalousien im büro", add_special_tokens=False).input_ids
    print(f"{len(tokenizer)} tokens; a German sentence of five words takes {len(ids)}")


if __name__ == "__main__":
    main()
