"""The contract of a target: which passes realise a level's intents there, and whether its runtime works here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pocket_opt.config.schema import Decoder, Intents
from pocket_opt.errors import UserError


@dataclass(frozen=True)
class Step:
    """One build pass that a target asks for.

    Attributes:
        name: the node's name in the graph.
        off: why this step is not taken at this level; empty if it is.
        inputs: edge -> name of the step it comes from, "" for the source model (or the student). Without any, the step
            takes the model of the step before it.
    """

    name: str
    pass_name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    off: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Architecture:
    """What config.json says of a model that no family here knows; empty where that is not at hand yet."""

    model_type: str
    class_name: str

    @property
    def speaks(self) -> bool:
        """Whether it makes one token at a time, so that reading the weights is the cost."""
        return self.class_name.endswith(("ForCausalLM", "LMHeadModel"))


def not_of_any(target: str) -> UserError:
    """The refusal of a target that takes models with a family only."""
    return UserError(
        f"the target {target} takes models that a family here builds graphs for",
        where="recipe.family=optimum",
        allowed="target=cpu",
        fix="choose target=cpu, whose graphs are those of ONNX",
    )


def unless_source(intents: Intents, steps: Sequence[Step]) -> list[Step]:
    """`steps`, all off where the level keeps the source model."""
    if intents.format == "target":
        return list(steps)
    return [replace(step, off="this level keeps the source model in its own framework") for step in steps]


def check_decoder(
    decoder: Decoder, intents: Intents, elsewhere: Mapping[str, str], allowed: str, *, prefill: bool = False
) -> None:
    """Raise UserError for a decoder that is for other targets; `elsewhere` says of each why.

    Args:
        prefill: prompts have a graph of their own here, which may be left out.
    """
    if decoder.name in elsewhere and intents.format == "target":
        raise UserError(
            elsewhere[decoder.name],
            where=f"decoder={decoder.name}",
            allowed=allowed,
            fix="choose decoder=kv_cache, or target=cpu",
        )
    if not prefill:
        check_prefill(decoder)


def check_prefill(decoder: Decoder) -> None:
    """Raise UserError where a decoder that has no graph of its own for prompts is to do without."""
    if not decoder.prefill:
        raise UserError(
            "this decoder has no graph of its own for the prompt",
            where=f"decoder.prefill=false, decoder={decoder.name}",
            allowed="decoder.prefill=true; false with decoder=static, target=et_xnnpack, and snapdragon and its kin",
            fix="leave it out",
        )


@dataclass(frozen=True)
class Package:
    """An installable package that a target needs, for `doctor`."""

    distribution: str
    install: str


class Target(Protocol):
    """A device with its runtime.

    Attributes:
        name: registered name; the name of its file and of its choice under `conf/target/`.
        verified: how its artifacts are run here: "native", "simulator" or "structural".
        packages: what must be installed.
        layouts: of `bundle.layout` those that can be written beside the native one.
        probe_task: worker task that really runs one operator through the runtime.
    """

    name: str
    verified: str
    packages: tuple[Package, ...]
    layouts: tuple[str, ...]
    probe_task: str

    def steps(self, intents: Intents, decoder: Decoder) -> list[Step]:
        """The build chain after the source, in order, with the steps that are off and why."""
        ...

    def steps_of_any(self, intents: Intents, architecture: Architecture) -> list[Step]:
        """The same for a model without a family, exported by Optimum; UserError where the target takes none."""
        ...
