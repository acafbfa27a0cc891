"""Transcribe audio files with the speech model that lies beside this file (PyTorch, through transformers).

    python run.py FILE... [--language de] [--task translate] [--timestamps] [--json] [--threads N]

Needs torch, transformers and soundfile, and may be moved together with its directory. This is the source model in its
own framework, the reference that smaller variants are compared with. Audio longer than the model's window is cut into
consecutive windows that are decoded independently.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# torch, transformers and soundfile are imported where they are used: --help and usage errors need none of them.


class Model:
    """The checkpoint and the processor in `directory`; `threads` 0 leaves their number to PyTorch."""

    def __init__(self, directory: Path, *, threads: int = 0) -> None:
        import torch
        from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        if threads:
            torch.set_num_threads(threads)
        self._processor: Any = AutoProcessor.from_pretrained(directory, local_files_only=True)
        self._model: Any = AutoModelForSpeechSeq2Seq.from_pretrained(
            directory, dtype=torch.float32, local_files_only=True, use_safetensors=True
        ).eval()
        self.sample_rate = int(self._processor.feature_extractor.sampling_rate)
        self._window = int(self._processor.feature_extractor.n_samples)
        self._time_s = self._window / self.sample_rate / self._model.config.max_source_positions

    def transcribe(self, samples: Any, arguments: argparse.Namespace) -> dict[str, Any]:
        """`text` and `segments` (`start`, `end` in seconds, `text`) of mono samples `[samples]`."""
        segments: list[dict[str, Any]] = []
        for offset in range(0, max(len(samples), 1), self._window):
            window = samples[offset : offset + self._window]
            segments += self._window_segments(window, offset / self.sample_rate, arguments)
        return {"text": " ".join(part["text"] for part in segments).strip(), "segments": segments}

    def _window_segments(
        self, window: Any, start_s: float, arguments: argparse.Namespace
    ) -> list[dict[str, Any]]:
        inputs = self._processor.feature_extractor(
            window, sampling_rate=self.sample_rate, return_tensors="pt"
        )
        wanted: dict[str, Any] = {"return_timestamps": arguments.timestamps}
        if getattr(self._model.generation_config, "is_multilingual", True):
            wanted |= {"language": arguments.language, "task": arguments.task}
        found = self._model.generate(
            inputs.input_features, return_segments=True, do_sample=False, num_beams=1, **wanted
        )
        end_s = start_s + len(window) / self.sample_rate
        rows = []
        for part in found["segments"][0]:
            text = self._processor.tokenizer.decode(part["tokens"], skip_special_tokens=True).strip()
            times = (start_s, end_s)
            if arguments.timestamps:
                start, end = self._times(part)
                times = (start_s + start, min(start_s + end, end_s))
            if text:
                rows.append({"start": round(times[0], 3), "end": round(times[1], 3), "text": text})
        return rows

    def _times(self, part: Any) -> tuple[float, float]:
        """Seconds in the window. generate() gives a lone segment the window's start, so the tokens are asked."""
        first = self._processor.tokenizer.convert_tokens_to_ids("<|notimestamps|>") + 1
        told = [int(token) - first for token in part["tokens"] if token >= first]
        start, end = float(part["start"]), float(part["end"])
        if len(told) == 1:  # the end was never said
            return (end if told[0] else start), self._window / self.sample_rate
        return (end - (told[1] - told[0]) * self._time_s if told else start), end


def read_audio(path: Path, sample_rate: int) -> Any:
    """Mono samples `[samples]` in -1..1 at `sample_rate` Hz of a wav, flac, ogg or mp3 file."""
    import soundfile

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return resample(samples.mean(axis=1), rate, sample_rate)


def resample(samples: Any, rate: int, wanted: int) -> Any:
    """Band-limited resampling of `[samples]` by cutting or padding the spectrum (Fourier method)."""
    import numpy as np

    if rate == wanted or not len(samples):
        return samples
    total = round(len(samples) * wanted / rate)
    spectrum = np.fft.rfft(samples)[: total // 2 + 1]
    return (np.fft.irfft(spectrum, total) * (total / len(samples))).astype(np.float32)


def show(file: Path, heard: dict[str, Any], arguments: argparse.Namespace) -> str:
    """What is printed for one file."""
    if arguments.json:
        return json.dumps({"file": str(file), **heard}, ensure_ascii=False)
    lines = [heard["text"]]
    if arguments.timestamps:
        lines = [f"[{part['start']:.2f} --> {part['end']:.2f}] {part['text']}" for part in heard["segments"]]
    prefix = f"{file}: " if len(arguments.files) > 1 else ""
    return "\n".join(prefix + line for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns 0, or 1 if a file could not be read; usage errors exit with 2."""
    parser = argparse.ArgumentParser(prog="run.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="wav, flac, ogg or mp3, any rate")
    parser.add_argument("--language", help="code of the spoken language, e.g. de; detected if left out")
    parser.add_argument("--task", choices=("transcribe", "translate"), default="transcribe")
    parser.add_argument("--timestamps", action="store_true", help="predict and print times")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each file")
    parser.add_argument("--threads", type=int, default=0, help="0: let PyTorch decide")
    chosen = parser.parse_args(arguments)
    if missing := [str(file) for file in chosen.files if not file.is_file()]:
        parser.error(f"there is no file {', '.join(missing)}")
    model = Model(Path(__file__).resolve().parent, threads=chosen.threads)
    failed = False
    for file in chosen.files:
        try:
            print(show(file, model.transcribe(read_audio(file, model.sample_rate), chosen), chosen))
        except (RuntimeError, ValueError) as error:
            print(f"{parser.prog}: error: {file}: {error}", file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
