"""The layout of a bundle while planning: which pass writes the files that a client loads, or why it cannot."""

from __future__ import annotations

from typing import Any

from pocket_opt.config.schema import Config
from pocket_opt.errors import UserError
from pocket_opt.graph_edits import Draft, read_edits
from pocket_opt.models.sources import Root
from pocket_opt.targets import described_chip
from pocket_opt.targets.base import Target

NODE, NATIVE, ANDROID = "layout", "native", "android"
KEY = "bundle.layout"
DTYPES = {"fp32": "fp32", "fp16": "fp16", "int8": "q8", "int4": "q4"}
"""Intended precision of the weights -> what transformers.js calls it."""

FIXED_WINDOWS = {"genai": 30.0}
"""Layout -> the seconds of audio that its client feeds, whatever the model expects."""


def with_layout(
    drafts: list[Draft], last: str, config: Config, target: Target, root: Root, fallback: str = ""
) -> tuple[list[Draft], str]:
    """`drafts` and the node that writes the layout after `last`, and which node is last; nothing for our own layout.

    Args:
        root: the model that `last` was made from.
        fallback: build key of the model that the bundle holds for the CPU as well; empty without one.

    Raises:
        UserError: the layout does not fit the target, the level, the decoder or the model.
    """
    layout = config.bundle.layout
    if layout == NATIVE:
        return drafts, last
    _check_fit(config, target, root)
    if NODE in read_edits(config.nodes):
        raise UserError(
            f"the node '{NODE}' follows from {KEY}",
            where=f"nodes.{NODE}",
            fix=f"set {KEY}, or give your node another name",
        )
    params: dict[str, dict[str, Any]] = {
        "transformers_js": {"dtype": DTYPES[config.level.intents.weights]},
        ANDROID: {"target": target.name, "fallback": fallback},
    }
    added = Draft(NODE, f"layout_{layout}", params.get(layout, {}), {"model": last}, f"{KEY}={layout}")
    return [*drafts, added], NODE


def _check_fit(config: Config, target: Target, root: Root) -> None:
    layout, window = config.bundle.layout, FIXED_WINDOWS.get(config.bundle.layout)
    if layout not in target.layouts:
        raise UserError(
            f"the target {target.name} cannot write the layout {layout}",
            where=KEY,
            allowed=", ".join((NATIVE, *target.layouts)),
            fix="choose another layout, or target=cpu",
        )
    if config.level.intents.format == "source":
        raise UserError(
            f"level {config.level.name} keeps the source model, and the layout {layout} is made of ONNX graphs",
            where=KEY,
            allowed=f"{NATIVE} at this level: a directory that transformers loads",
            fix="choose level=BASIC, which gives the same answers, or a higher one",
        )
    _check_chip(config)
    _check_decoder(config, target)
    if config.audio_context != "full":
        raise UserError(
            f"the client of the layout {layout} feeds whole windows, not audio_context={config.audio_context}",
            where=KEY,
            fix="set audio_context=full",
        )
    if config.word_timestamps:
        raise UserError(
            f"the client of the layout {layout} knows no outputs for the times of words",
            where=KEY,
            allowed=f"{NATIVE} with word_timestamps=true",
            fix="set word_timestamps=false",
        )
    if window is not None and root.window_s not in (None, window):
        raise UserError(
            f"the client of the layout {layout} feeds {window:g} s at once, and this model takes {root.window_s:g} s",
            where=KEY,
            allowed=", ".join(name for name in (NATIVE, *target.layouts) if name not in FIXED_WINDOWS),
            fix="choose another layout, or a model with a window of 30 s",
        )


def _check_chip(config: Config) -> None:
    chip = described_chip(config.target.soc)
    if config.bundle.layout == ANDROID and chip is not None and not chip.android:
        raise UserError(
            f"the layout {ANDROID} is for phones, and devices with the {chip.chip} run no Android",
            where=KEY,
            allowed=f"{NATIVE} for this chip",
            fix=f"set {KEY}={NATIVE}, or choose target=snapdragon",
        )


def _check_decoder(config: Config, target: Target) -> None:
    layout, decoder = config.bundle.layout, config.decoder.name
    if layout == ANDROID and target.name == "cpu" and decoder != "static":
        raise UserError(
            f"the sources of the layout {layout} feed a decoder of fixed shapes, not decoder={decoder}",
            where=KEY,
            fix="set decoder=static",
        )
    if layout != ANDROID and decoder != "kv_cache":
        raise UserError(
            f"the layout {layout} needs a decoder with caches, not decoder={decoder}",
            where=KEY,
            fix="set decoder=kv_cache",
        )
    compiling = read_edits(config.nodes).get("compile")
    if layout == ANDROID and compiling is not None and compiling.params.get("share_weights"):
        raise UserError(
            "binaries with shared weights are switched off in Qualcomm's provider for Android",
            where="nodes.compile.params.share_weights",
            fix=f"leave it out, or set {KEY}={NATIVE}",
        )
