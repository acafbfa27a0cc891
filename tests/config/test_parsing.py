"""From plain data to dataclasses: every supported type, and every mistake with its place and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from pocket_opt.config.parsing import convert, parse
from pocket_opt.errors import UserError


@dataclass(frozen=True)
class Inner:
    bits: int
    scale: float = 1.0


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner | None = None
    on: bool = False
    how: Literal["fast", "small", 3] = "fast"
    parts: tuple[str, ...] = ()
    inners: tuple[Inner, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    levels: Mapping[Literal["LOW", "HIGH"], int] = field(default_factory=dict)
    either: int | bool | None = None
    anything: Any = None
    count: int | None = field(default=None, metadata={"at_least": 1})
    share: float = field(default=0.5, metadata={"at_least": 0})


def outer(**data: Any) -> Outer:
    return parse(Outer, {"name": "x", **data}, where="recipe x")


def test_defaults_stand_where_nothing_is_written() -> None:
    assert outer() == Outer("x")


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ({"inner": {"bits": 4}}, {"inner": Inner(4)}),
        ({"inner": {"bits": 4, "scale": 2}}, {"inner": Inner(4, 2.0)}),
        ({"inner": None}, {"inner": None}),
        ({"name": 3}, {"name": "3"}),
        ({"name": 1.5}, {"name": "1.5"}),
        ({"how": "small"}, {"how": "small"}),
        ({"how": 3}, {"how": 3}),
        ({"parts": ["a", "b"]}, {"parts": ("a", "b")}),
        ({"parts": ("a",)}, {"parts": ("a",)}),
        ({"parts": []}, {"parts": ()}),
        ({"inners": [{"bits": 1}, {"bits": 2}]}, {"inners": (Inner(1), Inner(2))}),
        ({"limits": {"wer": 1}}, {"limits": {"wer": 1.0}}),
        ({"limits": {3: 1}}, {"limits": {"3": 1.0}}),
        ({"levels": {"HIGH": 2}}, {"levels": {"HIGH": 2}}),
        ({"either": True}, {"either": True}),
        ({"either": 7}, {"either": 7}),
        ({"either": None}, {"either": None}),
        ({"anything": [1, {"a": Path}]}, {"anything": [1, {"a": Path}]}),
        ({"on": True}, {"on": True}),
        ({"count": 1, "share": 0}, {"count": 1, "share": 0.0}),
        ({"count": None}, {"count": None}),
    ],
)
def test_values_of_every_type_are_read(data: dict[str, Any], wanted: dict[str, Any]) -> None:
    found = outer(**data)
    for name, value in wanted.items():
        assert getattr(found, name) == value
        assert type(getattr(found, name)) is type(value)


@pytest.mark.parametrize(
    ("data", "what", "where"),
    [
        ({"nmae": "x"}, "there is no key 'nmae', did you mean 'name'?", "recipe x"),
        ({"_target_": "os.system"}, "there is no key '_target_'", "recipe x"),
        ({"inner": {}}, "the key 'bits' is missing", "recipe x: inner"),
        (
            {"inner": {"bits": 4, "sclae": 1}},
            "there is no key 'sclae', did you mean 'scale'?",
            "recipe x: inner",
        ),
        ({"inner": 4}, "'4' (int) stands where a table of keys is expected", "recipe x: inner"),
        (
            {"inner": {"bits": "4"}},
            "'4' (str) stands where a whole number is expected",
            "recipe x: inner.bits",
        ),
        (
            {"inner": {"bits": 4.0}},
            "'4.0' (float) stands where a whole number is expected",
            "recipe x: inner.bits",
        ),
        (
            {"inner": {"bits": True}},
            "'True' (bool) stands where a whole number is expected",
            "recipe x: inner.bits",
        ),
        (
            {"inner": {"bits": None}},
            "nothing stands where a whole number is expected",
            "recipe x: inner.bits",
        ),
        (
            {"inner": {"bits": 4, "scale": "1"}},
            "'1' (str) stands where a number is expected",
            "recipe x: inner.scale",
        ),
        (
            {"inner": {"bits": 4, "scale": True}},
            "'True' (bool) stands where a number is",
            "recipe x: inner.scale",
        ),
        ({"name": True}, "'True' (bool) stands where text is expected", "recipe x: name"),
        ({"name": ["x"]}, "'['x']' (list) stands where text is expected", "recipe x: name"),
        ({"on": 1}, "'1' (int) stands where true or false is expected", "recipe x: on"),
        ({"on": "true"}, "'true' (str) stands where true or false is expected", "recipe x: on"),
        ({"how": "samll"}, "there is no value 'samll', did you mean 'small'?", "recipe x: how"),
        ({"how": 4}, "'4' (int) stands where one of fast, small, 3 is expected", "recipe x: how"),
        ({"parts": "ab"}, "'ab' (str) stands where a list is expected", "recipe x: parts"),
        ({"parts": {"a": 1}}, "stands where a list is expected", "recipe x: parts"),
        ({"parts": ["a", ["b"]]}, "stands where text is expected", "recipe x: parts[1]"),
        (
            {"inners": [{"bits": 1}, {"bist": 2}]},
            "there is no key 'bist', did you mean 'bits'?",
            "recipe x: inners[1]",
        ),
        ({"limits": [1]}, "stands where a table of keys is expected", "recipe x: limits"),
        ({"limits": {"wer": "a"}}, "'a' (str) stands where a number is expected", "recipe x: limits.wer"),
        ({"levels": {"HIHG": 1}}, "there is no value 'HIHG', did you mean 'HIGH'?", "recipe x: levels"),
        ({"either": "x"}, "'x' (str) stands where a whole number or true or false", "recipe x: either"),
        ({"count": 0}, "'0' (int) stands where a number from 1 on is expected", "recipe x: count"),
        ({"share": -0.1}, "'-0.1' (float) stands where a number from 0 on is expected", "recipe x: share"),
        ({"share": float("nan")}, "'nan' (float) stands where a number from 0 on", "recipe x: share"),
    ],
)
def test_a_mistake_is_told_with_place_and_remedy(data: dict[str, Any], what: str, where: str) -> None:
    with pytest.raises(UserError) as caught:
        outer(**data)
    assert what in caught.value.what
    assert caught.value.where == where
    assert caught.value.fix
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("data", [None, 3, "x", ["name"]])
def test_only_a_table_is_a_table(data: Any) -> None:
    with pytest.raises(UserError, match="stands where a table of keys is expected"):
        parse(Outer, data, where="recipe x")


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UserError, match="the key 'name' is missing") as caught:
        parse(Outer, {}, where="recipe x")
    assert caught.value.fix == "add name"


def test_a_list_of_pairs_keeps_the_type_of_each_member() -> None:
    assert convert(tuple[tuple[str, int], ...], [["*attn*", 8]], where="x") == (("*attn*", 8),)
    with pytest.raises(UserError, match="a list of 2"):
        convert(tuple[tuple[str, int], ...], [["*attn*"]], where="x")
