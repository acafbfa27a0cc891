"""`report DIR...`: the table, CSV and HTML page over bundles, from their manifests; can replay them to MLflow."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pocket_opt import tracking
from pocket_opt.bundle.layout import open_bundle
from pocket_opt.cli.console import console, errors
from pocket_opt.cli.validate import named_bundles
from pocket_opt.report.html import write_report
from pocket_opt.report.table import render_table


def run(arguments: Sequence[str]) -> int:
    """Print the table, write `report.html` and `report.csv`; exit code 1 if a replay did not succeed."""
    parser = argparse.ArgumentParser(prog="pocket-opt report", description=__doc__)
    parser.add_argument("directories", nargs="+", type=Path, help="bundles, or directories that hold some")
    parser.add_argument("--output", type=Path, help="where to write; default: beside the bundles")
    parser.add_argument("--log-to-mlflow", action="store_true", help="record every bundle in MLflow again")
    parser.add_argument("--tracking-uri", help="MLflow tracking URI; default as for a run")
    options = parser.parse_args(arguments)
    bundles = [open_bundle(path) for path in named_bundles(options.directories)]
    manifests = [bundle.manifest for bundle in bundles]
    console.print(render_table(manifests))
    output = options.output or _outputs(bundles[0].path, options.directories[0])
    files = write_report(manifests, [], output)
    console.print(f"written: {files.html}, {files.csv}", markup=False)
    if not options.log_to_mlflow:
        return 0
    settings = tracking.settings_for(options.tracking_uri, output)
    replies = [tracking.log_bundle(bundle.path, settings) for bundle in bundles]
    for reply in replies:
        console.print(reply.message, markup=False)
        if reply.warning:
            errors.print(f"warning: {reply.warning}", markup=False)
    return 1 if any(reply.warning for reply in replies) else 0


def _outputs(bundle: Path, named: Path) -> Path:
    """The directory above recipe and target where a bundle itself was named: a bundle stays as it is."""
    return bundle.absolute().parents[2] if bundle == named else named
