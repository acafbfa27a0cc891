"""ONNX Runtime's official builds report to Microsoft unless told otherwise: nothing of ours lets them, or leaves their files.

Its uploader makes `.ses` in the temporary directory, and an id and a database in the user's cache, when it is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from exported_whisper import exported

import pocket_opt

PACKAGE = Path(pocket_opt.__file__).parent
RUNNERS = PACKAGE / "models"
PROGRAMS = {
    "the package": "import pocket_opt.onnx_graphs.checks",
    "a worker": "from pocket_opt.worker import call; call('pocket_opt.runtimes.onnxruntime:probe', {}, timeout_s=60)",
    "whisper's runner alone": (
        f"import sys; sys.path.insert(0, {str(RUNNERS / 'whisper')!r})\n"
        "from pathlib import Path\n"
        "from runner.opening import open_model\n"
        "open_model(Path(sys.argv[1]))"
    ),
    "the runner of any model alone": (
        f"import sys; sys.path.insert(0, {str(RUNNERS / 'optimum')!r})\nimport runner.graphs"
    ),
}


def traces(program: str, tmp_path: Path) -> set[str]:
    """What a program leaves in the home and the temporary directory of its user."""
    places = {name: tmp_path / name for name in ("home", "temporary", "ours")}
    for place in places.values():
        place.mkdir()
    # Nothing else of this environment: where a variable such as CI is set, nothing is reported anyway.
    own = {"HOME": "home", "TMPDIR": "temporary", "POCKET_OPT_HOME": "ours"}
    known = {"PATH": os.environ["PATH"]} | {name: str(places[place]) for name, place in own.items()}
    subprocess.run(
        [sys.executable, "-c", program, str(exported().root)],
        env={**known, "PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1"},
        check=True,
        capture_output=True,
        timeout=120,
    )
    found = [path for name in ("home", "temporary") for path in places[name].rglob("*") if path.is_file()]
    return {path.name for path in found}


@pytest.mark.parametrize("who", PROGRAMS)
def test_nothing_is_collected(who: str, tmp_path: Path) -> None:
    assert traces(PROGRAMS[who], tmp_path) == set()


def test_it_would_be_collected_otherwise(tmp_path: Path) -> None:
    assert ".ses" in traces("import onnxruntime", tmp_path)
