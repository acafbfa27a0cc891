"""A graph against a store: what is skipped, run and recorded, what failures leave, and who else may be at it."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from engine_script import number_graph
from fake_passes import fake_add
from store_entries import overwrite

from pocket_opt import engine
from pocket_opt.artifact import Artifact, Component
from pocket_opt.engine import NodeFailed, Silent, model_bytes, run_graph
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.graph import Node, PassGraph
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import Outcome, execute
from pocket_opt.results import NodeRecord
from pocket_opt.store import Store
from pocket_opt.worker import WorkerError

SCRIPT = str(Path(__file__).with_name("engine_script.py"))
KILLER = str(Path(__file__).with_name("killed_at.py"))
ALL = Counter({"source": 1, "add": 2, "number": 2})


@pytest.fixture
def store(quick_path: Path, fake_passes: Path) -> Store:
    return Store(quick_path / "store")


@pytest.fixture(scope="module")
def made_once(quick_root: Path) -> Path:
    return quick_root / "engine" / "store"


@pytest.fixture
def finished(store: Store, fake_passes: Path, made_once: Path) -> Store:
    """A store in which the graph has run."""
    if not made_once.exists():
        run_graph(number_graph(), Store(made_once))
    shutil.copytree(made_once, store.root)
    runs(fake_passes)
    return store


def runs(log: Path) -> Counter[str]:
    """How often each pass ran since the last question."""
    names = log.read_text().split()
    log.write_text("")
    return Counter(names)


def statuses(records: list[NodeRecord]) -> dict[str, str]:
    return {record.name: record.status for record in records}


def remove(store: Store, *names: str) -> None:
    """Take entries away, as gc does."""
    for name in names:
        store._remove(number_graph().keys()[name])


def leftovers(store: Store) -> list[Path]:
    return list((store.root / "parts").iterdir())


class Listener(Silent):
    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    def started(self, node: Node) -> None:
        self.heard.append(("started", node.name))

    def progress(self, done: int, total: int, unit: str) -> None:
        self.heard.append(("progress", done, total, unit))

    def finished(self, record: NodeRecord) -> None:
        self.heard.append(("finished", record.name, record.status))


# run, skip, record


def test_a_graph_runs_and_every_node_is_recorded(store: Store, fake_passes: Path) -> None:
    graph = number_graph()
    run = run_graph(graph, store)
    assert runs(fake_passes) == ALL
    assert [record.name for record in run.records] == [node.name for node in graph]
    assert set(statuses(run.records).values()) == {"run"}
    assert json.loads(run.artifact("again").path("model").read_text()) == 4.0
    again = next(record for record in run.records if record.name == "again")
    assert again.pass_name == "fake_add"
    assert again.version == 2
    assert again.params == {"amount": 2.0}
    assert again.inputs == ("add",)
    assert again.key == graph.keys()["again"]
    assert again.did == {"before": 2.0}
    assert (again.bytes_before, again.bytes_after) == (3, 3)
    assert 0 < again.seconds < 30
    source = run.records[0]
    assert (source.bytes_before, source.did) == (0, {"threads": 2})


def test_the_entry_tells_how_it_was_made(finished: Store) -> None:
    graph = number_graph()
    record = run_graph(graph, finished).entries["add"].record
    assert record["node"] == "add"
    assert record["pass"] == "fake_add"
    assert record["material"]["inputs"] == {"model": graph.keys()["source"]}
    assert record["material"]["params"] == {"amount": 1.0}
    assert record["peak_bytes"] > 1_000_000


def test_the_second_time_nothing_runs(store: Store, fake_passes: Path) -> None:
    first = run_graph(number_graph(), store).records
    runs(fake_passes)
    second = run_graph(number_graph(), store).records
    assert runs(fake_passes) == Counter()
    assert set(statuses(second).values()) == {"cached"}
    assert [replace(record, status="run") for record in second] == first


def test_what_cannot_change_the_result_is_not_run_again(finished: Store, fake_passes: Path) -> None:
    run_graph(number_graph(sleep_s=0.001), finished)
    assert runs(fake_passes) == Counter()


def test_only_what_a_change_reaches_runs_again(finished: Store, fake_passes: Path) -> None:
    nodes = [
        replace(node, params={"amount": 5.0}) if node.name == "again" else node for node in number_graph()
    ]
    run = run_graph(PassGraph(nodes), finished)
    assert runs(fake_passes) == Counter({"add": 1, "number": 1})
    assert statuses(run.records) == {
        "source": "cached",
        "add": "cached",
        "again": "run",
        "number": "run",
        "baseline": "cached",
    }


def test_two_graphs_share_what_is_equal(finished: Store, fake_passes: Path) -> None:
    nodes = [node for node in number_graph() if node.name in ("source", "baseline")]
    run_graph(PassGraph(nodes), finished)
    assert runs(fake_passes) == Counter()


def test_an_observer_hears_of_everything(store: Store) -> None:
    first, second = Listener(), Listener()
    graph = PassGraph(list(number_graph())[:2])
    names = [node.name for node in graph]
    run_graph(graph, store, observer=first)
    assert first.heard[:2] == [("started", names[0]), ("finished", names[0], "run")]
    run_graph(number_graph(), store, observer=first)
    assert ("progress", 1, 2, "halves") in first.heard
    run_graph(graph, store, observer=second)
    assert second.heard == [("finished", name, "cached") for name in names]


def test_a_pass_may_take_several_inputs(finished: Store) -> None:
    nodes = [*number_graph(), Node("d", "fake_difference", 1, inputs={"model": "again", "other": "source"})]
    run = run_graph(PassGraph(nodes), finished)
    assert json.loads(run.artifact("d").path("model").read_text()) == 3.0


# what was removed from the store


def test_an_intermediate_that_nobody_needs_is_not_made_again(finished: Store, fake_passes: Path) -> None:
    graph = number_graph()
    before = run_graph(graph, finished).records
    remove(finished, "source", "add")
    run = run_graph(graph, finished)
    assert runs(fake_passes) == Counter()
    assert not finished.has(graph.keys()["add"])
    assert "add" not in run.entries
    assert run.records == [replace(record, status="cached") for record in before]


def test_an_intermediate_is_made_again_for_what_is_new(finished: Store, fake_passes: Path) -> None:
    graph = number_graph()
    remove(finished, "source", "add")
    nodes = [replace(node, params={"amount": 5.0}) if node.name == "again" else node for node in graph]
    run_graph(PassGraph(nodes), finished)
    assert runs(fake_passes) == Counter({"source": 1, "add": 2, "number": 1})


def test_after_gc_of_everything_all_is_made_again(finished: Store, fake_passes: Path) -> None:
    finished.collect(0)
    run_graph(number_graph(), finished)
    assert runs(fake_passes) == ALL


@pytest.mark.parametrize("name", ["source", "add", "again", "number"])
def test_a_damaged_entry_heals_by_itself(finished: Store, fake_passes: Path, name: str) -> None:
    graph = number_graph()
    run = run_graph(graph, finished)
    overwrite(
        next(path for path in run.artifact(name).root.glob("*.json") if path.name != "artifact.json"), b"?"
    )
    healed = run_graph(graph, finished)
    assert finished.quarantine.is_dir()
    wanted = {"source": {}, "add": {}, "again": {"add": 1}, "number": {"number": 1}}[name]
    assert runs(fake_passes) == Counter(wanted)
    assert json.loads(healed.artifact("again").path("model").read_text()) == 4.0
    if name in ("again", "number"):
        assert finished.get(graph.keys()[name], thorough=True) is not None


def test_an_input_that_is_removed_meanwhile_is_told_in_words(finished: Store) -> None:
    graph = number_graph()
    remove(finished, "source", "add")

    class Remover(Silent):
        def finished(self, record: NodeRecord) -> None:
            if record.name == "baseline":
                remove(finished, "again", "number")

    order = ["source", "add", "baseline", "again", "number"]
    ordered = PassGraph(sorted(graph, key=lambda node: order.index(node.name)))
    if [node.name for node in ordered].index("baseline") > [node.name for node in ordered].index("again"):
        pytest.skip("this order of the graph does not reach the case")
    with pytest.raises(NodeFailed, match="its input 'add' was removed from the store") as caught:
        run_graph(ordered, finished, observer=Remover())
    assert "run the same command again" in caught.value.fix


# failures


@pytest.mark.parametrize(
    ("fail", "message", "kind"),
    [
        ("refuse", "node 'again' .pass fake_add. failed: the number is odd", PocketOptError),
        ("user", "failed: the clip is damaged", UserError),
        ("late", "failed: the sum is wrong", PocketOptError),
        ("raise", "failed: it ended with exit status 1 and no result", WorkerError),
        ("crash", "failed: it crashed with SIGSEGV", WorkerError),
        ("half", "failed: it was killed, most likely out of memory", WorkerError),
        ("disk", "failed: the disk is full", PocketOptError),
        ("missing", "failed: it ended with exit status 1 and no result", WorkerError),
    ],
)
def test_a_failure_is_told_and_never_stored(
    finished: Store, fake_passes: Path, fail: str, message: str, kind: type[PocketOptError]
) -> None:
    graph = number_graph(fail=fail)
    remove(finished, "again", "number")
    with pytest.raises(NodeFailed, match=message) as caught:
        run_graph(graph, finished)
    assert type(caught.value.cause) is kind
    assert caught.value.exit_code == 1
    assert caught.value.node == "again"
    assert leftovers(finished) == []
    keys = graph.keys()
    assert {name for name, key in keys.items() if finished.has(key)} >= {"source", "add"}
    assert not any(finished.has(keys[name]) for name in ("again", "number"))
    runs(fake_passes)
    healed = run_graph(number_graph(), finished)
    assert runs(fake_passes)["add"] == 1
    assert statuses(healed.records)["again"] == "run"
    assert statuses(healed.records)["add"] == "cached"


def test_the_last_lines_of_a_crash_reach_the_message(finished: Store) -> None:
    remove(finished, "again")
    with pytest.raises(NodeFailed) as caught:
        run_graph(number_graph(fail="raise"), finished)
    assert "  | ValueError: an unforeseen value" in str(caught.value)
    assert "ValueError: an unforeseen value" in caught.value.tail
    with pytest.raises(NodeFailed) as plain:
        run_graph(number_graph(fail="refuse"), finished)
    assert str(plain.value).splitlines() == [
        "node 'again' (pass fake_add) failed: the number is odd",
        "  where:   number.json",
        "  allowed: even numbers",
        "  next:    add 1",
    ]


def test_a_node_that_takes_too_long_is_stopped(finished: Store) -> None:
    remove(finished, "again")
    with pytest.raises(NodeFailed, match="it ran longer than 1.5 s"):
        run_graph(number_graph(sleep_s=30.0), finished, timeout_s=1.5)
    assert leftovers(finished) == []


def test_a_failure_survives_being_sent_between_processes(finished: Store) -> None:
    remove(finished, "again")
    with pytest.raises(NodeFailed) as caught:
        run_graph(number_graph(fail="raise"), finished)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert (copy.node, copy.tail) == ("again", caught.value.tail)


def test_a_full_disk_is_told_and_leaves_nothing(small_disk: Path, fake_passes: Path) -> None:
    (small_disk / "ballast").write_bytes(b"x" * 450_000)
    store = Store(small_disk / "store")
    with pytest.raises(PocketOptError) as caught:
        for value in range(40):
            run_graph(PassGraph(list(number_graph(value=float(value)))[:1]), store)
            (store.root / f"ballast{value}").write_bytes(b"x" * 8_000)
    assert "the disk is full" in str(caught.value) or "No space left" in str(caught.value)


# several at once, and the end in the middle


def _start(store: Store, sleep_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, SCRIPT, str(store.root), str(sleep_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_run_every_node_once(store: Store, fake_passes: Path) -> None:
    both = [_start(store, 0.3), _start(store, 0.3)]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert runs(fake_passes) == ALL
    told = [dict(line.split() for line in output.splitlines()) for output, _ in outputs]
    for name in ("source", "add", "again", "number", "baseline"):
        assert sorted(table[name] for table in told) == ["cached", "run"]


def test_measurements_wait_for_one_another(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    original = store.lock

    def lock(name: str):  # type: ignore[no-untyped-def]
        names.append(name)
        return original(name)

    monkeypatch.setattr(store, "lock", lock)
    run_graph(number_graph(), store)
    assert names.count("measurement") == 2


def test_after_a_kill_only_what_was_unfinished_runs_again(store: Store, fake_passes: Path) -> None:
    process = _start(store, 1.0)
    end = time.monotonic() + 30
    while time.monotonic() < end and "add" not in fake_passes.read_text():
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert len(leftovers(store)) == 1
    before = runs(fake_passes)
    run = run_graph(number_graph(), store)
    assert statuses(run.records)["source"] == "cached"
    assert statuses(run.records)["add"] == "run"
    assert before["add"] == 1
    assert runs(fake_passes)["add"] == 2
    assert leftovers(store) == []


@pytest.mark.parametrize(
    ("step", "when", "number", "kept"),
    [
        ("pocket_opt.store:sync", "before", 2, 0),
        ("pocket_opt.store:_moved", "before", 1, 0),
        ("pocket_opt.store:_moved", "after", 1, 1),
        ("pocket_opt.store:Store._remember", "before", 1, 1),
        ("pocket_opt.store:_moved", "before", 3, 2),
        ("pocket_opt.store:Store.publish", "after", 3, 3),
    ],
)
def test_after_a_kill_at_a_step_of_publication(
    store: Store, fake_passes: Path, step: str, when: str, number: int, kept: int
) -> None:
    command = [sys.executable, KILLER, step, when, str(number), SCRIPT, str(store.root)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(store.entries()) == kept
    runs(fake_passes)
    records = run_graph(number_graph(), store).records
    assert runs(fake_passes).total() == ALL.total() - kept
    assert list(statuses(records).values()).count("cached") == kept
    assert leftovers(store) == []
    assert all(store.get(key, thorough=True) is not None for key in number_graph().keys().values())


def test_after_kills_at_random_moments_the_same_command_finishes(store: Store, fake_passes: Path) -> None:
    moments = random.Random(7)
    for _ in range(4):
        process = _start(store, 0.05)
        time.sleep(moments.uniform(0.1, 1.2))
        process.kill()
        process.communicate()
    done = run_graph(number_graph(), store)
    assert json.loads(done.artifact("number").path("result").read_text())["metrics"]["number"]["value"] == 4.0
    assert leftovers(store) == []
    assert all(store.get(key, thorough=True) is not None for key in number_graph().keys().values())


# the worker's side, in this process


def _payload(tmp_path: Path, **params: object) -> dict[str, object]:
    source, part = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    part.mkdir()
    (source / "number.json").write_text("1.0")
    Artifact(source, {"model": Component("json", ("number.json",))}).save()
    return {"pass": "fake_add", "params": params, "inputs": {"model": str(source)}, "workdir": str(part)}


def test_a_node_runs_in_its_directory(tmp_path: Path, fake_passes: Path) -> None:
    payload = _payload(tmp_path, amount=3)
    assert engine.run_node(payload, lambda *_: None) == {"before": 1.0}
    assert json.loads(Artifact.load(tmp_path / "out").path("model").read_text()) == 4.0


@pytest.mark.parametrize(
    ("params", "kind", "message"),
    [
        ({"amuont": 1}, UserError, "did you mean 'amount'"),
        ({"amount": "x"}, UserError, "where a number is expected"),
        ({"fail": "refuse"}, PocketOptError, "the number is odd"),
        ({"fail": "disk"}, PocketOptError, "the disk is full"),
        ({"fail": "raise"}, ValueError, "an unforeseen value"),
        ({"fail": "missing"}, FileNotFoundError, "No such file"),
    ],
)
def test_errors_of_a_node(
    tmp_path: Path, fake_passes: Path, params: dict[str, object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        engine.run_node(_payload(tmp_path, **params), lambda *_: None)


def test_a_library_that_fails_on_a_full_disk_without_saying_so(small_disk: Path, fake_passes: Path) -> None:
    payload = _payload(small_disk, fail="raise")
    (small_disk / "ballast").write_bytes(b"x" * 480_000)
    with pytest.raises(PocketOptError, match="the disk is full"):
        engine.run_node(payload, lambda *_: None)


class Liar(fake_add.FakeAdd):
    """Describes what it did not write."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def run(self, *arguments: object, **named: object) -> Outcome:
        return self.outcome


