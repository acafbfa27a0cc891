"""The lines of Gradle for a model on Android: which libraries, in exactly which versions.

A context binary runs on a runtime that is at least as new as the compiler that made it, and a provider on one that is
at least as new as the SDK that it was built with. So the versions follow from the binary: the provider is that which it
was checked with, and Qualcomm publishes the runtime of SDK 2.51.x for Android as `qnn-runtime:2.51.0`. Source:
onnxruntime-qnn, docs/execution_providers/QNN-ExecutionProvider.md and its pull request 783; Maven Central as far as
public projects of October 2026 name its versions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

ONNXRUNTIME = "com.microsoft.onnxruntime:onnxruntime-android"
PROVIDER = "com.qualcomm.qti:onnxruntime-android-qnn"
QNN_RUNTIME = "com.qualcomm.qti:qnn-runtime"
MIN_SDK = 27

NEWEST = "1.31.0"
"""Of ONNX Runtime for Android."""
VALIDATED = {"2.5.0": "1.26.0", "2.6.0": "1.27.0"}
"""Version of the provider -> that of ONNX Runtime which its makers name beside it; NEWEST where they do not."""
BUILT_WITH = {"2.5.0": "2.49.0", "2.6.0": "2.50.0", "2.7.0": "2.51.0"}
"""Version of the provider -> the runtime of its SDK."""
SEEN = {PROVIDER: "2.6.0", QNN_RUNTIME: "2.50.0"}
"""The newest versions on Maven Central that were seen when this was written."""


@dataclass(frozen=True)
class Library:
    """A coordinate of Maven; `seen`: it is known to be there."""

    name: str
    version: str
    seen: bool = True

    @property
    def coordinate(self) -> str:
        """As Gradle writes it."""
        return f"{self.name}:{self.version}"


def libraries(provider: str | None, sdk: str | None) -> list[Library]:
    """What an app needs.

    Args:
        provider: version of onnxruntime-qnn that the model was checked with; None for one that runs on the CPU.
        sdk: version of Qualcomm's SDK that the context binaries name, e.g. "v2.51.0.260929181845".
    """
    if provider is None or sdk is None:
        return [Library(ONNXRUNTIME, NEWEST)]
    major, minor = sdk.lstrip("v").split(".")[:2]
    made_by = f"{major}.{minor}.0"
    given = {PROVIDER: provider, QNN_RUNTIME: max(made_by, BUILT_WITH.get(provider, made_by), key=_number)}
    return [
        Library(ONNXRUNTIME, VALIDATED.get(provider, NEWEST)),
        *(Library(name, version, _number(version) <= _number(SEEN[name])) for name, version in given.items()),
    ]


def gradle_lines(needed: list[Library], *, fallback: bool) -> Iterator[str]:
    """`build.gradle.kts` for an app module.

    Args:
        fallback: the models of the folder `fallback` are part of the app, too.
    """
    npu = len(needed) > 1
    yield "// For the build.gradle.kts of an app module; `bundle` is the folder of README.md and manifest.json."
    yield 'val bundle = file("../bundle")'
    yield "val onnxRuntime: Configuration by configurations.creating"
    yield ""
    yield "android {"
    yield "    defaultConfig {"
    yield f"        minSdk = {MIN_SDK}"
    yield '        ndk { abiFilters += "arm64-v8a" }'
    yield "        externalNativeBuild {"
    yield '            cmake { arguments += "-DORT_DIR=${layout.buildDirectory.get()}/onnxruntime" }'
    yield "        }"
    yield "    }"
    yield '    externalNativeBuild { cmake { path = bundle.resolve("android/cpp/CMakeLists.txt") } }'
    yield '    sourceSets["main"].kotlin.srcDir(bundle.resolve("android/kotlin"))'
    yield '    sourceSets["main"].assets.srcDir(bundle.resolve("assets"))'
    if fallback:
        yield '    sourceSets["main"].assets.srcDir(bundle.resolve("fallback/assets"))'
    if npu:
        yield "    packaging { jniLibs { useLegacyPackaging = true } }  // the NPU's half is loaded from a file"
    yield "}"
    yield ""
    yield "dependencies {"
    for library in needed:
        if not library.seen:
            yield f"    // {library.version} follows from the model; the newest seen so far was {SEEN[library.name]}."
        yield f'    implementation("{library.coordinate}")'
    yield f'    onnxRuntime("{needed[0].coordinate}@aar")'
    yield "}"
    yield ""
    yield "// The C++ headers are in the archive."
    yield "val unpackOnnxRuntime by tasks.registering(Copy::class) {"
    yield "    from({ onnxRuntime.map { zipTree(it) } })"
    yield '    into(layout.buildDirectory.dir("onnxruntime"))'
    yield "}"
    yield 'tasks.named("preBuild") { dependsOn(unpackOnnxRuntime) }'


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
