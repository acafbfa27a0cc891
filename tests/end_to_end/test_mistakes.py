"""Every mistake: one clear error, the right exit code, no traceback, and nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from real_command import Command
from store_entries import fill_disk

from pocket_opt.cli.main import main
from pocket_opt.config import groups

Setup = Callable[[Path], None]
"""Changes a copy of the inputs (model, student, clips, tiny.yaml) before the command runs."""


def nothing(place: Path) -> None:
    """Leave the inputs as they are."""


def write(name: str, content: str | bytes) -> Setup:
    """Put a file in the place of another."""

    def setup(place: Path) -> None:
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return setup


def remove(*names: str) -> Setup:
    """Take files away."""

    def setup(place: Path) -> None:
        for name in names:
            (place / name).unlink()

    return setup


def truncate(name: str, size: int) -> Setup:
    """Keep the first bytes of a file."""
    return lambda place: (place / name).write_bytes((place / name).read_bytes()[:size])


def replace(name: str, old: str, new: str) -> Setup:
    """Change words in a text file."""

    def setup(place: Path) -> None:
        text = (place / name).read_text()
        assert old in text
        (place / name).write_text(text.replace(old, new))

    return setup


@dataclass(frozen=True)
class Mistake:
    """What the user wrote, and what the error says. `{p}` stands for the directory of the inputs.

    Attributes:
        words: arguments behind `recipe={p}/tiny.yaml output_dir={p}/outputs`, or the whole command if `bare`.
        says: parts of the error.
        code: exit code.
    """

    words: str
    says: tuple[str, ...]
    setup: Setup = field(default=nothing)
    code: int = 2
    bare: bool = False


MISTAKES = {
    # names
    "verb": Mistake("paln", ("no verb 'paln', did you mean 'plan'", "write plan"), bare=True),
    "unknown verb": Mistake("quantize", ("no verb 'quantize'", "transcribe"), bare=True),
    "choice as verb": Mistake("high", ("no verb 'high'", "write level=HIGH"), bare=True),
    "flag": Mistake("--verbose", ("'--verbose' is neither a verb nor an override", "see --help"), bare=True),
    "key": Mistake("levle=HIGH", ("no key 'levle', did you mean 'level'", "command line: levle=HIGH")),
    "nested key": Mistake("data.evalation.limit=4", ("did you mean 'data.evaluation'",)),
    "key of the model": Mistake("recipe.model.pth=x", ("did you mean 'recipe.model.path'",)),
    "level": Mistake("level=HIHG", ("no level 'HIHG', did you mean 'HIGH'", "BASIC, EXTREME, HIGH, MEDIUM, NONE")),
    "target": Mistake("target=cup", ("no target 'cup', did you mean 'cpu'",)),
    "recipe": Mistake("recipe=whisper_tyni", ("no recipe 'whisper_tyni', did you mean 'whisper_tiny'",), bare=True),
    "decoder": Mistake("decoder=kvcache", ("no decoder 'kvcache', did you mean 'kv_cache'",)),
    "decoding": Mistake("decoding=greddy", ("no decoding 'greddy', did you mean 'greedy'",)),
    "tracking": Mistake("tracking=mlfow", ("no tracking 'mlfow', did you mean 'mlflow'",)),
    "experiment": Mistake("experiment=levls", ("no experiment 'levls', did you mean 'levels'",)),
    "intent": Mistake("level.intents.weights=int3", ("no value 'int3', did you mean 'int8'", "fp16, fp32, int4, int8")),
    "task": Mistake("decoding.task=transalte", ("no value 'transalte', did you mean 'translate'",)),
    "pass": Mistake("nodes.x.pass=wieght_only", ("no pass 'wieght_only', did you mean 'weight_only'", "nodes.x.pass")),
    "parameter": Mistake("nodes.export.params.decodr=basic", ("no key 'decodr', did you mean 'decoder'", "nodes.export")),
    "parameter's value": Mistake("nodes.export.params.decoder=kvcache", ("no value 'kvcache'", "nodes.export")),
    "node": Mistake("nodes.fuze.params.x=1", ("no node 'fuze', did you mean 'fuse'", "nodes.fuze")),
    "removed node": Mistake("~nodes.qualty", ("no node 'qualty', did you mean 'quality'",)),
    "after": Mistake("nodes.x={pass: fuse, after: exprot}", ("no node 'exprot', did you mean 'export'", "nodes.x.after")),
    "edge": Mistake("nodes.fuse.inputs.modle=export", ("the pass 'fuse' takes the inputs model", "nodes.fuse.inputs")),
    "source of an edge": Mistake("nodes.fuse.inputs.model=exprot", ("did you mean 'export'", "nodes.fuse, input 'model'")),
    "circle": Mistake("nodes.export.inputs.model=fuse", ("the graph has a circle",)),
    "removed source": Mistake("~nodes.source", ("'source' is where the graph begins",)),
    "node of explain": Mistake("explain exprot", ("no node 'exprot', did you mean 'export'",), bare=True),
    "kind of list": Mistake("list recipez", ("no kind of thing to list 'recipez', did you mean 'recipe'",), bare=True),
    "target of doctor": Mistake("doctor cup", ("no target 'cup', did you mean 'cpu'",), bare=True),
    "sample": Mistake("recipe.model.path=sample:techer", ("no shipped sample 'techer', did you mean 'teacher'",)),
    # values
    "no value": Mistake("level", ("no verb 'level'",), bare=True),
    "text for a number": Mistake("seed=abc", ("'abc' (str) stands where a whole number is expected", "seed=abc")),
    "number out of range": Mistake("data.evaluation.limit=0", ("stands where a number from 1 on is expected",)),
    "text for a switch": Mistake("fail_fast=yes", ("'yes' (str) stands where true or false is expected",)),
    "value for a table": Mistake("recipe.model=x", ("stands where a table of keys is expected", "recipe.model=x")),
    "null": Mistake("output_dir=null", ("nothing stands where text is expected", "output_dir=null"), bare=True),
    "several values": Mistake("level=NONE,HIGH", ("gives several values", "add -m")),
    "unreadable value": Mistake("nodes.fuse.params={a", ("the value cannot be read", "nodes.fuse.params={a")),
    "one of a sweep": Mistake("-m level=NONE,HIHG", ("no level 'HIHG', did you mean 'HIGH'",)),
    "size of gc": Mistake("gc --max-size 3XB", ("'3XB' is no size", "500MB"), bare=True),
    "name of a recipe": Mistake("recipe.name=../../x", ("there is no recipe '../../x'", "command line: recipe.name")),
    "name of a level": Mistake("level.name=NONE", ("the name of a level is not set", "write level=NONE")),
    "empty path": Mistake("data.evaluation.path=", ("the text is empty", "command line: data.evaluation.path=", "variable of your shell")),
    "empty output": Mistake("output_dir= level=NONE", ("the text is empty", "command line: output_dir=")),
    "nobody's model": Mistake("recipe.model.path=~nosuchuser/m", ("there is no home directory '~nosuchuser'", "recipe.model.path")),
    "nobody's output": Mistake("output_dir=~nosuchuser/x", ("there is no home directory '~nosuchuser'", "output_dir")),
    "nobody's data to validate": Mistake("validate {p}/clips --data ~nosuchuser/x", ("there is no bundle",), bare=True),
    "one bundle twice": Mistake("-m timeout_s=5,6", ("the same bundle: timeout_s=5 and timeout_s=6", "leave one out")),
    "one level twice": Mistake("plan -m level=HIGH,HIGH", ("the same bundle: level=HIGH and level=HIGH",), bare=True),
    "configurations of a sweep": Mistake("--cfg job -m level=NONE,HIGH", ("Hydra shows one variant, not a sweep", "leave -m out")),
    "launcher": Mistake("-m hydra/launcher=joblip", ("Could not find 'hydra/launcher/joblip'",)),
    # compiled models
    "chip": Mistake("target=sd8elit", ("no target 'sd8elit', did you mean 'sd8elite'",)),
    "another chip's NPU": Mistake("target=snapdragon target.soc.htp_arch=75", ("soc_model 69 is the SM8750, whose NPU is v79, not v75", "target.soc")),
    "option of the NPU": Mistake("target=snapdragon nodes.compile.params.options={htp_archh: '79'}", ("htp_archh", "nodes.compile"), bare=False),
    "shapes of the NPU": Mistake("target=snapdragon decoder=basic", ("the NPU takes fixed shapes only", "decoder=basic")),
    "calibration of the NPU": Mistake("target=snapdragon level=HIGH nodes.qdq.params.calibration_clips=7", ("7 calibration clips are too few", "nodes.qdq")),
    "clips for the NPU": Mistake("target=snapdragon level=HIGH data.calibration.path={p}/clips", ("calibration clips are too few", "at least 8", "nodes.qdq")),
    "loop of ExecuTorch": Mistake("target=et_xnnpack decoder=all_in_one level=BASIC", ("torch.export refuses a decoding loop", "target=torchscript")),
    # recipes
    "recipe of nobody": Mistake("recipe=~nosuchuser/m.yaml", ("there is no home directory '~nosuchuser'",), bare=True),
    "recipe's defaults": Mistake("level=NONE", ("'whisper_tiny' is no list of recipes", "tiny.yaml: defaults"), write("tiny.yaml", "defaults: whisper_tiny\n")),
    "recipe's set": Mistake("level=NONE", ("is not a supported primitive type", "tiny.yaml"), write("tiny.yaml", "a: !!set {b}\n")),
    "recipe file": Mistake("recipe={p}/none.yaml", ("there is no recipe file", "pocket_whisper"), bare=True),
    "recipe's YAML": Mistake("level=NONE", ("mapping values are not allowed", "tiny.yaml, line 3"), write("tiny.yaml", "a: 1\nb: 2\nc: d: e\n")),
    "recipe's key": Mistake("level=NONE", ("no key 'lisence', did you mean 'license'", "tiny.yaml: recipe"), replace("tiny.yaml", "license", "lisence")),
    "recipe's level": Mistake("level=NONE", ("no value 'HIHG', did you mean 'HIGH'", "tiny.yaml"), replace("tiny.yaml", "HIGH", "HIHG")),
    "recipe names code": Mistake("level=NONE", ("no key '_target_'", "tiny.yaml: recipe.model"), replace("tiny.yaml", "model: {", "model: {_target_: os.system, ")),
    "recipe's missing key": Mistake("level=NONE", ("the key 'license' is missing",), replace("tiny.yaml", "license: MIT\n", "")),
    # models
    "model's directory": Mistake("recipe.model.path={p}/nothing", ("there is no directory", "recipe.model.path")),
    "student's directory": Mistake("level=EXTREME recipe.student.path={p}/nothing", ("there is no directory", "recipe.student.path")),
    "directory without config": Mistake("level=NONE", ("holds no config.json", "recipe.model.path"), remove("model/config.json")),
    "damaged config": Mistake("level=NONE", ("config.json is damaged", "model/config.json"), truncate("model/config.json", 100)),
    "another architecture": Mistake("level=NONE", ("the model is of the architecture 'wav2vec2'", "choose a whisper model"), write("model/config.json", '{"model_type": "wav2vec2"}')),
    "missing weights": Mistake("level=NONE", ("holds no weights", "inputs/model"), remove("model/model.safetensors")),
    "no model named": Mistake("recipe.model.path=null", ("no model is named", "weights=random")),
    "random without dimensions": Mistake("recipe.model.weights=random", ("random weights need the model's dimensions",)),
    "truncated weights": Mistake("level=NONE", ("node 'source' (pass load_source) failed", "model.safetensors"), truncate("model/model.safetensors", 300_000), 1),
    "missing tokenizer": Mistake("level=NONE", ("node 'source' (pass load_source) failed", "tokenizer"), remove("model/tokenizer.json", "model/vocab.json"), 1),
    "missing dimension": Mistake("level=NONE", ("node 'source' (pass load_source) failed", "d_model"), replace("model/config.json", '"d_model"', '"d_modle"'), 1),
    # data
    "data's directory": Mistake("data.evaluation.path={p}/nothing", ("does not exist", "data.evaluation.path")),
    "calibration's directory": Mistake("data.calibration.path={p}/nothing", ("does not exist", "data.calibration.path")),
    "no list of transcripts": Mistake("level=NONE", ("holds neither transcripts.jsonl nor transcripts.csv",), remove("clips/transcripts.jsonl")),
    "empty list": Mistake("level=NONE", ("transcripts.jsonl lists no clips",), write("clips/transcripts.jsonl", "\n")),
    "absent clip": Mistake("level=NONE", ("there is no audio file '2.wav'", "transcripts.jsonl, line 3"), remove("clips/2.wav")),
    "corrupt clip": Mistake("level=NONE", ("1.wav cannot be read", "transcripts.jsonl, line 2"), write("clips/1.wav", b"RIFF\x00garbage")),
    "empty clip": Mistake("level=NONE", ("1.wav cannot be read", "line 2"), write("clips/1.wav", b"")),
    "text as a clip": Mistake("level=NONE", ("0.wav cannot be read", "line 1"), write("clips/0.wav", "not audio at all")),
    "bad column": Mistake("data.evaluation.path={p}/bad.csv", ("there is no 'text'; is it 'txt'?", "bad.csv, line 1"), write("bad.csv", "file,txt\nclips/0.wav,words\n")),
    "too many fields": Mistake("data.evaluation.path={p}/bad.csv", ("another number of fields", "bad.csv, line 2"), write("bad.csv", "file,text\nclips/0.wav,a, b\n")),
    "no JSON": Mistake("level=NONE", ("this line is not JSON", "transcripts.jsonl, line 1"), write("clips/transcripts.jsonl", "0.wav hello\n")),
    "not UTF-8": Mistake("level=NONE", ("is not UTF-8", "line 1"), write("clips/transcripts.jsonl", b'{"file": "0.wav", "text": "\xff"}\n')),
    "a clip twice": Mistake("level=NONE", ("listed twice",), write("clips/transcripts.jsonl", '{"file": "0.wav", "text": "a"}\n' * 2)),
    # bundles
    "no bundle to report": Mistake("report {p}/clips", ("there is no bundle in",), bare=True),
    "no bundle to validate": Mistake("validate {p}/nothing", ("there is no bundle in",), bare=True),
    "no bundle to transcribe with": Mistake("transcribe --bundle {p}/clips {p}/clips/0.wav", ("bundle",), bare=True),
}  # fmt: skip


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The command in this process: exit code and everything it printed."""
    try:
        code = main(words)
    except SystemExit as error:  # argparse ends the process itself
        code = int(error.code or 0)
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def check(code: int, text: str, mistake: Mistake) -> None:
    """One error that says what is wrong, and the exit code."""
    assert "Traceback" not in text, text
    assert "internal error" not in text, text
    assert text.count("error: ") == 1, text
    assert code == mistake.code, text
    for part in mistake.says:
        assert part in text, text


