"""The list of a data set's clips: rows of `transcripts.jsonl` or `transcripts.csv`, checked column by column."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocket_opt.errors import UserError, nearest

REQUIRED = ("file", "text")
OPTIONAL = ("language", "translation", "condition", "segments", "duration_s", "sha256", "voice")
NAMES = ("transcripts.jsonl", "transcripts.csv")


@dataclass(frozen=True)
class Row:
    """One line of the list: where it stands, and its values by column (CSV: strings)."""

    where: str
    values: Mapping[str, Any]

    def text(self, column: str) -> str | None:
        """The string in `column`; None if it is absent or, except for `text`, empty."""
        value = self.values.get(column)
        if value is None or (value == "" and column != "text"):
            return None
        if not isinstance(value, str):
            raise UserError(f"'{column}' must be a string, found {value!r}", where=self.where, fix="quote it")
        return value

    def number(self, column: str) -> float | None:
        """The number in `column`; None if it is absent or empty."""
        value = self.values.get(column)
        try:
            return None if value in (None, "") else float(value)
        except (TypeError, ValueError):
            raise UserError(
                f"'{column}' must be a number, found {value!r}", where=self.where, fix="correct it"
            ) from None

    def segments(self) -> tuple[tuple[float, float, str], ...]:
        """Timed pieces of the text: start and end in seconds, words. In CSV the column holds JSON."""
        value = self.values.get("segments") or []
        try:
            pieces = json.loads(value) if isinstance(value, str) else value
            return tuple((float(start), float(end), str(text)) for start, end, text in pieces)
        except (TypeError, ValueError):
            raise UserError(
                f"'segments' cannot be read: {value!r}",
                where=self.where,
                allowed='a list like [[0.4, 2.26, "play jazz"]]',
                fix="correct it, or leave the column out",
            ) from None


def find_list(path: Path, *, where: str) -> Path:
    """The transcripts file that `path` is, or that lies in the directory `path`."""
    if path.is_file() and path.suffix.lower() in (".jsonl", ".csv"):
        return path
    if not path.is_dir():
        what = (
            f"{path} is neither a directory nor a .jsonl or .csv file"
            if path.exists()
            else f"{path} does not exist"
        )
        allowed = f"a directory with {' or '.join(NAMES)}, or such a file"
        raise UserError(what, where=where, allowed=allowed, fix="correct the path")
    found = [path / name for name in NAMES if (path / name).is_file()]
    if len(found) != 1:
        raise UserError(
            f"{path} holds {'both' if found else 'neither'} {NAMES[0]} {'and' if found else 'nor'} {NAMES[1]}",
            where=where,
            allowed="one list: columns file, text; optional " + ", ".join(OPTIONAL),
            fix="name the file itself" if found else "write the list, or name the file that is it",
        )
    return found[0]


def read_rows(path: Path) -> list[Row]:
    """The rows of the list at `path`, columns checked; UserError with file and line for what is wrong."""
    text = _decode(path)
    rows = list(_csv_rows(path, text) if path.suffix.lower() == ".csv" else _json_rows(path, text))
    if not rows:
        raise UserError(f"{path.name} lists no clips", where=str(path), fix="add a line for each audio file")
    return rows


def _decode(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path.name} is not UTF-8: byte 0x{content[error.start]:02x}",
            where=f"{path}, line {line}",
            fix="save the file as UTF-8",
        ) from None


def _json_rows(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            values = json.loads(line)
        except ValueError as error:
            raise UserError(
                f"this line is not JSON: {error}", where=where, fix="write one object a line"
            ) from None
        if not isinstance(values, dict):
            raise UserError(
                f"expected an object, found {line.strip()[:40]}",
                where=where,
                fix='write {"file": ..., "text": ...}',
            )
        _check_columns(values, where)
        yield Row(where, values)


def _csv_rows(path: Path, text: str) -> Iterator[Row]:
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        if reader.fieldnames:
            _check_columns(dict.fromkeys(reader.fieldnames, ""), f"{path}, line 1")
        for values in reader:
            where = f"{path}, line {reader.line_num}"
            if None in values or None in values.values():
                raise UserError(
                    f"this line has another number of fields than the header ({len(reader.fieldnames or ())})",
                    where=where,
                    fix='put quotes around texts with a comma: "turn on, please"',
                )
            yield Row(where, values)
    except csv.Error as error:
        raise UserError(
            f"not CSV: {error}",
            where=f"{path}, line {reader.line_num + 1}",
            fix='close every quote; write " inside a text as ""',
        ) from None


def _check_columns(values: Mapping[str, Any], where: str) -> None:
    for column in REQUIRED:
        if values.get(column) is None:
            others = [name for name in values if name not in REQUIRED + OPTIONAL]
            near = nearest(column, others)
            raise UserError(
                f"there is no '{column}'" + (f"; is it '{near}'?" if near else ""),
                where=where,
                allowed=f"{', '.join(REQUIRED)}; optional {', '.join(OPTIONAL)}",
                fix=f"rename '{near}' to '{column}'" if near else f"add '{column}'",
            )
    for name in sorted(values.keys() - {*REQUIRED, *OPTIONAL}):
        near_optional = difflib.get_close_matches(name, OPTIONAL, n=1, cutoff=0.8)
        if near_optional:
            raise UserError(
                f"there is no column '{name}', did you mean '{near_optional[0]}'?",
                where=where,
                fix=f"rename it to '{near_optional[0]}', or give it a name of its own",
            )
