"""Every verb, on a finished run: what it prints, what it writes, and its exit code."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from real_command import Command
from test_terminal import forget

import pocket_opt
from pocket_opt import tracking
from pocket_opt.cli.gc import parse_size
from pocket_opt.cli.main import VERBS, main
from pocket_opt.config import groups
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.results import FailureRecord
from pocket_opt.store import Store
from pocket_opt.targets import target_names
from pocket_opt.tracking import Settings, Tracked


def output(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What a command prints; its exit code is checked."""
    capsys.readouterr()
    assert main(words) == code
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")


def test_help_names_every_verb_and_every_choice(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["-h"], ["help"]):
        text = output(capsys, *words)
        assert all(f"  {verb} " in text for verb in VERBS)
        assert all(f"{group}=" in text for group in groups.GROUPS)
        assert "whisper_large_v3_turbo" in text


@pytest.mark.parametrize("words", [["level=HIGH", "--help"], ["-m", "level=NONE,HIGH", "-h"]])
def test_help_may_stand_anywhere(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, *words) == output(capsys, "--help")
    assert output(capsys, "plan", "level=HIGH", "--help").startswith("usage: pocket-opt plan")


@pytest.mark.parametrize("words", [["--version"], ["level=HIGH", "--version"], ["validate", "--version"]])
def test_the_version_may_be_asked_anywhere(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, *words) == f"pocket_opt {pocket_opt.__version__}\n"


