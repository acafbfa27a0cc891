"""What every layout has in common as an artifact: rewritten graphs, the settings of its client, answers like before."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.models.layout import CONFIG, GENERATION_CONFIG, TOKENIZER, TOKENIZER_CONFIG, read_table
from pocket_opt.models.whisper.layouts.unsigned_weights import make_weights_unsigned
from pocket_opt.models.whisper.runner.onnxruntime_backend import open_backend
from pocket_opt.models.whisper.vocabulary import Vocabulary, read_vocabulary
from pocket_opt.onnx_graphs.checks import COMPARE_BELOW, check_finite, check_structure, open_session
from pocket_opt.onnx_graphs.files import load, save, sqnr_db

GRAPHS = ("encoder", "decoder")
LEAST_DB = 25.0
"""Agreement with the graphs before, as the client calls them: floating point is equal; of a dynamic encoder the kernel
for unsigned weights rounds in another way."""

SESSION = {"graph_optimization": "all", "entries": {}}
"""How clients open the files: as ONNX Runtime does by default."""

Graphs = Mapping[str, ir.Model]


def lay_out(
    source: Artifact, workdir: Path, layout: str, files: Mapping[str, str], change: Callable[[Graphs], None]
) -> tuple[Artifact, dict[str, Any]]:
    """The artifact of `layout` in `workdir`: encoder and decoder after `change`, in `files`, and what was done.

    Args:
        files: component -> path in the artifact.
        change: rewrites both graphs in place.
    """
    graphs = {name: load(source.path(name)) for name in GRAPHS}
    unsigned = {name: make_weights_unsigned(model.graph) for name, model in graphs.items()}
    nodes = {name: len(model.graph) for name, model in graphs.items()}
    change(graphs)
    artifact, did = source.carry(workdir, without=GRAPHS), dict[str, Any]()
    for name, model in graphs.items():
        part = save(model, workdir, files[name])
        artifact = artifact.with_component(name, part, layout=layout, session=SESSION)
        did[name] = {
            "file": files[name],
            "nodes_before": nodes[name],
            "nodes_after": sum(1 for _ in model.graph.all_nodes()),
            "weights_made_unsigned": unsigned[name],
            "bytes_before": source.size(name),
            "bytes_after": artifact.size(name),
        }
    return artifact, did


def generation_table(artifact: Artifact) -> dict[str, Any]:
    """The decoding rules of the model."""
    return read_table(artifact.file("generation", GENERATION_CONFIG))


def vocabulary_of(artifact: Artifact) -> Vocabulary:
    """The special tokens of the model; UserError where its tokenizer has them not in Whisper's order."""
    path = artifact.file("processor", TOKENIZER)
    return read_vocabulary(read_table(path), artifact.metadata["dims"]["window_s"], where=path.name)


def extend_config(artifact: Artifact, additions: Mapping[str, Any]) -> None:
    """Write `config.json` anew with `additions`."""
    path = artifact.file("generation", CONFIG)
    table = {**read_table(path), **additions}
    path.unlink()
    write_table(path, table)


def name_special_tokens(artifact: Artifact) -> None:
    """Let `tokenizer_config.json` list its special tokens as transformers 4 and its ports read them, too."""
    path = artifact.file("processor", TOKENIZER_CONFIG)
    table = read_table(path)
    extra = table.pop("extra_special_tokens", None)
    if isinstance(extra, list):
        path.unlink()
        write_table(path, {**table, "additional_special_tokens": extra})


def write_table(path: Path, table: Mapping[str, Any]) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(table, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def check_client_answers(before: Artifact, after: Artifact) -> None:
    """Check the graphs of a layout, called as its client does: valid, finite, with the logits of the graphs before.

    Raises:
        PocketOptError: something is not right; above `COMPARE_BELOW` bytes the graphs are only loaded.
    """
    for name in GRAPHS:
        check_structure(after.path(name), name)
        check_finite(after.path(name), name)
        if before.size(name) > COMPARE_BELOW:
            open_session(after, name)
    if any(before.size(name) > COMPARE_BELOW for name in GRAPHS):
        return
    level = min(sqnr_db(*pair) for pair in zip(_logits(before), _logits(after), strict=True))
    if not level >= LEAST_DB:
        raise PocketOptError(
            f"the graphs of the layout {after.metadata['layout']} no longer agree: SQNR {level:.1f} dB of the logits",
            allowed=f"at least {LEAST_DB:.0f} dB",
            fix="report this with the model's shapes: the rewrite is wrong, not only inexact",
        )


def _logits(artifact: Artifact) -> list[Any]:
    """Logits of a prompt and of two steps on random features, but not those that a layout forbids."""
    dims = artifact.metadata["dims"]
    random = np.random.default_rng(0)
    shape = 1, dims["mels"], 2 * dims["source_positions"]
    backend = open_backend(artifact.root, artifact.describe(), 0)
    state = backend.encode(random.standard_normal(shape).astype(np.float32))
    never = {*map(int, generation_table(artifact).get("suppress_tokens") or ())}
    never |= {*map(int, generation_table(artifact).get("begin_suppress_tokens") or ())}
    said = [token for token in range(dims["vocab"]) if token not in never]
    found = []
    for length in (3, 1, 1):
        logits, state = backend.decode(random.integers(0, dims["vocab"], (1, length)), state)
        found.append(logits[..., said])
    return found
