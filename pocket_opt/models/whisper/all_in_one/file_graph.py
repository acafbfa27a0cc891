"""The bytes of an audio file to mono samples: decoded by onnxruntime-extensions, the rest by standard operators.

`AudioDecoder` takes the average of two channels right, and of more it makes noise, so more are refused.
"""

from __future__ import annotations

import onnx_ir as ir

from pocket_opt.models.whisper.all_in_one.file_header import FileHeader, build_header
from pocket_opt.models.whisper.all_in_one.resampling_graph import build_resampled
from pocket_opt.models.whisper.graph_builder import GraphBuilder

DOMAIN = "ai.onnx.contrib"
"""Of the operators of onnxruntime-extensions."""
MOST_CHANNELS = 2
_NOWHERE = 1 << 40


def build_file_audio(graph: GraphBuilder, wanted: int, longest: int) -> ir.Value:
    """Declare `audio_bytes` uint8 `[bytes]`: its first `longest` samples at `wanted` Hz, `[1, at most longest]`."""
    stream = graph.input("audio_bytes", ir.DataType.UINT8, ("bytes",))
    header = build_header(graph, stream)
    samples = _decoded(graph, stream, header)
    samples = build_resampled(graph, samples, header.rate, wanted, longest)
    return graph.op("Unsqueeze", samples, graph.ints(0))


def _decoded(graph: GraphBuilder, stream: ir.Value, header: FileHeader) -> ir.Value:
    """Mono samples `[samples]` at the file's rate, without an MP3's padding."""
    with graph.scope("audio_file.more_than_two_channels"):
        many = graph.op("Greater", header.channels, graph.scalar(MOST_CHANNELS))
        place = graph.op("Where", many, graph.ints(_NOWHERE), graph.ints(0))
        kind = graph.op("Gather", header.kind, place)
    graph.graph.opset_imports[DOMAIN] = 1
    node = ir.node(
        "AudioDecoder", [stream, kind], {"stereo_to_mono": 1}, domain=DOMAIN, name="audio_file/AudioDecoder"
    )
    node.outputs[0].name = "audio_file/AudioDecoder_output"
    graph.graph.append(node)
    with graph.scope("audio_file.decoded"):
        samples = graph.op("Reshape", node.outputs[0], graph.ints(-1))
        end = graph.op("Sub", graph.op("Size", samples), header.padding)
        begin, end = (graph.op("Unsqueeze", place, graph.ints(0)) for place in (header.skipped, end))
        return graph.op("Slice", samples, begin, end, graph.ints(0))
