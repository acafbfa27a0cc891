"""Models by hub id: resolved to a commit at the first download, remembered, and read from disk ever after.

Only a model that a recipe names is ever fetched. When the hub cannot be had, one error tells an unreachable hub, a
refusing proxy, a bad certificate and a missing model apart, and names both ways on.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from pocket_opt.disk import refusal_of, storage_error
from pocket_opt.errors import PocketOptError
from pocket_opt.home import home, read_json, write_atomically

PATTERNS = ("*.json", "*.txt", "*.safetensors")
WAYS_ON = (
    "recipe.model.path=DIR with a copy of the model, or recipe.model.weights=random for speed and size only"
)


@dataclass(frozen=True)
class Snapshot:
    """A downloaded model: its directory and the commit that the revision meant at the first download."""

    path: Path
    commit: str


def cached(hub_id: str, revision: str) -> Snapshot | None:
    """The snapshot of an earlier download, without touching the network."""
    try:
        table = read_json(_memory())[f"{hub_id}@{revision}"]
        found = Snapshot(Path(table["path"]), table["commit"])
    except (KeyError, TypeError):
        return None
    return found if (found.path / "config.json").is_file() else None


def fetch(hub_id: str, revision: str) -> Snapshot:
    """Download a model's weights (safetensors), configuration and tokenizer into the home, unless they are there.

    Raises:
        PocketOptError: the hub cannot be had; the message says in which way.
    """
    try:
        _memory().parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_memory().with_suffix(".lock")):
            return cached(hub_id, revision) or _download(hub_id, revision)
    except OSError as error:
        raise storage_error(error, home()) from error


def _download(hub_id: str, revision: str) -> Snapshot:
    from huggingface_hub import HfApi, snapshot_download

    try:
        commit = HfApi().model_info(hub_id, revision=revision, timeout=20).sha or revision
        path = snapshot_download(
            hub_id, revision=commit, cache_dir=home() / "hub", allow_patterns=list(PATTERNS), etag_timeout=20
        )
    except Exception as error:
        refusal = refusal_of(error, home())
        if refusal is not None:
            raise refusal from error
        raise PocketOptError(
            f"the model {hub_id} cannot be downloaded: {_reason(error)}",
            where=f"recipe.model.hub={hub_id}, revision {revision}",
            fix=WAYS_ON,
        ) from error
    known = read_json(_memory())
    table = {**known} if isinstance(known, dict) else {}
    table[f"{hub_id}@{revision}"] = {"path": str(path), "commit": commit}
    write_atomically(_memory(), json.dumps(table, indent=1))
    return Snapshot(Path(path), commit)


def _memory() -> Path:
    return home() / "hub" / "revisions.json"


def _reason(error: BaseException) -> str:
    """What kind of failure this is, from the chain of causes."""
    chain = list(_causes(error))
    names = {type(cause).__name__ for cause in chain}
    text = " ".join(str(cause) for cause in chain).lower()
    if names & {"RepositoryNotFoundError", "RevisionNotFoundError", "GatedRepoError", "EntryNotFoundError"}:
        return "the hub answered, but has no such model or revision, or it needs a login"
    if "HFValidationError" in names:
        return "this is no hub id (organisation/name)"
    if "OfflineModeIsEnabled" in names:
        return "unreachable - downloads are switched off (HF_HUB_OFFLINE is set)"
    if any(isinstance(cause, ssl.SSLError) for cause in chain) or "certificate" in text:
        return "certificate failure - the connection's certificate is not trusted (set SSL_CERT_FILE to your CA bundle)"
    if "ProxyError" in names or "proxy" in text:
        return "proxy failure - the proxy refused or cannot be reached (check HTTPS_PROXY)"
    return "unreachable - no connection to the hub (check the network)"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
