"""A stand-in for Qualcomm AI Hub: the toolchain's environment with a `qai_hub` that checks what the real client checks.

Signatures, order of the checks and messages are those of qai-hub 0.56.0; the jobs themselves are made up. FAKE_AI_HUB
says what is wrong: "" nothing, or one of the words in the code. Every call is written to `calls.jsonl` in FAKE_AI_HUB_LOG.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pocket_opt.toolchains import load_toolchain
from pocket_opt.toolchains.environments import RECORD, place_of

TOKEN = "sesame0123456789abcdefsesame"
CLIENT = '''\
"""Stands for qai-hub 0.56.0."""

import configparser, json, os, sys
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

__version__ = "0.56.0"
trouble = os.environ.get("FAKE_AI_HUB", "")
RUNTIMES = ("tflite", "qnn_dlc", "qnn_context_binary", "onnx", "precompiled_qnn_onnx")


class Error(Exception):
    def __init__(self, message):
        super().__init__(message)


class InternalError(Error):
    pass


class UserError(Error):
    pass


class RateLimitedError(Error):
    pass


def boxed(text):
    return "\\n\\u250c" + "\\u2500" * 68 + "\\u2510\\n| " + text.ljust(66) + " |\\n\\u2514" + "\\u2500" * 68 + "\\u2518"


def noted(**call):
    with open(Path(os.environ["FAKE_AI_HUB_LOG"], "calls.jsonl"), "a") as log:
        log.write(json.dumps(call) + "\\n")


@dataclass
class Device:
    name: str = ""
    os: str = ""
    attributes: str | list[str] = field(default_factory=list)

    def __post_init__(self):
        if self.name == "" and self.os != "" and self.attributes == []:
            raise ValueError("Cannot filter devices when provided only an OS version.")


def hosted(name, system, chip, *more):
    return Device(name, system, ["os:android", f"chipset:{chip}", "framework:tflite", "framework:onnx", *more])


DEVICES = [
    hosted("Samsung Galaxy S24", "14", "sm8650", "framework:qnn", "hexagon:v75"),
    hosted("Samsung Galaxy S25", "14", "sm8750", "framework:qnn", "hexagon:v79"),
    hosted("Samsung Galaxy S25", "15", "sm8750", "framework:qnn", "hexagon:v79"),
    hosted("Google Pixel 9", "14", "google-tensor-g4"),
]


@dataclass
class ClientConfig:
    api_token: str
    verbose: bool = False


@dataclass
class JobStatus:
    code: str
    message: str = ""

    @property
    def success(self):
        return self.code == "SUCCESS"


class Model:
    def __init__(self, model_type):
        self.model_type = model_type


def model_type(model):
    if model is None:
        raise UserError("Model passed in was 'None' (make sure this is not the target of a failed compile job)")
    if isinstance(model, Model):
        return model.model_type
    path = Path(model)
    kind = {".bin": "qnn", ".onnx": "onnx"}.get(path.suffix)
    if path.is_dir():
        files = sorted(one.suffix for one in path.iterdir())
        if files not in ([".onnx"], [".data", ".onnx"]):
            raise UserError(f"Model directory '{path}' can only contain .onnx, .data, .encodings, and .bin files.")
        kind = "onnx"
    if kind is None:
        raise UserError(f"Unsupported model type for '{path}'.")
    if not path.exists():
        raise FileNotFoundError(path)
    return kind


class Job:
    def __init__(self, job_id, name, options):
        self.job_id, self.name, self.options, self.date = job_id, name, options, datetime.now()
        self.url = f"https://workbench.aihub.qualcomm.com/jobs/{job_id}/"

    def wait(self, timeout=None):
        assert timeout is None or isinstance(timeout, int)
        if trouble == "hangs":
            raise TimeoutError(f"Waiting for inference job ({self.job_id}) completion timed out after {timeout} seconds.")
        if trouble == "fails" and self.name.endswith("prefill"):
            return JobStatus("FAILED", "Failed to load the context binary: error 1009")
        return JobStatus("SUCCESS")


class CompileJob(Job):
    def get_target_model(self):
        return Model("qnn")


class InferenceJob(Job):
    def download_profile(self, filename=None):
        assert filename is None
        if trouble == "no_times":
            return {}
        summary = {
            "estimated_inference_time": 1800,
            "estimated_inference_peak_memory": 24_000_000,
            "first_load_time": 210_000,
            "all_inference_times": [2000, 1800, 2200, 9000],
        }
        detail = [{"name": "a", "type": "", "compute_unit": unit} for unit in ("NPU", "NPU", "NPU", "CPU")]
        return {"execution_summary": summary, "execution_detail": detail}


class Client:
    def __init__(self, config=None, profile=None, default_project_id=None, client_mode="library"):
        self._config, self._jobs = config, 0

    @property
    def config(self):
        if self._config is None:
            path = os.path.expanduser(os.environ.get("QAIHUB_CLIENT_INI", "~/.qai_hub/client.ini"))
            if not os.path.exists(path):
                said = f"{path} not found. Please request access at https://aihub.qualcomm.com/."
                raise UserError("Failed to load client configuration file.\\n" + boxed(said))
            table = configparser.ConfigParser()
            table.read([path])
            if not {"api_url", "web_url", "api_token"} <= set(table["api"] if "api" in table else ()):
                raise UserError("Failed to load configuration file.\\n" + boxed("Your API token is missing."))
            self._config = ClientConfig(table["api"]["api_token"], True)
        return self._config

    def set_verbose(self, verbose=True):
        self.config.verbose = verbose

    def get_devices(self, name="", os="", attributes=None):
        self._reach()
        return [one for one in DEVICES if name in ("", one.name)]

    def submit_compile_job(
        self,
        model,
        device,
        name=None,
        input_specs=None,
        options="",
        single_compile=True,
        calibration_data=None,
        retry=True,
        project=None,
    ):
        kind = model_type(model)
        if kind == "qnn" and (options or input_specs):
            raise UserError("compile options and input_specs are not allowed when compiling ONNX embeddable models")
        self._known(device)
        words = options.split()
        if "--target_runtime" in words and words[words.index("--target_runtime") + 1] not in RUNTIMES:
            raise UserError(f"Invalid compile options: {options}")
        return CompileJob(self._noted("compile", model, device, name, options), name, options)

    def submit_inference_job(
        self,
        model,
        device,
        inputs=None,
        name=None,
        options="",
        retry=True,
        profile=True,
        project=None,
    ):
        if inputs is None and not profile:
            raise UserError("Inference requires inputs.")
        kind = model_type(model)
        if kind == "onnx" and isinstance(model, Model):
            raise UserError("Inference cannot be run on the supplied model type until is has been compiled.")
        found = self._known(device)
        if kind == "qnn" and "framework:qnn" not in found.attributes:
            raise UserError(f"device {found} does not support QNN model input")
        return InferenceJob(self._noted("profile", model, device, name, options), name, options)

    def _known(self, device):
        self._reach()
        found = [one for one in DEVICES if (one.name, one.os) == (device.name, device.os)]
        if not found:
            raise UserError(f"{device} is not available.")
        return found[0]

    def _reach(self):
        print("a word to standard output")
        assert self.config.api_token
        if trouble == "unauthorized":
            said = "Failure to authenticate is likely caused by a bad or expired API token."
            raise UserError("Failed to authenticate.\\n" + boxed(said))
        if trouble == "offline":
            raise InternalError("Internal API failure.\\n" + boxed("Could not connect to Qualcomm AI Hub."))

    def _noted(self, kind, model, device, name, options):
        self._jobs += 1
        path = None if isinstance(model, Model) else str(model)
        noted(kind=kind, name=name, device=[device.name, device.os], options=options, path=path)
        return f"j{kind[0]}{self._jobs}"
'''


@pytest.fixture
def ai_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment in the home of this test, with a token; gives the folder of `calls.jsonl`."""
    monkeypatch.setenv("POCKET_OPT_HOME", str(tmp_path / "home"))
    toolchain = load_toolchain("ai_hub")
    root = place_of(toolchain)
    package = root / "site" / "qai_hub"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(CLIENT)
    python = root / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{root / "site"}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (root / RECORD).write_text(json.dumps({"digest": toolchain.digest(), "versions": {}}))
    token = tmp_path / "client.ini"
    token.write_text(f"[api]\napi_token = {TOKEN}\napi_url = https://x\nweb_url = https://x\n")
    monkeypatch.setenv("QAIHUB_CLIENT_INI", str(token))
    monkeypatch.setenv("FAKE_AI_HUB", "")
    monkeypatch.setenv("FAKE_AI_HUB_LOG", str(tmp_path))
    return tmp_path
