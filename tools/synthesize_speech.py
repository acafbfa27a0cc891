"""Speak grammar commands with espeak-ng and keep them as one flat int16 array with a JSON-lines index.

Voices are accent + variant pairs. The variants and the accent in `HELD_OUT_*` are never used for training,
so the evaluation clips come from voices the model has not heard.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import Final

import numpy as np
import soxr
from command_grammar import Command, draw_commands
from numpy.typing import NDArray

SAMPLE_RATE: Final = 16_000
ESPEAK_RATE: Final = 22_050
WAV_HEADER_BYTES: Final = 44
LONGEST_SPEECH_S: Final = 3.45

ACCENTS: Final = {
    "en": ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbcwmd", "en-029"),
    "de": ("de",),
}
HELD_OUT_ACCENT: Final = "en-us-nyc"
TRAINING_VARIANTS: Final = (
    *(
        "m1",
        "m2",
        "m4",
        "m5",
        "m7",
        "m8",
        "f1",
        "f3",
        "f5",
        "adam",
        "Alex",
        "Alicia",
        "Andy",
        "Annie",
        "antonio",
    ),
    *(
        "aunty",
        "belinda",
        "boris",
        "caleb",
        "david",
        "Denis",
        "Diogo",
        "ed",
        "edward",
        "Gene",
        "Henrique",
        "Jacky",
    ),
    *(
        "john",
        "Lee",
        "linda",
        "marcelo",
        "max",
        "Michael",
        "miguel",
        "Mike",
        "norbert",
        "pablo",
        "paul",
        "pedro",
    ),
    *(
        "quincy",
        "rob",
        "robert",
        "sandro",
        "shelby",
        "steph",
        "steph3",
        "travis",
        "victor",
        "anika",
        "grandma",
    ),
    *("grandpa", "klatt2"),
)
HELD_OUT_VARIANTS: Final = ("m3", "m6", "f2", "f4", "Andrea", "zac", "michel")

Samples = NDArray[np.int16]


@dataclass(frozen=True)
class Utterance:
    """What is said and how: words per minute in `speed`, espeak's 0 to 99 scale in `pitch`."""

    language: str
    text: str
    translation: str
    voice: str
    speed: int
    pitch: int


def speak(utterance: Utterance) -> Samples:
    """Speech trimmed to its audible part, 16 kHz mono, peak at half scale; [samples]."""
    command = ["espeak-ng", "-v", utterance.voice, "-s", str(utterance.speed), "-p", str(utterance.pitch)]
    wav = subprocess.run([*command, "--stdout", utterance.text], check=True, capture_output=True).stdout
    raw = np.frombuffer(wav[WAV_HEADER_BYTES:], dtype="<i2").astype(np.float32) / 32768.0
    return to_int16(trim_silence(soxr.resample(raw, ESPEAK_RATE, SAMPLE_RATE)))


def trim_silence(audio: NDArray[np.float32], threshold: float = 0.01) -> NDArray[np.float32]:
    """Cut what lies before the first and after the last sample above `threshold` of the peak."""
    loud = np.flatnonzero(np.abs(audio) > threshold * np.abs(audio).max())
    first, last = int(loud[0]), int(loud[-1])
    return audio[first : last + 1]


def to_int16(audio: NDArray[np.float32], peak: float = 0.5) -> Samples:
    """Scale to `peak` of full scale and round."""
    return np.round(audio * (peak * 32767.0 / np.abs(audio).max())).astype(np.int16)


def plan_utterance(
    rng: random.Random, command: Command, language: str, accents: Sequence[str], variants: Sequence[str]
) -> Utterance:
    """A random voice, speed and pitch for one command; German is spoken faster, as its sentences are longer."""
    slowest, fastest = {"en": (130, 200), "de": (155, 215)}[language]
    return Utterance(
        language=language,
        text=command.text(language),
        translation=command.english,
        voice=f"{rng.choice(accents)}+{rng.choice(variants)}",
        speed=rng.randint(slowest, fastest),
        pitch=rng.randint(20, 80),
    )


def plan_training(rng: random.Random, language: str, count: int) -> list[Utterance]:
    """`count` utterances of training sentences in training voices."""
    commands = draw_commands(rng, count, held_out=False)
    return [plan_utterance(rng, c, language, ACCENTS[language], TRAINING_VARIANTS) for c in commands]


def speak_all(plan: Sequence[Utterance], processes: int) -> Iterator[tuple[Utterance, Samples]]:
    """Speak a plan in order, leaving out what is longer than the window allows."""
    with Pool(processes) as pool:
        for utterance, samples in zip(plan, pool.imap(speak, plan, chunksize=32), strict=True):
            if len(samples) <= LONGEST_SPEECH_S * SAMPLE_RATE:
                yield utterance, samples


def write_corpus(folder: Path, plan: Sequence[Utterance], processes: int) -> int:
    """Write `speech.i16` and `speech.jsonl` (one utterance a line); returns the clip count."""
    folder.mkdir(parents=True, exist_ok=True)
    offset = count = 0
    with (
        (folder / "speech.i16").open("wb") as audio,
        (folder / "speech.jsonl").open("w", encoding="utf-8") as index,
    ):
        for utterance, samples in speak_all(plan, processes):
            entry = asdict(utterance) | {"offset": offset, "length": len(samples)}
            index.write(json.dumps(entry, ensure_ascii=False) + "\n")
            audio.write(samples.tobytes())
            offset += len(samples)
            count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--english", type=int, default=20_000)
    parser.add_argument("--german", type=int, default=11_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    plan = plan_training(rng, "en", args.english) + plan_training(rng, "de", args.german)
    rng.shuffle(plan)
    print(f"{write_corpus(args.work / 'training', plan, args.processes)} training clips")


if __name__ == "__main__":
    main()
