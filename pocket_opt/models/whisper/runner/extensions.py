"""The operators of onnxruntime-extensions, for a graph that reads audio files by itself."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from .transcript import RequestError

PACKAGE = "onnxruntime-extensions"
VERSIONS = ((0, 14), (0, 15))
"""The first that is known to work, and the first that does not: 0.15 hands on 480,000 samples of a file, which are 10.9
seconds at 44.1 kHz, and drops the rest without a word."""
INSTALL = f'pip install "{PACKAGE}>=0.14,<0.15"'


def require_extensions() -> None:
    """RequestError where the package is missing or of a version that does not work; imports nothing."""
    try:
        found = version(PACKAGE)
    except PackageNotFoundError:
        raise RequestError(
            f"this model reads audio files inside its graph, and {PACKAGE}, which does it, is missing: {INSTALL}"
        ) from None
    first, beyond = VERSIONS
    if not first <= tuple(int(part) for part in found.split(".")[:2]) < beyond:
        raise RequestError(
            f"{PACKAGE} {found} is installed; 0.14 is needed, for from 0.15 on the ends of files are dropped: {INSTALL}"
        )


def extensions_library() -> str:
    """The file that a session registers; RequestError as above."""
    require_extensions()
    from onnxruntime_extensions import get_library_path

    return str(get_library_path())
