"""What must hold for the whole package: quick planning, arrows between rooms, names, recipes as data, short files."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from pocket_opt.config import groups
from pocket_opt.config.reference import reference
from pocket_opt.passes import MEASUREMENTS, load_pass, pass_modules, summary
from pocket_opt.passes.base import Pass
from pocket_opt.targets import load_target, target_names

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
PACKAGE = ROOT / "pocket_opt"
RUNNER = PACKAGE / "models" / "whisper" / "runner"
"""Copied into bundles, where it is all there is."""
BACKENDS = {
    "executorch_backend": {"executorch", "torch"},
    "extensions": {"onnxruntime_extensions"},
    "onnxruntime_backend": {"onnxruntime"},
    "openvino_backend": {"openvino"},
    "method_backend": {"torch"},
    "qnn_backend": {"onnxruntime", "onnxruntime_qnn"},
    "torchscript_backend": {"torch"},
    "torchscript_listener": {"torch"},
    "transformers_model": {"torch", "transformers"},
}
"""Modules of the runner -> what each needs besides numpy, tokenizers and soundfile."""
HEAVY = (
    "numpy",
    "torch",
    "transformers",
    "onnxruntime",
    "mlflow",
    "onnx",
    "onnx_ir",
    "onnxruntime_qnn",
    "openvino",
    "nncf",
    "executorch",
    "torchao",
    "jiwer",
    "plotly",
)
OWN_PASSES = {path.stem for path in (PACKAGE / "passes").glob("*.py")} - {"__init__", "base"}


@cache
def modules() -> tuple[Path, ...]:
    return tuple(sorted(PACKAGE.rglob("*.py")))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, also inside functions; for `from a import b` both `a` and `a.b`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def users_of(library: str) -> set[str]:
    """Names of the package's files that import a library."""
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        if any(name.split(".")[0] == library for name in imported(path))
    }


