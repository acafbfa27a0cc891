"""Inputs that planning looks at: a model directory and clips that are valid as far as no model is loaded."""

from __future__ import annotations

import json
import math
import struct
import wave
from pathlib import Path


def write_model(root: Path, *, model_type: str = "whisper", weights: bytes = b"not read by planning") -> Path:
    """A directory in Hugging Face layout whose weights are never looked into."""
    root.mkdir(parents=True)
    (root / "config.json").write_text(json.dumps({"model_type": model_type, "d_model": 64}))
    (root / "model.safetensors").write_bytes(weights)
    (root / "tokenizer.json").write_text("{}")
    return root


def write_clips(root: Path, count: int = 3, seconds: float = 0.1) -> Path:
    """A data set of tones."""
    root.mkdir(parents=True)
    rows = []
    for number in range(count):
        write_tone(root / f"{number}.wav", 300.0 + 100 * number, seconds)
        rows.append(json.dumps({"file": f"{number}.wav", "text": f"clip {number}", "language": "en"}))
    (root / "transcripts.jsonl").write_text("\n".join(rows) + "\n")
    return root


def write_slow_clip(path: Path) -> None:
    """A 16-bit mono wav file of half a second at 4 kHz, too slow for speech."""
    with wave.open(str(path), "wb") as stream:
        stream.setparams((1, 2, 4_000, 0, "NONE", ""))
        stream.writeframes(bytes(4_000))


def write_tone(path: Path, hertz: float, seconds: float) -> None:
    """A 16-bit mono wav file at 16 kHz."""
    samples = [int(8000 * math.sin(2 * math.pi * hertz * n / 16_000)) for n in range(int(16_000 * seconds))]
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(16_000)
        stream.writeframes(struct.pack(f"<{len(samples)}h", *samples))
