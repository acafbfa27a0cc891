"""The published JSON Schema (draft 2020-12) of the manifest, and checks against it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

SCHEMA_FILE = Path(__file__).with_name("manifest.schema.json")


@cache
def manifest_schema() -> dict[str, Any]:
    """The schema of the present version."""
    table: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return table


def schema_errors(manifest: Mapping[str, Any]) -> list[str]:
    """Where `manifest` departs from the schema, e.g. `metrics/quality/wer: 'unit' is a required property`."""
    from jsonschema import Draft202012Validator

    errors = Draft202012Validator(manifest_schema()).iter_errors(manifest)
    return sorted(
        f"{'/'.join(map(str, error.absolute_path)) or 'manifest'}: {error.message}" for error in errors
    )
