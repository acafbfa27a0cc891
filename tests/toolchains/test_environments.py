"""Environments of toolchains: whole or absent, apart from this one, and refused with the command that makes them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from toolchains.toolchain_fixtures import make_toolchain

from pocket_opt import api, toolchains, variants
from pocket_opt.cli import toolchain as verb
from pocket_opt.cli.main import main
from pocket_opt.errors import UserError
from pocket_opt.toolchains import Toolchain
from pocket_opt.toolchains.environments import RECORD, call, find, install, place_of, require
from pocket_opt.worker import WorkerError


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toolchain:
    return make_toolchain(tmp_path, monkeypatch)


def silence(line: str) -> None:
    pass


def test_a_toolchain_is_installed_used_and_removed(
    tiny: Toolchain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verb, "load_toolchain", lambda name: tiny)
    monkeypatch.setattr(verb, "toolchain_names", lambda: ["tiny"])
    with pytest.raises(UserError, match="the toolchain 'tiny' is not installed: A tool for tests") as caught:
        require(tiny)
    assert "pocket-opt toolchain install tiny" in caught.value.fix

    half_made = place_of(tiny) / "bin"
    half_made.mkdir(parents=True)
    (half_made / "python").write_text("killed while it was made")
    assert find(tiny) is None

    assert main(["toolchain", "list"]) == 0
    assert "not installed: pocket-opt toolchain install tiny" in capsys.readouterr().out
    assert main(["toolchain", "install", "tiny"]) == 0
    assert "tiny is installed: tiny-tool 1.0" in capsys.readouterr().out
    assert main(["toolchain", "list"]) == 0
    assert "installed," in capsys.readouterr().out
    environment = require(tiny)
    assert environment.versions == {"tiny-tool": "1.0"}

    seen = call(tiny, "tiny_tasks:look_around", {"add": 2}).value
    assert seen["number"] == 42
    assert Path(seen["prefix"]) == environment.root
    assert seen["importable"] == []
    assert (seen["offline"], seen["no_index"]) == ("1", "1")
    with pytest.raises(UserError, match="no such architecture"):
        call(tiny, "tiny_tasks:refuse", {})

    again: list[str] = []
    assert install(tiny, again.append) == environment
    assert again == []
    assert main(["toolchain", "remove", "tiny"]) == 0
    assert "1 environments of tiny removed" in capsys.readouterr().out
    assert find(tiny) is None


def test_an_interpreter_that_went_away_is_no_environment(tiny: Toolchain) -> None:
    root = place_of(tiny)
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "python").symlink_to(root / "gone")
    (root / RECORD).write_text(f'{{"digest": "{tiny.digest()}", "versions": {{}}}}')
    assert find(tiny) is None


def test_what_cannot_be_had_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanting = make_toolchain(tmp_path, monkeypatch, "tiny-tool==2.0")
    with pytest.raises(WorkerError, match="'tiny' cannot be installed") as caught:
        install(wanting, silence)
    assert "tiny-tool==2.0" in caught.value.tail
    assert not place_of(wanting).exists()


SLEEPING_PIP = """\
import os, subprocess, sys
from pathlib import Path

helper = subprocess.Popen(["sleep", "600"])
Path(os.environ["PIDS"]).write_text(f"{os.getpid()} {helper.pid} ")
helper.wait()
"""
INSTALL = """\
import sys
from pathlib import Path
from pocket_opt.toolchains import read_toolchain
from pocket_opt.toolchains.environments import install

install(read_toolchain(Path(sys.argv[1])), print)
"""


def is_running(pid: str) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def waited(condition: Callable[[], object]) -> bool:
    """Whether `condition` comes true within a minute."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_an_installation_that_is_stopped_stops_pip_and_leaves_nothing(
    tmp_path: Path, tiny: Toolchain
) -> None:
    pip, pids = tmp_path / "fake" / "pip", tmp_path / "pids"
    pip.mkdir(parents=True)
    (pip / "__init__.py").touch()
    (pip / "__main__.py").write_text(SLEEPING_PIP)
    paths = os.pathsep.join([str(pip.parent), str(Path(toolchains.__file__).parents[2])])
    environment = {**os.environ, "PIDS": str(pids), "PYTHONPATH": paths}
    command = [sys.executable, "-c", INSTALL, str(tiny.folder)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as child:
        assert waited(lambda: pids.exists() and pids.read_text().endswith(" "))
        assert all(map(is_running, pids.read_text().split()))
        child.terminate()
        assert child.wait(60) == 143
    assert waited(lambda: not any(map(is_running, pids.read_text().split())))
    assert not place_of(tiny).exists()


def test_a_plan_installs_what_it_needs_where_it_may(tiny: Toolchain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "load_toolchain", lambda name: tiny)
    words = ["nodes.export.pass=optimum_export"]
    with pytest.raises(UserError, match=r"toolchains\.install=true"):
        variants.provide_toolchains(api.plan(level="BASIC", overrides=words))
    heard: list[str] = []
    variants.provide_toolchains(
        api.plan(level="BASIC", overrides=[*words, "toolchains.install=true"]), heard.append
    )
    assert require(tiny).versions == {"tiny-tool": "1.0"}
    assert any("tiny-tool" in line for line in heard)
    variants.provide_toolchains(api.plan(level="BASIC"))


# the verb


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["instal", "optimum"], "there is no action 'instal', did you mean 'install'?"),
        (["install", "optimun"], "there is no toolchain 'optimun', did you mean 'optimum'?"),
        (["install"], "toolchain install takes one name"),
    ],
)
def test_mistakes_of_the_verb(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["toolchain", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_without_an_action_the_verb_tells_how() -> None:
    assert main(["toolchain"]) == 0
    assert toolchains.toolchain_names()
