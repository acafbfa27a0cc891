"""Write the evaluation and calibration clips: 16 kHz mono FLAC and one `transcripts.jsonl` a folder.

Evaluation speaks held-out sentences in held-out voices. Calibration speaks training sentences in training
voices, drawn with another seed than the training corpus.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
from colored_noise import COLORS, Audio, colored_noise, noise_level
from command_grammar import Command, draw_commands
from synthesize_speech import (
    ACCENTS,
    HELD_OUT_ACCENT,
    HELD_OUT_VARIANTS,
    SAMPLE_RATE,
    TRAINING_VARIANTS,
    Samples,
    Utterance,
    plan_utterance,
    speak,
    to_int16,
)

WINDOW_S: Final = 4.0
_PAIR_SHARE: Final = 0.12
_HELD_OUT_ACCENT_SHARE: Final = 0.15


@dataclass(frozen=True)
class ClipGroup:
    """`count` clips of one language and condition, named `<prefix>-000.flac` and on."""

    prefix: str
    language: str
    condition: str
    count: int


@dataclass
class Clip:
    """Audio with what is said in it; `segments` are (start s, end s, text)."""

    samples: Samples
    utterances: list[Utterance] = field(default_factory=list)
    segments: list[tuple[float, float, str]] = field(default_factory=list)


EVALUATION: Final = (
    ClipGroup("en-clean", "en", "clean", 135),
    ClipGroup("en-noisy", "en", "noisy", 45),
    ClipGroup("de-clean", "de", "clean", 45),
)
CALIBRATION: Final = (
    ClipGroup("en-clean", "en", "clean", 14),
    ClipGroup("en-noisy", "en", "noisy", 6),
    ClipGroup("de-clean", "de", "clean", 8),
    ClipGroup("de-noisy", "de", "noisy", 4),
)
NO_SPEECH_CLIPS: Final = 4


class ClipMaker:
    """Draws clips of one split (held out or training) from its own random state."""

    def __init__(self, seed: int, *, held_out: bool) -> None:
        self._rng = random.Random(seed)
        self._noise = np.random.default_rng(seed)
        self._held_out = held_out
        self._spoken: set[str] = set()

    def speech(self, group: ClipGroup) -> Clip:
        """One command, or two of one voice with a pause, fitting the window."""
        commands = 2 if self._rng.random() < _PAIR_SHARE else 1
        clip = self._join(self._say(group.language, commands))
        while len(clip.samples) > WINDOW_S * SAMPLE_RATE:
            clip = self._join(self._say(group.language, commands))
        self._spoken.update(utterance.translation for utterance in clip.utterances)
        if group.condition == "noisy":
            clip.samples = self._add_noise(clip)
        return clip

    def silence(self, color: str) -> Clip:
        """Faint noise and nothing else, 2 s."""
        level = 10.0 ** self._rng.uniform(-3.0, -1.8)
        noise = colored_noise(self._noise, 2 * SAMPLE_RATE, color) * level
        return Clip(np.round(noise * 32767.0).astype(np.int16))

    def _say(self, language: str, commands: int) -> list[tuple[Utterance, Samples]]:
        accents: Sequence[str] = ACCENTS[language]
        if self._held_out and language == "en" and self._rng.random() < _HELD_OUT_ACCENT_SHARE:
            accents = (HELD_OUT_ACCENT,)
        variants = HELD_OUT_VARIANTS if self._held_out else TRAINING_VARIANTS
        first = plan_utterance(self._rng, self._unspoken_command(), language, accents, variants)
        others = [self._unspoken_command() for _ in range(commands - 1)]
        plan = [first, *(replace(first, text=c.text(language), translation=c.english) for c in others)]
        return [(utterance, speak(utterance)) for utterance in plan]

    def _unspoken_command(self) -> Command:
        while True:
            command = draw_commands(self._rng, 1, held_out=self._held_out)[0]
            if command.english not in self._spoken:
                return command

    def _join(self, pieces: Sequence[tuple[Utterance, Samples]]) -> Clip:
        """Silence of 0.2 to 0.4 s before, between and after the pieces."""
        clip = Clip(self._pause())
        for utterance, samples in pieces:
            start = len(clip.samples) / SAMPLE_RATE
            end = start + len(samples) / SAMPLE_RATE
            clip.utterances.append(utterance)
            clip.segments.append((round(start, 2), round(end, 2), utterance.text))
            clip.samples = np.concatenate([clip.samples, samples, self._pause()])
        return clip

    def _pause(self) -> Samples:
        return np.zeros(int(self._rng.uniform(0.2, 0.4) * SAMPLE_RATE), dtype=np.int16)

    def _add_noise(self, clip: Clip) -> Samples:
        """Noise at 5 to 15 dB below the speech over the whole clip."""
        audio: Audio = clip.samples.astype(np.float32) / 32767.0
        noise = colored_noise(self._noise, len(audio), self._rng.choice(list(COLORS)))
        return to_int16(audio + noise * noise_level(audio[audio != 0], self._rng.uniform(5.0, 15.0)))


def clip_entry(path: Path, group: ClipGroup, clip: Clip) -> dict[str, Any]:
    """The transcript line of a clip already written to `path`."""
    entry: dict[str, Any] = {
        "file": path.name,
        "text": " ".join(u.text for u in clip.utterances),
        "language": group.language,
    }
    if group.language != "en":
        entry["translation"] = " ".join(u.translation for u in clip.utterances)
    return entry | {
        "condition": group.condition,
        "voice": clip.utterances[0].voice if clip.utterances else "",
        "duration_s": round(len(clip.samples) / SAMPLE_RATE, 3),
        "segments": clip.segments,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def write_group(folder: Path, group: ClipGroup, make: Callable[[int], Clip]) -> Iterator[dict[str, Any]]:
    """Write the clips of one group and yield their transcript entries."""
    for number in range(group.count):
        clip = make(number)
        path = folder / f"{group.prefix}-{number:03d}.flac"
        soundfile.write(path, clip.samples, SAMPLE_RATE, subtype="PCM_16", compression_level=1.0)
        yield clip_entry(path, group, clip)


def write_set(
    folder: Path, groups: Sequence[ClipGroup], maker: ClipMaker, no_speech: int
) -> list[dict[str, Any]]:
    """Write one folder of clips with its `transcripts.jsonl`, replacing what it held."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.flac"):
        old.unlink()
    entries = [e for g in groups for e in write_group(folder, g, lambda _, group=g: maker.speech(group))]
    colors = list(COLORS)
    quiet = ClipGroup("nospeech", "en", "nospeech", no_speech)
    entries += write_group(folder, quiet, lambda number: maker.silence(colors[number % len(colors)]))
    lines = [json.dumps(entry, ensure_ascii=False) for entry in entries]
    (folder / "transcripts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=Path, required=True, help="the folder pocket_opt/sample")
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()
    plans = (("evaluation", EVALUATION, True, NO_SPEECH_CLIPS), ("calibration", CALIBRATION, False, 0))
    for shift, (name, groups, held_out, no_speech) in enumerate(plans):
        maker = ClipMaker(args.seed + shift, held_out=held_out)
        entries = write_set(args.sample / name, groups, maker, no_speech)
        print(f"{name}: {len(entries)} clips, {sum(e['duration_s'] for e in entries):.0f} s")


if __name__ == "__main__":
    main()