def unfinished(output: Path) -> list[str]:
    """What lies in an output directory and is neither a report nor of tracking."""
    usual = ("report.html", "report.csv", ".sessions", "mlflow.db", "mlartifacts", ".bundles.lock")
    return [
        str(path.relative_to(output))
        for path in output.rglob("*")
        if path.is_file() and not set(path.relative_to(output).parts) & set(usual)
    ]


@pytest.fixture
def place(speech: Path, tmp_path: Path) -> Path:
    """A copy of the inputs that may be spoilt."""
    copy = Path(shutil.copytree(speech, tmp_path / "inputs"))
    (copy / "tiny.yaml").write_text((copy / "tiny.yaml").read_text().replace(str(speech), str(copy)))
    return copy


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_clear_error(
    mistake: Mistake,
    place: Path,
    own_home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    mistake.setup(place)
    output = place / "outputs"
    words = mistake.words.format(p=place) if "{p}" in mistake.words else mistake.words
    own = [] if mistake.bare else [f"recipe={place}/tiny.yaml", f"output_dir={output}", "tracking=none"]
    pieces = [words] if "={" in words or ": " in words else words.split()
    code, text = run([*pieces, *own] if mistake.bare else [*own, *pieces], capsys)
    check(code, text, mistake)
    if mistake.code == 2:
        assert not output.exists()
        assert not (own_home / "store").exists()
    assert unfinished(output) == []
    assert not list((own_home / "store" / "parts").glob("*"))


def test_there_are_at_least_forty_mistakes() -> None:
    assert len(MISTAKES) >= 40


# places that cannot be written


def test_recipes_of_a_directory_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(groups.USER_FOLDERS["recipe"], "/no/where")
    groups.choices.cache_clear()
    code, text = run(["plan"], capsys)
    check(code, text, Mistake("", ("there is no directory /no/where", "$POCKET_OPT_RECIPES")))


def test_a_full_disk_for_the_home(
    command: Command, small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POCKET_OPT_HOME", str(small_disk / "home"))
    code, text = run(command.arguments("tracking=none"), capsys)
    check(code, text, Mistake("", ("the disk is full", "set POCKET_OPT_HOME"), code=1))
    assert unfinished(command.output) == []
    assert not list((small_disk / "home" / "store" / "parts").glob("*"))


@pytest.mark.parametrize("full_from_the_start", [True, False])
def test_a_full_disk_for_the_outputs(
    cached_command: Command,
    small_disk: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    full_from_the_start: bool,
) -> None:
    if full_from_the_start:
        fill_disk(small_disk)
    words = cached_command.arguments("tracking=none", f"output_dir={small_disk}/outputs")
    code, text = run(words, capsys)
    check(code, text, Mistake("", ("the disk is full",), code=1))
    assert unfinished(small_disk / "outputs") == []


def test_a_disk_that_fills_up_where_nobody_expects_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(words: list[str]) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "/the/place")

    monkeypatch.setattr("pocket_opt.cli.gc.run", refuse)
    code, text = run(["gc"], capsys)
    check(code, text, Mistake("", ("the disk is full", "/the/place"), code=1))


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "No such file", "x.json"), KeyError("x")])
def test_what_nobody_foresaw_is_one_line_and_the_traceback_on_demand(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(words: list[str]) -> int:
        raise error

    monkeypatch.setattr("pocket_opt.cli.gc.run", fail)
    code, text = run(["gc"], capsys)
    assert code == 1
    assert (
        text == f"error: internal error ({type(error).__name__}: {error}); HYDRA_FULL_ERROR=1 shows where\n"
    )
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    code, text = run(["gc"], capsys)
    assert code == 1
    assert "Traceback" in text


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            OSError(errno.EIO, "Input/output error", "/a/clip.wav"),
            ("the disk refused (Input/output error)", "clip.wav"),
        ),
        (ValueError("odd"), ("internal error (ValueError: odd)",)),
    ],
)
def test_what_nobody_foresaw_in_a_variant_is_its_failure(
    command: Command,
    error: Exception,
    says: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("pocket_opt.sessions.run_variant", fail)
    code, text = run(command.arguments("tracking=none"), capsys)
    assert code == 1
    assert "Traceback" not in text
    assert "failed: tiny" in text
    for part in says:
        assert part in text


@pytest.mark.parametrize("which", ["home", "outputs"])
def test_a_file_in_the_place_of_a_directory(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    which: str,
) -> None:
    (tmp_path / "file").write_text("in the way")
    words = command.arguments("tracking=none")
    if which == "home":
        monkeypatch.setenv("POCKET_OPT_HOME", str(tmp_path / "file"))
    else:
        words += [f"output_dir={tmp_path}/file"]
    code, text = run(words, capsys)
    check(code, text, Mistake("", (str(tmp_path / "file"),), code=1))
    assert (tmp_path / "file").read_text() == "in the way"


# tracking


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("uri", ["http://127.0.0.1:{port}", "nonsense://x", "sqlite:////dev/null/mlflow.db"])
def test_a_tracking_server_that_is_gone_is_a_warning(
    cached_command: Command, capsys: pytest.CaptureFixture[str], uri: str
) -> None:
    where = uri.format(port=free_port())
    code, text = run(cached_command.arguments(f"tracking.uri={where}"), capsys)
    assert code == 0, text
    assert "Traceback" not in text
    assert "warning: not recorded in MLflow" in text
    assert "--log-to-mlflow" in text
    assert len(cached_command.bundles()) == 1


# bundles


@pytest.mark.parametrize("verb", ["validate", "report", "transcribe"])
@pytest.mark.parametrize("damage", ["manifest", "no manifest", "another file"])
def test_a_damaged_bundle(
    bundle: Path, speech: Path, capsys: pytest.CaptureFixture[str], verb: str, damage: str
) -> None:
    if damage == "manifest":
        (bundle / "manifest.json").write_text('{"schema_version": 1,')
    elif damage == "no manifest":
        (bundle / "manifest.json").unlink()
    else:
        (bundle / "manifest.json").write_text("[]")
    words = {"transcribe": ["transcribe", "--bundle", str(bundle), str(speech / "clips" / "0.wav")]}
    code, text = run(words.get(verb, [verb, str(bundle)]), capsys)
    assert code in (1, 2), text
    assert "Traceback" not in text
    assert "manifest" in text or "bundle" in text
    assert text.count("error: ") == 1 or "FAILED" in text


@pytest.mark.parametrize("damage", ["missing", "changed", "truncated"])
def test_a_damaged_model_file_of_a_bundle(
    bundle: Path, speech: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    path = bundle / "encoder.onnx"
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[:5000] if damage == "truncated" else content[:-10] + b"0123456789")
    code, text = run(["validate", str(bundle)], capsys)
    assert code == 1
    assert "FAILED" in text
    assert "encoder.onnx" in text
    assert "Traceback" not in text
    if damage != "changed":
        code, text = run(["transcribe", "--bundle", str(bundle), str(speech / "clips" / "0.wav")], capsys)
        assert code in (1, 2), text
        assert "Traceback" not in text
        assert text.count("error: ") == 1, text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["{p}/clips/none.wav"], "none.wav"),
        (["{p}/tiny.yaml"], "tiny.yaml"),
        (["--language", "xx", "{p}/clips/0.wav"], "xx"),
        (["--task", "translte", "{p}/clips/0.wav"], "translte"),
        (["--word-timestamps", "{p}/clips/0.wav"], "build it with word_timestamps=true"),
        ([], "files"),
    ],
)
def test_a_mistake_of_transcribe(
    bundle: Path, speech: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    given = [word.format(p=speech) for word in words]
    code, text = run(["transcribe", "--bundle", str(bundle), *given], capsys)
    assert code == 2, text
    assert says in text
    assert "Traceback" not in text
    assert text.count("error: ") == 1, text


# the command itself, in a process of its own


def command_line(*words: str, home: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pocket_opt", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=Command(cwd, home, cwd).environment(),
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["level=HIHG"], "did you mean 'HIGH'?"),
        (["paln"], "did you mean 'plan'?"),
        (["recipe.model.path=/no/where"], "there is no directory /no/where"),
    ],
)
def test_the_exit_code_and_the_error_of_the_real_command(
    own_home: Path, tmp_path: Path, words: list[str], says: str
) -> None:
    done = command_line(*words, home=own_home, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_hub_that_cannot_be_had(own_home: Path, tmp_path: Path) -> None:
    done = command_line("recipe=whisper_tiny", "tracking=none", home=own_home, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1
    assert "the model openai/whisper-tiny cannot be downloaded: unreachable" in done.stderr
    assert "recipe.model.path=DIR" in done.stderr
    assert "recipe.model.weights=random" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_one_failing_variant_leaves_the_others(command: Command, speech: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(speech / "model", tmp_path / "broken"))
    os.truncate(broken / "model.safetensors", 300_000)
    done = command.run("-m", f"recipe.model.path={broken},{speech / 'model'}", "tracking=none")
    assert done.returncode == 1
    assert "node 'source' (pass load_source) failed" in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert len(command.bundles()) == 1
    manifest = json.loads((command.bundles()[0] / "manifest.json").read_text())
    assert manifest["level"] == "BASIC"
    assert unfinished(command.output / "tiny" / "cpu" / "none") == []


def test_a_sweep_may_stop_at_the_first_failure(
    command: Command, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Path(shutil.copytree(speech / "model", tmp_path / "broken"))
    os.truncate(broken / "model.safetensors", 300_000)
    words = ["-m", f"recipe.model.path={broken},{speech / 'model'}", "tracking=none", "fail_fast=true"]
    code, text = run(command.arguments(*words), capsys)
    assert code == 1
    assert text.count("error: ") == 1
    assert command.bundles() == []


def test_an_end_of_the_reader_is_no_error(own_home: Path, tmp_path: Path) -> None:
    words = f"{sys.executable} -m pocket_opt plan | head -1"
    environment = Command(tmp_path, own_home, tmp_path).environment()
    done = subprocess.run(["sh", "-c", words], capture_output=True, text=True, env=environment, check=False)
    assert "Traceback" not in done.stderr
    assert done.stderr == ""
