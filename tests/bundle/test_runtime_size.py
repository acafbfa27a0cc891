"""Sizes of runtimes: the libraries that running a model loads, as they are installed."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import onnxruntime
import pytest
from variant_fixtures import make

from pocket_opt.bundle import runtime_size as module
from pocket_opt.bundle import write_bundle
from pocket_opt.bundle.card import RUNNER_PACKAGES
from pocket_opt.bundle.runtime_size import NAME, RUNTIMES, runtime_size
from pocket_opt.report.rows import make_rows


def test_every_runtime_that_a_runner_knows_has_its_libraries() -> None:
    assert set(RUNTIMES) >= set(RUNNER_PACKAGES)
    for runtime, packages in RUNTIMES.items():
        for package in packages:
            try:
                version(package.name)
            except PackageNotFoundError:
                continue
            assert list(module._libraries(package)), f"{runtime}: {package.name}"


def test_it_is_the_size_of_the_installed_library() -> None:
    libraries = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime*.so*"))
    found = runtime_size({"runtime": "onnxruntime"})[NAME]
    assert found["value"] == pytest.approx(sum(one.stat().st_size for one in libraries) / 1e6, abs=1e-6)
    assert found["n"] == len(libraries)
    assert f"onnxruntime {onnxruntime.__version__}: {libraries[0].name}" in found["method"]


def test_it_is_what_a_session_loads() -> None:
    """Besides Python's own binding, no library of the package is mapped that is not counted."""
    code = "import onnxruntime, sys; onnxruntime.get_available_providers(); print(open('/proc/self/maps').read())"
    maps = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    names = {Path(line.split()[-1]).name for line in maps.splitlines() if "/onnxruntime/" in line}
    method = runtime_size({})[NAME]["method"]
    assert names
    assert all(name in method or "pybind" in name for name in names)


def test_what_is_not_installed_has_no_size(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime_size({"runtime": "unheard_of"}) == {}
    lost = module.Package("no-such-distribution", ("*",))
    monkeypatch.setitem(module.RUNTIMES, "qnn", (module.ONNXRUNTIME, lost))
    assert runtime_size({"runtime": "qnn"}) == {}


def test_it_stands_beside_the_size_of_the_model_and_not_in_it(tmp_path: Path) -> None:
    made = make(tmp_path / "store")
    bundle = write_bundle(made.variant, made.artifact, tmp_path / "out")
    size = bundle.manifest["metrics"]["size"]
    assert size[NAME] == runtime_size({})[NAME]
    assert size["total_mb"]["value"] == pytest.approx(made.artifact.model_mb)
    [row] = make_rows([bundle.manifest])
    assert row.values["runtime_mb"] == size[NAME]["value"]
    assert "libraries that run it" in (bundle.path / "README.md").read_text()
    assert json.loads((bundle.path / "manifest.json").read_text())["metrics"]["size"][NAME]["unit"] == "MB"
