"""Two processes with the same command on one store: both succeed, shared nodes run once, one bundle."""

from __future__ import annotations

import re
from collections import Counter

from real_command import Command

from pocket_opt.bundle.validation import validate_bundle
from pocket_opt.store import Store

NODES = ("source", "export", "fuse", "quality")


def computed(output: str) -> Counter[str]:
    """Nodes that a command ran itself, by the lines it prints."""
    return Counter(re.findall(r"^  (\S+) +\d+\.\d s  ", output, flags=re.MULTILINE))


def cached(output: str) -> Counter[str]:
    """Nodes that it found in the store."""
    return Counter(re.findall(r"^  (\S+) +cached ", output, flags=re.MULTILINE))


def test_two_at_once_share_the_work(command: Command) -> None:
    both = [command.start(), command.start()]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert computed(outputs[0][0]) + computed(outputs[1][0]) == Counter(NODES)
    assert cached(outputs[0][0]) + cached(outputs[1][0]) == Counter(NODES)
    assert [err for _, err in outputs] == ["", ""]
    [bundle] = command.bundles()
    assert all(finding.ok for finding in validate_bundle(bundle))
    store = Store(command.home / "store")
    assert len(store.entries()) == len(NODES)
    assert not list((store.root / "parts").iterdir())
    _check_tracking(command)


def _check_tracking(command: Command) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{command.output}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, "tags.kind = 'variant'")
    assert [run.info.status for run in runs] == ["FINISHED"]


def test_two_levels_at_once_share_what_is_equal(command: Command) -> None:
    both = [command.start("tracking=none"), command.start("tracking=none", "level=MEDIUM")]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    ran = computed(outputs[0][0]) + computed(outputs[1][0])
    assert ran == Counter({"source": 1, "export": 1, "fuse": 1, "fp16": 1, "quality": 2})
    assert len(command.bundles()) == 2
