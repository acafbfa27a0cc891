"""The Android-ready folder: graphs among the assets with answers like before, facts of the model, lines of Gradle."""

from __future__ import annotations

import json
import struct
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from compiled_whisper import compiled
from exported_whisper import exported, run_pass
from layout_fixtures import clips
from tokenizers import Tokenizer

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.identity import digest, file_digest
from pocket_opt.models.whisper.layouts.android_facts import Facts, facts_of, kotlin
from pocket_opt.models.whisper.layouts.android_gradle import PROVIDER, gradle_lines, libraries
from pocket_opt.models.whisper.runner.transcript import DecodeOptions
from pocket_opt.models.whisper.runner.whisper import Whisper
from pocket_opt.passes.base import Outcome
from pocket_opt.passes.layout_android import PASS, SOURCES
from pocket_opt.qnn.chip import GRAPHS

SDK = "v2.51.0.260929181845"


@cache
def on_cpu() -> Outcome:
    return run_pass("layout_android", exported("static"), Path(mkdtemp(prefix="android-cpu-")))


@cache
def on_npu() -> Outcome:
    root = Path(mkdtemp(prefix="android-npu-"))
    return run_pass("layout_android", compiled().artifact, root, target="sd8elite", fallback="a" * 64)


def written(outcome: Outcome, name: str) -> str:
    return (outcome.artifact.root / "android" / name).read_text(encoding="utf-8")


def facts(artifact: Artifact) -> Facts:
    return facts_of(artifact, "0" * 12, None, "whisper_cpu")


def test_the_answers_stay() -> None:
    before, after = (
        Whisper(artifact.root, threads=1).transcribe(clips(), DecodeOptions("en"))
        for artifact in (exported("static"), on_cpu().artifact)
    )
    assert [clip.tokens for clip in after] == [clip.tokens for clip in before]
    assert len({token for clip in after for token in clip.tokens}) >= 20


def test_graphs_are_assets_with_their_binaries_beside_them() -> None:
    assets = on_npu().artifact.root / "assets" / "whisper_sd8elite"
    compiled_graphs = [f"{name}{end}" for name in GRAPHS for end in (".onnx", "_qnn.bin")]
    names = {"mel.onnx", *compiled_graphs, "tokens.bin", "session.txt"}
    assert {path.name for path in assets.iterdir()} == names
    assert on_npu().artifact.components["encoder"].files == (
        "assets/whisper_sd8elite/encoder.onnx",
        "assets/whisper_sd8elite/encoder_qnn.bin",
    )
    assert on_npu().artifact.model_mb == pytest.approx(compiled().artifact.model_mb)
    assert not (on_npu().artifact.root / "encoder.onnx").exists()


def test_words_are_those_of_the_tokenizer() -> None:
    artifact = on_cpu().artifact
    raw = (artifact.root / "assets" / "whisper_cpu" / "tokens.bin").read_bytes()
    words, at = [], 0
    while at < len(raw):
        [length] = struct.unpack_from("<H", raw, at)
        words.append(raw[at + 2 : at + 2 + length])
        at += 2 + length
    assert len(words) == artifact.metadata["dims"]["vocab"]
    tokenizer = Tokenizer.from_file(str(artifact.file("processor", "tokenizer.json")))
    said = list(range(0, len(words), 7))
    assert b"".join(words[token] for token in said).decode(errors="replace") == tokenizer.decode(said)


def test_facts_are_those_of_the_generation_configuration() -> None:
    artifact = on_cpu().artifact
    table = json.loads(artifact.file("generation", "generation_config.json").read_text())
    told, header = facts(artifact), written(on_cpu(), "cpp/model_facts.h")
    assert (told.start, told.end) == (table["decoder_start_token_id"], table["eos_token_id"])
    assert told.languages == {key.strip("<|>"): index for key, index in table["lang_to_id"].items()}
    assert told.limit == min(table["max_length"] + 4, artifact.metadata["dims"]["target_positions"])
    assert f"kStart = {told.start};" in header
    assert f"kWindowSamples = {4 * 16_000};" in header
    assert f"kNever = {{{', '.join(map(str, table['suppress_tokens']))}}};" in header
    assert "kProviderOptions = {};" in header


