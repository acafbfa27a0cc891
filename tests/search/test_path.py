"""The path from exact to small: cheapest error a byte first, forms of one layer in order, nothing that a mixture beats."""

from __future__ import annotations

from pocket_opt.search.layers import FLOAT, Group, Layer
from pocket_opt.search.path import after, path

FORMS = ("int8", "int4", "int2")


def group(name: str, forms: tuple[str, ...] = FORMS) -> Group:
    return Group(name, (Layer(name, "decoder", (64, 64)),), forms)


def test_moves_come_by_their_price_and_each_layer_shrinks_step_by_step() -> None:
    a, b = group("a"), group("b")
    errors = {("a", "int8"): 1.0, ("a", "int4"): 3.0, ("a", "int2"): 30.0}
    errors |= {("b", "int8"): 0.1, ("b", "int4"): 5.0, ("b", "int2"): 50.0}
    moves = path([a, b], errors)
    assert [(move.group.pattern, move.form) for move in moves] == [
        ("b", "int8"),
        ("a", "int8"),
        ("a", "int4"),
        ("b", "int4"),
        ("a", "int2"),
        ("b", "int2"),
    ]
    assert sum(move.saved for move in moves) == 2 * (a.bytes_as(FLOAT) - a.bytes_as("int2"))
    assert sum(move.error for move in moves) == 80.0
    prices = [move.price for move in moves]
    assert prices == sorted(prices)


def test_a_form_that_costs_more_than_a_smaller_one_is_skipped() -> None:
    errors = {("a", "int8"): 5.0, ("a", "int4"): 4.0, ("a", "int2"): 90.0}
    assert [move.form for move in path([group("a")], errors)] == ["int4", "int2"]


def test_after_no_moves_all_is_float() -> None:
    groups = [group("a"), group("b", ())]
    moves = path(groups, {("a", form): 1.0 for form in FORMS})
    assert after(groups, []) == {"a": FLOAT, "b": FLOAT}
    assert after(groups, moves) == {"a": "int2", "b": FLOAT}