@pytest.mark.parametrize("lie", ["file", "root"])
def test_a_pass_that_describes_what_it_did_not_write_fails(
    tmp_path: Path, fake_passes: Path, lie: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.bin").touch()
    root = tmp_path if lie == "file" else other
    outcome = Outcome(Artifact(root, {"model": Component("bin", ("model.bin",))}), {})
    with pytest.raises(PocketOptError, match="describes an artifact that it did not write"):
        execute(Liar(outcome), {}, fake_add.Params(), tmp_path)
    assert not (tmp_path / "artifact.json").exists()


def test_model_bytes_leave_out_tokenizer_settings_and_results(tmp_path: Path) -> None:
    for name in ("model.bin", "tokenizer.json", "generation.json", "result.json"):
        (tmp_path / name).write_bytes(b"12345")
    parts = {
        "model": Component("bin", ("model.bin",)),
        "processor": Component("processor", ("tokenizer.json",)),
        "generation": Component("json", ("generation.json",)),
        "result": Component("json", ("result.json",)),
    }
    assert model_bytes(Artifact(tmp_path, parts)) == 5


def test_a_silent_observer_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Silent().progress(1, 2, "clips")
    assert capsys.readouterr() == ("", "")


def test_passes_of_other_distributions_are_found_by_their_entry_points(fake_passes: Path) -> None:
    assert load_pass("fake_add").version == 2
    with pytest.raises(UserError, match="did you mean 'fake_add'"):
        load_pass("fake_ad", where="nodes.x.pass")
    assert os.environ["FAKE_PASSES_LOG"] == str(fake_passes)
