"""A BERT of two layers without a family here, and an environment that stands for the toolchain of Optimum.

The task that runs in it is the real one; what it calls `optimum` exports by PyTorch's own tracer, which is what Optimum
does too, so that graphs have its names, ports and patterns. The real one is met by `-m nightly`.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from pocket_opt.toolchains import load_toolchain
from pocket_opt.toolchains.environments import RECORD, place_of

EXPORTER = '''\
"""Stands for Optimum: exports a small BERT by PyTorch's tracer."""

import shutil
from pathlib import Path


def main_export(model, output, task, opset, **others):
    import torch
    from transformers import BertForSequenceClassification

    assert others["local_files_only"]
    names = ["input_ids", "attention_mask", "token_type_ids"]
    feeds = {name: torch.ones(2, 16, dtype=torch.int64) for name in names}
    own = BertForSequenceClassification.from_pretrained(model, attn_implementation="eager").eval()
    axes = {name: {0: "batch_size", 1: "sequence_length"} for name in names} | {"logits": {0: "batch_size"}}
    torch.onnx.export(
        own,
        (feeds,),
        str(Path(output) / "model.onnx"),
        input_names=names,
        output_names=["logits"],
        dynamic_axes=axes,
        opset_version=opset or 18,
        dynamo=False,
    )
    shutil.copyfile(Path(model) / "config.json", Path(output) / "config.json")
'''
TASKS = """\
class TasksManager:
    @staticmethod
    def get_supported_tasks_for_model_type(model_type, exporter):
        return {"bert": ["feature-extraction", "text-classification"]}[model_type]
"""


def bert(directory: Path) -> Path:
    """Write the model into `directory`; returns it."""
    directory.mkdir(parents=True, exist_ok=True)
    for path in _written().iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    return directory


@cache
def _written() -> Path:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    root = Path(mkdtemp(prefix="tiny-bert-"))
    BertForSequenceClassification(BertConfig(vocab_size=100, **sizes)).save_pretrained(root)
    return root


def recipe_file(directory: Path, model: Path) -> str:
    """A recipe for the model in `model`; returns the override that chooses it."""
    path = directory / "own.yaml"
    path.write_text(f"summary: mine\nfamily: optimum\nlicense: MIT\nmodel: {{path: {model}}}\n")
    return f"recipe={path}"


def stand_in_for_optimum() -> None:
    """Make the environment in the home of this test."""
    toolchain = load_toolchain("optimum")
    root = place_of(toolchain)
    package = root / "site" / "optimum" / "exporters"
    (package / "onnx").mkdir(parents=True)
    (package / "onnx" / "__init__.py").write_text(EXPORTER)
    (package / "tasks.py").write_text(TASKS)
    for empty in (package, package.parent):
        (empty / "__init__.py").touch()
    for name in ("optimum", "optimum-onnx"):
        info = root / "site" / f"{name.replace('-', '_')}-0.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0\n")
    python = root / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{root / "site"}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (root / RECORD).write_text(json.dumps({"digest": toolchain.digest(), "versions": {}}))


def small_model(kind: str, directory: Path) -> Path:
    """Write a small random model of another architecture into `directory`; returns it."""
    import torch
    import transformers as hf

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    if kind == "wav2vec2":
        small = {"conv_dim": (32,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
        model = hf.Wav2Vec2ForCTC(hf.Wav2Vec2Config(vocab_size=32, **sizes, **small))
    elif kind == "t5":
        config = hf.T5Config(d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, vocab_size=100)
        model = hf.T5ForConditionalGeneration(config)
    else:
        model = hf.Qwen2ForCausalLM(hf.Qwen2Config(vocab_size=100, num_key_value_heads=2, **sizes))
    model.save_pretrained(directory)
    return directory
