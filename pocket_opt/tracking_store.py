"""Where runs are recorded: settings, whether that place answers, and what is known without asking it. Without MLflow.

Everything here is quick and made to be done before MLflow is imported, which takes seconds.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import sqlite3
import ssl
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocket_opt.home import read_json, write_atomically
from pocket_opt.identity import digest
from pocket_opt.scratch import is_alive

URI_VARIABLE = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"
_HTTP = ("http://", "https://")
DATABASE = "mlflow.db"
TIMEOUT_S = 5
"""Seconds to wait for a server's answer, and for a lock on a database."""

_TELEMETRY_OFF = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(TIMEOUT_S),
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Defaults for this process; what the user set in the environment stays."""


@dataclass(frozen=True)
class Settings:
    """Where runs go.

    Attributes:
        uri: MLflow tracking URI; of sqlite with an absolute path.
        upload_models: also upload the files of the bundle, not only manifest, card, tables and plots.
    """

    uri: str
    upload_models: bool = False

    @property
    def database(self) -> Path | None:
        """The database file of a sqlite URI."""
        return Path(self.uri.removeprefix(SQLITE)) if self.uri.startswith(SQLITE) else None

    @property
    def identity(self) -> str:
        """Stands for the URI, which may hold a password, in file names."""
        return digest("tracking-uri", self.uri)


def settings_for(uri: str | None, output_dir: Path, *, upload_models: bool = False) -> Settings:
    """Settings with a usable URI: the given one, else $MLFLOW_TRACKING_URI, else a database in `output_dir`."""
    chosen = uri or os.environ.get(URI_VARIABLE) or f"{SQLITE}{output_dir.expanduser().absolute() / DATABASE}"
    if chosen.startswith(SQLITE):
        chosen = SQLITE + str(Path(chosen.removeprefix(SQLITE)).absolute())
    return Settings(chosen, upload_models)


def check(settings: Settings) -> None:
    """Raise at once what MLflow would find out only after many retries: that nobody answers, or the file is bad."""
    if settings.database is None:
        _check_server(settings.uri)
    elif settings.database.exists():
        _check_database(settings.database)


def set_environment() -> None:
    """Before MLflow is imported: no telemetry, and a server that does not answer is given up soon."""
    os.environ.update(_TELEMETRY_OFF)
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)


def create_database(path: Path, connect: Any) -> None:
    """Build the tables aside and rename: a migration killed half-way would leave a database that never opens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{path.name}.part-*"):
        leftover.unlink()
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    connect(tracking_uri=f"sqlite:///{part}").search_experiments(max_results=1)
    os.replace(part, path)


class Marker:
    """A file that remembers what was recorded where, so that an unchanged bundle costs no import of MLflow."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path, self._settings = path, settings

    def known(self, content: str) -> str:
        """The run that holds `content` and is still in the store; "" if it must be looked up or recorded."""
        table = read_json(self._path)
        if not isinstance(table, dict) or table.get("content") != content:
            return ""
        run_id = str(table.get("run_id", ""))
        return run_id if _is_kept(self._settings, run_id) else ""

    def write(self, content: str, run_id: str) -> None:
        """Remember; a disk that refuses costs only time later."""
        write_atomically(self._path, json.dumps({"content": content, "run_id": run_id}))


def process_tags() -> dict[str, str]:
    """What tells later whether the process that made a run still lives."""
    return {"host": platform.node(), "process": _process(os.getpid())}


def _process(pid: int) -> str:
    """A process's number and start time (in ticks since boot, where /proc tells): numbers are used again."""
    try:
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        started = ""
    return f"{pid}:{started}"


def is_running(process: str) -> bool:
    """Whether the process of a `process` tag still lives."""
    pid = process.partition(":")[0]
    return pid.isdecimal() and is_alive(int(pid)) and _process(int(pid)) == process


def _check_server(uri: str) -> None:
    if not uri.startswith(_HTTP):
        return
    try:
        _ask(uri, "/health")
    except urllib.error.HTTPError:
        return
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):
            raise


def _check_database(path: Path) -> None:
    """A locked, damaged or read-only database fails here."""
    with closing(sqlite3.connect(path, timeout=TIMEOUT_S, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        database.execute("ROLLBACK")


def _is_kept(settings: Settings, run_id: str) -> bool:
    """Whether a run has ended and was not deleted. MLflow's database and its REST interface are asked directly."""
    try:
        if settings.database is not None:
            found = _state_in_database(settings.database, run_id)
        elif settings.uri.startswith(_HTTP):
            info = json.loads(_ask(settings.uri, f"/api/2.0/mlflow/runs/get?run_id={run_id}"))["run"]["info"]
            found = info["status"], info["lifecycle_stage"]
        else:
            return False
    except (OSError, ValueError, KeyError, sqlite3.Error):
        return False
    return found in (("FINISHED", "active"), ("FAILED", "active"))


def _state_in_database(path: Path, run_id: str) -> Any:
    """`(status, lifecycle stage)` of a run, or None."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=TIMEOUT_S)) as database:
        query = "SELECT status, lifecycle_stage FROM runs WHERE run_uuid = ?"
        return database.execute(query, [run_id]).fetchone()


def _ask(uri: str, path: str) -> bytes:
    """GET, with the name and password of the URI or of MLflow's environment variables."""
    parts = urllib.parse.urlsplit(uri.rstrip("/"))
    address = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    request = urllib.request.Request(address + path)  # noqa: S310
    user, password = parts.username or os.environ.get("MLFLOW_TRACKING_USERNAME"), parts.password
    if user:
        secret = f"{user}:{password or os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        request.add_header("Authorization", f"Basic {base64.b64encode(secret.encode()).decode()}")
    elif token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:  # noqa: S310
        return bytes(reply.read())
