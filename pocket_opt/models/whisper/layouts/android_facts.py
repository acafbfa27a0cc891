"""What the sources for Android are told of a model: ids, sizes, and settings, as C++ and as Kotlin."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.models.layout import TOKENIZER
from pocket_opt.models.whisper.layouts.artifacts import generation_table
from pocket_opt.models.whisper.runner.vocabulary import Vocabulary

NO_TASK = -1
HTP = "libQnnHtp.so"
"""The NPU's library among those of the app."""

DEFAULT_LENGTH = 20
"""Most tokens where a generation configuration names no number; that of generate()."""


@dataclass(frozen=True)
class Facts:
    """One model.

    Attributes:
        build: tells its files from those of others.
        limit: most tokens of a window, prompt included.
        never, never_first: ids that are never said, and not as the first.
        npu_folder, cpu_folder: folders of the assets; None without such a model.
        provider_options, session_entries: of a session on the NPU.
    """

    build: str
    sample_rate: int
    window_samples: int
    vocabulary: int
    start: int
    end: int
    no_timestamps: int
    transcribe: int
    translate: int
    limit: int
    languages: Mapping[str, int]
    never: tuple[int, ...]
    never_first: tuple[int, ...]
    npu_folder: str | None
    cpu_folder: str | None
    provider_options: Mapping[str, str]
    session_entries: Mapping[str, str]


def facts_of(artifact: Artifact, build: str, npu_folder: str | None, cpu_folder: str | None) -> Facts:
    """The facts of a model with static shapes."""
    generation, dims = generation_table(artifact), artifact.metadata["dims"]
    vocabulary, size = Vocabulary(artifact.file("processor", TOKENIZER), generation), int(dims["vocab"])
    tasks = generation.get("task_to_id", {}) if vocabulary.languages else {}
    about = artifact.metadata.get("qnn", {})
    return Facts(
        build=build,
        sample_rate=int(dims["sample_rate"]),
        window_samples=round(dims["window_s"] * dims["sample_rate"]),
        vocabulary=size,
        start=vocabulary.start,
        end=vocabulary.end,
        no_timestamps=vocabulary.no_timestamps,
        transcribe=int(tasks.get("transcribe", NO_TASK)),
        translate=int(tasks.get("translate", NO_TASK)),
        limit=_limit(generation, 4 if vocabulary.languages else 2, int(dims["target_positions"])),
        languages=vocabulary.languages,
        never=_ids(generation.get("suppress_tokens"), size),
        never_first=_ids(generation.get("begin_suppress_tokens"), size),
        npu_folder=npu_folder,
        cpu_folder=cpu_folder,
        provider_options={"backend_path": HTP, **about.get("run_options", {})} if about else {},
        session_entries={"session.disable_cpu_ep_fallback": "1"}
        if about and not about["allow_fallback"]
        else {},
    )


def require_plain_ports(model: Artifact) -> None:
    """Raise PocketOptError unless the graphs have the ports that the sources feed: see android/cpp/whisper.cpp."""
    parts, decoder = model.components, model.metadata.get("decoder")
    if decoder != "static":
        raise PocketOptError(
            "the layout android is made of graphs with static shapes, and these have others",
            where=f"the model's decoder: {decoder}",
            fix="set decoder=static, or bundle.layout=native",
        )
    given = {port.name: port.dtype for port in parts["encoder"].outputs}
    for name in (name for name in ("prefill", "decoder") if name in parts):
        rows = {port.name: port.dtype for port in parts[name].outputs}
        wanted = {"logits": "float32", "cache_mask": "float32", "tokens": "int64", "position": "int64"}
        for port in (*parts[name].inputs, *parts[name].outputs):
            expected = (
                wanted.get(port.name) or given.get(port.name) or rows.get(_row(port.name)) or port.dtype
            )
            if port.dtype != expected:
                raise PocketOptError(
                    f"the port '{port.name}' of '{name}' has the type {port.dtype}, and what it is fed {expected}",
                    where=f"components.{name}",
                    fix="report this with the model's shapes",
                )


