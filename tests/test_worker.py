"""Child processes: results, progress, errors as they were raised, crashes in words, and nobody left behind."""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pocket_opt import worker, worker_child
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.worker import WorkerError, call, call_all

TESTS = Path(__file__).resolve().parent


@pytest.fixture(autouse=True)
def _tasks_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))


def gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether the process ends (a zombie has ended) within some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def pid_in(path: Path, seconds: float = 20.0) -> int:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.02)
    raise AssertionError(f"{path} never appeared")


# what comes back


def test_a_value_and_the_progress_come_back() -> None:
    heard: list[tuple[int, int, str]] = []
    reply = call(
        "worker_tasks:double",
        {"number": 21},
        on_progress=lambda done, total, unit: heard.append((done, total, unit)),
    )
    assert reply.value == {"doubled": 42, "text": "ü", "none": None}
    assert heard == [(1, 2, "clips"), (2, 2, "clips")]
    assert 1_000_000 < reply.peak_bytes < 10**9


def test_peak_memory_is_that_of_the_child_however_large_the_parent() -> None:
    ballast = b"x" * 300_000_000
    small = call("worker_tasks:allocate", {"bytes": 1}).peak_bytes
    large = call("worker_tasks:allocate", {"bytes": 200_000_000}).peak_bytes
    assert small < 150_000_000 < len(ballast)
    assert 180_000_000 < large - small < 450_000_000


def test_elsewhere_than_on_linux_peak_memory_is_that_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    monkeypatch.setattr(sys, "platform", "darwin")
    assert kib <= worker_child.peak_bytes() < 2 * kib
    monkeypatch.setattr(sys, "platform", "freebsd")
    assert worker_child.peak_bytes() >= 1024 * kib


def test_the_child_has_the_environment_it_is_given_and_no_input() -> None:
    value = call("worker_tasks:surroundings", {}, env={"WORKER_TEST": "here"}).value
    assert value == {"python": sys.executable, "value": "here", "stdin": ""}


def test_another_interpreter_is_used(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    assert call("worker_tasks:surroundings", {}, python=str(python)).value["python"] == str(python)


def test_what_is_printed_does_not_disturb_the_messages() -> None:
    heard: list[str] = []
    reply = call(
        "worker_tasks:print_everywhere", {}, on_progress=lambda done, total, unit: heard.append(unit)
    )
    assert reply.value == "real"
    assert heard == ["print"]


@pytest.mark.parametrize("line", ["null", "5", "[]", '"progress"', "{", "no json"])
def test_what_an_interpreter_prints_when_it_starts_does_not_disturb(
    tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"print({line!r}, flush=True)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(TESTS)]))
    assert call("worker_tasks:double", {"number": 1}).value["doubled"] == 2


def test_much_output_does_not_block() -> None:
    assert len(call("worker_tasks:much", {}).value) == 1_000_000


def test_a_worker_may_call_a_worker() -> None:
    assert call("worker_tasks:nested", {"number": 2}).value["doubled"] == 4


def test_no_job_files_stay_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKET_OPT_HOME", str(tmp_path))
    call("worker_tasks:double", {"number": 1})
    with pytest.raises(WorkerError):
        call("worker_tasks:segfault", {})
    assert list((tmp_path / "scratch").iterdir()) == []


# errors


def test_errors_of_the_task_arrive_as_they_were_raised() -> None:
    with pytest.raises(UserError) as caught:
        call("worker_tasks:raise_user_error", {})
    error = caught.value
    assert (error.what, error.where, error.allowed, error.fix) == (
        "no such clip",
        "clip.wav",
        "wav",
        "convert it",
    )
    with pytest.raises(PocketOptError, match="the graph is invalid") as failure:
        call("worker_tasks:raise_failure", {})
    assert type(failure.value) is PocketOptError


def test_an_unforeseen_exception_shows_the_last_lines() -> None:
    with pytest.raises(WorkerError, match="ended with exit status 1 and no result") as caught:
        call("worker_tasks:raise_exception", {})
    lines = caught.value.tail.splitlines()
    assert lines[-1] == "ValueError: unforeseen"
    assert len(lines) == worker.TAIL_LINES
    assert "  | ValueError: unforeseen" in str(caught.value)
    assert "line 0" not in str(caught.value)


def test_the_last_lines_of_a_workers_worker_arrive_too() -> None:
    with pytest.raises(WorkerError, match="ended with exit status 1 and no result") as caught:
        call("worker_tasks:nested", {"task": "raise_exception"})
    assert caught.value.tail.splitlines()[-1] == "ValueError: unforeseen"


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("segfault", "it crashed with SIGSEGV"),
        ("be_killed", "it was killed, most likely out of memory"),
        ("vanish", "it ended with exit status 0 and no result"),
        ("return_what_is_no_json", "it ended with exit status 1 and no result"),
        ("no_such_task", "it ended with exit status 1 and no result"),
    ],
)
def test_an_end_without_a_result_is_told_in_words(task: str, message: str) -> None:
    with pytest.raises(WorkerError, match=message) as caught:
        call(f"worker_tasks:{task}", {})
    assert caught.value.exit_code == 1
    if task == "segfault":
        assert "about to touch memory that is not ours" in caught.value.tail
    if task == "be_killed":
        assert "memory" in caught.value.fix
    if task == "no_such_task":
        assert "no attribute 'no_such_task'" in caught.value.tail


def test_a_task_that_leaves_early_has_no_result() -> None:
    with pytest.raises(WorkerError, match="exit status 3"):
        call("worker_tasks:leave", {"status": 3})


def test_out_of_memory_in_python_is_told_in_words() -> None:
    with pytest.raises(PocketOptError, match="^out of memory") as caught:
        call("worker_tasks:raise_memory_error", {})
    assert "close other programs" in caught.value.fix


