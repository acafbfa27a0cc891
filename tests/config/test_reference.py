"""The configuration reference is generated, and complete."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from pocket_opt.config import schema
from pocket_opt.config.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_what_the_schema_gives() -> None:
    assert PAGE.read_text() == reference(), (
        "run: python -m pocket_opt.config.reference > docs/configuration.md"
    )


def test_every_key_has_a_meaning() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `") and line.count("|") > 4]
    assert len(rows) > len(fields(schema.Config))
    assert all(line.split("|")[-2].strip() for line in rows)
