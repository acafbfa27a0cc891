"""An Android-ready folder: assets, Gradle lines, and sources in Kotlin and C++ that run them with ONNX Runtime.

Applies to graphs of static shapes, at the end: context binaries of a Snapdragon with their wrappers, or ONNX graphs for
the CPU. No graph is changed; the files move to `assets/whisper_<target>`, where `tokens.bin` and `session.txt` join
them, and `android/` gets the sources, told by `model_facts.h` and `ModelFacts.kt` what is particular to the model. The
decoding loop is in C++, for ONNX Runtime's Java interface makes no tensors of unsigned 16-bit integers, which caches of
quantized models are. Costs nothing. Source: onnxruntime-qnn, docs/execution_providers/QNN-ExecutionProvider.md.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.worker import silent

if TYPE_CHECKING:
    from pocket_opt.artifact import Artifact

SOURCES = Path(__file__).resolve().parents[1] / "models" / "whisper" / "android"
TOKENS, SESSION = "tokens.bin", "session.txt"
CPU = "cpu"


@dataclass(frozen=True)
class LayoutAndroidParams:
    """Where it runs.

    Attributes:
        target: name of the target; of the folder, too.
        fallback: build key of the model for the CPU that the bundle holds as well; empty without one.
    """

    target: str = CPU
    fallback: str = ""


class LayoutAndroid(Pass[LayoutAndroidParams]):
    """Moves the graphs, and writes what goes beside them."""

    version = 2
    Params = LayoutAndroidParams
    tools = ("onnx", "tokenizers")

    def requires(self, inputs: Inputs, params: LayoutAndroidParams) -> None:  # noqa: ARG002
        """The graphs have static shapes, and the ports that the sources know; sessions need no library of ours."""
        from pocket_opt.errors import PocketOptError
        from pocket_opt.models.whisper.layouts.android_facts import require_plain_ports

        require_plain_ports(inputs["model"])
        settings = inputs["model"].metadata.get("session", {})
        if settings.get("graph_optimization", "all") != "all" or settings.get("extensions"):
            raise PocketOptError(
                "the graphs are for sessions with other settings than the sources for Android give them",
                where=f"session: {settings}",
                fix="leave out the pass that asked for them",
            )

    def run(
        self,
        inputs: Inputs,
        params: LayoutAndroidParams,
        workdir: Path,
        progress: Progress = silent,  # noqa: ARG002
    ) -> Outcome:
        """Write assets, sources and facts."""
        from pocket_opt.artifact import Component
        from pocket_opt.models.whisper.layouts.android_gradle import gradle_lines, libraries

        source, folder = inputs["model"], f"whisper_{params.target}"
        artifact = _moved(source, workdir, folder)
        tables = _write_tables(artifact, workdir, folder)
        about = source.metadata.get("qnn")
        needed = libraries(about and about["provider"], about and _sdk(artifact.path("encoder")))
        written = _write_sources(artifact, workdir, folder, params)
        gradle = "android/build.gradle.kts"
        _write(workdir / gradle, gradle_lines(needed, fallback=bool(params.fallback)))
        files = (*tables, *written, gradle)
        coordinates = [library.coordinate for library in needed]
        done = artifact.with_component(
            "client", Component("processor", files), android={"assets": folder, "libraries": coordinates}
        )
        did = {"assets": f"assets/{folder}", "sources": len(written), "libraries": coordinates}
        unseen = [library.coordinate for library in needed if not library.seen]
        return Outcome(done, {**did, **({"not_seen_published": unseen} if unseen else {})})

    def ensures(self, inputs: Inputs, params: LayoutAndroidParams, outcome: Outcome) -> None:  # noqa: ARG002
        """Every wrapper has its binaries beside it."""
        from pocket_opt.qnn.context import FORMAT, binaries

        for name, part in outcome.artifact.components.items():
            if part.format == FORMAT:
                binaries(outcome.artifact.path(name))


def _moved(source: Artifact, workdir: Path, folder: str) -> Artifact:
    """The artifact with its graphs below `assets`."""
    from pocket_opt.artifact import link_file
    from pocket_opt.qnn.chip import graphs_of

    graphs = ("mel", *graphs_of(source))
    artifact = source.carry(workdir, without=graphs)
    parts = dict(artifact.components)
    for name in graphs:
        part = source.components[name]
        places = {file: f"assets/{folder}/{Path(file).name}" for file in part.files}
        for file, place in places.items():
            if not (workdir / place).exists():
                link_file(source.root / file, workdir / place)
        parts[name] = replace(part, files=tuple(places.values()))
    return replace(artifact, components=parts)


def _write_tables(artifact: Artifact, workdir: Path, folder: str) -> list[str]:
    """The bytes of each token, and the settings of sessions on the CPU."""
    from pocket_opt.models.layout import TOKENIZER, read_table
    from pocket_opt.models.whisper.all_in_one.token_bytes import token_bytes
    from pocket_opt.models.whisper.layouts.android_facts import packed

    table, place = read_table(artifact.file("processor", TOKENIZER)), workdir / "assets" / folder
    (place / TOKENS).write_bytes(packed(token_bytes(table, int(artifact.metadata["dims"]["vocab"]))))
    entries = artifact.metadata.get("session", {}).get("entries", {})
    _write(place / SESSION, (f"{key}={value}" for key, value in entries.items()))
    return [f"assets/{folder}/{name}" for name in (TOKENS, SESSION)]


def _write_sources(artifact: Artifact, workdir: Path, folder: str, params: LayoutAndroidParams) -> list[str]:
    """What is the same for every model, and its facts; paths in the artifact."""
    from pocket_opt.identity import digest, file_digest
    from pocket_opt.models.whisper.layouts.android_facts import facts_of, header, kotlin

    assets = sorted((workdir / "assets" / folder).iterdir())
    build = digest("assets", [params.fallback, *(file_digest(path) for path in assets)])[:12]
    cpu = f"whisper_{CPU}" if params.fallback or params.target == CPU else None
    facts = facts_of(artifact, build, None if params.target == CPU else folder, cpu)
    written = []
    for path in sorted(path for path in SOURCES.rglob("*") if path.is_file()):
        if path.name == "AndroidManifest.xml" and facts.npu_folder is None:
            continue
        written.append(f"android/{path.relative_to(SOURCES).as_posix()}")
        (workdir / written[-1]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, workdir / written[-1])
    for name, lines in (("cpp/model_facts.h", header(facts)), ("kotlin/ModelFacts.kt", kotlin(facts))):
        written.append(f"android/{name}")
        _write(workdir / written[-1], lines)
    return written


def _sdk(wrapper: Path) -> str:
    """The version of Qualcomm's SDK that a wrapper names."""
    from pocket_opt.qnn.context import sdk_version

    return sdk_version(wrapper)


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


PASS = LayoutAndroid()
