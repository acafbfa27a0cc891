"""Which layer is stored in which precision: rules by name pattern, the same for every quantizer.

A rule names layers by a shell-style pattern for their module ("decoder.layers.0.fc1", "*.encoder_attn.*") or their
node ("*/MatMul"). Of the rules that match a layer the **last** counts, as a whole. They come, in this order, from a
search (component `overrides` of the artifact), from the file that `overrides=FILE` names, and from
`nodes.<node>.params.overrides`. A pattern that matches no layer of the model is an error. A file is a YAML or JSON
table:

    decoder.layers.*: {bits: 4, symmetric: false, algorithm: k_quant}
    decoder.layers.0.*: {bits: 8}
    encoder.layers.0.fc1: {bits: none}
    encoder.layers.1.*: {bits: 8, activations: dynamic}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pocket_opt.artifact import Artifact, Component
from pocket_opt.config.parsing import expanded, parse
from pocket_opt.errors import UserError

OVERRIDES, FILE = "overrides", "overrides.yaml"
"""The parameter of quantizers, which is also the component of an artifact; and the component's file."""
LEFT_FLOAT, LEFT_TO_OTHERS = "left float by an override", "weight-only by an override"
"""Reasons in a quantizer's report why layers, perhaps all, were left out."""

Algorithm = Literal["rtn", "k_quant", "hqq", "gptq", "grid"]


@dataclass(frozen=True)
class Rule:
    """The precision of the layers that `pattern` matches; what is left out is up to the quantizer that takes them.

    Attributes:
        bits: of the weights; "none" leaves them float.
        activations: "dynamic" is an integer product (`dynamic_int8`; 8 bits, or 4 stored), "float" weight-only; 16 or
            8 are bits of static quantization (`quantize_qdq`); left out: 8 bits are up to whichever quantizer takes
            the layer anyway, fewer are weight-only.
        algorithm, block_size, symmetric: for weight-only layers and the embedding.
    """

    pattern: str
    bits: Literal[2, 4, 8, "none"] | None = None
    activations: Literal["dynamic", "float", 16, 8] | None = None
    algorithm: Algorithm | None = None
    block_size: Literal[16, 32, 64, 128, 256] | None = None
    symmetric: bool | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What the rule says, without its pattern."""
        return {key: value for key, value in asdict(self).items() if value is not None and key != "pattern"}


def rule_for(names: Iterable[str], rules: Sequence[Rule]) -> Rule | None:
    """The last of `rules` that matches one of a layer's `names`."""
    known = list(names)
    for rule in reversed(rules):
        if any(fnmatchcase(name, rule.pattern) for name in known):
            return rule
    return None


def read_rules(data: Any, *, where: str) -> list[Rule]:
    """The rules in a table of patterns, or in a list of rules as `Rule` has them; UserError with place and reason."""
    if isinstance(data, Mapping):
        data = [
            {"pattern": pattern, **_table(settings, f"{where}: {pattern}")}
            for pattern, settings in data.items()
        ]
    if not isinstance(data, list | tuple):
        raise UserError(
            f"'{data}' is no table of overrides",
            where=where,
            allowed="PATTERN: {bits: 8}",
            fix="see pocket_opt/precision.py, or the file that search=sensitivity writes",
        )
    rules = [parse(Rule, entry, where=f"{where}: override {number}") for number, entry in enumerate(data, 1)]
    for rule in rules:
        _check(rule, where)
    return rules


def file_rules(path: str | None) -> list[Rule]:
    """The rules in the file that the key `overrides` names; none without one."""
    return [] if path is None else read_file(expanded(path, where=OVERRIDES), where=OVERRIDES)


def combined(first: Sequence[Rule], inline: Any, *, where: str) -> list[dict[str, Any]]:
    """The rules of a file and those of a node's own parameter behind them, as the data that `parse` takes."""
    return [asdict(rule) for rule in (*first, *read_rules(inline, where=where))]


def read_file(path: Path, *, where: str) -> list[Rule]:
    """The rules in a YAML or JSON file; UserError if there is none."""
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(
            f"the override file cannot be read: {' '.join(str(error).split())}",
            where=f"{where}={path}",
            allowed="a YAML or JSON table PATTERN: {bits: 8}",
            fix="correct the path or the file",
        ) from error
    return read_rules(data, where=str(path))


def searched(artifact: Artifact) -> list[Rule]:
    """The rules that a search left in `artifact`; none without a search."""
    return read_file(artifact.path(OVERRIDES), where=OVERRIDES) if OVERRIDES in artifact.components else []


def with_rules(artifact: Artifact, text: str) -> Artifact:
    """`artifact` with an override file of this text."""
    (artifact.root / FILE).write_text(text, encoding="utf-8")
    return artifact.with_component(OVERRIDES, Component("json", (FILE,)))


def _table(settings: Any, where: str) -> Mapping[str, Any]:
    if isinstance(settings, Mapping):
        return settings
    raise UserError(f"'{settings}' says no precision", where=where, allowed="{bits: 8}", fix="write a table")


def _check(rule: Rule, where: str) -> None:
    """Refuse what no quantizer can carry out."""
    weights = {"algorithm", "block_size", "symmetric"} & rule.settings.keys()
    problem = ""
    if not rule.settings:
        problem = "says nothing"
    elif rule.bits == "none" and len(rule.settings) > 1:
        problem = "leaves the layers float and sets how they are quantized"
    elif rule.activations == "dynamic" and (rule.bits not in (None, 4, 8) or weights):
        problem = "asks for dynamic activations, which take weights of 8 or 4 bits, scaled in one way only"
    elif rule.algorithm == "hqq" and rule.symmetric is not False:
        problem = "asks for hqq, which fits zero points, without symmetric: false"
    if problem:
        raise UserError(
            f"the override '{rule.pattern}' {problem}",
            where=where,
            allowed="bits 2, 4, 8 or none; activations dynamic, float, 16 or 8; algorithm, block_size, symmetric",
            fix="change or remove it",
        )
