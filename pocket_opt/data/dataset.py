"""Clips with their transcripts, from a directory or a list; everything is checked before any work is done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pocket_opt import shipped
from pocket_opt.data import audio
from pocket_opt.data.transcripts import Row, find_list, read_rows
from pocket_opt.digests import DigestMemory
from pocket_opt.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LISTS = "transcripts.*"
DIGEST_TAG = "pocket_opt.dataset.v1"


@dataclass(frozen=True)
class Clip:
    """One recording and what is said in it.

    Attributes:
        id: path relative to the list, or name and start of the SHA-256 of a file elsewhere; unique in the data set.
        path: the audio file.
        text: what is said, in the language spoken.
        sha256: of the audio file, hexadecimal.
        duration_s: seconds.
        language: code of the language spoken, e.g. "de".
        translation: the text in English.
        condition: a group to report by, e.g. "noisy".
        segments: timed pieces of the text: start and end in seconds, words.
    """

    id: str
    path: Path
    text: str
    sha256: str
    duration_s: float
    language: str | None = None
    translation: str | None = None
    condition: str | None = None
    segments: tuple[tuple[float, float, str], ...] = ()

    def reference(self, task: str = "transcribe") -> str | None:
        """What a perfect model writes for `task`; None where it is not known (no translation given)."""
        return self.translation if task == "translate" and self.language != "en" else self.text

    def samples(self, sample_rate: int = audio.SAMPLE_RATE) -> NDArray[np.float32]:
        """Mono samples `[samples]` in -1..1."""
        return audio.read_audio(self.path, sample_rate=sample_rate)


@dataclass(frozen=True)
class Dataset:
    """Clips in the order of their list. `source` is the list's file."""

    source: Path
    clips: tuple[Clip, ...]

    @staticmethod
    def open(source: str | Path, *, where: str = "data set") -> Dataset:
        """Read and check the data set at `source`: a directory, a .jsonl or .csv list, or "sample:evaluation".

        Args:
            source: what the user wrote.
            where: the key that holds it, for errors.

        Raises:
            UserError: with file and line: no such place, no or an empty list, wrong columns, a file that is missing,
                cannot be read, is listed twice, no audio, or not the one whose SHA-256 is given.
        """
        path = find_list(shipped.locate(str(source), holding=LISTS, where=where), where=where)
        rows = read_rows(path)
        _check_files(path, rows)
        with DigestMemory() as memory:
            clips = tuple(_clip(path, row, memory) for row in rows)
        _check_ids(rows, clips)
        return Dataset(path, clips)

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)

    @property
    def duration_s(self) -> float:
        """Seconds of audio in all."""
        return sum(clip.duration_s for clip in self.clips)

    def digest(self) -> str:
        """Tagged SHA-256 over the transcripts and the audio bytes; independent of where the files lie."""
        rows = [
            [clip.id, clip.text, clip.language, clip.translation, clip.condition, clip.segments, clip.sha256]
            for clip in self.clips
        ]
        content = json.dumps([DIGEST_TAG, rows], ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    def limit(self, count: int | None) -> Dataset:
        """At most `count` clips, spread evenly over the list, always the same ones; None: all."""
        if count is None or count >= len(self.clips):
            return self
        return replace(self, clips=tuple(self.clips[n * len(self.clips) // count] for n in range(count)))

    def select(self, *, language: str | None = None, task: str = "transcribe") -> Dataset:
        """The clips in `language` (None: any) whose reference for `task` is known."""
        kept = (clip for clip in self.clips if language is None or clip.language == language)
        return replace(self, clips=tuple(clip for clip in kept if clip.reference(task) is not None))


def _audio_path(listed: Path, row: Row) -> Path:
    return listed.parent / (row.text("file") or "")


@contextmanager
def _reading(path: Path, row: Row) -> Iterator[None]:
    """The disk's refusal while `path` is looked at, as an error in its row."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror})",
            where=row.where,
            fix="give yourself permission to read it, or remove the line",
        ) from None


def _is_there(path: Path, row: Row) -> bool:
    with _reading(path, row):
        return path.is_file()


def _check_files(listed: Path, rows: list[Row]) -> None:
    """Every file is there."""
    missing = [row for row in rows if not _is_there(_audio_path(listed, row), row)]
    if missing:
        more = f" (and {len(missing) - 1} more of {len(rows)})" if len(missing) > 1 else ""
        raise UserError(
            f"there is no audio file '{missing[0].text('file') or ''}'{more}",
            where=missing[0].where,
            allowed=f"paths relative to {listed.parent}",
            fix="correct the path, or remove the line",
        )


def _check_ids(rows: list[Row], clips: tuple[Clip, ...]) -> None:
    """No file is listed twice, however its path is written."""
    seen: dict[str, Row] = {}
    for row, clip in zip(rows, clips, strict=True):
        first = seen.setdefault(clip.id, row)
        if first is not row:
            raise UserError(
                f"'{row.text('file')}' is listed twice, first in {first.where}",
                where=row.where,
                fix="remove one of the lines",
            )


def _clip(listed: Path, row: Row, memory: DigestMemory) -> Clip:
    path = _audio_path(listed, row)
    with _reading(path, row):
        sha256 = memory.of(path)
    given = row.text("sha256")
    if given is not None and given.lower() != sha256:
        raise UserError(
            f"'{row.text('file')}' has another SHA-256 than listed: {sha256[:16]}..., not {given[:16]}...",
            where=row.where,
            fix="restore the file, or correct 'sha256'",
        )
    language = row.text("language")
    return Clip(
        id=_id(listed, path, sha256),
        path=path,
        text=row.text("text") or "",
        sha256=sha256,
        duration_s=_duration_s(path, row, verified=given is not None),
        language=language.lower() if language else None,
        translation=row.text("translation"),
        condition=row.text("condition"),
        segments=row.segments(),
    )


def _id(listed: Path, path: Path, sha256: str) -> str:
    """Says the same of the same clips on every machine; a link to a file is taken for the file itself."""
    if path.parent == listed.parent:
        return path.name
    folder, place = listed.parent.resolve(), path.parent.resolve() / path.name
    if place.is_relative_to(folder):
        return place.relative_to(folder).as_posix()
    return f"{path.stem}-{sha256[:8]}{path.suffix}"


def _duration_s(path: Path, row: Row, *, verified: bool) -> float:
    """Seconds of audio: as listed for a file verified by its SHA-256 (saves a look inside), else by its header."""
    listed = row.number("duration_s")
    if verified and listed is not None:
        return listed
    try:
        return audio.duration_s(path)
    except UserError as error:
        raise UserError(error.what, where=row.where, allowed=error.allowed, fix=error.fix) from None
