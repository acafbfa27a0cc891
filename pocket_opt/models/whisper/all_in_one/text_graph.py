"""Tokens to text in standard operators, for every row of a batch, byte by byte as the library tokenizers does it.

BpeDecoder of onnxruntime-extensions reads past the end of a row in a batch, and a character may be spread over several
tokens. So bytes are gathered from one table, checked as UTF-8 by table look-ups, stripped of white space at both ends
and joined: each step doubles the length of the pieces, so a row of 256 bytes takes eight.
Invalid UTF-8 becomes U+FFFD, one for each maximal subpart (Unicode 16.0, section 3.9, table 3-8).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import onnx_ir as ir

from pocket_opt.models.whisper.graph_builder import GraphBuilder

NOTHING, REPLACEMENT = 256, 257
"""Pieces beside the 256 bytes: the empty one, and U+FFFD."""

MOST_DOUBLINGS = 24
_INT, _LONG = ir.DataType.INT32.value, ir.DataType.INT64.value

WHITE_SPACE = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
"""What `str.strip` removes; there is none above U+3000."""


def build_text(graph: GraphBuilder, tokens: ir.Value, said: ir.Value, table: Sequence[bytes]) -> ir.Value:
    """The stripped text `[batch]` of `tokens` int64 `[batch, length]` where `said` (bool) holds.

    Args:
        table: the bytes of each token; nothing for special tokens and times.
    """
    with graph.scope("text"):
        found = _bytes(graph, tokens, said, table)
        return _join(graph, _strip(graph, found, _checked(graph, found)))


def _bytes(graph: GraphBuilder, tokens: ir.Value, said: ir.Value, table: Sequence[bytes]) -> ir.Value:
    """The bytes of each row, int32 `[batch, bytes]`, filled up with `NOTHING` to a power of two."""
    with graph.scope("bytes"):
        sizes = np.array([len(piece) for piece in table])
        text = graph.constant("text.bytes", np.frombuffer(b"".join(table) or b"\0", np.uint8))
        narrow = np.uint8 if sizes.max(initial=0) < 256 else np.uint16
        stored = graph.op("Cast", graph.constant("text.lengths", sizes.astype(narrow)), to=_INT)
        after = graph.op("CumSum", stored, graph.scalar(0))
        lengths = graph.op("Mul", graph.op("Gather", stored, tokens), graph.op("Cast", said, to=_INT))
        ends = graph.op("CumSum", lengths, graph.scalar(1))
        starts = graph.op("Sub", ends, lengths)
        totals = graph.op("Gather", ends, graph.ints(-1), axis=1)
        places = graph.op("Range", _int(graph, 0), _width(graph, totals), _int(graph, 1))
        owner = _owner(graph, starts, places)
        first = graph.op("Sub", graph.op("Gather", after, tokens), graph.op("Gather", stored, tokens))
        shift = graph.op("GatherElements", graph.op("Sub", first, starts), owner, axis=1)
        inside = graph.op("Less", places, totals)
        where = graph.op("Where", inside, graph.op("Add", shift, places), _int(graph, 0))
        return graph.op(
            "Where", inside, graph.op("Cast", graph.op("Gather", text, where), to=_INT), _int(graph, NOTHING)
        )


def _width(graph: GraphBuilder, totals: ir.Value) -> ir.Value:
    """The lowest power of two that holds every row, a scalar."""
    longest = graph.op("ReduceMax", totals, keepdims=0)
    powers = graph.constant(
        "text.powers", np.array([2**power for power in range(MOST_DOUBLINGS + 1)], np.int32)
    )
    too_short = graph.op("Cast", graph.op("Less", powers, longest), to=_LONG)
    return graph.op("Gather", powers, graph.op("ReduceSum", too_short, keepdims=0))


def _owner(graph: GraphBuilder, starts: ir.Value, places: ir.Value) -> ir.Value:
    """Which token a byte belongs to, int64 `[batch, bytes]`: the last that starts at or before it."""
    with graph.scope("owner"):
        batch = graph.op("Shape", starts, start=0, end=1)
        wide = graph.op("Add", graph.op("Shape", places), graph.ints(1))
        zero = ir.tensor(np.zeros(1, np.int32))
        marks = graph.op("ConstantOfShape", graph.op("Concat", batch, wide, axis=0), value=zero)
        one = ir.tensor(np.ones(1, np.int32))
        ones = graph.op("ConstantOfShape", graph.op("Shape", starts), value=one)
        # A start may lie one beyond the end: of tokens without bytes that come last.
        marks = graph.op(
            "ScatterElements", marks, graph.op("Cast", starts, to=_LONG), ones, axis=1, reduction="add"
        )
        begun = graph.op(
            "CumSum", graph.op("Slice", marks, graph.ints(0), graph.ints(-1), graph.ints(1)), graph.scalar(1)
        )
        return graph.op("Cast", graph.op("Sub", begun, _int(graph, 1)), to=_LONG)


def _checked(graph: GraphBuilder, found: ir.Value) -> ir.Value:
    """The piece for each byte: itself where it is part of valid UTF-8."""
    with graph.scope("utf8"):
        following = _lookup(graph, "text.following", [_following(byte) for byte in range(257)], found)
        lowest = _lookup(graph, "text.lowest_second", [_seconds(byte)[0] for byte in range(257)], found)
        highest = _lookup(graph, "text.highest_second", [_seconds(byte)[1] for byte in range(257)], found)
        alone = _lookup(graph, "text.alone", [byte < 0x80 or byte == NOTHING for byte in range(257)], found)
        trailing = _lookup(graph, "text.trailing", [0x80 <= byte < 0xC0 for byte in range(257)], found)
        second = _shifted(graph, found, 1)
        run = graph.op(
            "And", graph.op("GreaterOrEqual", second, lowest), graph.op("LessOrEqual", second, highest)
        )
        matched = graph.op("Cast", run, to=_INT)
        for distance in (2, 3):
            wanted = graph.op("GreaterOrEqual", following, _int(graph, distance))
            there = graph.op("And", wanted, _shifted(graph, trailing, distance))
            run = graph.op("And", run, there)
            matched = graph.op("Add", matched, graph.op("Cast", run, to=_INT))
        starts = graph.op("Greater", following, _int(graph, 0))
        whole = graph.op("And", starts, graph.op("Equal", matched, following))
        in_whole = graph.op("Or", graph.op("Or", alone, whole), _covered(graph, whole, matched))
        swallowed = _covered(graph, graph.op("And", starts, graph.op("Not", whole)), matched)
        wrong = graph.op("Where", swallowed, _int(graph, NOTHING), _int(graph, REPLACEMENT))
        return graph.op("Where", in_whole, found, wrong)


def _strip(graph: GraphBuilder, found: ir.Value, pieces: ir.Value) -> ir.Value:
    """`pieces` without white space at both ends of each row."""
    with graph.scope("strip"):
        following = _lookup(graph, "text.following", [_following(byte) for byte in range(257)], found)
        second, third = (_shifted(graph, found, by) for by in (1, 2))
        many = graph.op("Add", graph.op("Mul", found, _int(graph, 256)), second)
        many = graph.op(
            "Where",
            graph.op("Less", following, _int(graph, 2)),
            many,
            graph.op("Add", graph.op("Mul", many, _int(graph, 256)), third),
        )
        character = graph.op("Where", graph.op("Equal", following, _int(graph, 0)), found, many)
        spaces = [int.from_bytes(space.encode()) for space in WHITE_SPACE]
        known = graph.constant("text.white_space", np.array(spaces, np.int32))
        equal = graph.op("Equal", graph.op("Unsqueeze", character, graph.ints(2)), known)
        space = graph.op(
            "Cast",
            graph.op("ReduceMax", graph.op("Cast", equal, to=_INT), graph.ints(2), keepdims=0),
            to=ir.DataType.BOOL.value,
        )
        blank = graph.op(
            "Or",
            graph.op("Or", space, _covered(graph, space, following)),
            graph.op("Equal", pieces, _int(graph, NOTHING)),
        )
        words = graph.op("Cast", graph.op("Not", blank), to=_INT)
        before = graph.op("CumSum", words, graph.scalar(1))
        behind = graph.op("CumSum", words, graph.scalar(1), reverse=1)
        inside = graph.op("Greater", graph.op("Mul", before, behind), _int(graph, 0))
        return graph.op("Where", inside, pieces, _int(graph, NOTHING))


def _join(graph: GraphBuilder, pieces: ir.Value) -> ir.Value:
    """One string `[batch]` from the pieces of each row: neighbours are joined until one is left."""
    with graph.scope("join"):
        strings = [*(bytes([byte]) for byte in range(256)), b"", "\N{REPLACEMENT CHARACTER}".encode()]
        table = graph.strings(strings)
        joined = graph.op("Gather", table, pieces)
        size = graph.op("Shape", pieces, start=1, end=2)
        powers = graph.constant(
            "text.powers_wide", np.array([2**power for power in range(MOST_DOUBLINGS + 1)])
        )
        times = graph.op("ReduceSum", graph.op("Cast", graph.op("Less", powers, size), to=_LONG), keepdims=0)
        body = graph.body("join")
        body.input("join.step", ir.DataType.INT64, ())
        running = body.input("join.running", ir.DataType.BOOL, ())
        halves = body.op(
            "Reshape", body.input("join.pieces", ir.DataType.STRING, ("batch", "pieces")), body.ints(0, -1, 2)
        )
        left, right = (body.op("Gather", halves, body.scalar(side), axis=2) for side in (0, 1))
        body.output(body.op("Identity", running), "join.still_running", (), ir.DataType.BOOL)
        body.output(
            body.op("StringConcat", left, right), "join.pairs", ("batch", "pairs"), ir.DataType.STRING
        )
        [whole] = graph.ops("Loop", times, None, joined, outputs=1, body=body.graph)
        return graph.op("Squeeze", whole, graph.ints(1))


def _following(byte: int) -> int:
    """How many bytes have to follow the first one of a character."""
    if 0xC2 <= byte < 0xE0:
        return 1
    if 0xE0 <= byte < 0xF0:
        return 2
    return 3 if 0xF0 <= byte < 0xF5 else 0


def _seconds(byte: int) -> tuple[int, int]:
    """The lowest and highest second byte after `byte`; none fits a byte that starts no long character."""
    if not _following(byte):
        return 1, 0
    lowest = {0xE0: 0xA0, 0xF0: 0x90}.get(byte, 0x80)
    return lowest, {0xED: 0x9F, 0xF4: 0x8F}.get(byte, 0xBF)


def _lookup(graph: GraphBuilder, name: str, table: Sequence[int], index: ir.Value) -> ir.Value:
    kind = np.bool_ if isinstance(table[0], bool) else np.int32
    return graph.op("Gather", graph.constant(name, np.array(table, kind)), index)


def _covered(graph: GraphBuilder, leads: ir.Value, reach: ir.Value) -> ir.Value:
    """Where a byte is among the `reach` bytes behind one of `leads`."""
    reached = graph.op("Where", leads, reach, _int(graph, 0))
    hits = [graph.op("GreaterOrEqual", _shifted(graph, reached, -by), _int(graph, by)) for by in (1, 2, 3)]
    return reduce(lambda one, other: graph.op("Or", one, other), hits)


def _shifted(graph: GraphBuilder, values: ir.Value, by: int) -> ir.Value:
    """Values from `by` places ahead in the row, 0 beyond its ends. A negative pad cuts off."""
    return graph.op("Pad", values, graph.ints(0, -by, 0, by))


def _int(graph: GraphBuilder, value: int) -> ir.Value:
    return graph.constant(f"const/int32_{value}", np.array(value, np.int32))
