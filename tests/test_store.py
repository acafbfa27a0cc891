"""Artifacts by key: publication, verification, what is left behind, locks, the bound, and disks that refuse."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from store_entries import KEY, fill_disk, overwrite, publish, write_artifact

from pocket_opt import store as store_module
from pocket_opt.disk import storage_error
from pocket_opt.errors import PocketOptError
from pocket_opt.identity import digest
from pocket_opt.scratch import HOST
from pocket_opt.store import Store


@pytest.fixture
def store(quick_path: Path) -> Store:
    return Store(quick_path / "store")


def leftovers(store: Store) -> list[str]:
    parts = store.root / "parts"
    return [path.name for path in parts.iterdir()] if parts.is_dir() else []


def quarantined(store: Store) -> list[str]:
    return [path.name for path in store.quarantine.iterdir()] if store.quarantine.is_dir() else []


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


# publication


def test_what_is_published_is_had_again(store: Store) -> None:
    assert not store.has(KEY)
    assert store.get(KEY) is None
    made = publish(store)
    found = store.get(KEY)
    assert found is not None
    assert store.has(KEY)
    assert found == made
    assert found.artifact.path("model").read_bytes() == b"weights"
    assert found.artifact.metadata == {"family": "test"}
    assert found.record == {"node": "test", "seconds": 0.1}
    assert set(found.files) == {"artifact.json", "model.bin", "sub/notes.txt"}
    assert found.size == sum(path.stat().st_size for path in store.path(KEY).rglob("*") if path.is_file()) - (
        (store.path(KEY) / "entry.json").stat().st_size
    )
    assert leftovers(store) == []


def test_published_files_are_read_only(store: Store) -> None:
    root = publish(store).artifact.root
    assert {path.stat().st_mode & 0o777 for path in root.rglob("*") if path.is_file()} == {0o444}


def test_an_entry_has_no_path_of_this_machine_inside(store: Store) -> None:
    root = publish(store).artifact.root
    assert all(
        str(store.root).encode() not in path.read_bytes() for path in root.rglob("*") if path.is_file()
    )


def test_until_the_rename_nobody_sees_anything(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def rename(source: Path, target: Path) -> None:
        seen.append((store.has(KEY), store.get(KEY), sorted(path.name for path in Path(source).iterdir())))
        original(source, target)

    original = os.rename
    monkeypatch.setattr(os, "rename", rename)
    publish(store)
    assert seen == [(False, None, ["artifact.json", "entry.json", "model.bin", "sub"])]


def test_what_is_not_published_leaves_nothing(store: Store) -> None:
    with store.building(KEY) as part:
        write_artifact(part)
        assert leftovers(store) == [part.name]
    assert leftovers(store) == []
    assert not store.has(KEY)


def test_an_error_while_building_leaves_nothing_and_passes_through(store: Store) -> None:
    with pytest.raises(ValueError, match="in the middle"), store.building(KEY) as part:
        write_artifact(part)
        raise ValueError("in the middle")
    assert leftovers(store) == []
    assert not store.has(KEY)


def test_the_first_one_wins(store: Store) -> None:
    with store.building(KEY) as slow:
        write_artifact(slow, b"second")
        publish(store, content=b"first")
        entry = store.publish(KEY, slow, {"node": "slow"})
    assert entry.artifact.path("model").read_bytes() == b"first"
    assert entry.record["node"] == "test"
    assert store.get(KEY, thorough=True) is not None
    assert leftovers(store) == []


def test_one_who_comes_second_to_a_damaged_entry_heals_it(store: Store) -> None:
    with store.building(KEY) as slow:
        write_artifact(slow)
        overwrite(publish(store).artifact.path("model"), b"damaged")
        entry = store.publish(KEY, slow, {"node": "slow"})
    assert entry.artifact.path("model").read_bytes() == b"weights"
    assert store.get(KEY, thorough=True) is not None
    assert len(quarantined(store)) == 1


def test_an_artifact_without_description_is_not_published(store: Store) -> None:
    with pytest.raises(PocketOptError, match="no artifact"), store.building(KEY) as part:
        (part / "model.bin").write_bytes(b"x")
        store.publish(KEY, part, {})
    assert not store.has(KEY)
    assert store.get(KEY) is None


# verification


@pytest.mark.parametrize(
    "damage", ["changed", "truncated", "removed", "record", "description", "emptied", "nonsense"]
)
def test_a_damaged_entry_goes_to_quarantine_and_is_rebuilt(store: Store, damage: str) -> None:
    root = publish(store).artifact.root
    target = {"record": "entry.json", "nonsense": "entry.json", "description": "artifact.json"}.get(
        damage, "model.bin"
    )
    content = {"changed": b"wieghts", "truncated": b"wei", "description": b"{", "emptied": b""}
    content |= {"record": b'{"key": "', "nonsense": b'{"key": 1, "record": [], "files": ["a"]}'}
    if damage == "removed":
        (root / target).unlink()
    else:
        overwrite(root / target, content[damage])
    assert store.get(KEY) is None
    assert not store.has(KEY)
    assert [name.split(".")[0] for name in quarantined(store)] == [KEY]
    publish(store)
    assert store.get(KEY) is not None


def test_an_entry_without_its_record_is_not_there(store: Store) -> None:
    root = publish(store).artifact.root
    (root / "entry.json").unlink()
    assert not store.has(KEY)
    assert store.get(KEY) is None
    publish(store)
    assert store.get(KEY) is not None


def test_an_entry_in_the_place_of_another_is_not_taken_for_it(store: Store) -> None:
    other = digest("test", "other")
    publish(store, other)
    store.path(KEY).parent.mkdir(parents=True, exist_ok=True)
    os.rename(store.path(other), store.path(KEY))
    assert store.get(KEY) is None


def _hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    original = store_module.file_digest

    def file_digest(path: Path) -> str:
        names.append(path.name)
        return original(path)

    monkeypatch.setattr(store_module, "file_digest", file_digest)
    return names


def test_later_reads_compare_stamps_and_hash_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store)
    names = _hashed(monkeypatch)
    assert store.get(KEY) is not None
    assert names == []
    assert store.get(KEY, thorough=True) is not None
    assert sorted(names) == ["artifact.json", "model.bin", "notes.txt"]


def test_the_first_read_on_another_machine_hashes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store)
    (store.root / "verified" / f"{KEY}.json").unlink()
    names = _hashed(monkeypatch)
    assert store.get(KEY) is not None
    assert len(names) == 3
    assert store.get(KEY) is not None
    assert len(names) == 3


def test_only_a_thorough_read_finds_what_kept_size_and_time(store: Store) -> None:
    path = publish(store).artifact.path("model")
    stat = path.stat()
    overwrite(path, b"wieghts")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert store.get(KEY) is not None
    assert store.get(KEY, thorough=True) is None
    assert len(quarantined(store)) == 1


def test_a_touched_but_whole_file_is_hashed_and_kept(store: Store) -> None:
    path = publish(store).artifact.path("model")
    os.utime(path)
    assert store.get(KEY) is not None
    assert quarantined(store) == []


def test_a_whole_entry_is_had_also_when_nothing_can_be_remembered(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store)
    (store.root / "verified" / f"{KEY}.json").unlink()

    def refuse(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(store_module, "write_atomically", refuse)
    assert store.get(KEY) is not None
    assert quarantined(store) == []


def test_a_store_that_can_only_be_read_serves(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store)

    def refuse(*arguments: object, **named: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "x")

    monkeypatch.setattr(os, "utime", refuse)
    assert store.get(KEY) is not None


def test_an_entry_that_another_process_moved_away_first_is_absent(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = publish(store).artifact.root
    overwrite(root / "model.bin", b"damaged")
    original = os.rename

    def rename(source: Path, target: Path) -> None:
        original(source, store.root / "elsewhere")
        original(source, target)

    monkeypatch.setattr(os, "rename", rename)
    assert store.get(KEY) is None


# what was left behind


def test_what_dead_processes_left_is_swept(store: Store) -> None:
    parts = store.root / "parts"
    dead, alive = dead_pid(), os.getpid()
    for name in (f"{KEY}.{HOST}.{dead}.aaaa", f"removed.{HOST}.{dead}.bbbb"):
        write_artifact_in(parts / name)
    kept = (f"{KEY}.{HOST}.{alive}.cccc", f"{KEY}.another-machine.{dead}.dddd", "something-else", "a.b.c.d")
    for name in kept:
        write_artifact_in(parts / name)
    with store.building(KEY):
        pass
    assert sorted(leftovers(store)) == sorted(kept)


def write_artifact_in(root: Path) -> None:
    root.mkdir(parents=True)
    write_artifact(root)
    (root / "model.bin").chmod(0o444)


# locks


def test_a_lock_keeps_another_process_out(store: Store) -> None:
    code = (
        "import sys, time; from pathlib import Path; from pocket_opt.store import Store\n"
        "with Store(Path(sys.argv[1])).lock('job'):\n"
        "    print('have it', flush=True); time.sleep(0.5)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(store.root)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"have it\n"
    start = time.perf_counter()
    with store.lock("other"):
        assert time.perf_counter() - start < 0.4
    with store.lock("job"):
        assert time.perf_counter() - start > 0.3
    child.wait()


def test_a_lock_of_a_killed_process_is_free(store: Store) -> None:
    code = (
        "import os, sys; from pathlib import Path; from pocket_opt.store import Store\n"
        "with Store(Path(sys.argv[1])).lock('job'): os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(store.root)], check=False)
    with store.lock("job"):
        pass


# the bound


def _fill(store: Store, count: int) -> list[str]:
    keys = [digest("test", number) for number in range(count)]
    for age, key in enumerate(keys):
        publish(store, key, b"x" * 1000)
        os.utime(store.path(key), (1000.0 + age, 1000.0 + age))
    return keys


def test_the_least_recently_used_go_first(store: Store) -> None:
    keys = _fill(store, 4)
    assert store.get(keys[0]) is not None
    size = store.entries()[0][1]
    assert [key for key, _, _ in store.entries()] == [keys[1], keys[2], keys[3], keys[0]]
    assert store.collect(2 * size) == (2, 2 * size)
    assert [store.has(key) for key in keys] == [True, False, False, True]
    assert sorted(path.stem for path in (store.root / "verified").iterdir()) == sorted([keys[0], keys[3]])
    assert leftovers(store) == []


def test_nothing_is_removed_below_the_bound(store: Store) -> None:
    keys = _fill(store, 2)
    assert store.collect(10**9) == (0, 0)
    assert all(store.has(key) for key in keys)


def test_zero_empties_the_store_and_its_quarantine(store: Store) -> None:
    keys = _fill(store, 3)
    overwrite(store.path(keys[0]) / "model.bin", b"damaged")
    assert store.get(keys[0]) is None
    assert store.collect(0)[0] == 2
    assert store.entries() == []
    assert not store.quarantine.exists()


def test_an_entry_without_a_readable_record_counts_nothing_and_goes_with_the_rest(store: Store) -> None:
    keys = _fill(store, 2)
    overwrite(store.path(keys[0]) / "entry.json", b"{")
    overwrite(store.path(keys[1]) / "entry.json", b'{"files": 3}')
    assert store.entries() == []
    store.collect(0)
    assert not any(store.path(key).exists() for key in keys)


def test_an_entry_that_vanishes_while_it_is_collected_is_no_matter(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = _fill(store, 1)
    rows = store.entries()
    store.collect(0)
    monkeypatch.setattr(store, "entries", lambda: rows)
    store.collect(0)
    assert not store.has(keys[0])


def test_an_empty_store_has_no_entries(store: Store) -> None:
    assert store.entries() == []
    assert store.collect(0) == (0, 0)


# disks that refuse


def test_a_full_disk_while_building_is_told_in_words(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    with pytest.raises(PocketOptError, match="the disk is full") as caught, store.building(KEY) as part:
        (part / "big.bin").write_bytes(b"x" * 1_000_000)
    assert "pocket-opt gc" in caught.value.fix
    assert caught.value.exit_code == 1
    assert leftovers(store) == []
    publish(store)


def test_a_full_disk_while_publishing_leaves_no_entry(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    with pytest.raises(PocketOptError, match="the disk is full"), store.building(KEY) as part:
        write_artifact(part)
        fill_disk(small_disk)
        store.publish(KEY, part, {"did": "x" * 10_000})
    assert not store.has(KEY)
    assert leftovers(store) == []


def test_a_damaged_entry_on_a_full_disk_is_told_in_words(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    overwrite(publish(store).artifact.path("model"), b"damaged")
    for number in range(10_000):
        try:
            (small_disk / f"inode{number}").touch()
        except OSError:
            break
    fill_disk(small_disk)
    try:
        assert store.get(KEY) is None
    except PocketOptError as error:
        assert error.what == "the disk is full"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "no permission to write"),
        (errno.EIO, "the disk refused (Input/output error)"),
    ],
)
@pytest.mark.parametrize("step", ["building", "publish", "lock", "get", "collect"])
def test_every_step_tells_a_refusal_in_words(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int, words: str, step: str
) -> None:
    entry = publish(store)
    if step == "get":
        overwrite(entry.artifact.path("model"), b"damaged")

    def refuse(*arguments: object, **named: object) -> None:
        raise OSError(number, os.strerror(number), "/the/place")

    with store.building(digest("test", "other")) as part:
        write_artifact(part)
        name = {"building": "mkdir", "lock": "mkdir"}.get(step)
        monkeypatch.setattr(*((Path, name) if name else (os, "rename")), refuse)
        with pytest.raises(PocketOptError) as caught:
            if step == "building":
                with store.building(KEY):
                    pass
            elif step == "publish":
                store.publish(digest("test", "other"), part, {})
            elif step == "lock":
                with store.lock("x"):
                    pass
            elif step == "get":
                store.get(KEY)
            else:
                store.collect(0)
        monkeypatch.undo()
    assert caught.value.what == words
    assert caught.value.where == "/the/place"


def test_an_error_without_a_place_names_the_store(tmp_path: Path) -> None:
    error = storage_error(OSError("odd"), tmp_path)
    assert error.what == "the disk refused (odd)"
    assert error.where == str(tmp_path)


def test_the_record_is_json_that_people_can_read(store: Store) -> None:
    table = json.loads((publish(store).artifact.root / "entry.json").read_text())
    assert table["key"] == KEY
    assert table["files"]["model.bin"]["size"] == 7
    assert len(table["files"]["model.bin"]["sha256"]) == 64
