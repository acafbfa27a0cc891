"""Profiles of both runtimes: complete, in the same groups, and nothing left behind."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exported_models import exported_from

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.evaluation.forced import forced_clip
from pocket_opt.evaluation.grouping import MODULES, PHASES
from pocket_opt.evaluation.onnx_profile import profile_onnx
from pocket_opt.evaluation.profile import PASS, ProfileParams
from pocket_opt.evaluation.result import FILE, read_result
from pocket_opt.evaluation.timing import Plan
from pocket_opt.passes.base import execute

SETTINGS = ProfileParams(new_tokens=8, repeats=2, threads=1)


@pytest.fixture(scope="module", params=["source", "exported", "converted"])
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    model: Artifact = request.getfixturevalue(request.param)
    workdir = tmp_path_factory.mktemp("profile")
    found = read_result(execute(PASS, {"model": model}, SETTINGS, workdir).artifact)
    assert {path.name for path in workdir.iterdir()} == {FILE, "artifact.json"}
    return found


def shares(table: dict[str, Any], prefix: str) -> dict[str, float]:
    found = table["metrics"].items()
    return {name.removeprefix(prefix): metric["value"] for name, metric in found if name.startswith(prefix)}


def test_phases_and_modules_each_make_up_the_whole(table: dict[str, Any]) -> None:
    phases, modules = shares(table, "phase_"), shares(table, "share_")
    assert set(phases) == set(PHASES)
    assert set(modules) <= set(MODULES)
    assert sum(phases.values()) == pytest.approx(100)
    assert sum(modules.values()) == pytest.approx(100)


def test_every_module_of_the_network_is_found_and_little_is_unknown(table: dict[str, Any]) -> None:
    modules = shares(table, "share_")
    assert set(MODULES) - {"other", "residual"} <= set(modules)
    overhead_of_python = 40 if table["details"]["nodes_are"] == "modules" else 0
    assert modules.get("other", 0) < 10 + overhead_of_python


def test_the_tables_hold_operators_and_the_ten_slowest_nodes(table: dict[str, Any]) -> None:
    details = table["details"]
    slowest = details["slowest_nodes"]
    assert len(slowest) == 10
    assert [row["ms"] for row in slowest] == sorted((row["ms"] for row in slowest), reverse=True)
    assert all(row["phase"] in PHASES and row["module"] in MODULES for row in slowest)
    assert {"MatMul", "aten::addmm"} & set(details["by_operator_type_ms"])
    assert details["by_phase_and_module_ms"]["mel"].keys() == {"mel"}


@pytest.mark.parametrize("decoder", ["kv_cache", "basic"])
def test_the_head_runs_once_for_each_token(decoder: str, source: Artifact, tmp_path: Path) -> None:
    model = exported_from(source, tmp_path / "model", decoder=decoder)
    clip = forced_clip(model.metadata["dims"], 8)
    calls, passes = profile_onnx(model, clip, Plan(1, 2, 2, 60), 1, tmp_path)
    heads = Counter(time.phase for time in calls if time.module == "head")
    assert (passes, heads) == (2, {"prefill": 2 * 1, "step": 2 * 7})


def test_an_unknown_runtime_is_refused_before_anything_runs(exported: Artifact, tmp_path: Path) -> None:
    model = replace(exported, metadata={**exported.metadata, "runtime": "abacus"})
    with pytest.raises(PocketOptError, match="no profiler for the runtime 'abacus'"):
        execute(PASS, {"model": model}, SETTINGS, tmp_path)
