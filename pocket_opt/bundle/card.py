"""The card of a bundle (`README.md`), written from its manifest and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pocket_opt.bundle.clients import AUDIO, CLIENTS, Client
from pocket_opt.bundle.manifest import choice_of
from pocket_opt.bundle.publication import CARD, MANIFEST
from pocket_opt.models.sources import OPTIMUM
from pocket_opt.models.standalone import RUNNER

RUNNER_PACKAGES = {
    "transformers": "torch transformers tokenizers soundfile",
    "onnxruntime": "onnxruntime numpy tokenizers soundfile",
    "openvino": "openvino numpy tokenizers soundfile",
    "qnn": "onnxruntime onnxruntime-qnn numpy tokenizers soundfile",
    "executorch": "executorch torch numpy tokenizers soundfile",
    "executorch_qnn": "executorch torch numpy tokenizers soundfile",
    "torchscript": "torch numpy tokenizers soundfile",
}
"""Runtime of a model -> what its stand-alone runner needs."""
GRAPH_PACKAGES = {"transformers": "torch transformers numpy", "onnxruntime": "onnxruntime numpy"}
"""The same of a model without a family."""
_VERDICTS = {
    "within": "inside its budget",
    "over_budget": "**over its budget**",
    "no_budget": "no budget was set or could be checked",
}

_HEADLINES = (
    ("size", "total_mb", "size"),
    ("size", "runtime_mb", "libraries that run it, as installed there"),
    ("size", "ratio_to_source", "size against the source model"),
    ("quality", "wer", "word error rate"),
    ("quality", "wer_delta", "change of it"),
    ("latency", "rtf_p50", "real-time factor"),
    ("latency", "per_token_ms_p50", "time for one token"),
    ("memory", "peak_mb", "peak memory"),
)


def write_card(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Write `directory/README.md`."""
    (directory / CARD).write_text(card(manifest), encoding="utf-8")


