"""Jobs on devices that Qualcomm AI Hub hosts; runs in the toolchain's environment, stand-alone.

The token is where Qualcomm's client looks for it (`~/.qai_hub/client.ini`, or the file that QAIHUB_CLIENT_INI names),
and is read by that client alone. Written for qai-hub 0.56, where an inference job with a profile is what was a profile
job before.
"""

from __future__ import annotations

import difflib
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SIGN_UP = "sign up at https://aihub.qualcomm.com, then run {}/bin/qai-hub configure --api_token TOKEN"
NAMED = 3
TAIL = 600
_BOX = re.compile(r"[┌┐└┘─│|]+")


class HubRefused(Exception):
    """Something that AI Hub does not do, or not for this user; the parent tells it as its own error."""

    def __init__(self, what: str, where: str, fix: str, *, allowed: str = "", exit_code: int = 1) -> None:
        super().__init__(what)
        self.what, self.where, self.allowed, self.fix, self.exit_code = what, where, allowed, fix, exit_code


def find_device(payload: Mapping[str, Any], progress: Callable[[int, int, str], None]) -> dict[str, Any]:
    """Name, system and attributes of the device that `payload` names; `htp_arch` is what it must have."""
    progress(0, 1, "devices")
    with _told("device"):
        found = _device(_client(), payload["device"], payload["htp_arch"])
    return {"name": found.name, "os": found.os, "attributes": list(found.attributes)}


def profile(payload: Mapping[str, Any], progress: Callable[[int, int, str], None]) -> dict[str, Any]:
    """Run each of `models` (name -> file) on the device; what its profile says, and what the device is.

    With `compile` each model is one of ONNX (a file or a folder), which AI Hub compiles first.
    """
    models, ends = payload["models"], time.monotonic() + payload["timeout_s"]
    with _told("device"):
        client = _client()
        device = _device(client, payload["device"], payload["htp_arch"])
    import qai_hub

    # With the system's version, so that every job runs on the same.
    chosen, sent = qai_hub.Device(device.name, device.os), {}
    if payload["compile"]:
        for name, path in models.items():
            with _told(f"compile job of {name}"):
                options = payload["compile_options"]
                sent[name] = client.submit_compile_job(path, chosen, name=_job_name(name), options=options)
        for name, job in sent.items():
            _finish(job, f"compile job of {name}", ends)
        models = {name: job.get_target_model() for name, job in sent.items()}
    compiled, sent = {name: job.job_id for name, job in sent.items()}, {}
    for name, model in models.items():
        with _told(f"profile job of {name}"):
            sent[name] = client.submit_inference_job(
                model, chosen, name=_job_name(name), options=payload["options"], profile=True
            )
    told = {}
    for done, (name, job) in enumerate(sent.items(), start=1):
        _finish(job, f"profile job of {name}", ends)
        told[name] = {"job": job.job_id, "compile_job": compiled.get(name), **_profile(job, name)}
        progress(done, len(sent), "graphs on the device")
    return {"device": {"name": device.name, "os": device.os}, "graphs": told}


def _client() -> Any:
    """Qualcomm's client with a token; it says nothing on its own."""
    import qai_hub

    client = qai_hub.Client()
    try:
        client.set_verbose(False)
    except qai_hub.UserError as error:
        raise HubRefused(
            f"Qualcomm AI Hub is asked for, and there is no token for it: {_clean(error)}",
            "~/.qai_hub/client.ini, or the file that QAIHUB_CLIENT_INI names",
            SIGN_UP.format(sys.prefix),
            exit_code=2,
        ) from None
    return client


def _device(client: Any, name: str, htp_arch: int) -> Any:
    """The newest system of the device called `name`; HubRefused unless binaries for `htp_arch` run there."""
    devices = client.get_devices()
    found = [device for device in devices if device.name == name]
    if not found:
        names = sorted({device.name for device in devices})
        near = difflib.get_close_matches(name, names, n=NAMED, cutoff=0.4)
        raise HubRefused(
            f"Qualcomm AI Hub has no device '{name}'" + (f", did you mean '{near[0]}'?" if near else ""),
            "device",
            f"write device='aihub:{near[0]}'" if near else "choose one of them",
            allowed=", ".join(near or names),
            exit_code=2,
        )
    device = found[-1]
    told = [one.removeprefix("hexagon:v") for one in device.attributes if one.startswith("hexagon:v")]
    if "framework:qnn" not in device.attributes or (told and told != [str(htp_arch)]):
        has = f"an NPU of v{told[0]}" if told else "no NPU of Qualcomm's"
        raise HubRefused(
            f"'{name}' has {has}, and the binaries are for v{htp_arch}",
            "device",
            "choose the target of that device's chip, or another device",
            allowed=f"a device with hexagon:v{htp_arch} and framework:qnn",
            exit_code=2,
        )
    return device


def _finish(job: Any, what: str, ends: float) -> None:
    """Wait until `job` has succeeded; HubRefused if it fails or takes too long."""
    try:
        with _told(what):
            status = job.wait(timeout=max(1, int(ends - time.monotonic())))
    except TimeoutError:
        raise HubRefused(
            f"the {what} did not finish in time; it goes on without us",
            f"job {job.job_id}, {job.url}",
            "look at it there; raise nodes.on_device.params.job_timeout_s, and timeout_s",
        ) from None
    if not status.success:
        raise HubRefused(
            f"the {what} failed: {_clean(status.message or status.code)}",
            f"job {job.job_id}, {job.url}",
            "look at its log there",
        )


def _profile(job: Any, name: str) -> dict[str, Any]:
    """The numbers of a profile that are kept: times in microseconds, memory in bytes, layers by unit."""
    with _told(f"profile of {name}"):
        table = job.download_profile()
    summary, layers = table.get("execution_summary", {}), table.get("execution_detail", [])
    times = summary.get("all_inference_times") or [summary.get("estimated_inference_time")]
    if not all(times):
        raise HubRefused(
            f"the profile of {name} holds no times", f"job {job.job_id}, {job.url}", "run it again"
        )
    units = [layer["compute_unit"] for layer in layers]
    return {
        "times_us": times,
        "load_us": summary.get("first_load_time"),
        "peak_bytes": summary.get("estimated_inference_peak_memory"),
        "units": {unit: units.count(unit) for unit in sorted(set(units))},
    }


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Inside, what Qualcomm's client raises becomes a HubRefused."""
    import qai_hub

    try:
        yield
    except qai_hub.UserError as error:
        fix = "see whether your token is still valid, and may use this device"
        raise HubRefused(f"Qualcomm AI Hub refused: {_clean(error)}", what, fix, exit_code=2) from None
    except qai_hub.Error as error:
        fix = "see whether the network reaches it; try again later"
        raise HubRefused(f"Qualcomm AI Hub did not answer: {_clean(error)}", what, fix) from None


def _job_name(graph: str) -> str:
    return f"pocket_opt {Path(graph).name}"


def _clean(said: Any) -> str:
    """One line without the frame that the client draws around what it says."""
    return " ".join(_BOX.sub(" ", str(said)).split())[-TAIL:]