def test_an_interpreter_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="cannot be started") as caught:
        call("worker_tasks:double", {}, python=str(tmp_path / "python"))
    assert str(tmp_path / "python") in str(caught.value)


@pytest.mark.parametrize("kind", ["worker", "user"])
def test_errors_survive_being_sent_between_processes(kind: str) -> None:
    error: PocketOptError = UserError("what", where="here", allowed="this", fix="that")
    if kind == "worker":
        error = WorkerError("it crashed", tail="line", where="here", fix="that")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)


# nobody is left behind


def test_a_child_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(WorkerError, match="it ran longer than 1.5 s and was stopped") as caught:
        call("worker_tasks:hang", {"pid_file": str(tmp_path / "pid")}, timeout_s=1.5)
    assert time.monotonic() - start < 10
    assert caught.value.tail == "waiting"
    assert caught.value.fix == "raise timeout_s"
    assert gone(pid_in(tmp_path / "pid"))


@pytest.mark.parametrize("then", ["hang", "crash", "return"])
def test_what_a_child_started_ends_with_it(tmp_path: Path, then: str) -> None:
    payload = {"pid_file": str(tmp_path / "pid"), "then": then}
    if then == "return":
        call("worker_tasks:hang_with_child", payload)
    else:
        with pytest.raises(WorkerError):
            call("worker_tasks:hang_with_child", payload, timeout_s=3)
    assert gone(pid_in(tmp_path / "pid"))


def test_a_crash_is_seen_at_once_although_a_fork_holds_the_pipe(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(WorkerError, match="SIGSEGV"):
        call("worker_tasks:crash_leaving_a_fork", {"pid_file": str(tmp_path / "pid")}, timeout_s=30)
    assert time.monotonic() - start < 20
    assert gone(pid_in(tmp_path / "pid"))


def test_a_child_dies_with_its_killed_parent(tmp_path: Path) -> None:
    payload = json.dumps({"pid_file": str(tmp_path / "pid")})
    script = str(TESTS / "worker_tasks.py")
    parent = subprocess.Popen([sys.executable, script, "worker_tasks:hang", payload])
    child = pid_in(tmp_path / "pid")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert gone(child)


def test_an_interrupt_ends_the_child(tmp_path: Path) -> None:
    payload = json.dumps({"pid_file": str(tmp_path / "pid")})
    script = str(TESTS / "worker_tasks.py")
    parent = subprocess.Popen(
        [sys.executable, script, "worker_tasks:hang", payload],
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # ignored where tests run in the background
    )
    child = pid_in(tmp_path / "pid")
    parent.send_signal(signal.SIGINT)
    parent.wait()
    assert gone(child)


def test_an_error_in_the_callback_ends_the_child() -> None:
    def refuse(done: int, total: int, unit: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call("worker_tasks:double", {"number": 1}, on_progress=refuse)


# the child's side, in this process


@pytest.fixture(autouse=True)
def _not_bound_to_the_parent() -> Iterator[None]:
    """The child's side asks Linux to end it with its parent; this process takes that back."""
    yield
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(worker_child.PR_SET_PDEATHSIG, 0)


def _run_job(tmp_path: Path, task: str, parent: int = 0, **payload: object) -> int:
    """Run the child's side here; it leaves descriptor 1 leading to standard error, which is put right."""
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"task": task, "payload": payload, "parent": parent or os.getppid()}))
    saved = os.dup(1)
    try:
        return worker_child.main(str(job))
    finally:
        os.dup2(saved, 1)
        os.close(saved)


@pytest.mark.parametrize(
    ("task", "status", "last"),
    [
        ("double", 0, {"value": {"doubled": 4, "text": "ü", "none": None}}),
        ("raise_user_error", 2, {"error": {"exit_code": 2, "what": "no such clip"}}),
        ("raise_failure", 1, {"error": {"exit_code": 1, "where": "node 3"}}),
        ("raise_memory_error", 1, {"error": {"exit_code": 1, "what": "out of memory"}}),
    ],
)
def test_the_child_writes_one_message_a_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    task: str,
    status: int,
    last: dict[str, Any],
) -> None:
    monkeypatch.syspath_prepend(str(TESTS))
    assert _run_job(tmp_path, f"worker_tasks:{task}", number=2) == status
    found = json.loads(capfd.readouterr().out.splitlines()[-1])
    (key, value), *_ = last.items()
    assert value.items() <= found[key].items()
    assert ("peak_bytes" in found) == (status == 0)


def test_the_child_writes_an_unforeseen_error_to_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(TESTS))
    assert _run_job(tmp_path, "worker_tasks:raise_exception") == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "ValueError: unforeseen" in captured.err


def test_a_child_whose_parent_is_gone_stops_at_once(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        _run_job(tmp_path, "worker_tasks:double", parent=-1)


def test_elsewhere_than_on_linux_a_child_is_not_bound_to_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    worker_child._die_with_parent(-1)


def test_several_children_work_at_once_and_answer_in_order() -> None:
    seen: list[tuple[int, int, str]] = []
    replies = call_all(
        "worker_tasks:double",
        [{"number": number} for number in range(3)],
        on_progress=lambda *done: seen.append(done),
    )
    assert [reply.value["doubled"] for reply in replies] == [0, 2, 4]
    assert seen[-1] == (6, 6, "clips")
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


def test_when_one_child_fails_the_others_end_with_its_error() -> None:
    began = time.monotonic()
    with pytest.raises(PocketOptError, match="the graph is invalid"):
        call_all("worker_tasks:fail_or_work_on", [{"fails": fails} for fails in (False, True)])
    assert time.monotonic() - began < 30