def header(facts: Facts) -> Iterator[str]:
    """The lines of `model_facts.h`."""
    yield "// Facts of this model, written by pocket_opt."
    yield "#pragma once"
    yield ""
    yield "#include <cstddef>"
    yield "#include <cstdint>"
    yield "#include <string>"
    yield "#include <utility>"
    yield "#include <vector>"
    yield ""
    yield "namespace whisper::facts {"
    yield ""
    yield f"constexpr int kSampleRate = {facts.sample_rate};"
    yield f"constexpr std::size_t kWindowSamples = {facts.window_samples};"
    for name, value in _numbers(facts):
        yield f"constexpr std::int64_t k{name} = {value};"
    yield f"inline const std::vector<std::int64_t> kNever = {{{_listed(facts.never)}}};"
    yield f"inline const std::vector<std::int64_t> kNeverFirst = {{{_listed(facts.never_first)}}};"
    spoken = (f'{{"{code}", {index}}}' for code, index in facts.languages.items())
    yield f"inline const std::vector<std::pair<std::string, std::int64_t>> kLanguages = {{{', '.join(spoken)}}};"
    for title, table in (
        ("ProviderOptions", facts.provider_options),
        ("SessionEntries", facts.session_entries),
    ):
        pairs = (f"{{{_quoted(key)}, {_quoted(value)}}}" for key, value in table.items())
        yield f"inline const std::vector<std::pair<std::string, std::string>> k{title} = {{{', '.join(pairs)}}};"
    yield ""
    yield "}  // namespace whisper::facts"


def kotlin(facts: Facts) -> Iterator[str]:
    """The lines of `ModelFacts.kt`."""
    yield "package pocketopt.whisper"
    yield ""
    yield "/** Facts of this model, written by pocket_opt. */"
    yield "object ModelFacts {"
    yield f"    const val SAMPLE_RATE = {facts.sample_rate}"
    yield f"    const val WINDOW_SAMPLES = {facts.window_samples}"
    yield f"    const val BUILD = {_quoted(facts.build)}"
    yield f"    val LANGUAGES: List<String> = listOf({', '.join(map(_quoted, facts.languages))})"
    yield f"    val NPU_FOLDER: String? = {_quoted(facts.npu_folder)}"
    yield f"    val CPU_FOLDER: String? = {_quoted(facts.cpu_folder)}"
    yield "}"


def packed(words: Iterable[bytes]) -> bytes:
    """`tokens.bin`: for each id the length in two bytes, the lower first, and the bytes."""
    return b"".join(len(word).to_bytes(2, "little") + word for word in words)


def _numbers(facts: Facts) -> Iterator[tuple[str, int]]:
    yield "Vocabulary", facts.vocabulary
    yield "Start", facts.start
    yield "End", facts.end
    yield "NoTimestamps", facts.no_timestamps
    yield "Transcribe", facts.transcribe
    yield "Translate", facts.translate
    yield "Limit", facts.limit


def _limit(generation: Mapping[str, object], prompt: int, positions: int) -> int:
    """As for the first window in runner/long_form.py."""
    new, longest = generation.get("max_new_tokens"), generation.get("max_length") or DEFAULT_LENGTH
    assert isinstance(longest, int)
    wanted = new + prompt if isinstance(new, int) else longest + min(prompt, positions // 2 - 1)
    return min(wanted, positions)


def _ids(values: object, size: int) -> tuple[int, ...]:
    return tuple(index for index in values if 0 <= index < size) if isinstance(values, list) else ()


def _row(cache: str) -> str:
    return cache.replace("past_", "new_")


def _listed(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))


def _quoted(text: str | None) -> str:
    """A literal of both languages."""
    return "null" if text is None else json.dumps(text).replace("$", "\\$")
