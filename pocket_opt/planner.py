"""Recipe x target x level -> graph of passes, or every reason why not. Loads no model and needs no network."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pocket_opt.budget import SIZE_LIMITS, check
from pocket_opt.calibration import CalibrationClips
from pocket_opt.config.overrides import row_overrides
from pocket_opt.config.parsing import parse
from pocket_opt.config.schema import Config
from pocket_opt.data.dataset import Dataset
from pocket_opt.decoding_checks import check_decoding, check_words_timed, chosen_language
from pocket_opt.devices import check_address
from pocket_opt.errors import UserError, unknown_name
from pocket_opt.fallback import fallback_config, fallback_lines
from pocket_opt.families import check_family
from pocket_opt.graph import Node, PassGraph
from pocket_opt.graph_edits import Draft, Edit, apply_edits, chain, read_edits
from pocket_opt.hosts import host_id
from pocket_opt.identity import digest
from pocket_opt.layouts import with_layout
from pocket_opt.measures import SOURCE, measure_context, measures, without_off
from pocket_opt.models.sources import GRAPHS, OPTIMUM, Root, resolve
from pocket_opt.passes import MEASUREMENTS, load_pass
from pocket_opt.passes.base import Pass
from pocket_opt.precision import OVERRIDES, Rule, combined, file_rules
from pocket_opt.searches import check_overrides_taken, with_search
from pocket_opt.targets import described_chip, load_target, require_installed
from pocket_opt.targets.base import Architecture, Step, Target
from pocket_opt.toolchains import load_toolchain

SAMPLE_CLIPS = "sample:evaluation"
STUDENT = "student"
PUBLISHED_WINDOW_S = 30.0
"""Of every Whisper that was published."""


@dataclass(frozen=True)
class Plan:
    """A variant before it runs.

    Attributes:
        result: the node whose artifact goes into the bundle.
        off: name of a node that is not in the graph -> why.
        roots: the source, and the student if there is one.
        overrides: what sets this row apart from its recipe, target and level.
        clips: how many clips quality is measured on; None without evaluation data.
        fallback: the same for the CPU, whose bundle this one encloses.
    """

    config: Config
    graph: PassGraph
    result: str
    off: Mapping[str, str]
    roots: Mapping[str, Root]
    overrides: tuple[str, ...]
    clips: int | None
    keys: Mapping[str, str] = field(default_factory=dict)
    fallback: Plan | None = None

    @property
    def components(self) -> dict[str, dict[str, str]]:
        """The parts of the recipe, by name: which family, on which target, at which level."""
        family, target, level = self.config.recipe.family, self.config.target.name, self.config.level.name
        return {family: {"family": family, "target": target, "level": level}}

    @property
    def build_key(self) -> str:
        """Identity of the model: the key of the result."""
        return self.keys[self.result]

    @property
    def measurement_key(self) -> str:
        """Identity of the numbers: build, data, runtime and host."""
        return digest(
            "measurement", {node.name: self.keys[node.name] for node in self.graph if node.kind == "measure"}
        )

    @property
    def row_key(self) -> str:
        """Identity of the row: recipe, target, level and overrides, as the user named them."""
        config = self.config
        return digest(
            "row", [config.recipe.name, config.target.name, config.level.name, list(self.overrides)]
        )

    @property
    def downloads(self) -> list[tuple[str, str]]:
        """Hub ids and revisions that must be fetched before this plan can run."""
        return [root.download for root in self.roots.values() if root.download]


def plan_variant(config: Config, lines: Iterable[str] = ()) -> Plan:
    """Plan one variant.

    Args:
        lines: the overrides as typed, for the row's identity.

    Raises:
        UserError: the first thing in the inputs that cannot be carried out.
    """
    target = load_target(config.target.name, config.target.soc)
    require_installed(target, config.level.intents)
    beside = fallback_config(config, target)
    fallback = plan_variant(beside, fallback_lines(list(lines))) if beside else None
    _check_settings(config)
    check_family(config)
    roots, off = _roots(config)
    language = chosen_language(config.decoding.language, roots[SOURCE].languages)
    data, clips_path = _evaluation_data(config)
    calibration = CalibrationClips(config)
    drafts = [_root_draft(SOURCE, roots[SOURCE], "the model as the recipe names it")]
    last = SOURCE
    if STUDENT in roots:
        drafts.append(_root_draft(STUDENT, roots[STUDENT], "the level asks for a student"))
        last = STUDENT
    steps = _steps(target, config, roots[SOURCE])
    off |= {step.name: step.off for step in steps if step.off}
    taken = chain([step for step in steps if not step.off], last)
    drafts, last = drafts + taken, taken[-1].name if taken else last
    drafts, last, removed = apply_edits(with_search(config, drafts), config.nodes, result=last, off=off)
    off = {name: why for name, why in off.items() if name not in [draft.name for draft in drafts]} | removed
    enclosed = fallback.build_key if fallback else ""
    drafts, last = with_layout(drafts, last, config, target, roots.get(STUDENT, roots[SOURCE]), enclosed)
    measured = measure_context(config, clips_path) | {"language": language}
    context = {"measure": measured, "build": _build_context(config)}
    window_s = roots.get(STUDENT, roots[SOURCE]).window_s or PUBLISHED_WINDOW_S
    drafts += measures(config, drafts, last, window_s=window_s, has_data=data is not None, off=off)
    edits, rules = read_edits(config.nodes), file_rules(config.overrides)
    nodes = [
        _node(draft, edits.get(draft.name, Edit()), context, calibration, rules)
        for draft in without_off(drafts, config, off)
    ]
    if config.data.calibration.path and not calibration.used:
        off["calibration"] = "no pass of this variant is calibrated on audio"
    for node in nodes if config.recipe.family in GRAPHS else ():
        _check_components(node, GRAPHS[config.recipe.family])
    check_overrides_taken(nodes, config)
    check_words_timed(nodes, config)
    graph = PassGraph(nodes)
    return Plan(
        config,
        graph,
        last,
        off,
        roots,
        row_overrides(list(lines)),
        len(data.clips) if data else None,
        graph.keys(),
        fallback,
    )


def _steps(target: Target, config: Config, source: Root) -> list[Step]:
    if config.recipe.family == OPTIMUM:
        return target.steps_of_any(config.level.intents, Architecture(source.model_type, source.class_name))
    return target.steps(config.level.intents, config.decoder)


def _build_context(config: Config) -> dict[str, Any]:
    """Settings that every pass gets that has a parameter of that name."""
    chip = described_chip(config.target.soc)
    return {
        "audio_context": config.audio_context,
        "budget": config.level_budget,
        "beams": config.decoding.beams,
        "length_penalty": config.decoding.length_penalty,
        "word_timestamps": config.word_timestamps,
        **(asdict(chip) if chip else {}),
    }


def _check_settings(config: Config) -> None:
    _check_budgets(config)
    check_decoding(config)
    if config.device is not None:
        check_address(config.device)


def _check_budgets(config: Config) -> None:
    """Every level's budget limits only what is measured."""
    limits = {limit for name in MEASUREMENTS for limit in load_pass(name).limits}
    for level, budget in config.recipe.budget.items():
        check(budget, {*SIZE_LIMITS, *limits}, where=f"recipe.budget.{level}")
    check(config.budget, {*SIZE_LIMITS, *limits}, where="budget")


