"""Error rate, size and speed of all levels on the shipped sample model, as one table.

    python benchmarks/quality.py
    python benchmarks/quality.py --target cpu --target openvino --json quality.json data.evaluation.limit=20

Every variant is optimized and measured through the public API, as any bundle is; what the store has is not measured
again. KEY=VALUE are further settings, as on the command line of pocket_opt.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

import pocket_opt
from pocket_opt.config.schema import LevelName
from pocket_opt.errors import PocketOptError
from pocket_opt.home import home
from pocket_opt.report.rows import Row, make_rows
from pocket_opt.report.table import render_table


def main(words: Sequence[str] | None = None) -> int:
    """The command line; 1 if a variant failed, 2 for a mistake in the input. A failure leaves the others running."""
    arguments = _arguments(words)
    manifests: list[Any] = []
    status = 0
    for target in arguments.target:
        for level in arguments.level:
            settings = ["tracking=none", f"output_dir={arguments.output}", *arguments.overrides]
            try:
                manifests.append(pocket_opt.optimize(arguments.recipe, target, level, settings).manifest)
            except PocketOptError as error:
                print(f"{target} {level}: {error}", file=sys.stderr)
                status = max(status, error.exit_code)
    Console(width=200 if not sys.stdout.isatty() else None).print(render_table(manifests))
    if arguments.json:
        rows = [_entry(row) for row in make_rows(manifests)]
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return status


def _entry(row: Row) -> dict[str, Any]:
    """A row as JSON: names, what the table compares, and the interval of the error rate."""
    quality = row.manifest["metrics"].get("quality", {})
    interval = [quality[name]["value"] for name in ("wer_ci_low", "wer_ci_high") if name in quality]
    names = {"recipe": row.recipe, "target": row.target, "level": row.level, "overrides": row.overrides}
    return {**names, "budget": row.verdict, "verified": row.scope, **row.values, "wer_interval": interval}


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="quality.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recipe", default="pocket_whisper")
    parser.add_argument(
        "--target", action="append", help="cpu (the default), ...; may be given several times"
    )
    parser.add_argument("--level", action="append", choices=get_args(LevelName), help="all levels by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    parser.add_argument(
        "--output", type=Path, default=home() / "benchmarks" / "quality", help="where bundles go"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    chosen = parser.parse_intermixed_args(words)
    chosen.target, chosen.level = chosen.target or ["cpu"], chosen.level or list(get_args(LevelName))
    return chosen


if __name__ == "__main__":
    sys.exit(main())
