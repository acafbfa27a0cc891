"""`gc`: bound the size of the store; the least recently used entries go first. Bundles keep their files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pocket_opt.cli.console import console
from pocket_opt.errors import UserError
from pocket_opt.variants import open_store

UNITS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "b": 1}


def run(arguments: Sequence[str]) -> int:
    """Remove entries until the store is at most `--max-size`."""
    parser = argparse.ArgumentParser(prog="pocket-opt gc", description=__doc__)
    parser.add_argument(
        "--max-size", default="10GB", help="what may stay, e.g. 500MB or 10GB; 0 empties it (default 10GB)"
    )
    limit = parse_size(parser.parse_args(arguments).max_size)
    store = open_store()
    count, freed = store.collect(limit)
    left = sum(size for _, size, _ in store.entries())
    console.print(
        f"{count} entries removed, {freed / 1e6:.1f} MB freed, {left / 1e6:.1f} MB left in {store.root}",
        markup=False,
    )
    return 0


def parse_size(text: str) -> int:
    """Bytes in "500MB", "10 GB" or "0"; UserError for anything else."""
    lowered = text.strip().lower().replace(" ", "")
    unit = next((name for name in UNITS if lowered.endswith(name)), "")
    number = lowered.removesuffix(unit)
    try:
        size = int(float(number) * UNITS.get(unit, 1))
    except (ValueError, OverflowError):
        size = -1
    if size < 0:
        raise UserError(
            f"'{text}' is no size", where="--max-size", allowed="500MB, 10GB, 0", fix="correct it"
        )
    return size