def _roots(config: Config) -> tuple[dict[str, Root], dict[str, str]]:
    recipe = config.recipe
    roots = {SOURCE: resolve(recipe.model, recipe.family, seed=config.seed, where="recipe.model")}
    if not config.level.intents.student:
        return roots, {STUDENT: "this level asks for no student"}
    if recipe.student is None:
        return roots, {STUDENT: "the recipe names no student"}
    if recipe.model.weights == "random":
        return roots, {STUDENT: "random weights have nothing to distil"}
    roots[STUDENT] = resolve(recipe.student, recipe.family, seed=config.seed, where="recipe.student")
    return roots, {}


def _root_draft(name: str, root: Root, why: str) -> Draft:
    return Draft(name, root.pass_name, {**root.params, **root.neutral}, {}, why)


def _evaluation_data(config: Config) -> tuple[Dataset | None, Dataset]:
    """The data that quality is measured on (if there is any), and clips that parity and speed may use."""
    own = config.data.evaluation.path or config.recipe.data.evaluation
    where = "data.evaluation.path" if config.data.evaluation.path else "recipe.data.evaluation"
    if config.recipe.model.weights == "random" or own is None:
        return None, Dataset.open(own or SAMPLE_CLIPS, where=where)
    data = Dataset.open(own, where=where)
    return data, data


def _node(
    draft: Draft,
    edit: Edit,
    context: Mapping[str, Mapping[str, Any]],
    calibration: CalibrationClips,
    rules: Sequence[Rule] = (),
) -> Node:
    """A draft with its parameters checked against the pass, and everything that enters its key."""
    where = f"nodes.{draft.name}"
    step = load_pass(draft.pass_name, where=f"{where}.pass")
    declared = {entry.name for entry in fields(step.Params)}
    given = {key: value for key, value in context[step.kind].items() if key in declared}
    params = given | dict(draft.params) | dict(edit.params)
    for entry in fields(step.Params):
        if entry.name in edit.params and entry.metadata.get("instead"):
            key = entry.metadata["instead"]
            raise UserError(
                f"'{entry.name}' is worked out when planning", where=f"{where}.params", fix=f"set {key}"
            )
    if not set(step.inputs) - set(step.optional) <= set(draft.inputs) <= set(step.inputs):
        raise UserError(
            f"the pass '{draft.pass_name}' takes the inputs {', '.join(step.inputs) or '(none)'}",
            where=f"{where}.inputs",
            fix="name each of them",
        )
    if OVERRIDES in declared:
        params[OVERRIDES] = combined(rules, params.get(OVERRIDES, ()), where=f"{where}.params.{OVERRIDES}")
    parsed = parse(step.Params, params, where=f"{where}: params")
    try:
        step.check(parsed)
    except UserError as error:
        error.where = f"{where}: {error.where}"
        raise
    if step.calibrates(parsed):
        parsed = calibration.given_to(parsed, node=draft.name)
    checked = asdict(parsed)
    neutral = {entry.name for entry in fields(step.Params) if entry.metadata.get("neutral")}
    return Node(
        name=draft.name,
        pass_name=draft.pass_name,
        version=step.version,
        params={key: _plain(value) for key, value in checked.items() if key not in neutral},
        neutral={key: _plain(value) for key, value in checked.items() if key in neutral},
        inputs=draft.inputs,
        tools=_versions(step),
        kind=step.kind,
        host=host_id() if step.kind == "measure" else None,
        why=draft.why,
    )


def _check_components(node: Node, known: Collection[str]) -> None:
    for name in node.params.get("components", ()):
        if name not in (*known, "*"):
            raise unknown_name("component", name, known, where=f"nodes.{node.name}: params.components")


def _versions(step: Pass[Any]) -> dict[str, str]:
    """Versions of what a pass works with: installed here, found here, or pinned in its toolchain, installed or not."""
    pinned = load_toolchain(step.toolchain).tools if step.toolchain else {}
    return {name: installed_version(name) for name in step.tools} | pinned | dict(step.found_tools())


@cache
def installed_version(distribution: str) -> str:
    """The installed version of a distribution, or "absent"."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "absent"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
