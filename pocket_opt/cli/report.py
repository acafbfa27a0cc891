"""`report DIR...`: the table, CSV and HTML page over bundles, from their manifests; can replay them to MLflow."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pocket_opt import tracking
from pocket_opt.bundle.layout import Bundle, open_bundle
from pocket_opt.cli.console import console, errors
from pocket_opt.cli.validate import named_bundles
from pocket_opt.report.html import write_report
from pocket_opt.report.table import render_table

PLACE = "where to write; default: the first directory named, or if that is a bundle the outputs it lies in"
DATABASE = "MLflow tracking URI; default as for a run: mlflow.db in the outputs that a bundle lies in"


def run(arguments: Sequence[str]) -> int:
    """Print the table, write `report.html` and `report.csv`; exit code 1 if a replay did not succeed."""
    parser = argparse.ArgumentParser(prog="pocket-opt report", description=__doc__)
    parser.add_argument("directories", nargs="+", type=Path, help="bundles, or directories that hold some")
    parser.add_argument("--output", type=Path, help=PLACE)
    parser.add_argument("--log-to-mlflow", action="store_true", help="record every bundle in MLflow again")
    parser.add_argument("--tracking-uri", help=DATABASE)
    options = parser.parse_args(arguments)
    named = [(place, open_bundle(path)) for place in options.directories for path in named_bundles([place])]
    manifests = [bundle.manifest for _, bundle in named]
    console.print(render_table(manifests))
    first, bundle = named[0]
    output = options.output or (_outputs(first, bundle) if first == bundle.path else first)
    files = write_report(manifests, [], output)
    console.print(f"written: {files.html}, {files.csv}", markup=False)
    if not options.log_to_mlflow:
        return 0
    replies = [
        tracking.log_bundle(
            bundle.path,
            tracking.settings_for(options.tracking_uri, _outputs(place, bundle)),
            refresh=True,
        )
        for place, bundle in named
    ]
    for reply in replies:
        console.print(reply.message, markup=False)
        if reply.warning:
            errors.print(f"warning: {reply.warning}", markup=False)
    return 1 if any(reply.warning for reply in replies) else 0


def _outputs(named: Path, bundle: Bundle) -> Path:
    """The output directory of a bundle in its usual place; of a moved one what was named, or what it lies in."""
    place = bundle.path.resolve()
    if place.parts[-3:-1] == (bundle.manifest["recipe"], bundle.manifest["target"]):
        return place.parents[2]
    return place.parent if named == bundle.path else named
