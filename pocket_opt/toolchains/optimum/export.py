"""Exports a model in the Hugging Face layout by Optimum; runs in the toolchain's environment, stand-alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

AUTO = "auto"
SPEECH = ("whisper", "speech_to_text", "moonshine", "speech-encoder-decoder")
"""Model types whose ...ForConditionalGeneration writes down speech; others rewrite text."""

TASKS = (
    ("ForCausalLM", "text-generation-with-past"),
    ("LMHeadModel", "text-generation-with-past"),
    ("ForMaskedLM", "fill-mask"),
    ("ForSequenceClassification", "text-classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForQuestionAnswering", "question-answering"),
    ("ForCTC", "automatic-speech-recognition"),
    ("ForSpeechSeq2Seq", "automatic-speech-recognition-with-past"),
    ("ForAudioClassification", "audio-classification"),
    ("ForImageClassification", "image-classification"),
    ("ForConditionalGeneration", "text2text-generation-with-past"),
    ("Model", "feature-extraction"),
)
"""End of the class in `architectures` -> task; the first that fits counts."""


class ExportRefused(Exception):
    """Optimum does not export this model, or not for this task; the parent tells it as its own error."""

    exit_code = 2

    def __init__(self, what: str, where: str, allowed: str, fix: str) -> None:
        super().__init__(what)
        self.what, self.where, self.allowed, self.fix = what, where, allowed, fix


def export(payload: Mapping[str, Any], progress: Callable[[int, int, str], None]) -> dict[str, Any]:
    """Write the ONNX files of `payload["model"]` into `payload["output"]`; says task, files and versions."""
    from optimum.exporters.onnx import main_export

    model, output = Path(payload["model"]), Path(payload["output"])
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    task = _task(config) if payload["task"] == AUTO else str(payload["task"])
    _require_supported(str(config.get("model_type")), task, model)
    progress(0, 1, "models")
    main_export(
        str(model),
        output=output,
        task=task,
        opset=payload["opset"],
        local_files_only=True,
        do_validation=True,
        **_sizes(config),
    )
    progress(1, 1, "models")
    named = ("optimum", "optimum-onnx", "transformers", "torch", "onnx")
    return {
        "task": task,
        "graphs": sorted(path.name for path in output.glob("*.onnx")),
        "versions": {name: version(name) for name in named},
    }


def _task(config: Mapping[str, Any]) -> str:
    architectures = config.get("architectures") or [""]
    if config.get("model_type") in SPEECH and architectures[0].endswith("ForConditionalGeneration"):
        return "automatic-speech-recognition-with-past"
    for ending, task in TASKS:
        if architectures[0].endswith(ending):
            return task
    raise ExportRefused(
        f"no task follows from the architecture '{architectures[0]}'",
        "config.json: architectures",
        ", ".join(sorted({task for _, task in TASKS})),
        "set params.task",
    )


def _sizes(config: Mapping[str, Any]) -> dict[str, int]:
    """Sizes of the traced example that Optimum takes for granted: a Whisper's window need not be 30 s."""
    if config.get("model_type") == "whisper":
        return {"nb_max_frames": 2 * int(config["max_source_positions"])}
    return {}


def _require_supported(model_type: str, task: str, model: Path) -> None:
    from optimum.exporters.tasks import TasksManager

    try:
        known = sorted(TasksManager.get_supported_tasks_for_model_type(model_type, "onnx"))
    except KeyError:
        known = []
    if task not in known:
        raise ExportRefused(
            f"Optimum does not export a '{model_type}' for the task '{task}'",
            str(model / "config.json"),
            ", ".join(known) or "no task of this architecture",
            "set params.task to one of these" if known else "choose another architecture",
        )
