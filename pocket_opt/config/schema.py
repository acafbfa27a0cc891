"""What a user may write, as frozen dataclasses: the whole configuration of one variant.

The YAML files under `conf/`, `recipes/` and `experiments/` fill these; `docs/configuration.md` is generated from the
comments beside the fields. Nothing here imports Hydra.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

LevelName = Literal["NONE", "BASIC", "MEDIUM", "HIGH", "EXTREME"]
LEVELS: tuple[LevelName, ...] = get_args(LevelName)
NOT_NEGATIVE = {"at_least": 0}
POSITIVE = {"at_least": 1}
"""Bounds of numbers, in the metadata of their fields."""

PLACE = {"place": True}
"""Metadata of text that names a place on a disk or in a network: empty text is a mistake."""


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from: a hub id, a local directory, or an architecture with random weights."""

    hub: str | None = field(default=None, metadata=PLACE)  # model hub id, e.g. openai/whisper-tiny
    revision: str = "main"  # branch, tag or commit of the hub id; resolved to a commit at the first download
    path: str | None = field(
        default=None, metadata=PLACE
    )  # local directory in Hugging Face layout; wins over hub. `sample:teacher` is the shipped model
    weights: Literal["pretrained", "random"] = (
        "pretrained"  # random: the real architecture, for speed and size only
    )
    architecture: Mapping[str, int | bool] = field(
        default_factory=dict
    )  # dimensions, needed for random weights


@dataclass(frozen=True)
class RecipeData:
    """The data sets a recipe brings along: directories or transcript files."""

    evaluation: str | None = field(
        default=None, metadata=PLACE
    )  # directory or transcripts file for WER; `sample:evaluation` is shipped
    calibration: str | None = field(
        default=None, metadata=PLACE
    )  # directory or transcripts file for calibration


@dataclass(frozen=True)
class Recipe:
    """What is optimized: the model, its data and its quality budget."""

    name: str  # the name of the file
    family: Literal[
        "whisper", "optimum"
    ]  # which model family reads and exports it; optimum: whatever Optimum exports, see docs/toolchains.md
    model: ModelSource  # the source model
    license: str  # the model's licence; it reaches the bundle
    summary: str = ""  # one line for `pocket-opt list`
    student: ModelSource | None = (
        None  # a smaller model distilled from it, used where the level asks for a student
    )
    data: RecipeData = field(default_factory=RecipeData)  # data sets that come with it
    budget: Mapping[LevelName, Mapping[str, float]] = field(
        default_factory=dict
    )  # level -> metric -> upper limit


@dataclass(frozen=True)
class Intents:
    """What a level asks for, in terms of effect; the target says which passes realise it."""

    format: Literal["source", "target"] = "target"  # source: the model in its own framework
    fusion: Literal["none", "lossless"] = "none"  # operator fusion and clean-up
    weights: Literal["fp32", "fp16", "int8", "int4"] = "fp32"  # precision of matrix weights
    activations: Literal["float", "dynamic"] = "float"  # precision of the operands of matrix products
    rest: Literal["fp32", "fp16"] = "fp32"  # storage of what is not quantized (convolutions, positions)
    student: bool = False  # use the recipe's distilled student


@dataclass(frozen=True)
class Level:
    """How hard to optimize."""

    name: LevelName  # the name of the file
    rank: int  # 0 to 4, for sorting and charts
    intents: Intents  # what is asked for
    summary: str = ""  # one line for `pocket-opt list`


@dataclass(frozen=True)
class Soc:
    """A Qualcomm chip with an NPU, as its compiler is told of it."""

    chip: str  # name of the chip, e.g. SM8750
    soc_model: int = field(metadata=POSITIVE)  # the number that the compiler knows it by
    htp_arch: Literal[68, 69, 73, 75, 79, 81]  # generation of the NPU, the Hexagon Tensor Processor
    vtcm_mb: int = field(metadata=POSITIVE)  # MB of the NPU's own fast memory
    android: bool = True  # whether devices with it run Android, for bundle.layout=android


@dataclass(frozen=True)
class TargetSettings:
    """Where the model runs."""

    name: str  # the target's registered name
    summary: str = ""  # one line for `pocket-opt list`
    threads: int = field(default=0, metadata=NOT_NEGATIVE)  # threads of the runtime; 0 lets it choose
    soc: Soc | str | None = (
        None  # of a Snapdragon: which chip it is, described or by the name of its target; see docs/snapdragon.md
    )


