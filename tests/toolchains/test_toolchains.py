"""Toolchains as data: every version pinned, tasks that stand alone, an identity that follows the pins."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pocket_opt import toolchains
from pocket_opt.errors import UserError
from pocket_opt.toolchains import load_toolchain, read_toolchain, toolchain_names


@pytest.mark.parametrize("name", toolchain_names())
def test_every_toolchain_is_pinned_and_says_what_it_is_for(name: str) -> None:
    toolchain = load_toolchain(name)
    assert toolchain.pins
    assert toolchain.summary
    assert all(version.replace(".", "").isalnum() for _, version in toolchain.pins)


@pytest.mark.parametrize("name", toolchain_names())
def test_tasks_import_nothing_of_this_package(name: str) -> None:
    for path in load_toolchain(name).folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "pocket_opt"], path


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'optimum'"):
        load_toolchain("optimun")


def test_a_requirement_without_a_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / toolchains.REQUIREMENTS).write_text("# for a test\ntorch>=2\n")
    with pytest.raises(ValueError, match="'torch>=2' pins no version"):
        read_toolchain(tmp_path)


def test_the_identity_follows_the_pins_and_not_the_comments(tmp_path: Path) -> None:
    texts = {
        "one": "# for\nalpha==1.0\nbeta==2\n",
        "same": "# other words\nbeta==2\n# a comment\nalpha==1.0\n",
        "other": "# for\nalpha==1.1\nbeta==2\n",
    }
    digests = {}
    for name, text in texts.items():
        folder = tmp_path / name / "tool"
        folder.mkdir(parents=True)
        (folder / toolchains.REQUIREMENTS).write_text(text)
        digests[name] = read_toolchain(folder).digest()
    assert digests["one"] == digests["same"] != digests["other"]