# planning is quick


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["plan"],
        ["plan", "-m", "level=NONE,BASIC,MEDIUM,HIGH", "decoder=basic,kv_cache"],
        ["plan", "recipe=whisper_large_v3_turbo", "recipe.model.weights=random"],
        ["explain", "export"],
        ["list"],
        ["gc"],
        ["level=HIHG"],
    ],
    ids=lambda arguments: " ".join(arguments) or "import",
)
def test_heavy_libraries_are_not_loaded(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import json, sys, pocket_opt\n"
        "arguments = json.loads(sys.argv[1])\n"
        "if arguments:\n"
        "    from pocket_opt.cli.main import main\n"
        "    main(arguments)\n"
        "print('\\n' + json.dumps(sorted(sys.modules)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert "pocket_opt" in loaded
    assert not {name.split(".")[0] for name in loaded} & set(HEAVY)
    assert not list(tmp_path.iterdir())


# arrows between rooms

FOUNDATION = {"artifact", "digests", "disk", "errors", "home", "identity", "scratch", "shipped"}
FOUNDATION |= {"budget", "precision", "worker", "worker_child"}
MODELS = {"models", "runtimes", "data", "executorch_graphs", "onnx_graphs", "openvino_graphs", "qnn"}
MODELS.add("torchscript_graphs")
ALLOWED = {
    "errors": set(),
    "disk": {"errors"},
    "scratch": {"disk", "home"},
    "worker": {"errors", "scratch", "worker_child"},
    "worker_child": set(),
    "artifact": set(),
    "budget": {"errors"},
    "identity": set(),
    "precision": {"artifact", "config", "errors"},
    "digests": {"home", "identity"},
    "shipped": {"errors"},
    "graph": {"errors", "identity"},
    "store": FOUNDATION,
    "config": {"config", "errors", "passes"},
    "models": {*FOUNDATION, *MODELS, "config"},
    "runtimes": {*FOUNDATION, *MODELS, "passes", "toolchains"},
    "data": {*FOUNDATION, "data", "models"},
    "passes": {"search", "torch_rounding", *FOUNDATION, *MODELS, "passes", "toolchains"},
    "torch_rounding": {*FOUNDATION, *MODELS, "passes"},
    "search": {*FOUNDATION, *MODELS, "evaluation", "passes", "search"},
    "evaluation": {*FOUNDATION, *MODELS, "devices", "passes", "evaluation", "toolchains"},
    "devices": {"devices", "errors"},
    "toolchains": {*FOUNDATION, "toolchains"},
    "targets": {"config", "errors", "targets", "worker"},
    "engine": {*FOUNDATION, "config", "graph", "passes", "results", "store"},
    "report": {"bundle", "config", "home", "identity", "report", "results", "scratch"},
}
"""Room -> what it may import of this package; the rooms above (planner, cli, bundle ...) are free to look down."""
ABOVE = {"api", "cli", "sessions"}


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_what_lies_below(room: str) -> None:
    files = [path for path in modules() if path.relative_to(PACKAGE).with_suffix("").parts[0] == room]
    assert files
    for path in files:
        own = {name.split(".")[1] for name in imported(path) if name.startswith("pocket_opt.")}
        assert own <= ALLOWED[room], f"{path} imports {own - ALLOWED[room]}"


def test_passes_are_known_to_the_configuration_only_for_its_reference() -> None:
    importing = {
        path.name for path in (PACKAGE / "config").glob("*.py") if "pocket_opt.passes" in set(imported(path))
    }
    assert importing <= {"reference.py"}


def test_nothing_below_looks_up_to_the_command_line() -> None:
    for path in modules():
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        own = {name.split(".")[1] for name in imported(path) if name.startswith("pocket_opt.")}
        if room not in {*ABOVE, "__init__", "__main__"}:
            assert not own & ABOVE, f"{path} imports {own & ABOVE}"


def test_mlflow_is_imported_by_tracking_alone() -> None:
    """The model's code is a file that MLflow runs; nothing here imports it."""
    assert users_of("mlflow") == {"tracking.py", "tracking_model.py", "mlflow_model.py"}
    assert not [path for path in modules() if "pocket_opt.mlflow_model" in set(imported(path))]


def test_hydra_is_imported_by_the_configuration_and_the_command_line_alone() -> None:
    assert users_of("hydra") | users_of("omegaconf") == {
        "cli/optimize.py",
        "config/groups.py",
        "config/loading.py",
    }


@pytest.mark.parametrize("path", sorted(RUNNER.glob("*.py")), ids=lambda path: path.stem)
def test_the_standalone_runner_needs_little_and_nothing_of_ours(path: Path) -> None:
    roots = {name.split(".")[0] for name in imported(path)} - {"__future__"}
    own = {module.stem for module in RUNNER.glob("*.py")}
    needed = roots - sys.stdlib_module_names - own
    assert needed <= {"numpy", "tokenizers", "soundfile"} | BACKENDS.get(path.stem, set())


# passes, measurements, targets


def test_names_of_passes_are_names_of_files() -> None:
    own = {name: module for name, module in pass_modules().items() if module.startswith("pocket_opt.")}
    assert set(own) == OWN_PASSES | set(MEASUREMENTS)
    for name, module in own.items():
        assert module.rsplit(".", 1)[1] == name
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()


@pytest.mark.parametrize("name", sorted(OWN_PASSES | set(MEASUREMENTS)))
def test_every_pass_is_complete(name: str) -> None:
    step = load_pass(name)
    assert isinstance(step, Pass)
    assert type(step).version >= 1
    assert summary(name)
    assert step.kind == ("measure" if name in MEASUREMENTS else "build")
    folder = "evaluation" if name in MEASUREMENTS else "passes"
    assert (TESTS / folder / f"test_{name}.py").is_file(), f"tests/{folder}/test_{name}.py is missing"


@pytest.mark.parametrize("name", sorted(OWN_PASSES | set(MEASUREMENTS)))
def test_parameters_of_passes_are_json(name: str) -> None:
    from dataclasses import MISSING, fields

    for entry in fields(load_pass(name).Params):
        default = entry.default_factory() if entry.default_factory is not MISSING else entry.default
        if default is not MISSING:
            json.dumps(default)


def test_tools_of_passes_are_installed_distributions() -> None:
    from pocket_opt.planner import installed_version

    declared = (ROOT / "pyproject.toml").read_text()
    for name in OWN_PASSES | set(MEASUREMENTS):
        for tool in load_pass(name).tools:
            known = installed_version(tool) != "absent" or f'"{tool.replace("_", "-")}>' in declared
            assert known, f"{name} names {tool}"


def test_every_target_is_complete() -> None:
    for name in target_names():
        target = load_target(name)
        assert target.name == name
        assert target.verified in ("native", "simulator", "structural")
        assert isinstance(target.layouts, tuple)
        module, _, function = target.probe_task.partition(":")
        path = (ROOT / module.replace(".", "/")).with_suffix(".py")
        assert any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree(path).body)


# recipes are data, and code is not run from data


def test_no_recipe_names_code() -> None:
    for group in groups.GROUPS:
        for path in groups.choices(group).values():
            text = path.read_text()
            assert "_target_" not in text
            assert "!!python" not in text


def test_nothing_runs_code_from_data() -> None:
    forbidden = {"eval", "exec", "instantiate", "unsafe_load", "full_load"}
    for path in modules():
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            owner = getattr(getattr(node.func, "value", None), "id", "")
            named = {keyword.arg: keyword.value for keyword in node.keywords}
            assert not (isinstance(node.func, ast.Name) and name in forbidden), f"{path}:{node.lineno}"
            assert owner not in ("pickle", "dill", "joblib"), f"{path}:{node.lineno}"
            assert "trust_remote_code" not in named, f"{path}:{node.lineno}"
            assert "shell" not in named, f"{path}:{node.lineno}"
            if (owner, name) == ("torch", "load"):
                assert ast.unparse(named["weights_only"]) == "True", f"{path}:{node.lineno}"


# documents and style


def test_the_configuration_reference_is_that_of_the_schema() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == reference()


def test_files_and_functions_stay_short() -> None:
    for path in modules():
        lines = len(path.read_text().splitlines())
        assert lines <= 300, f"{path} has {lines} lines"
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno
                assert length < 60, f"{path}: {node.name} has {length} lines"


def test_test_files_have_names_of_their_own() -> None:
    """pytest imports them by name alone, and refuses two of one name."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py"))
    assert [name for name, count in names.items() if count > 1 and name != "conftest.py"] == []


def test_every_module_says_what_it_is_for() -> None:
    for path in modules():
        assert path.stat().st_size == 0 or ast.get_docstring(tree(path)), f"{path} has no docstring"
