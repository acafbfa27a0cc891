"""`validate DIR...`: bundles checked - digests, loading, running, the manifest's numbers, budgets."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape

from pocket_opt.bundle.publication import find_bundles
from pocket_opt.bundle.validation import validate_bundle
from pocket_opt.cli.console import console
from pocket_opt.errors import UserError

MARKS = {"passed": "[green]ok     [/green]", "skipped": "[dim]skipped[/dim]", "failed": "[red]FAILED [/red]"}


def run(arguments: Sequence[str]) -> int:
    """Print the findings of every bundle; exit code 1 if one of them is not as its manifest says."""
    parser = argparse.ArgumentParser(prog="pocket-opt validate", description=__doc__)
    parser.add_argument("directories", nargs="+", type=Path, help="bundles, or directories that hold some")
    parser.add_argument(
        "--data", help="data set to transcribe again; default: the shipped one, where it was used"
    )
    options = parser.parse_args(arguments)
    sound = True
    for path in named_bundles(options.directories):
        findings = validate_bundle(path, data_path=options.data)
        sound = sound and all(finding.ok for finding in findings)
        console.print(f"[bold]{escape(str(path))}[/bold]")
        for finding in findings:
            console.print(f"  {MARKS[finding.status]} {finding.check:<9} {escape(finding.message)}")
    return 0 if sound else 1


def named_bundles(directories: Sequence[Path]) -> list[Path]:
    """The bundles in or below `directories`; UserError if one of them holds none."""
    found = []
    for directory in directories:
        here = find_bundles([directory]) if directory.is_dir() else []
        if not here:
            raise UserError(
                f"there is no bundle in {directory}",
                where="command line",
                allowed="a directory with manifest.json, or one above such directories",
                fix="see outputs/",
            )
        found += here
    return found
