"""ONNX Runtime Mobile: the chain of the CPU, then its format; nothing that would be widened at each run."""

from __future__ import annotations

import pocket_opt
from pocket_opt.graph import Node


def nodes(level: str) -> list[Node]:
    return [node for node in pocket_opt.plan(target="mobile", level=level).graph if node.kind == "build"]


def test_every_level_ends_in_the_format() -> None:
    assert [node.pass_name for node in nodes("HIGH")][-1] == "convert_ort"
    assert [node.pass_name for node in nodes("BASIC")][-1] == "convert_ort"
    assert "convert_ort" not in [node.pass_name for node in nodes("NONE")]


def test_integer_products_keep_8_bits() -> None:
    [product] = [node for node in nodes("EXTREME") if node.pass_name == "dynamic_int8"]
    assert product.params["bits"] == 8
