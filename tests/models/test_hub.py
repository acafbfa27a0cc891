"""Models of the hub: remembered once downloaded, and failures told apart, each with both ways on."""

from __future__ import annotations

import errno
import json
import re
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.home import home
from pocket_opt.models import hub


class ProxyError(OSError):
    """Named as those of httpx and requests."""


class RepositoryNotFoundError(OSError):
    """Named as that of huggingface_hub."""


class LocalEntryNotFoundError(OSError):
    """What huggingface_hub raises around a failed connection."""


def caused(error: Exception, *causes: Exception) -> Exception:
    """`error` with a chain of causes, as libraries wrap them."""
    current = error
    for cause in causes:
        current.__cause__ = cause
        current = cause
    return error


def fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    class Api:
        def model_info(self, *arguments: Any, **named: Any) -> None:
            raise error

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)


WRAPPED = LocalEntryNotFoundError("cannot find the requested files, please check your connection")
CERTIFICATE = ssl.SSLCertVerificationError("certificate verify failed: self-signed certificate in chain")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("Name or service not known"), "unreachable"),
        (TimeoutError("timed out"), "unreachable"),
        (caused(WRAPPED, ConnectionError("Connection refused")), "unreachable"),
        (OSError("Failed to resolve 'huggingface.co' (error 407f1)"), "unreachable"),
        (ProxyError("Unable to connect"), "proxy failure"),
        (caused(OSError("x"), ProxyError("Tunnel connection failed")), "proxy failure"),
        (OSError("Tunnel connection failed: 407 Proxy Authentication Required"), "proxy failure"),
        (CERTIFICATE, "certificate failure"),
        (caused(OSError("x"), OSError("y"), CERTIFICATE), "certificate failure"),
        (OSError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"), "certificate failure"),
        (
            RepositoryNotFoundError("401 Client Error. (Request ID: Root=1-407;407)"),
            "no such model or revision",
        ),
    ],
)
def test_the_ways_in_which_the_hub_cannot_be_had_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    fail_with(monkeypatch, error)
    with pytest.raises(PocketOptError) as caught:
        hub.fetch("openai/whisper-tiny", "main")
    assert "the model openai/whisper-tiny cannot be downloaded" in caught.value.what
    assert reason in caught.value.what
    assert "recipe.model.path=DIR" in caught.value.fix
    assert "recipe.model.weights=random" in caught.value.fix
    assert caught.value.exit_code == 1
    assert hub.cached("openai/whisper-tiny", "main") is None


def test_real_errors_of_the_hub_library_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx2 as httpx
    from huggingface_hub import errors

    response = httpx.Response(404, request=httpx.Request("GET", "https://huggingface.co/api/models/x"))
    cases = [
        (errors.RepositoryNotFoundError("404 Client Error", response=response), "no such model"),
        (errors.RevisionNotFoundError("404 Client Error", response=response), "no such model"),
        (errors.GatedRepoError("403 Client Error", response=response), "no such model"),
        (httpx.ProxyError("407 Proxy Authentication Required"), "proxy failure"),
        (httpx.ConnectError("[Errno -2] Name or service not known"), "unreachable"),
        (httpx.ConnectTimeout("timed out"), "unreachable"),
        (
            errors.HfHubHTTPError("429 Client Error: Too Many Requests\n\nslow down", response=response),
            "the hub answered with an error: 429 Client Error: Too Many Requests$",
        ),
        (RuntimeError("Data processing error: CAS service error"), "error: Data processing error"),
        (errors.HFValidationError("Repo id must use alphanumeric chars"), "this is no hub id"),
        (
            errors.OfflineModeIsEnabled("Cannot reach https://huggingface.co: offline mode is enabled"),
            "HF_HUB_OFFLINE",
        ),
    ]
    for error, reason in cases:
        fail_with(monkeypatch, error)
        with pytest.raises(PocketOptError) as caught:
            hub.fetch("openai/whisper-tiny", "main")
        assert re.search(reason, caught.value.what)


def test_a_full_disk_is_not_taken_for_an_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, OSError(errno.ENOSPC, "No space left on device", "/cache/blob"))
    with pytest.raises(PocketOptError, match="the disk is full") as caught:
        hub.fetch("openai/whisper-tiny", "main")
    assert caught.value.where == "/cache/blob"


SMALL = {"config.json": "{}", "tokenizer.json": "{}"}
SHARDS = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}


class FakeHub:
    """A hub with one repository, `files` by name and content, which writes what is asked for into `snapshot`."""

    def __init__(self, snapshot: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.snapshot, self.files = snapshot, files
        self.asked: list[str] = []
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: self)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.download)

    def model_info(self, hub_id: str, revision: str, timeout: float) -> Any:
        self.asked.append(revision)
        siblings = [SimpleNamespace(rfilename=name) for name in self.files]
        return SimpleNamespace(sha=f"commit-of-{revision}", siblings=siblings)

    def download(self, hub_id: str, *, revision: str, allow_patterns: list[str], **named: Any) -> str:
        assert revision.startswith("commit-of-")
        self.snapshot.mkdir(exist_ok=True)
        for name in allow_patterns:
            (self.snapshot / name).write_text(self.files[name])
        return str(self.snapshot)

    def taken(self) -> set[str]:
        return {path.name for path in self.snapshot.iterdir()} if self.snapshot.exists() else set()


