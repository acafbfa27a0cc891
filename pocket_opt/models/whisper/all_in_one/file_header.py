"""Rate, channels and padding of an audio file, read from its first bytes by standard operators.

`AudioDecoder` of onnxruntime-extensions gives samples and tells nothing else. Sources: Multimedia Programming Interface
1.0 (RIFF), RFC 9639 (FLAC), ISO 11172-3 (MPEG audio frames), id3.org (ID3v2.4, section 3.1), and the description of
the Xing and LAME tags (samples that an MP3 encoder put before and behind the audio).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from pocket_opt.models.whisper.graph_builder import GraphBuilder

KINDS = ("wav", "flac", "mp3")
DECODER_DELAY = 529
"""Samples by which every MP3 decoder is late."""

_LONG, _BOOL = ir.DataType.INT64.value, ir.DataType.BOOL.value
_NOWHERE = 1 << 40
_SEARCHED = 1 << 16
"""Bytes that are searched for the format of a WAV, and behind an ID3 tag for the first frame of an MP3."""
_FRAME_SAMPLES = (576, 576, 576, 1152)
_MP3_RATES = (11_025, 12_000, 8_000, 0, 0, 0, 0, 0, 22_050, 24_000, 16_000, 0, 44_100, 48_000, 32_000, 0)
"""Hz by version (MPEG 2.5, reserved, 2, 1) and index."""
_SIDE_BYTES = (17, 9, 17, 9, 17, 9, 32, 17)
"""Between the header of a layer III frame and its data, by version; for two channels and for one."""
_TAG_PARTS = (4, 4, 100, 4)
"""Bytes of what a Xing tag may hold, by the bits of its flags from the lowest on."""

Number: TypeAlias = "ir.Value | int"


@dataclass(frozen=True)
class FileHeader:
    """What a file says of itself.

    Attributes:
        kind: one of `KINDS`, strings `[1]`.
        rate: Hz, a scalar.
        channels: a scalar.
        skipped, padding: samples of silence that an MP3 has before and behind its audio, scalars.
    """

    kind: ir.Value
    rate: ir.Value
    channels: ir.Value
    skipped: ir.Value
    padding: ir.Value


def build_header(graph: GraphBuilder, stream: ir.Value) -> FileHeader:
    """Read the header of the file `stream`, uint8 `[bytes]`.

    What is no WAV, FLAC or MP3 file stops the run at a node called `audio_file.neither_wav_nor_flac_nor_mp3`.
    """
    with graph.scope("audio_file.header"):
        head = _Head(graph, graph.op("Pad", stream, graph.ints(0, 256)))
        tagged = head.spells(0, b"ID3")
        mp3 = graph.op("Or", tagged, head.matches({0: (255, 255), 1: (224, 224)}))
        kinds = graph.op("Cast", head.row([head.spells(0, b"RIFF"), head.spells(0, b"fLaC"), mp3]), to=_LONG)
        known = graph.op("Cast", graph.op("ReduceMax", kinds), to=_BOOL)
        place = graph.op("Where", known, graph.op("ArgMax", kinds, axis=0), graph.scalar(_NOWHERE))
    with graph.scope("audio_file.neither_wav_nor_flac_nor_mp3"):
        place = graph.op("Gather", graph.ints(*range(len(KINDS))), place)
    with graph.scope("audio_file.header"):
        facts = zip(_wav(head), _flac(head), _mp3(head, tagged), strict=True)
        numbers = [graph.op("Gather", head.row(one), place) for one in facts]
        numbers = [graph.op("Squeeze", number, graph.ints(0)) for number in numbers]
        kind = graph.op("Gather", graph.strings([kind.encode() for kind in KINDS]), place)
    return FileHeader(kind, *numbers)


def _wav(head: _Head) -> tuple[Number, Number, Number, Number]:
    """Rate, channels, and no samples to leave out; from the chunk `fmt `, wherever it is."""
    begin = head.find(0, {place: (byte, 255) for place, byte in enumerate(b"fmt ")})
    return head.little(head.plus(begin, 12), 4), head.little(head.plus(begin, 10), 2), 0, 0


def _flac(head: _Head) -> tuple[Number, Number, Number, Number]:
    """The same of a FLAC: STREAMINFO is its first block."""
    packed = head.big(18, 3)
    return head.bits(packed, 4, 20), head.plus(head.bits(packed, 1, 3), 1), 0, 0


def _mp3(head: _Head, tagged: ir.Value) -> tuple[Number, Number, Number, Number]:
    """The same of an MP3: from its first frame, and from the tag of its encoder, which may be there in its place."""
    size = head.plus(10, *(head.times(head.at(6 + place), 1 << 7 * (3 - place)) for place in range(4)))
    start = head.chosen(tagged, size, 0)
    begin = head.find(start, {0: (255, 255), 1: (226, 230)})
    second, third, fourth = (head.at(head.plus(begin, place)) for place in (1, 2, 3))
    version = head.bits(second, 3, 2)
    rate = head.looked_up("mp3_rates", _MP3_RATES, head.plus(head.times(version, 4), head.bits(third, 2, 2)))
    alone = head.equal(head.bits(fourth, 6, 2), 3)
    one = head.graph.op("Cast", alone, to=_LONG)
    check = head.times(head.minus(1, head.bits(second, 0, 1)), 2)
    side = head.looked_up("mp3_side_bytes", _SIDE_BYTES, head.plus(head.times(version, 2), one))
    tag = head.plus(begin, 4, side, check)
    skipped, padding, there = _encoder_padding(head, tag)
    frame = head.looked_up("mp3_frame_samples", _FRAME_SAMPLES, version)
    return (
        rate,
        head.minus(2, one),
        head.times(there, head.plus(frame, skipped, DECODER_DELAY)),
        head.times(there, head.plus(padding, -DECODER_DELAY)),
    )


def _encoder_padding(head: _Head, tag: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Samples that the encoder put before and behind the audio, and 1 if the tag tells them, else 0."""
    flags = head.big(head.plus(tag, 4), 4)
    parts = [head.times(head.bits(flags, bit, 1), size) for bit, size in enumerate(_TAG_PARTS)]
    encoder = head.plus(tag, 8, *parts)
    packed = head.big(head.plus(encoder, 21), 3)
    named = head.graph.op("Or", head.spells(tag, b"Xing"), head.spells(tag, b"Info"))
    told = head.graph.op(
        "And", named, head.graph.op("Or", head.spells(encoder, b"LAME"), head.spells(encoder, b"Lav"))
    )
    return head.bits(packed, 12, 12), head.bits(packed, 0, 12), head.graph.op("Cast", told, to=_LONG)


