"""Models by hub id: resolved to a commit at the first download, remembered, and read from disk ever after.

Only a model that a recipe names is ever fetched. When the hub cannot be had, one error tells an unreachable hub, a
refusing proxy, a bad certificate and a missing model apart, and names both ways on.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock

from pocket_opt.disk import refusal_of, storage_error
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.home import home, read_json, write_atomically
from pocket_opt.models.layout import CONFIG, INDEXES, MERGES, TABLES, TOKENIZER, VOCAB, weight_files

WAYS_ON = (
    "recipe.model.path=DIR with a copy of the model, or recipe.model.weights=random for speed and size only"
)


@dataclass(frozen=True)
class Snapshot:
    """A downloaded model: its directory and the commit that the revision meant at the first download."""

    path: Path
    commit: str


def cached(hub_id: str, revision: str) -> Snapshot | None:
    """The complete snapshot of an earlier download, without touching the network."""
    try:
        table = read_json(_memory())[f"{hub_id}@{revision}"]
        found = Snapshot(Path(table["path"]), table["commit"])
        weight_files(found.path)
    except (KeyError, TypeError, OSError, UserError):
        return None
    return found if (found.path / CONFIG).is_file() else None


def fetch(hub_id: str, revision: str, *, text: bool = True) -> Snapshot:
    """Download what makes up a model (weights, configuration, tokenizer) into the home, unless it is there.

    Args:
        text: whether a model without a tokenizer is none.

    Raises:
        PocketOptError: the hub cannot be had, or holds no such model; the message says in which way.
    """
    try:
        _memory().parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_memory().with_suffix(".lock")):
            return cached(hub_id, revision) or _download(hub_id, revision, text=text)
    except OSError as error:
        raise storage_error(error, home()) from error


def _download(hub_id: str, revision: str, *, text: bool) -> Snapshot:
    try:
        path, commit = _snapshot(hub_id, revision, text=text)
    except PocketOptError:
        raise
    except Exception as error:
        refusal = refusal_of(error, home())
        if refusal is not None:
            raise refusal from error
        if not _is_from_outside(error):
            raise
        raise PocketOptError(
            f"the model {hub_id} cannot be downloaded: {_reason(error)}",
            where=f"recipe.model.hub={hub_id}, revision {revision}",
            fix=WAYS_ON,
        ) from error
    known = read_json(_memory())
    table = {**known} if isinstance(known, dict) else {}
    table[f"{hub_id}@{revision}"] = {"path": str(path), "commit": commit}
    write_atomically(_memory(), json.dumps(table, indent=1))
    return Snapshot(path, commit)


def _snapshot(hub_id: str, revision: str, *, text: bool) -> tuple[Path, str]:
    """Download the small files, then the weights that they and the list of files allow; path and commit."""
    from huggingface_hub import HfApi, snapshot_download

    info = HfApi().model_info(hub_id, revision=revision, timeout=20)
    commit, names = info.sha or revision, {file.rfilename for file in info.siblings or ()}
    _check_names(names, hub_id, text=text)
    take = partial(snapshot_download, hub_id, revision=commit, cache_dir=home() / "hub", etag_timeout=20)
    small = [name for name in (*TABLES, *INDEXES) if name in names]
    path = Path(take(allow_patterns=small))
    take(allow_patterns=[*small, *weight_files(path, names)])
    weight_files(path)
    return path, commit


def _check_names(names: Collection[str], hub_id: str, *, text: bool) -> None:
    """Refuse what is no model before anything big is downloaded."""
    tokenizer = not text or TOKENIZER in names or {VOCAB, MERGES} <= set(names)
    lacking = [CONFIG] if CONFIG not in names else [] if tokenizer else [TOKENIZER]
    if lacking:
        raise UserError(
            f"the model {hub_id} has no {lacking[0]}",
            where=f"recipe.model.hub={hub_id}",
            allowed=f"{CONFIG}, weights, and {TOKENIZER} or {VOCAB} with {MERGES}",
            fix="choose another model, or add the file to a copy and set recipe.model.path=DIR",
        )


def _memory() -> Path:
    return home() / "hub" / "revisions.json"


def _is_from_outside(error: BaseException) -> bool:
    """Whether the network, the hub or its library failed, and not this program.

    hf_xet, which transfers the big files, raises RuntimeError for whatever has no class of its own.
    """
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError | RuntimeError) or library in ("huggingface_hub", "httpx", "httpx2")


def _reason(error: BaseException) -> str:
    """What kind of failure this is, from the chain of causes."""
    from huggingface_hub.errors import HfHubHTTPError

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
    answers = [str(cause) for cause in chain if isinstance(cause, HfHubHTTPError | RuntimeError)]
    if answers:
        return "the hub answered with an error: " + answers[0].strip().partition("\n")[0]
    return "unreachable - no connection to the hub (check the network)"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