def test_a_download_is_remembered_by_the_commit_it_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeHub(tmp_path / "snapshot", {**SMALL, "model.safetensors": "x"}, monkeypatch)
    made = hub.fetch("openai/whisper-tiny", "main")
    assert made == hub.Snapshot(server.snapshot, "commit-of-main")
    assert hub.cached("openai/whisper-tiny", "main") == made
    assert hub.fetch("openai/whisper-tiny", "main") == made
    assert hub.cached("openai/whisper-tiny", "v2") is None
    hub.fetch("openai/whisper-tiny", "v2")
    assert server.asked == ["main", "v2"]
    assert hub.cached("openai/whisper-tiny", "main") == made


INDEX = {"model.safetensors.index.json": json.dumps(SHARDS)}
SHARDED = dict.fromkeys(SHARDS["weight_map"].values(), "x")
PICKLE = {"pytorch_model.bin": "x"}
PICKLED_SHARDS = {
    "pytorch_model.bin.index.json": json.dumps({"weight_map": {"a": "one.bin", "b": "two.bin"}}),
    "one.bin": "x",
    "two.bin": "x",
}


@pytest.mark.parametrize(
    ("there", "weights"),
    [
        (
            {"model.safetensors": "x", "model.fp32.safetensors": "x", **INDEX, **SHARDED, **PICKLE},
            {"model.safetensors"},
        ),
        ({**INDEX, **SHARDED, **PICKLE}, {*SHARDED}),
        ({**PICKLE, **PICKLED_SHARDS, "flax_model.msgpack": "x"}, {"pytorch_model.bin"}),
        (PICKLED_SHARDS, {"one.bin", "two.bin"}),
    ],
)
def test_one_kind_of_weights_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: dict[str, str], weights: set[str]
) -> None:
    server = FakeHub(tmp_path / "snapshot", {**SMALL, "README.md": "", **there}, monkeypatch)
    made = hub.fetch("me/mine", "main")
    assert {name for name in server.taken() if not name.endswith(".json")} == weights
    assert hub.cached("me/mine", "main") == made


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ("config.json", "the model me/mine has no config.json"),
        ("tokenizer.json", "the model me/mine has no tokenizer.json"),
        ("pytorch_model.bin", "the model holds no weights"),
        ("one.bin", "the model lacks one.bin"),
    ],
)
def test_what_is_no_model_is_refused_before_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str, message: str
) -> None:
    files = {**SMALL, **(PICKLED_SHARDS if lacking == "one.bin" else PICKLE)}
    del files[lacking]
    server = FakeHub(tmp_path / "snapshot", files, monkeypatch)
    with pytest.raises(UserError, match=message):
        hub.fetch("me/mine", "main")
    assert not [name for name in server.taken() if name.endswith(".bin")]
    assert hub.cached("me/mine", "main") is None


def test_a_tokenizer_in_lists_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"config.json": "{}", "vocab.json": "{}", "merges.txt": "", "added_tokens.json": "{}", **PICKLE}
    server = FakeHub(tmp_path / "snapshot", files, monkeypatch)
    hub.fetch("me/mine", "main")
    assert server.taken() == set(files)


def test_a_remembered_snapshot_without_weights_is_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    memory = home() / "hub" / "revisions.json"
    memory.parent.mkdir(parents=True)
    memory.write_text(json.dumps({"me/mine@main": {"path": str(tmp_path), "commit": "c"}}))
    assert hub.cached("me/mine", "main") is None
    (tmp_path / "pytorch_model.bin").write_text("x")
    assert hub.cached("me/mine", "main") == hub.Snapshot(tmp_path, "c")


def test_a_mistake_of_this_program_is_not_blamed_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, TypeError("unexpected keyword argument"))
    with pytest.raises(TypeError, match="unexpected keyword"):
        hub.fetch("me/mine", "main")


def test_a_download_that_is_gone_is_fetched_again(tmp_path: Path) -> None:
    memory = home() / "hub" / "revisions.json"
    memory.parent.mkdir(parents=True)
    memory.write_text(json.dumps({"x/y@main": {"path": str(tmp_path / "gone"), "commit": "c"}}))
    assert hub.cached("x/y", "main") is None


@pytest.mark.parametrize("content", ["{", "[]", '{"x/y@main": 3}', '{"x/y@main": {"commit": "c"}}'])
def test_a_damaged_memory_is_no_download(content: str) -> None:
    memory = home() / "hub" / "revisions.json"
    memory.parent.mkdir(parents=True)
    memory.write_text(content)
    assert hub.cached("x/y", "main") is None