class _Head:
    """The bytes of a file, uint8 `[bytes]`, and whole numbers made of them."""

    def __init__(self, graph: GraphBuilder, values: ir.Value) -> None:
        self.graph, self._values = graph, values

    def row(self, numbers: Sequence[Number]) -> ir.Value:
        """Scalars as a vector."""
        return self.graph.op(
            "Concat",
            *(self.graph.op("Unsqueeze", self._of(one), self.graph.ints(0)) for one in numbers),
            axis=0,
        )

    def at(self, place: Number) -> ir.Value:
        """The byte at `place`, int64."""
        return self.graph.op("Cast", self.graph.op("Gather", self._values, self._of(place)), to=_LONG)

    def big(self, place: Number, count: int) -> ir.Value:
        """`count` bytes from `place` on as a number, the highest first."""
        return self.plus(
            *(self.times(self.at(self.plus(place, by)), 256 ** (count - 1 - by)) for by in range(count))
        )

    def little(self, place: Number, count: int) -> ir.Value:
        """The same, the lowest first."""
        return self.plus(*(self.times(self.at(self.plus(place, by)), 256**by) for by in range(count)))

    def spells(self, place: Number, text: bytes) -> ir.Value:
        """Whether `text` stands at `place`."""
        return self.equal(self.big(place, len(text)), int.from_bytes(text, "big"))

    def matches(self, wanted: Mapping[int, tuple[int, int]]) -> ir.Value:
        """Whether the file begins with bytes whose bits, of a mask, are as `wanted`: place -> (bits, mask)."""
        same = [
            self.equal(self._masked(self.at(place), mask), bits) for place, (bits, mask) in wanted.items()
        ]
        return self.graph.op("And", *same)

    def find(self, begin: Number, wanted: Mapping[int, tuple[int, int]]) -> ir.Value:
        """The first place from `begin` on where bytes are as `wanted`; `begin` itself if there is none."""
        graph = self.graph
        found: ir.Value | None = None
        for by, (bits, mask) in wanted.items():
            start = graph.op("Unsqueeze", self.plus(begin, by), graph.ints(0))
            end = graph.op("Add", start, graph.ints(_SEARCHED))
            part = graph.op("Slice", self._values, start, end, graph.ints(0))
            part = graph.op(
                "Pad", part, graph.ints(0, _SEARCHED)
            )  # near the end of the file, parts differ in length
            part = graph.op("Slice", part, graph.ints(0), graph.ints(_SEARCHED), graph.ints(0))
            same = self.equal(self._masked(graph.op("Cast", part, to=_LONG), mask), bits)
            found = same if found is None else graph.op("And", found, same)
        assert found is not None
        return self.plus(begin, graph.op("ArgMax", graph.op("Cast", found, to=_LONG), axis=0, keepdims=0))

    def bits(self, number: Number, low: int, count: int) -> ir.Value:
        """`count` bits of `number` from bit `low` on."""
        shifted = self.graph.op("Div", self._of(number), self._of(1 << low))
        return self.graph.op("Mod", shifted, self._of(1 << count))

    def plus(self, *numbers: Number) -> ir.Value:
        """The sum of all."""
        total = self._of(numbers[0])
        for number in numbers[1:]:
            total = self.graph.op("Add", total, self._of(number))
        return total

    def minus(self, number: Number, other: Number) -> ir.Value:
        """The difference."""
        return self.graph.op("Sub", self._of(number), self._of(other))

    def times(self, number: Number, factor: Number) -> ir.Value:
        """The product."""
        return self.graph.op("Mul", self._of(number), self._of(factor))

    def equal(self, number: Number, other: Number) -> ir.Value:
        """Whether both are the same."""
        return self.graph.op("Equal", self._of(number), self._of(other))

    def chosen(self, condition: ir.Value, number: Number, other: Number) -> ir.Value:
        """`number` where `condition` holds, else `other`."""
        return self.graph.op("Where", condition, self._of(number), self._of(other))

    def looked_up(self, name: str, table: Sequence[int], place: ir.Value) -> ir.Value:
        """The entry of `table` at `place`."""
        return self.graph.op("Gather", self.graph.constant(f"audio_file.{name}", np.array(table)), place)

    def _masked(self, number: ir.Value, mask: int) -> ir.Value:
        return number if mask == 255 else self.graph.op("BitwiseAnd", number, self._of(mask))

    def _of(self, number: Number) -> ir.Value:
        return self.graph.scalar(number) if isinstance(number, int) else number