def test_the_npu_is_told_what_the_cpu_is_not() -> None:
    header, told = written(on_npu(), "cpp/model_facts.h"), written(on_npu(), "kotlin/ModelFacts.kt")
    assert '{"backend_path", "libQnnHtp.so"}' in header
    assert '{"session.disable_cpu_ep_fallback", "1"}' in header
    assert 'NPU_FOLDER: String? = "whisper_sd8elite"' in told
    assert 'CPU_FOLDER: String? = "whisper_cpu"' in told
    assert "NPU_FOLDER: String? = null" in written(on_cpu(), "kotlin/ModelFacts.kt")
    sources = on_npu().artifact.root / "android", on_cpu().artifact.root / "android"
    assert [(place / "AndroidManifest.xml").exists() for place in sources] == [True, False]


def test_settings_of_sessions_are_beside_the_graphs() -> None:
    entries = exported("static").metadata["session"]["entries"]
    text = (on_cpu().artifact.root / "assets" / "whisper_cpu" / "session.txt").read_text()
    assert entries
    assert dict(line.split("=") for line in text.splitlines()) == entries


def test_libraries_follow_from_the_binary() -> None:
    found = {library.name.split(":")[1]: library for library in libraries("2.7.0", SDK)}
    assert found["onnxruntime-android-qnn"].version == "2.7.0"
    assert found["qnn-runtime"].version == "2.51.0"
    assert not found["qnn-runtime"].seen
    older = {library.name.split(":")[1]: library for library in libraries("2.6.0", "v2.50.40.260901")}
    assert [(one.version, one.seen) for one in older.values()] == [
        ("1.27.0", True),
        ("2.6.0", True),
        ("2.50.0", True),
    ]
    by_an_older_sdk = libraries("2.6.0", "2.39.0.250926")
    assert [one.version for one in by_an_older_sdk] == [one.version for one in older.values()]
    assert [library.name.split(":")[1] for library in libraries(None, None)] == ["onnxruntime-android"]


def test_gradle_has_the_libraries_and_says_which_were_not_seen() -> None:
    text = written(on_npu(), "build.gradle.kts")
    for coordinate in on_npu().artifact.metadata["android"]["libraries"]:
        assert f'implementation("{coordinate}")' in text
    assert 'resolve("fallback/assets")' in text
    assert "newest seen so far was 2.6.0" in "\n".join(gradle_lines(libraries("2.7.0", SDK), fallback=False))
    assert "newest seen" not in "\n".join(gradle_lines(libraries("2.6.0", "v2.50.0.1"), fallback=False))
    assert PROVIDER not in written(on_cpu(), "build.gradle.kts")


def test_another_fallback_is_another_build() -> None:
    other = run_pass(
        "layout_android", compiled().artifact, Path(mkdtemp()), target="sd8elite", fallback="b" * 64
    )
    assert written(other, "kotlin/ModelFacts.kt") != written(on_npu(), "kotlin/ModelFacts.kt")
    assert written(other, "cpp/model_facts.h") == written(on_npu(), "cpp/model_facts.h")


def test_names_are_text_in_kotlin() -> None:
    lines = list(kotlin(facts_of(on_cpu().artifact, "$build", None, None)))
    assert '    const val BUILD = "\\$build"' in lines


def test_graphs_of_other_shapes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="and these have others"):
        run_pass("layout_android", exported(), tmp_path)


def test_ports_that_the_sources_do_not_know_are_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    source = exported("static")
    part = source.components["decoder"]
    odd = [replace(port, dtype="float16") if port.name == "cache_mask" else port for port in part.inputs]
    changed = source.with_component("decoder", replace(part, inputs=tuple(odd)))
    with pytest.raises(PocketOptError, match="'cache_mask' of 'decoder' has the type float16"):
        run_pass("layout_android", changed, tmp_path)


def test_other_settings_of_sessions_are_refused(tmp_path: Path) -> None:
    source = exported("static")
    changed = source.with_component(
        "mel", source.components["mel"], session={"graph_optimization": "basic", "entries": {}}
    )
    with pytest.raises(PocketOptError, match="sessions with other settings"):
        run_pass("layout_android", changed, tmp_path)


def test_the_version_is_raised_with_the_sources() -> None:
    """They are part of the result, which is kept by the version of the pass."""
    files = sorted(path for path in SOURCES.rglob("*") if path.is_file())
    assert (PASS.version, digest("sources", [file_digest(path) for path in files])[:12]) == (
        2,
        "4ae9ea58405a",
    )