def card(manifest: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    parts = (
        _head(manifest),
        _headlines(manifest),
        _usage(manifest),
        _metrics(manifest),
        _budget(manifest),
        _graph(manifest),
        _files(manifest),
    )
    return "\n".join(line for part in parts for line in (*part, ""))


def _head(manifest: Mapping[str, Any]) -> Iterator[str]:
    verified = manifest["verified"]
    yield f"# {manifest['recipe']} for {manifest['target']}, level {manifest['level']}"
    yield ""
    for label in manifest["labels"]:
        yield f"> **{label}**"
        yield ">"
    yield f"> Verified: {verified['how']}, {verified['scope']}. Budget: {_VERDICTS[manifest['budget']['verdict']]}."
    if choice := choice_of(manifest):
        yield ">"
        yield f"> {choice}."
    yield ""
    yield f"Licence of the model: {manifest['license']}."
    if manifest["overrides"]:
        yield f"Set beyond recipe, target and level: `{' '.join(manifest['overrides'])}`."


def _headlines(manifest: Mapping[str, Any]) -> Iterator[str]:
    yield "| | |"
    yield "| --- | ---: |"
    for group, name, title in _HEADLINES:
        metric = manifest["metrics"].get(group, {}).get(name)
        if metric:
            yield f"| {title} | {_number(metric['value'], metric['unit'])} |"


def _usage(manifest: Mapping[str, Any]) -> Iterator[str]:
    runtime = manifest["metadata"].get("runtime", "onnxruntime")
    yield "## Run it"
    yield ""
    yield "The directory can be moved; it needs nothing of the program that made it."
    yield ""
    yield "```sh"
    if manifest["metadata"].get("family") == OPTIMUM:
        yield f"pip install {GRAPH_PACKAGES[runtime]}"
        yield f"python {RUNNER}                                   # what the graphs take and give"
        yield f"python {RUNNER} inputs.npz --output outputs.npz   # run one on arrays, named like its inputs"
    else:
        extensions = manifest["metadata"].get("session", {}).get("extensions")
        yield f"pip install {RUNNER_PACKAGES[runtime]}" + (f" '{extensions}'" if extensions else "")
        yield f"python {RUNNER} {AUDIO}"
    yield "```"
    client = CLIENTS.get(manifest["metadata"].get("layout", ""))
    if client is not None:
        yield from _client_usage(client)
    if "android" in manifest["metadata"]:
        yield from _android_usage(manifest["metadata"]["android"])
    if "fallback" in manifest:
        yield from _fallback_usage(manifest["fallback"])


def _client_usage(client: Client) -> Iterator[str]:
    yield ""
    yield f"{client.name} loads the directory as it is. {client.note}".rstrip()
    yield ""
    yield "```sh"
    yield client.install
    yield "```"
    yield ""
    yield f"```{client.language}"
    yield client.lines.rstrip()
    yield "```"


def _android_usage(about: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield "### On Android"
    yield ""
    yield (
        f"`assets/{about['assets']}` is for the assets of an app; `android/build.gradle.kts` has the lines for its "
        "module, `android/kotlin` and `android/cpp` the sources that run it. Libraries:"
    )
    yield ""
    yield from (f"- `{library}`" for library in about["libraries"])
    yield ""
    yield "```kotlin"
    yield 'WhisperAssets.open(context).use { it.transcribe(samples, "en") }'
    yield "```"


def _fallback_usage(about: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"### Without the NPU: `{about['path']}`"
    yield ""
    verified, size = about["verified"], about["metrics"]["size"]["total_mb"]
    yield (
        f"The same model for target {about['target']}, in a bundle of its own with a card and a manifest: "
        f"{_number(size['value'], size['unit'])}, verified {verified['how']}, {verified['scope']}, "
        f"{_VERDICTS[about['budget']['verdict']]}."
    )
    wer = about["metrics"].get("quality", {}).get("wer")
    if wer:
        yield f"Its word error rate is {_number(wer['value'], wer['unit'])}."


def _metrics(manifest: Mapping[str, Any]) -> Iterator[str]:
    yield "## Measured"
    yield ""
    yield f"On {_host(manifest['host'])}. The baseline is the source model, measured on the same machine and data."
    for group, metrics in manifest["metrics"].items():
        methods = list(dict.fromkeys(metric["method"] for metric in metrics.values()))
        yield ""
        yield f"### {group.capitalize()}"
        yield ""
        yield "| metric | value | baseline | change | n | method |"
        yield "| --- | ---: | ---: | ---: | ---: | ---: |"
        for name, metric in metrics.items():
            base = manifest["baseline"].get(group, {}).get(name)
            yield _metric_row(name, metric, base, methods.index(metric["method"]) + 1)
        yield ""
        yield from (f"{number}. {method}" for number, method in enumerate(methods, start=1))


def _metric_row(name: str, metric: Mapping[str, Any], base: Mapping[str, Any] | None, method: int) -> str:
    unit = metric["unit"]
    before = _number(base["value"], unit) if base else ""
    change = _change(metric["value"], base["value"], unit) if base else ""
    cells = (name, _number(metric["value"], unit), before, change, metric["n"], method)
    return f"| {' | '.join(map(str, cells))} |"


def _budget(manifest: Mapping[str, Any]) -> Iterator[str]:
    yield "## Budget"
    yield ""
    limits = manifest["budget"]["limits"]
    if not limits:
        yield "No budget was set for this level."
        return
    yield "| metric | limit | value | verdict |"
    yield "| --- | ---: | ---: | --- |"
    for limit in limits:
        value = f"{limit['value']:.4g}" if "value" in limit else ""
        yield f"| {limit['metric']} | {limit['limit']:g} | {value} | {limit['verdict'].replace('_', ' ')} |"


def _graph(manifest: Mapping[str, Any]) -> Iterator[str]:
    yield "## How it was made"
    yield ""
    yield "| node | pass | parameters | seconds | MB before | MB after |"
    yield "| --- | --- | --- | ---: | ---: | ---: |"
    for node in manifest["nodes"]:
        if node["kind"] == "build":
            params = ", ".join(f"{key}={_plain(value)}" for key, value in node["params"].items())
            sizes = f"{node['bytes_before'] / 1e6:.2f} | {node['bytes_after'] / 1e6:.2f}"
            yield f"| {node['name']} | {node['pass']} {node['version']} | {params} | {node['seconds']:.1f} | {sizes} |"
    yield ""
    yield "Tools: " + ", ".join(f"{name} {version}" for name, version in manifest["tools"].items()) + "."


def _files(manifest: Mapping[str, Any]) -> Iterator[str]:
    yield "## Files"
    yield ""
    yield f"`{MANIFEST}` holds everything above as data, with every measurement's details and every file's SHA-256."
    yield ""
    yield from _file_table(manifest["files"])


def _file_table(files: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| file | bytes | SHA-256 |"
    yield "| --- | ---: | --- |"
    for row in files:
        yield f"| {row['path']} | {row['size']} | `{row['sha256'][:16]}…` |"


def _plain(value: Any) -> str:
    """A parameter in a table cell; of a digest the first digits."""
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return (f"{text[:12]}…" if len(text) == 64 else text).replace("|", "/")


def _host(host: Mapping[str, Any]) -> str:
    system = f", {host['system']}" if "system" in host else ""
    memory = f", {host['memory_gb']} GB" if "memory_gb" in host else ""
    return f"{host['cpu']} ({host['cores']} cores{memory}{system})"


def _number(value: float, unit: str) -> str:
    digits = f"{value:.0f}" if value == int(value) and abs(value) < 1e6 else f"{value:.4g}"
    return f"{digits} {unit}".strip()


def _change(value: float, base: float, unit: str) -> str:
    """In points for rates and in percent of the baseline for everything else."""
    if unit in ("%", "points"):
        return f"{value - base:+.2f} points"
    return f"{100 * (value - base) / base:+.0f} %" if base else ""
