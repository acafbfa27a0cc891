"""Chooses a precision for every layer: the smallest model whose words stay within the budget on calibration audio.

Each layer (in large models: attention or feed-forward block) is put into each form alone, and its error measured: the
divergence of the next-token distribution from the exact model's, teacher-forced. Sorted by error a saved byte, these
are moves on a path from exact to small. A few variants on it decode the clips freely and tell how the words that differ
from the exact model's grow with the error: `wer_delta` % may be expected to. No WER changes by more than the words do,
mostly by far less. On other audio nothing is bounded, so quality is measured on the evaluation clips as ever.

The result is the unchanged model with a file `overrides.yaml` beside it, which the quantizers behind it carry out. It
is plain text: edit it, and give it back by `overrides=FILE` without the search. Costs minutes; memory is bounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocket_opt.errors import PocketOptError
from pocket_opt.passes.base import Calibrated, Inputs, Outcome, Pass, Progress, planned, positive
from pocket_opt.precision import OVERRIDES, with_rules
from pocket_opt.worker import silent

if TYPE_CHECKING:
    from pocket_opt.artifact import Artifact
    from pocket_opt.search.extent import Trial
    from pocket_opt.search.layers import Group, Layer
    from pocket_opt.search.listening import Listener
    from pocket_opt.search.path import Errors, Move

Form = Literal["int8_dynamic", "int4_dynamic", "int8", "int4", "int2", "static4"]


@dataclass(frozen=True)
class SensitivitySearchParams(Calibrated):
    """What is chosen from, and how much may be lost.

    Attributes:
        wer_delta: words in % that may differ from the exact model's on the calibration clips and their copies.
        encoder_forms, decoder_forms: what layers may become; the dynamic ones make an encoder faster, weight-only
            ones slower. Graphs that are quantized whole know "static4" only, against 8 bits.
        clips: how many calibration clips are used, spread evenly.
        noise_db: each clip is heard again with white noise at these signal-to-noise ratios: a model knows its own
            training clips too well to be judged on them alone.
        forced: clips, of these and their copies, on which single layers are measured.
        granularity: "layer", "block", or "auto": blocks from 100 layers on.
    """

    wer_delta: float = planned(1.0, instead="budget.wer_delta")
    encoder_forms: tuple[Form, ...] = ("int8_dynamic", "int4_dynamic")
    decoder_forms: tuple[Form, ...] = ("int8", "int4", "int2")
    clips: int = positive(32)
    noise_db: tuple[float, ...] = (20.0, 15.0, 10.0, 7.5, 5.0, 2.5, 0.0)
    forced: int = positive(24)
    granularity: Literal["auto", "layer", "block"] = "auto"


class SensitivitySearch(Pass[SensitivitySearchParams]):
    """Measures, sorts, verifies."""

    version = 3
    Params = SensitivitySearchParams
    tools = ("onnx", "onnx_ir", "onnxruntime", "numpy", "tokenizers", "jiwer", "transformers")

    def calibrates(self, params: SensitivitySearchParams) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def requires(self, inputs: Inputs, params: SensitivitySearchParams) -> None:  # noqa: ARG002
        """The graphs are there, and their weights are not quantized yet."""
        from pocket_opt.onnx_graphs.files import require_graphs
        from pocket_opt.onnx_graphs.layers import require_unquantized

        require_graphs(inputs["model"], ("encoder", "decoder"))
        require_unquantized(inputs["model"])

    def run(
        self, inputs: Inputs, params: SensitivitySearchParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Write the override file beside the model."""
        from pocket_opt.data.planned import open_planned
        from pocket_opt.runtimes import open_runtime
        from pocket_opt.search.extent import furthest
        from pocket_opt.search.layers import MANY, groups_of, layers_of
        from pocket_opt.search.listening import Listener, utterances
        from pocket_opt.search.path import path

        model = inputs["model"]
        layers = layers_of(model)
        if not layers:
            raise PocketOptError(
                "this model has no layer whose precision could be chosen",
                where="search",
                allowed="MatMul with a constant matrix in floats",
                fix="search=none, or leave out the pass that rewrote them",
            )
        forms = {"encoder": params.encoder_forms, "decoder": params.decoder_forms}
        by_block = params.granularity == "block" or (params.granularity == "auto" and len(layers) >= MANY)
        groups = groups_of(layers, forms, by_block=by_block)
        clips = open_planned(params.calibration_path, params.calibration_digest).limit(params.clips)
        runtime = open_runtime(model)
        heard = utterances(list(clips), runtime.sample_rate, runtime.window_s, params.noise_db)
        listener = Listener(model, heard, params.forced, progress)
        errors = measure(model, groups, layers, listener, progress)
        moves = path(groups, errors)
        search = _Search(model, groups, layers, listener, moves)
        taken = furthest(search.errors, params.wer_delta, search.try_out)
        text = report(groups, moves[:taken], errors, params.wer_delta)
        artifact = with_rules(model.carry(workdir, without=(OVERRIDES,)), text)
        return Outcome(artifact, search.summary(taken) | {"layers": len(layers), "measured": len(errors)})


