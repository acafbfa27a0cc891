"""The contract of a pass: parameters as data, and `requires -> run -> ensures` on artifacts.

Source of the three-step form: the pass infrastructure of onnx/ir-py. Importing a pass module must stay cheap (no
torch, onnx or onnxruntime at module level), because planning reads its parameters and version.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.worker import silent

Inputs = Mapping[str, Artifact]
Progress = Callable[[int, int, str], None]
"""Called as `progress(done, total, unit)` from loops that take long, e.g. (12, 220, "clips")."""


def neutral(default: Any, *, instead: str = "") -> Any:
    """A parameter that cannot change the result (threads, a path whose content is digested beside it).

    It stays out of the key.

    Args:
        instead: see `planned`.
    """
    return field(default=default, metadata={"neutral": True, "instead": instead})


def planned(default: Any, *, instead: str) -> Any:
    """A parameter that the planner works out, so that users set the key `instead` and never the parameter itself."""
    return field(default=default, metadata={"instead": instead})


def positive(default: Any = MISSING) -> Any:
    """A number from 1 on; it must be given where there is no default."""
    return field(default=default, metadata={"at_least": 1})


@dataclass(frozen=True)
class Calibrated:
    """Parameters of a pass that may read calibration audio; see `Pass.calibrates`.

    Attributes:
        calibration_path: list of the clips; "" where the pass is not calibrated.
        calibration_digest: the data set's digest; enters the key in place of the path.
    """

    calibration_path: str = neutral("", instead="data.calibration.path")
    calibration_digest: str = planned("", instead="data.calibration.path")

    def fewest_clips(self) -> int:
        """A data set of fewer is refused when planning."""
        return 1


@dataclass(frozen=True)
class NoParams:
    """For passes without parameters."""


@dataclass(frozen=True)
class Outcome:
    """What a pass made, and what it did: counts, bytes, what was left out and why (all JSON values)."""

    artifact: Artifact
    did: Mapping[str, Any]


P = TypeVar("P")


class Pass(ABC, Generic[P]):
    """One transformation or measurement. Its module's name is its registered name.

    Attributes:
        version: enters the key; raised whenever the same inputs and parameters give another result.
        Params: frozen dataclass of JSON values (numbers, strings, booleans, tuples of these).
        kind: a "build" changes the model; a "measure" makes a table of numbers, keyed by the host too.
        tools: distributions whose installed versions enter the key.
        toolchain: name of the toolchain in whose environment it works; its pinned versions enter the key.
        inputs: names of the input edges, in order.
        optional: those of them that may be missing.
        compiles: its result computes what its input "model" computes, elsewhere; the two are compared.
        search_params: for a quantizer that takes overrides: what `sensitivity_search` is told of what it can carry out.
        exclusive: it times or weighs, so no other such pass of this machine may run beside it.
        limits: metrics ("group.name") of which less is better, so that a budget may limit them; `*` stands for what
            the data or the model names.
    """

    version: ClassVar[int]
    Params: ClassVar[type[Any]] = NoParams
    kind: ClassVar[Literal["build", "measure"]] = "build"
    tools: ClassVar[tuple[str, ...]] = ()
    toolchain: ClassVar[str] = ""
    inputs: ClassVar[tuple[str, ...]] = ("model",)
    optional: ClassVar[tuple[str, ...]] = ()
    compiles: ClassVar[bool] = False
    search_params: ClassVar[Mapping[str, Any]] = {}
    exclusive: ClassVar[bool] = False
    limits: ClassVar[tuple[str, ...]] = ()

    def check(self, params: P) -> None:
        """Refuse values that fit no input, when planning: raise UserError with the parameter as its place."""

    def found_tools(self) -> Mapping[str, str]:
        """Versions of programs that are no distributions, as found on this machine; they enter the key."""
        return {}

    def calibrates(self, params: P) -> bool:  # noqa: ARG002
        """Whether these parameters need calibration audio; the planner then names it in them (a `Calibrated`)."""
        return False

    def requires(self, inputs: Inputs, params: P) -> None:
        """Fail before the expensive part: raise PocketOptError naming node, layer or tensor, value and fix."""

    @abstractmethod
    def run(self, inputs: Inputs, params: P, workdir: Path, progress: Progress = silent) -> Outcome:
        """Write the result's files into the empty directory `workdir` and describe them."""

    def ensures(self, inputs: Inputs, params: P, outcome: Outcome) -> None:
        """Check the output (structure, ports kept, finite weights); raise PocketOptError if it is not right."""


def execute(step: Pass[P], inputs: Inputs, params: P, workdir: Path, progress: Progress = silent) -> Outcome:
    """Run all three steps of a pass and save the artifact's description."""
    step.check(params)
    step.requires(inputs, params)
    outcome = step.run(inputs, params, workdir, progress)
    _check_files(outcome.artifact, workdir)
    step.ensures(inputs, params, outcome)
    outcome.artifact.save()
    return outcome


def _check_files(artifact: Artifact, workdir: Path) -> None:
    """What a pass describes, it must have written where it was told to."""
    named = [workdir / name for part in artifact.components.values() for name in part.files]
    missing = [path for path in named if not path.is_file()]
    if artifact.root != workdir or missing:
        raise PocketOptError(
            "the pass describes an artifact that it did not write",
            where=str(missing[0].relative_to(workdir) if missing else artifact.root),
            allowed="files below workdir",
        )
