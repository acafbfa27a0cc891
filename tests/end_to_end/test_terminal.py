"""What a person at a terminal sees: bars while a node runs, and a word when they interrupt it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time

from real_command import Command

from pocket_opt.store import Store


def forget(command: Command, node: str) -> None:
    """Take one node's entry out of the store, so that it runs again."""
    store = Store(command.home / "store")
    for key, _, _ in store.entries():
        entry = store.get(key)
        assert entry is not None
        if entry.record["node"] == node:
            store._remove(key)


def on_a_terminal(command: Command) -> tuple[int, str]:
    """Exit code and output of the run with a terminal of 150 columns as its standard output."""
    master, slave = pty.openpty()
    environment = {**command.environment(), "COLUMNS": "150", "TERM": "xterm-256color"}
    words = [sys.executable, "-m", "pocket_opt", *command.arguments("tracking=none")]
    process = subprocess.Popen(words, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    text = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        text += piece
    os.close(master)
    return process.wait(), text.decode(errors="replace")


def test_a_bar_moves_while_clips_are_evaluated(cached_command: Command) -> None:
    forget(cached_command, "quality")
    code, text = on_a_terminal(cached_command)
    assert code == 0, text
    assert "━" in text
    assert "clips" in text
    assert "cached" in text
    assert "Traceback" not in text


def test_an_interrupt_says_what_stays(command: Command) -> None:
    process = command.start("tracking=none")
    end = time.monotonic() + 60
    store = Store(command.home / "store")
    while time.monotonic() < end and not store.entries():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert command.bundles() == []
    again = command.run("tracking=none")
    assert again.returncode == 0
    assert "cached" in again.stdout
