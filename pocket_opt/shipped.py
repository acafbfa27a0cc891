"""Models and data sets that come with the package: `sample:NAME` stands for one of them."""

from __future__ import annotations

import os
from pathlib import Path

from pocket_opt.errors import unknown_name

FOLDER = Path(__file__).resolve().parent / "sample"
SCHEME = "sample:"


def is_shipped(text: str) -> bool:
    """Whether a path as the user wrote it stands for something shipped."""
    return text.startswith(SCHEME)


def locate(text: str, *, holding: str, where: str) -> Path:
    """The path that `text` stands for: below `FOLDER` for "sample:NAME", else on this machine ("~" expanded).

    Args:
        holding: pattern of the file that makes a shipped folder what is looked for, e.g. "config.json".
        where: the key that holds `text`, for errors.

    Raises:
        UserError: nothing of that name is shipped.
    """
    if not is_shipped(text):
        return Path(os.path.expanduser(text))  # noqa: PTH111  (Path.expanduser fails for a user who is not there)
    name = text.removeprefix(SCHEME)
    names = {file.parent.name for file in FOLDER.glob(f"*/{holding}")}
    if name not in names:
        raise unknown_name("shipped sample", name, names, where=where)
    return FOLDER / name
