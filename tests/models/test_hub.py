"""Models of the hub: remembered once downloaded, and failures told apart, each with both ways on."""

from __future__ import annotations

import errno
import json
import ssl
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from pocket_opt.errors import PocketOptError
from pocket_opt.home import home
from pocket_opt.models import hub


class ProxyError(Exception):
    """Named as those of httpx and requests."""


class RepositoryNotFoundError(Exception):
    """Named as that of huggingface_hub."""


class LocalEntryNotFoundError(Exception):
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
        (errors.HFValidationError("Repo id must use alphanumeric chars"), "this is no hub id"),
        (
            errors.OfflineModeIsEnabled("Cannot reach https://huggingface.co: offline mode is enabled"),
            "HF_HUB_OFFLINE",
        ),
    ]
    for error, reason in cases:
        fail_with(monkeypatch, error)
        with pytest.raises(PocketOptError, match=reason):
            hub.fetch("openai/whisper-tiny", "main")


def test_a_full_disk_is_not_taken_for_an_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, OSError(errno.ENOSPC, "No space left on device", "/cache/blob"))
    with pytest.raises(PocketOptError, match="the disk is full") as caught:
        hub.fetch("openai/whisper-tiny", "main")
    assert caught.value.where == "/cache/blob"


def test_a_download_is_remembered_by_the_commit_it_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    class Api:
        def model_info(self, hub_id: str, revision: str, timeout: float) -> Any:
            return type("Info", (), {"sha": f"commit-of-{revision}"})

    def download(hub_id: str, *, revision: str, allow_patterns: list[str], **named: Any) -> str:
        asked.append((hub_id, revision))
        assert "*.safetensors" in allow_patterns
        assert not any("bin" in pattern or "pt" in pattern for pattern in allow_patterns)
        (tmp_path / "config.json").write_text("{}")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    made = hub.fetch("openai/whisper-tiny", "main")
    assert made == hub.Snapshot(tmp_path, "commit-of-main")
    assert hub.cached("openai/whisper-tiny", "main") == made
    assert hub.fetch("openai/whisper-tiny", "main") == made
    assert hub.cached("openai/whisper-tiny", "v2") is None
    hub.fetch("openai/whisper-tiny", "v2")
    assert asked == [("openai/whisper-tiny", "commit-of-main"), ("openai/whisper-tiny", "commit-of-v2")]
    assert hub.cached("openai/whisper-tiny", "main") == made


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
