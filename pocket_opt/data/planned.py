"""The clips that a measurement or a calibrated pass was planned with."""

from __future__ import annotations

from pocket_opt.data.dataset import Dataset
from pocket_opt.errors import PocketOptError


def open_planned(path: str, digest: str) -> Dataset:
    """The data set at `path`, which still has the digest that entered the key ("": not known).

    Raises:
        PocketOptError: it changed since.
    """
    clips = Dataset.open(path)
    if digest and clips.digest() != digest:
        raise PocketOptError(
            "the data set changed after it was planned with", where=str(clips.source), fix="run it again"
        )
    return clips
