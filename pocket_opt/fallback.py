"""The same model for the CPU beside one that is compiled for an NPU: the second variant that `with_fallback` asks for.

It is planned, measured and bundled like any other, and its bundle becomes the folder `fallback` of the first one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pocket_opt.config import groups
from pocket_opt.config.overrides import key_of
from pocket_opt.config.parsing import parse
from pocket_opt.config.schema import Config, Decoder, TargetSettings
from pocket_opt.errors import UserError
from pocket_opt.passes import MEASUREMENTS
from pocket_opt.targets.base import Target

KEY = "bundle.with_fallback"
TARGET, DECODER = "cpu", "static"
"""Fixed shapes, like those of the NPU: one loop feeds both."""
OWN = (KEY, "target", "decoder", "device", "device_python")
"""Keys that are about the NPU's variant alone."""


def fallback_config(config: Config, target: Target) -> Config | None:
    """The configuration of the CPU's variant; None where none is asked for.

    Of `nodes` it takes what is said about measurements; passes and the device are the NPU's.

    Raises:
        UserError: there is nothing to fall back from.
    """
    if not config.bundle.with_fallback:
        return None
    if target.verified != "simulator" or config.level.intents.format == "source":
        what = (
            f"level {config.level.name} is" if target.verified == "simulator" else f"target {target.name} is"
        )
        raise UserError(
            f"the {what} for this machine's processor already, which a fallback would be for",
            where=KEY,
            allowed="with a Snapdragon as the target, at level BASIC to EXTREME",
            fix=f"leave {KEY} out, or set target=snapdragon",
        )
    return replace(
        config,
        target=replace(
            parse(TargetSettings, _choice("target", TARGET), where=TARGET), threads=config.target.threads
        ),
        decoder=parse(Decoder, _choice("decoder", DECODER), where=DECODER),
        bundle=replace(config.bundle, with_fallback=False),
        nodes={name: edit for name, edit in config.nodes.items() if _is_measured(name)},
        device=None,
    )


def fallback_lines(lines: Sequence[str]) -> list[str]:
    """The overrides of the CPU's variant, of those that the NPU's was asked for by."""
    return [*(line for line in lines if _is_kept(key_of(line))), f"decoder={DECODER}"]


def _is_kept(key: str) -> bool:
    first, _, rest = key.partition(".")
    if first == "nodes":
        return _is_measured(rest.split(".")[0])
    return key not in OWN and first not in OWN


def _is_measured(node: str) -> bool:
    return node in MEASUREMENTS or node == "baseline"


def _choice(group: str, name: str) -> dict[str, object]:
    return groups.read_yaml(groups.choices(group)[name])
