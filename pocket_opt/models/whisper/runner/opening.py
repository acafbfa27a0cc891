"""Open the model in a directory in the runtime that it was made for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from .audio import Floats
from .transcript import DecodeOptions, RequestError, Transcript

DESCRIPTIONS = ("manifest.json", "artifact.json")


class Speech(Protocol):
    """A model that can be asked for transcripts.

    Attributes:
        sample_rate: Hz of the audio it expects.
    """

    sample_rate: int

    def check(self, options: DecodeOptions) -> None:
        """RequestError for what the model cannot do: an unknown language or task, or times of words."""
        ...

    def transcribe(self, audio: Sequence[Floats], options: DecodeOptions) -> list[Transcript]:
        """Transcripts of the clips `[samples]`, decoded as one batch."""
        ...


def read_table(directory: Path) -> dict[str, Any]:
    """Components and metadata of the model in `directory`; RequestError if there is none, or a damaged one."""
    for name in DESCRIPTIONS:
        if (directory / name).is_file():
            try:
                table: dict[str, Any] = json.loads((directory / name).read_text(encoding="utf-8"))
            except ValueError as error:
                raise RequestError(f"{directory / name}: damaged ({error})") from None
            return table
    raise RequestError(f"{directory}: neither {' nor '.join(DESCRIPTIONS)} is there")


def open_model(directory: Path, *, threads: int = 0) -> Speech:
    """The model in `directory`; `threads` 0 leaves their number to its runtime. RequestError if there is none."""
    table = read_table(directory)
    if table["metadata"].get("runtime") == "transformers":
        from .transformers_model import TransformersModel, quiet

        quiet()
        return TransformersModel(directory, threads=threads)
    if "all_in_one" in table["components"] and table["metadata"].get("runtime") == "torchscript":
        from .torchscript_listener import Listener

        return Listener(directory, threads=threads)
    if "all_in_one" in table["components"]:
        from .all_in_one import AllInOne

        return AllInOne(directory, threads=threads)
    from .whisper import Whisper

    return Whisper(directory, threads=threads)