def measure(
    model: Artifact, groups: Sequence[Group], layers: Sequence[Layer], listener: Listener, progress: Progress
) -> Errors:
    """The error that each group adds in each of its forms, alone."""
    from pocket_opt.scratch import scratch
    from pocket_opt.search.variants import build

    wanted = [(group, form) for group in groups for form in group.forms]
    errors: dict[tuple[str, str], float] = {}
    for group, form in wanted:
        with scratch("search") as folder:
            variant = build(model, [group.rule(form)], layers, folder)
            errors[group.pattern, form] = listener.divergence(variant, group.components)
        progress(len(errors), len(wanted), "layer forms")
    return errors


class _Search:
    """Builds and decodes points of the path, and remembers what came out."""

    def __init__(
        self,
        model: Artifact,
        groups: Sequence[Group],
        layers: Sequence[Layer],
        listener: Listener,
        moves: Sequence[Move],
    ) -> None:
        self._model, self._groups, self._layers = model, groups, layers
        self._listener, self._moves = listener, moves
        self._tried: dict[int, tuple[Trial, float]] = {}
        self.errors = [max(error, 0.0) for error in accumulate((move.error for move in moves), initial=0.0)]

    def try_out(self, count: int) -> Trial:
        """Decode the variant of so many moves."""
        from pocket_opt.scratch import scratch
        from pocket_opt.search.extent import Trial
        from pocket_opt.search.path import after
        from pocket_opt.search.variants import build

        forms = after(self._groups, self._moves[:count])
        with scratch("search") as folder:
            rules = [group.rule(forms[group.pattern]) for group in self._groups]
            changed, wer = self._listener.changed(build(self._model, rules, self._layers, folder))
        trial = Trial(self.errors[count], changed.errors, changed.length)
        self._tried[count] = trial, wer
        return trial

    def summary(self, taken: int) -> dict[str, Any]:
        """What was tried, and what was chosen."""
        from pocket_opt.search.extent import expected
        from pocket_opt.search.layers import FLOAT
        from pocket_opt.search.path import after

        forms = after(self._groups, self._moves[:taken])
        trials = [trial for trial, _ in self._tried.values()]
        return {
            "moves": len(self._moves),
            "taken": taken,
            "forms": dict(Counter(forms.values())),
            "matrix_bytes_fp16": sum(group.bytes_as(FLOAT) for group in self._groups),
            "matrix_bytes": self._bytes(taken),
            "expected_changed_words_percent": round(expected(self.errors[taken], trials), 3),
            "exact_wer": round(self._listener.wer(), 3),
            "tried": [self._told(count) for count in sorted(self._tried)],
        }

    def _told(self, count: int) -> dict[str, Any]:
        trial, wer = self._tried[count]
        return {
            "moves": count,
            "matrix_bytes": self._bytes(count),
            "changed_words_percent": round(100 * trial.changed / max(trial.words, 1), 3),
            "wer_change_points": round(wer, 3),
        }

    def _bytes(self, count: int) -> int:
        from pocket_opt.search.path import after

        forms = after(self._groups, self._moves[:count])
        return sum(group.bytes_as(forms[group.pattern]) for group in self._groups)


def report(groups: Sequence[Group], moves: Sequence[Move], errors: Errors, wer_delta: float) -> str:
    """The override file: every group with its form, in graph order, and what the form costs and saves."""
    from pocket_opt.search.layers import FLOAT
    from pocket_opt.search.path import after

    forms: Mapping[str, str] = after(groups, moves)
    lines = [
        f"# Written by sensitivity_search: at most {wer_delta:g} % of the calibration clips' words should change.",
        "# Edit it and give it back: overrides=FILE. Of all patterns that match a layer the last counts.",
        "# Behind each line: KL divergence in nats a token if only this is changed, and bytes against fp16.",
    ]
    for group in groups:
        form = forms[group.pattern]
        said = ", ".join(f"{key}: {_yaml(value)}" for key, value in group.rule(form).settings.items())
        note = ""
        if (group.pattern, form) in errors:
            saved = group.bytes_as(FLOAT) - group.bytes_as(form)
            note = f"  # {form}, {errors[group.pattern, form]:.2e} nats, -{saved / 1000:.1f} kB"
        key = f"'{group.pattern}'" if "*" in group.pattern else group.pattern
        lines.append(f"{key}: {{{said}}}{note}")
    return "\n".join(lines) + "\n"


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


PASS = SensitivitySearch()