@dataclass(frozen=True)
class Decoder:
    """How the text decoder is laid out."""

    name: Literal[
        "basic", "kv_cache", "static", "all_in_one"
    ]  # kv_cache keeps keys and values between steps, basic recomputes the prefix, static has fixed shapes (for NPUs),
    # all_in_one is one file from samples to text
    audio: Literal["samples", "file"] = (
        "samples"  # of all_in_one: whether it takes samples or the bytes of a WAV, FLAC or MP3 file
    )
    prefill: bool = (
        True  # of static: the prompt has a graph of its own; false spares its weights, for more steps
    )


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen."""

    name: Literal["greedy", "beam"]  # the search
    language: str | None = (
        None  # language of the speech, e.g. de; null takes each clip's own, auto detects it
    )
    task: Literal["transcribe", "translate"] = "transcribe"  # translate gives English text
    timestamps: bool = False  # predict segment times
    batch_size: int = field(default=8, metadata=POSITIVE)  # clips decoded together when measuring quality
    max_new_tokens: int | None = field(
        default=None, metadata=POSITIVE
    )  # limit of tokens a window; null takes what the model allows
    beams: int = field(default=1, metadata={"at_least": 1, "at_most": 5})  # sequences followed side by side
    length_penalty: float = 1.0  # of beam: above 0 favours long texts
    fallback: bool = True  # of audio longer than a window: decode bad windows again at higher temperatures
    condition_on_previous: bool = False  # of audio longer than a window: tell each what was said before it


@dataclass(frozen=True)
class Search:
    """How the precision of each layer is chosen."""

    name: Literal["none", "sensitivity"] = "none"  # sensitivity measures layers on calibration audio


@dataclass(frozen=True)
class Tracking:
    """Where runs are recorded."""

    name: Literal["mlflow", "none"]  # none records nothing
    uri: str | None = field(
        default=None, metadata=PLACE
    )  # MLflow tracking URI; null is MLFLOW_TRACKING_URI or sqlite in output_dir
    upload_models: bool = False  # also upload model files, not only manifest, card and tables


@dataclass(frozen=True)
class BundleSettings:
    """What the result looks like on disk."""

    layout: Literal["native", "optimum", "transformers_js", "sherpa_onnx", "genai", "android"] = (
        "native"  # whose software loads the files unchanged; see docs/clients.md, and docs/android.md
    )
    with_fallback: bool = (
        False  # of an NPU: also make, measure and enclose the model for the CPU; see docs/android.md
    )


@dataclass(frozen=True)
class EvaluationData:
    """The clips that quality is measured on."""

    path: str | None = field(
        default=None, metadata=PLACE
    )  # directory or transcripts file; null takes the recipe's
    limit: int | None = field(default=None, metadata=POSITIVE)  # use only so many clips


@dataclass(frozen=True)
class CalibrationData:
    """The clips that activation ranges are measured on."""

    path: str | None = field(
        default=None, metadata=PLACE
    )  # directory or transcripts file; null takes the recipe's


@dataclass(frozen=True)
class Data:
    """Your own audio."""

    evaluation: EvaluationData = field(default_factory=EvaluationData)  # for WER
    calibration: CalibrationData = field(default_factory=CalibrationData)  # for calibration


@dataclass(frozen=True)
class Toolchains:
    """Environments of tools that cannot live in this one."""

    install: bool = (
        False  # install what a plan needs and lacks (may download GBs); else refuse, with the command
    )


@dataclass(frozen=True)
class Config:
    """One variant, complete."""

    recipe: Recipe  # what
    target: TargetSettings  # where
    level: Level  # how hard
    decoder: Decoder  # group `decoder`
    decoding: Decoding  # group `decoding`
    tracking: Tracking  # group `tracking`
    search: Search = field(default_factory=Search)  # group `search`
    budget: Mapping[str, float] = field(
        default_factory=dict
    )  # metric -> upper limit, for the chosen level, on top of the recipe's
    data: Data = field(default_factory=Data)  # your own audio
    overrides: str | None = field(
        default=None, metadata=PLACE
    )  # YAML or JSON file of precisions by layer, for all quantizers; see docs/quantization.md
    audio_context: Literal["full", "auto"] = (
        "full"  # auto: the encoder sees no more of its window than has sound; quicker, but not what it was trained on
    )
    word_timestamps: bool = (
        False  # the decoder also tells what it attends to, so that transcripts may have the times of words
    )
    bundle: BundleSettings = field(default_factory=BundleSettings)  # what the result looks like on disk
    nodes: Mapping[str, Any] = field(
        default_factory=dict
    )  # changes to the graph: nodes.<name>.{pass,params,after,inputs,enabled}
    device: str | None = field(
        default=None, metadata=PLACE
    )  # also run the result there: adb:SERIAL, ssh:[USER@]HOST or aihub:NAME; see docs/devices.md
    device_python: str = field(default="python3", metadata=PLACE)  # how Python is called on the device
    toolchains: Toolchains = field(default_factory=Toolchains)  # see `pocket-opt toolchain`
    output_dir: str = field(default="outputs", metadata=PLACE)  # where bundles, reports and logs go
    timeout_s: float = field(default=3600.0, metadata=POSITIVE)  # limit for one node, in seconds
    fail_fast: bool = False  # in a sweep, stop at the first failure
    seed: int = field(default=0, metadata=NOT_NEGATIVE)  # seed of everything random

    @property
    def level_budget(self) -> Mapping[str, float]:
        """The limits that hold for the chosen level: the recipe's, and those that were set for this run."""
        return {**self.recipe.budget.get(self.level.name, {}), **self.budget}
