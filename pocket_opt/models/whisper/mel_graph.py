"""The log-mel front end as a graph: audio in, features out, equal to `WhisperFeatureExtractor` within 1e-4.

The short-time Fourier transform is one strided convolution with a windowed DFT basis (ONNX's STFT is 15 times slower
at 400 points and 100 times less exact). Basis and mel filters are computed in the graph, in double precision,
from a table of 400 cosines and one of filter edges; ONNX Runtime folds them into constants when it loads the graph, so
the file stays at 12 kB instead of 700.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pocket_opt.models.whisper.checkpoint import SAMPLE_RATE, WhisperDims
from pocket_opt.models.whisper.graph_builder import GraphBuilder

N_FFT = 400
HOP = 160
BINS = N_FFT // 2 + 1
FLOOR = 1e-10
"""Power below which the logarithm is clamped, as in `WhisperFeatureExtractor`."""

_DOUBLE = ir.DataType.DOUBLE.value
_FLOAT = ir.DataType.FLOAT.value


def build_mel(dims: WhisperDims) -> ir.Model:
    """The graph `audio` [batch, samples] (mono, 16 kHz, any length) -> `features` [batch, mels, frames].

    Audio is trimmed or zero-padded to the window inside; the dynamic range is clamped per row.
    """
    graph = GraphBuilder("mel")
    audio = graph.input("audio", ir.DataType.FLOAT, ("batch", "samples"))
    with graph.scope("mel"):
        spectrum = _power_spectrum(graph, _fit_window(graph, audio, dims))
        with graph.scope("filters"):
            energies = graph.op("MatMul", _mel_filters(graph, dims.mels), spectrum)
        features = _compress(graph, energies)
    graph.output(features, "features", ("batch", dims.mels, dims.frames))
    return graph.build()


def _fit_window(graph: GraphBuilder, audio: ir.Value, dims: WhisperDims) -> ir.Value:
    """[batch, samples] to [batch, 1, window + edges], reflected at both ends as for a centred transform.

    The transform's last frame is dropped by Whisper, so the right edge is only as long as the frame before needs.
    """
    with graph.scope("window"):
        window = graph.ints(dims.samples)
        trimmed = graph.op("Slice", audio, graph.ints(0), window, graph.ints(1))
        missing = graph.op("Sub", window, graph.op("Shape", trimmed, start=1, end=2))
        pads = graph.op("Concat", graph.ints(0, 0, 0), missing, axis=0)
        padded = graph.op("Pad", trimmed, pads)
        edges = graph.ints(0, N_FFT // 2, 0, N_FFT // 2 - HOP)
        return graph.op("Unsqueeze", graph.op("Pad", padded, edges, mode="reflect"), graph.ints(1))


def _power_spectrum(graph: GraphBuilder, samples: ir.Value) -> ir.Value:
    """[batch, 1, samples] to the power spectrum [batch, 201, frames]."""
    with graph.scope("dft"):
        parts = graph.op("Conv", samples, _dft_basis(graph), kernel_shape=[N_FFT], strides=[HOP])
        squared = graph.op("Mul", parts, parts)
        real = graph.op("Slice", squared, graph.ints(0), graph.ints(BINS), graph.ints(1))
        imaginary = graph.op("Slice", squared, graph.ints(BINS), graph.ints(2 * BINS), graph.ints(1))
        return graph.op("Add", real, imaginary)


def _dft_basis(graph: GraphBuilder) -> ir.Value:
    """Cosine and sine rows times the periodic Hann window, [402, 1, 400]."""
    turns = np.arange(N_FFT) / N_FFT
    cosines = graph.constant("mel.cosines", np.cos(2 * math.pi * turns))
    time = graph.op("Range", graph.scalar(0), graph.scalar(N_FFT), graph.scalar(1))
    rows = graph.op("Range", graph.scalar(0), graph.scalar(BINS), graph.scalar(1))
    phase = graph.op("Mul", graph.op("Unsqueeze", rows, graph.ints(1)), time)
    real = _lookup(graph, cosines, phase)
    # sin(x) = cos(x - a quarter turn); adding three quarters keeps the index positive.
    imaginary = _lookup(graph, cosines, graph.op("Add", phase, graph.ints(3 * N_FFT // 4)))
    half = graph.constant("mel.half", np.array(0.5))
    window = graph.op("Sub", half, graph.op("Mul", half, cosines))
    basis = graph.op("Mul", graph.op("Concat", real, imaginary, axis=0), window)
    return graph.op("Unsqueeze", graph.op("Cast", basis, to=_FLOAT), graph.ints(1))


def _lookup(graph: GraphBuilder, table: ir.Value, index: ir.Value) -> ir.Value:
    return graph.op("Gather", table, graph.op("Mod", index, graph.ints(N_FFT)), axis=0)


def _mel_filters(graph: GraphBuilder, mels: int) -> ir.Value:
    """Triangles on Slaney's mel scale, normalised to unit area, [mels, 201].

    Follows `transformers.audio_utils.mel_filter_bank`.
    """
    edges = mel_edges(mels)
    widths = np.diff(edges)
    lower = graph.constant("mel.lower_edges", edges[:-2, None])
    upper = graph.constant("mel.upper_edges", edges[2:, None])
    rise = graph.constant("mel.rise", widths[:-1, None])
    fall = graph.constant("mel.fall", widths[1:, None])
    area = graph.constant("mel.area", 2.0 / (edges[2:, None] - edges[:-2, None]))
    rows = graph.op("Range", graph.scalar(0), graph.scalar(BINS), graph.scalar(1))
    step = graph.constant("mel.bin_hz", np.array(SAMPLE_RATE / N_FFT))
    frequencies = graph.op("Mul", graph.op("Cast", rows, to=_DOUBLE), step)
    up = graph.op("Div", graph.op("Sub", frequencies, lower), rise)
    down = graph.op("Div", graph.op("Sub", upper, frequencies), fall)
    triangles = graph.op("Max", graph.op("Min", up, down), graph.constant("mel.zero", np.array(0.0)))
    return graph.op("Cast", graph.op("Mul", triangles, area), to=_FLOAT)


def mel_edges(mels: int) -> npt.NDArray[np.float64]:
    """The `mels + 2` frequencies in Hz that bound the filters: linear to 1 kHz, logarithmic above (Slaney)."""
    linear_hz, first_log_mel, log_step = 200.0 / 3, 15.0, math.log(6.4) / 27.0
    top = first_log_mel + math.log(SAMPLE_RATE / 2 / 1000.0) / log_step
    scale = np.linspace(0.0, top, mels + 2)
    logarithmic = 1000.0 * np.exp(log_step * (scale - first_log_mel))
    return np.where(scale >= first_log_mel, logarithmic, linear_hz * scale)


def _compress(graph: GraphBuilder, energies: ir.Value) -> ir.Value:
    """`(max(log10(e), peak - 8) + 4) / 4` with the peak of each row."""
    with graph.scope("log"):
        floored = graph.op("Max", energies, graph.constant("mel.floor", np.array(FLOOR, np.float32)))
        to_log10 = graph.constant("mel.to_log10", np.array(1 / math.log(10), np.float32))
        log = graph.op("Mul", graph.op("Log", floored), to_log10)
        peak = graph.op("ReduceMax", log, graph.ints(1, 2), keepdims=1)
        lowest = graph.op("Sub", peak, graph.constant("mel.range", np.array(8, np.float32)))
        four = graph.constant("mel.four", np.array(4, np.float32))
        return graph.op("Div", graph.op("Add", graph.op("Max", log, lowest), four), four)
