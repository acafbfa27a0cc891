"""Word error rates of a sample model on the shipped evaluation clips, through `model.generate`, batch 1.

Text is normalised in the manner of Whisper's basic normaliser: lower case, punctuation out, single spaces.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jiwer
import soundfile
import torch
from log_mel import SAMPLE_RATE
from transformers import WhisperForConditionalGeneration, WhisperProcessor

Entry = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One line of the table: which clips, which prompt."""

    title: str
    language: str
    condition: str
    task: str
    timestamps: bool


ROWS: Final = (
    Row("English, clean", "en", "clean", "transcribe", timestamps=False),
    Row("English, clean, timestamps", "en", "clean", "transcribe", timestamps=True),
    Row("English, noisy", "en", "noisy", "transcribe", timestamps=False),
    Row("English, clean, translate", "en", "clean", "translate", timestamps=False),
    Row("German", "de", "clean", "transcribe", timestamps=False),
    Row("German, timestamps", "de", "clean", "transcribe", timestamps=True),
    Row("German to English", "de", "clean", "translate", timestamps=False),
    Row("German to English, timestamps", "de", "clean", "translate", timestamps=True),
)


class Recognizer:
    """A checkpoint with its processor."""

    def __init__(self, folder: Path) -> None:
        self.model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
        self.processor = WhisperProcessor.from_pretrained(folder)

    def features(self, path: Path) -> torch.Tensor:
        """[1, 80, 400]."""
        audio, rate = soundfile.read(path, dtype="float32")
        if rate != SAMPLE_RATE:
            raise ValueError(f"{path}: {rate} Hz; the model reads {SAMPLE_RATE} Hz")
        features: torch.Tensor = self.processor(audio, sampling_rate=rate, return_tensors="pt").input_features
        return features

    def transcribe(self, path: Path, row: Row) -> str:
        """Greedy text of one clip."""
        ids = self.model.generate(
            self.features(path), language=row.language, task=row.task, return_timestamps=row.timestamps
        )
        return str(self.processor.decode(ids[0], skip_special_tokens=True))

    def start_probabilities(self, path: Path) -> torch.Tensor:
        """Probabilities of the first token after start-of-transcript: languages and no-speech."""
        start = torch.tensor([[self.model.config.decoder_start_token_id]])
        with torch.no_grad():
            logits = self.model(self.features(path), decoder_input_ids=start).logits
        return logits[0, -1].softmax(-1)


def normalise(text: str) -> str:
    """Lower case, letters and digits only, single spaces."""
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


def read_transcripts(folder: Path) -> list[Entry]:
    """The entries of `transcripts.jsonl`."""
    return [json.loads(line) for line in (folder / "transcripts.jsonl").read_text("utf-8").splitlines()]


def word_error_rate(
    recognizer: Recognizer, folder: Path, entries: Sequence[Entry], row: Row, errors: bool
) -> float:
    """WER of one row in percent; with `errors`, print what differs."""
    references, texts = [], []
    for entry in entries:
        wanted = entry.get("translation", entry["text"]) if row.task == "translate" else entry["text"]
        references.append(normalise(wanted))
        texts.append(normalise(recognizer.transcribe(folder / entry["file"], row)))
        if errors and references[-1] != texts[-1]:
            print(f"    {entry['file']} {entry['voice']}\n      {references[-1]}\n      {texts[-1]}")
    return 100.0 * float(jiwer.wer(references, texts))


def report_detection(recognizer: Recognizer, folder: Path, entries: Sequence[Entry]) -> None:
    """Print language accuracy and no-speech probabilities."""
    lang_to_id = recognizer.model.generation_config.lang_to_id
    no_speech_id = recognizer.processor.tokenizer.convert_tokens_to_ids("<|nospeech|>")
    right, quiet, loud = [], [], []
    for entry in entries:
        probabilities = recognizer.start_probabilities(folder / entry["file"])
        (loud if entry["text"] else quiet).append(float(probabilities[no_speech_id]))
        if entry["text"]:
            detected = max(lang_to_id, key=lambda token: float(probabilities[lang_to_id[token]]))
            right.append(detected == f"<|{entry['language']}|>")
    print(f"language detected on {sum(right)} of {len(right)} clips")
    if quiet:
        print(
            f"no-speech probability: at least {min(quiet):.3f} without, at most {max(loud):.3f} with speech"
        )


def report(folder: Path, sample: Path, rows: Sequence[Row], limit: int, errors: bool) -> dict[str, float]:
    """Print the table of one checkpoint; returns WER in percent by row title."""
    recognizer, evaluation = Recognizer(folder), sample / "evaluation"
    entries, result = read_transcripts(evaluation), {}
    for row in rows:
        chosen = [e for e in entries if (e["language"], e["condition"]) == (row.language, row.condition)][
            :limit
        ]
        started = time.perf_counter()
        result[row.title] = word_error_rate(recognizer, evaluation, chosen, row, errors)
        per_clip_ms = 1e3 * (time.perf_counter() - started) / len(chosen)
        print(
            f"{row.title:<32}{len(chosen):>4} clips  WER {result[row.title]:6.2f} %  {per_clip_ms:5.0f} ms",
            flush=True,
        )
    report_detection(recognizer, evaluation, entries[:: max(1, len(entries) // limit)])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=Path, required=True, help="the folder pocket_opt/sample")
    parser.add_argument("--model", default="teacher", help="folder under --sample")
    parser.add_argument("--limit", type=int, default=1000, help="clips a row")
    parser.add_argument("--errors", action="store_true", help="print wrong transcripts")
    args = parser.parse_args()
    report(args.sample / args.model, args.sample, ROWS, args.limit, args.errors)


if __name__ == "__main__":
    main()