@pytest.mark.parametrize(
    ("typed", "offered", "not_offered"),
    [
        ("pl", {"plan"}, {"list", "level="}),
        ("", {*VERBS, "level=", "recipe="}, set()),
        ("le", {"level="}, {"plan"}),
        ("level=N", {"level=NONE"}, {"level=HIGH"}),
        ("plan level=", {"level=NONE", "level=HIGH"}, {"plan"}),
        ("plan -m level=NONE,HIGH dec", {"decoder=", "decoding="}, set()),
        ("explain export recipe=pock", {"recipe=pocket_whisper"}, {"explain"}),
        ("validate le", set(), {"level="}),
        ("level=NONE pl", set(), {"plan"}),
    ],
)
def test_tab_completion(
    typed: str,
    offered: set[str],
    not_offered: set[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COMP_LINE", f"pocket-opt {typed}")
    found = set(output(capsys, "-sc", "query=bash").split())
    assert offered <= found
    assert not not_offered & found


def test_what_a_shell_is_to_evaluate_for_completion(capsys: pytest.CaptureFixture[str]) -> None:
    assert "hydra_bash_completion" in output(capsys, "-sc", "install=bash")


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main([verb, "--help"])
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == 0
    assert f"usage: pocket-opt {verb}" in capsys.readouterr().out


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    everything = output(capsys, "list")
    assert "Transcribes a whole data set" in everything
    assert "OpenAI Whisper tiny" in everything
    levels = output(capsys, "list", "levels")
    assert "EXTREME" in levels
    assert "OpenAI Whisper tiny" not in levels
    assert "weight_only" in output(capsys, "list", "passes")


def test_plan_tells_what_is_cached_and_what_is_off(
    cached_command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    text = output(capsys, "plan", *cached_command.arguments())
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    for name in ("source", "export", "fuse", "quality"):
        assert " cached " in rows[name]
    assert " off " in rows["fp16"]
    assert "this level asks for no 16-bit storage" in rows["fp16"]
    assert "switched off by you" in rows["latency"]
    assert "└── source" in text
    medium = output(capsys, "plan", "-m", *cached_command.arguments("level=MEDIUM,HIGH"))
    assert medium.count(" to run ") >= 4
    assert medium.count("└── source") == 2
    assert not cached_command.output.exists()


def test_plan_does_not_promise_to_run_what_nothing_needs(
    cached_command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    forget(cached_command, "export")
    text = output(capsys, "plan", *cached_command.arguments())
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert " not needed " in rows["export"]
    assert " cached " in rows["fuse"]
    forget(cached_command, "quality")
    forget(cached_command, "fuse")
    text = output(capsys, "plan", *cached_command.arguments())
    assert text.count(" to run ") == 3


def test_text_of_users_is_no_markup(cached_command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    odd = "nodes.weights.params.exclude=[/proj_out]"
    assert "exclude=[/proj_out]" in output(capsys, "plan", "level=EXTREME", odd)
    words = cached_command.arguments("tracking=none", "recipe.summary='[/red]'")
    assert "recipe.summary=[/red]" in output(capsys, *words)
    moved = Path(shutil.copytree(cached_command.output, cached_command.output.parent / "[/red]"))
    assert "[/red]" in output(capsys, "validate", str(moved))


def test_plan_names_what_is_to_be_downloaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert "to download first: openai/whisper-tiny (main)" in output(capsys, "plan", "recipe=whisper_tiny")


def test_explain(cached_command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "explain", "fuse", *cached_command.arguments())
    assert "(in the store)" in text
    assert '"pass": "fuse"' in text
    assert "nothing differs from the last run" in text
    changed = output(capsys, "explain", "quality", *cached_command.arguments("decoding.batch_size=3"))
    assert "(not in the store)" in changed
    assert "params.batch_size: 8 → 3" in changed
    assert "have not run yet" in output(capsys, "explain", "fuse", *cached_command.arguments("level=MEDIUM"))
    added = cached_command.arguments("nodes.again={pass: fuse, after: fuse}")
    assert "the last run had no such node" in output(capsys, "explain", "again", *added)


def test_gc(cached_command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(cached_command.home / "store")
    assert "0 entries removed" in output(capsys, "gc")
    assert len(store.entries()) == 4
    assert "4 entries removed" in output(capsys, "gc", "--max-size", "0")
    assert store.entries() == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("0", 0), ("500MB", 500_000_000), ("1.5 gb", 1_500_000_000), ("2kb", 2000), ("7b", 7), ("1TB", 10**12)],
)
def test_sizes(text: str, wanted: int) -> None:
    assert parse_size(text) == wanted


@pytest.mark.parametrize("text", ["", "MB", "ten", "5XB", "-1GB", "inf", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UserError, match="is no size"):
        parse_size(text)


def test_a_bundle_keeps_its_files_when_the_store_is_emptied(
    cached_command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    output(capsys, *cached_command.arguments("tracking=none"))
    output(capsys, "gc", "--max-size", "0")
    assert "FAILED" not in output(capsys, "validate", str(cached_command.output))
    text = output(capsys, *cached_command.arguments("tracking=none"))
    assert "4 nodes run" in text


def test_transcribe(bundle: Path, speech: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = [str(speech / "clips" / f"{number}.wav") for number in range(2)]
    one = output(capsys, "transcribe", "--bundle", str(bundle), "--language", "en", clips[0])
    several = output(capsys, "transcribe", "--bundle", str(bundle), "--language", "en", *clips)
    assert f"0.wav: {one.rstrip()}" in several
    assert "1.wav: " in several
    lines = output(capsys, "transcribe", "--bundle", str(bundle), "--json", *clips).splitlines()
    tables = [json.loads(line) for line in lines]
    assert [table["file"] for table in tables] == clips
    assert {"text", "language"} <= set(tables[0])
    timed = output(capsys, "transcribe", "--bundle", str(bundle), "--timestamps", clips[0])
    assert timed.strip() == "" or "0.wav [" in timed


def test_validate_and_report(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "validate", str(bundle))
    assert "FAILED" not in text
    assert "SHA-256" in text
    report = output(capsys, "report", str(bundle), "--output", str(tmp_path / "report"))
    assert "BASIC" in report
    assert (tmp_path / "report" / "report.html").is_file()
    assert (tmp_path / "report" / "report.csv").read_text().count("\n") == 2


def test_report_replays_bundles_to_mlflow(
    cached_command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    output(capsys, *cached_command.arguments("tracking=none"))
    database = cached_command.output / "mlflow.db"
    assert not database.exists()
    assert main(["report", str(cached_command.output), "--log-to-mlflow"]) == 0
    assert "recorded in MLflow" in capsys.readouterr().out
    assert database.is_file()


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "doctor", *(name for name in target_names() if name != "et_qnn"))
    assert "onnxruntime" in text
    assert text.count("one operator ran") == len(target_names()) - 1


def test_doctor_says_how_to_get_a_toolchain(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "doctor", "et_qnn", code=1)
    assert "one operator did not run" in text
    assert "pocket-opt toolchain install et_qnn" in text


# the Python API, of which the command line is a shell


def test_the_api_plans_optimizes_and_loads(cached_command: Command, speech: Path) -> None:
    overrides = [*cached_command.arguments("tracking=none")[2:]]
    plan = pocket_opt.plan(str(cached_command.recipe), "cpu", "BASIC", overrides)
    assert plan.result == "fuse"
    made = pocket_opt.optimize(str(cached_command.recipe), "cpu", "BASIC", overrides)
    assert [made.path] == cached_command.bundles()
    model = pocket_opt.load(made.path)
    assert isinstance(model.transcribe(speech / "clips" / "0.wav", language="en").text, str)


def test_the_api_raises_what_went_wrong(command: Command, speech: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(speech / "model", tmp_path / "broken"))
    os.truncate(broken / "model.safetensors", 300_000)
    overrides = [*command.arguments("tracking=none", f"recipe.model.path={broken}")[2:]]
    with pytest.raises(pocket_opt.engine.NodeFailed, match="node 'source'"):  # type: ignore[attr-defined]
        pocket_opt.optimize(str(command.recipe), "cpu", "BASIC", overrides)
    with pytest.raises(UserError, match="did you mean 'HIGH'"):
        pocket_opt.plan(level="HIHG")
    with pytest.raises(UserError, match="bundle"):
        pocket_opt.load(tmp_path)


def test_the_api_warns_where_the_command_line_does(cached_command: Command) -> None:
    overrides = [*cached_command.arguments("tracking.uri=http://127.0.0.1:9")[2:]]
    with pytest.warns(UserWarning, match="not recorded in MLflow"):
        made = pocket_opt.optimize(str(cached_command.recipe), "cpu", "BASIC", overrides)
    assert made.path.is_dir()


def test_the_api_records_a_failure(
    command: Command, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Path(shutil.copytree(speech / "model", tmp_path / "broken"))
    os.truncate(broken / "model.safetensors", 300_000)
    failures: list[FailureRecord] = []

    def log_failure(failure: FailureRecord, settings: Settings, *, sweep: str) -> Tracked:
        failures.append(failure)
        return Tracked(warning="MLflow is away")

    monkeypatch.setattr(tracking, "log_failure", log_failure)
    overrides = [*command.arguments(f"recipe.model.path={broken}")[2:]]
    with pytest.raises(PocketOptError, match="node 'source'"), pytest.warns(UserWarning, match="is away"):
        pocket_opt.optimize(str(command.recipe), "cpu", "BASIC", overrides)
    assert [failure.node for failure in failures] == ["source"]


def test_the_package_has_only_what_it_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'optimise'"):
        pocket_opt.optimise  # noqa: B018
