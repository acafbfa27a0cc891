"""Rounds the linear layers of a PyTorch Whisper by a method that looks at what goes into them, stack after stack.

The method changes the layers of a `LayerStack` in place (or hands back changed ones). The decoder is rounded after the
encoder and hears what the rounded encoder says. The result is an ordinary checkpoint in fp32 whose weights lie on the
grid of the chosen bits and blocks, so `weight_only` with the algorithm "grid" loses nothing: it finds the
grid in the values, see onnx_graphs/grids.py.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from os import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pocket_opt.artifact import Artifact
from pocket_opt.data.planned import open_planned
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.passes.base import Calibrated, Inputs, Outcome, Pass, Progress, positive
from pocket_opt.scratch import scratch
from pocket_opt.worker import silent

if TYPE_CHECKING:
    from pocket_opt.models.whisper.layer_stacks import LayerStack

STACKS = ("encoder", "decoder")


@dataclass(frozen=True)
class RoundingParams(Calibrated):
    """The grid that weights are rounded to, and on how many clips.

    Attributes:
        bits, block_size, symmetric: as in `weight_only`, which must be given the same.
        components: "encoder", "decoder" or both. The keys and values of cross-attention belong to the decoder.
        clips: how many calibration clips are heard, spread evenly over the data set.
    """

    bits: Literal[2, 4, 8] = 4
    block_size: Literal[16, 32, 64, 128, 256] = 32
    symmetric: bool = True
    components: tuple[str, ...] = STACKS
    clips: int = positive(32)


Rounding = Callable[[Any], Any]
"""Takes a LayerStack and gives the rounded one."""


P = TypeVar("P", bound=RoundingParams)


class RoundingPass(Pass[P]):
    """What the passes that round the PyTorch model share; each says how a stack is rounded.

    Attributes:
        needs: modules beside neural-compressor.
    """

    tools: ClassVar[tuple[str, ...]] = ("neural_compressor", "torch", "transformers")
    needs: ClassVar[tuple[str, ...]] = ()

    def check(self, params: P) -> None:  # noqa: ARG002
        """What the method needs is installed."""
        check_compressor(self.needs)

    def calibrates(self, params: P) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def requires(self, inputs: Inputs, params: P) -> None:
        """The model is a PyTorch Whisper, and blocks fit its layers."""
        require_source(inputs["model"], params)

    def run(self, inputs: Inputs, params: P, workdir: Path, progress: Progress = silent) -> Outcome:
        """Round the stacks; write a checkpoint."""
        return round_layers(inputs["model"], params, workdir, partial(self.rounded, params), progress)

    @abstractmethod
    def rounded(self, params: P, stack: LayerStack) -> LayerStack:
        """`stack`, its layers rounded to the grid that `params` describe."""


def check_compressor(extra: tuple[str, ...] = ()) -> None:
    """Raise UserError unless neural-compressor and the modules `extra` are installed; imports nothing."""
    from importlib.util import find_spec

    missing = [name for name in ("neural_compressor", "cpuinfo", *extra) if find_spec(name) is None]
    if missing:
        raise UserError(
            f"this pass works with neural-compressor, of which {', '.join(missing)} is not installed",
            where="pass",
            allowed="neural-compressor 3.10 with its PyTorch part, and auto-round for that method",
            fix='pip install "pocket_opt[neural_compressor]"',
        )


def require_source(source: Artifact, params: RoundingParams) -> None:
    """Raise PocketOptError unless `source` is a PyTorch Whisper whose layers the blocks fit."""
    part = source.components.get("model")
    if part is None or part.format != "transformers":
        raise PocketOptError(
            "this pass changes the PyTorch model, before it is exported",
            where=f"components {', '.join(source.components)}",
            fix="put it behind the model: nodes.NAME.after=source (or student)",
        )
    dims = source.metadata["dims"]
    widths = {name: dims[name] for name in ("d_model", "encoder_ffn_dim", "decoder_ffn_dim")}
    odd = {name: width for name, width in widths.items() if width % params.block_size}
    if odd:
        raise PocketOptError(
            f"blocks of {params.block_size} do not divide {', '.join(f'{k} {v}' for k, v in odd.items())}",
            where="parameter block_size",
            allowed="a size that divides every layer's inputs",
            fix="choose a smaller one, or weight_only without this pass",
        )


def round_layers(
    source: Artifact, params: RoundingParams, workdir: Path, rounding: Rounding, progress: Progress
) -> Outcome:
    """Round the stacks that `params` names and write the checkpoint into `workdir`.

    Raises:
        PocketOptError: the method changed nothing, or made weights that are not finite.
    """
    import torch

    from pocket_opt.models.whisper import layer_stacks
    from pocket_opt.models.whisper.torch_checkpoint import load_model, write_checkpoint
    from pocket_opt.runtimes.calibration import Calibration

    clips = open_planned(params.calibration_path, params.calibration_digest).limit(params.clips)
    heard = Calibration.hear(source, clips, progress).heard
    features = [torch.from_numpy(one.features) for one in heard]
    tokens = [torch.from_numpy(one.forced.tokens) for one in heard]
    model = load_model(source.root)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    did: dict[str, Any] = {"clips": len(clips), "tokens": sum(one.shape[1] for one in tokens)}
    with torch.no_grad(), _elsewhere():
        if "encoder" in params.components:
            stack = layer_stacks.encoder_stack(model, features)
            did["encoder"] = _round(model.model.encoder, stack, rounding)
            progress(1, len(params.components), "stacks rounded")
        if "decoder" in params.components:
            said = [model.model.encoder(one).last_hidden_state for one in features]
            stack = layer_stacks.decoder_stack(model, tokens, said)
            did["decoder"] = _round(model.model.decoder, stack, rounding)
    changed = _changed(before, model.state_dict())
    if not changed:
        raise PocketOptError("no weight was changed", where=f"{params.components}", fix="report this")
    grid = {"bits": params.bits, "block_size": params.block_size, "symmetric": params.symmetric}
    artifact = write_checkpoint(model, source, workdir, weight_grid=grid)
    return Outcome(artifact, {**did, "tensors_changed": len(changed)})


def _round(part: Any, stack: Any, rounding: Rounding) -> dict[str, float]:
    """Round one stack, put its layers into `part`, and say how near its outputs are to those before."""
    import torch

    expected = [stack(stack.ticket(clip)) for clip in range(len(stack))]
    linear = {name: module for name, module in stack.named_modules() if isinstance(module, torch.nn.Linear)}
    biases = {name: module.bias for name, module in linear.items()}
    with torch.enable_grad():
        rounded = rounding(stack)
    _restore_linear(rounded, biases)
    part.layers = rounded.layers
    found = [rounded(rounded.ticket(clip)) for clip in range(len(rounded))]
    noise = sum(float((one - other).square().sum()) for one, other in zip(expected, found, strict=True))
    signal = sum(float(one.square().sum()) for one in expected)
    return {"output_sqnr_db": round(10 * float(torch.log10(torch.tensor(signal / max(noise, 1e-30)))), 2)}


def _restore_linear(stack: Any, biases: Mapping[str, Any]) -> None:
    """Put ordinary layers in the place of packed ones, `INCWeightOnlyLinear` of neural-compressor.

    Its own `recover` rounds weights to fp16, which takes them off their grid; its biases are in fp16, too.
    """
    import torch

    packed = [(name, module) for name, module in stack.named_modules() if hasattr(module, "recover")]
    for name, module in packed:
        weight = _unpacked(module)
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.weight.data, linear.bias = weight, biases[name]
        parent, _, leaf = name.rpartition(".")
        setattr(stack.get_submodule(parent), leaf, linear)


def _unpacked(module: Any) -> Any:
    """The weight `[outputs, inputs]` of a packed layer: levels less zero points, times scales, in fp32."""
    import torch

    parts = module.unpack()
    levels, scales = parts["int_weight"].to(torch.float32), parts["scales"].to(torch.float32)
    zeros = 0 if parts.get("zp") is None else parts["zp"].to(torch.float32)[:, :, None]
    blocks = levels.reshape(*scales.shape, -1) - zeros
    return (blocks * scales[:, :, None]).reshape(levels.shape)


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    import torch

    for name, tensor in after.items():
        if not torch.isfinite(tensor).all():
            raise PocketOptError(f"the rounded weight '{name}' is not finite", where=name, fix="add clips")
    names = [name for name, tensor in before.items() if name in after]
    return [name for name in names if not torch.equal(before[name], after[name])]


@contextmanager
def _elsewhere() -> Iterator[None]:
    """Work in a directory of our own: neural-compressor leaves files where it runs."""
    here = Path.cwd()
    with scratch("rounding") as place:
        chdir(place)
        try:
            yield
        finally:
            chdir(here)
