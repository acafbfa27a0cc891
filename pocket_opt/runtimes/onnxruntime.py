"""ONNX Runtime on the CPU, through the runner that every bundle carries: what is measured is what ships."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pocket_opt.errors import PocketOptError
from pocket_opt.models.whisper.runner.transcript import RequestError
from pocket_opt.models.whisper.runner.whisper import Whisper
from pocket_opt.runtimes.base import beyond_the_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pocket_opt.artifact import Artifact
    from pocket_opt.passes.base import Progress
    from pocket_opt.runtimes.base import Audio, DecodeOptions, Segment, Transcript


class OnnxRuntime(Whisper):
    """The stand-alone runner, with errors as the rest of the package reports them."""

    def transcribe(self, audio: Sequence[Audio], options: DecodeOptions | None = None) -> list[Transcript]:
        """Transcripts of the clips `[samples]`; UserError for a language or task that the model does not know."""
        try:
            return super().transcribe(audio, options)
        except RequestError as error:
            raise beyond_the_model(error) from None

    def stream(self, samples: Audio, options: DecodeOptions | None = None) -> Iterator[Segment]:
        """The segments of a clip `[samples]`; UserError as above."""
        try:
            yield from super().stream(samples, options)
        except RequestError as error:
            raise beyond_the_model(error) from None


def open_model(artifact: Artifact, *, threads: int = 0) -> OnnxRuntime:
    """Open the graphs `mel`, `encoder` and `decoder` of `artifact`."""
    return OnnxRuntime(artifact.root, threads=threads)


def probe(payload: Mapping[str, Any], progress: Progress) -> str:  # noqa: ARG001  (a worker task)
    """Run one matrix product through ONNX Runtime and say what ran it; for `doctor`, in a worker."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper

    square = [2, 2]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, square) for name in "xyz"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "y"], ["z"])], "probe", ports[:2], ports[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ones = np.ones(square, np.float32)
    (product,) = session.run(None, {"x": ones, "y": ones})
    if not np.array_equal(product, 2 * ones):
        raise PocketOptError("a matrix product gave a wrong result", fix="reinstall onnxruntime")
    return f"MatMul on {session.get_providers()[0]}, onnxruntime {onnxruntime.__version__}"
