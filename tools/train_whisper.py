"""Train the teacher from scratch for a stated number of minutes.

The rate follows the clock rather than a step count, so training ends on time on any machine. An auxiliary CTC
loss on characters teaches the encoder to align early; its head is no part of the checkpoint.
"""

from __future__ import annotations

import argparse
import copy
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import torch
from sample_checkpoint import TEACHER_DECODER_LAYERS, model_config, save_checkpoint
from torch import distributed, multiprocessing, nn
from torch.nn import functional
from training_batches import CTC_ALPHABET, IGNORED, Batch, BatchMaker
from training_windows import SpeechCorpus
from transformers import WhisperForConditionalGeneration, WhisperTokenizer
from transformers.models.whisper.modeling_whisper import WhisperEncoder

_LABEL_SMOOTHING: Final = 0.05
_CTC_WEIGHT: Final = 0.5
_WARM_UP_STEPS: Final = 100
_HEAD_START_STEPS: Final = 150
_EMA_DECAY: Final = 0.998
_LOG_STEPS: Final = 100

Snapshot = Callable[[WhisperForConditionalGeneration], None]


class Loss(Protocol):
    """What a training run minimises, and over which parameters."""

    def parameters(self) -> list[nn.Parameter]:
        """The trainable parameters."""

    def __call__(self, batch: Batch) -> torch.Tensor:
        """A scalar with a gradient."""


@dataclass(frozen=True)
class Schedule:
    """How long, how large and how fast; snapshots of the averaged model come `snapshot_minutes` apart."""

    minutes: float
    batch: int = 8
    peak_rate: float = 2e-3
    first_snapshot_minutes: float = 14.0
    snapshot_minutes: float = 8.0

    def rate(self, step: int, minutes: float) -> float:
        """Linear warm-up over steps, then a cosine over the clock down to 1 % of the peak."""
        warm_up = min(1.0, (step + 1) / _WARM_UP_STEPS)
        part = min(1.0, minutes / self.minutes)
        return self.peak_rate * warm_up * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * part)))


class TeacherLoss:
    """Cross-entropy on the targets plus CTC on the encoder."""

    def __init__(self, model: WhisperForConditionalGeneration, *, compiled: bool, head_start: int) -> None:
        """`compiled` makes a step a fifth faster after half a minute of compilation (needs a C++ compiler)."""
        self._model = model
        self._encode = torch.compile(encode, dynamic=True) if compiled else encode
        # A trained encoder waits for the fresh head to learn; its first gradients would only harm it.
        self._head_start = head_start
        self._calls = 0
        self._head = nn.Linear(model.config.d_model, len(CTC_ALPHABET) + 1)

    def parameters(self) -> list[nn.Parameter]:
        """Model and auxiliary head; the encoder's sinusoids are fixed."""
        return [p for p in [*self._model.parameters(), *self._head.parameters()] if p.requires_grad]

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Token loss plus weighted CTC loss."""
        encoded = self._encode(self._model.model.encoder, batch.features)
        logits = decode(self._model, encoded, batch)
        self._calls += 1
        spelled = encoded.detach() if self._calls <= self._head_start else encoded
        return token_loss(logits, batch.labels) + _CTC_WEIGHT * self._ctc(spelled, batch)

    def _ctc(self, encoded: torch.Tensor, batch: Batch) -> torch.Tensor:
        log_probabilities = self._head(encoded).log_softmax(-1).transpose(0, 1)
        frames = torch.full((len(encoded),), encoded.shape[1])
        counts = batch.character_counts
        return functional.ctc_loss(
            log_probabilities, batch.characters, frames, counts, reduction="sum", zero_infinity=True
        ) / counts.sum().clamp(min=1)


def encode(encoder: WhisperEncoder, features: torch.Tensor) -> torch.Tensor:
    """What `WhisperEncoder.forward` computes, for fewer frames than the whole window too; [batch, frames / 2, width]."""
    hidden = functional.gelu(encoder.conv1(features))
    hidden = functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
    hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
    for layer in encoder.layers:
        hidden = layer(hidden, None)
    normalised: torch.Tensor = encoder.layer_norm(hidden)
    return normalised


def decode(model: WhisperForConditionalGeneration, encoded: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Logits [2 x batch, tokens, vocabulary] of both target sequences of every clip."""
    hidden = model.model.decoder(
        input_ids=batch.decoder_input, encoder_hidden_states=encoded.repeat(2, 1, 1), use_cache=False
    ).last_hidden_state
    logits: torch.Tensor = model.proj_out(hidden)
    return logits


def token_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Smoothed cross-entropy over the targets that count."""
    return functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, label_smoothing=_LABEL_SMOOTHING
    )


class Trainer:
    """One model, its loss and its optimizer, with a running average of the weights.

    Several one-thread processes, each with its own batches, share the work: on a busy machine that loses far less time
    than threads that wait for each other in every matrix product.
    """

    def __init__(self, model: WhisperForConditionalGeneration, loss: Loss, schedule: Schedule) -> None:
        self._model = model
        self._loss = loss
        self._schedule = schedule
        self._parameters = loss.parameters()
        self._optimizer = torch.optim.AdamW(self._parameters, lr=0.0, betas=(0.9, 0.98), weight_decay=0.01)
        self._average = copy.deepcopy(model).eval().requires_grad_(False)
        self._minutes = 0.0

    def run(self, batches: BatchMaker, on_snapshot: Snapshot) -> None:
        """Train until the clock runs out; the first process hands snapshots of the averaged model out."""
        started = time.monotonic()
        step, recent = 0, 0.0
        next_snapshot = self._schedule.first_snapshot_minutes
        first = distributed.get_rank() == 0
        while self._minutes < self._schedule.minutes:
            recent += self._step(
                batches.draw(self._schedule.batch), step, (time.monotonic() - started) / 60.0
            )
            step += 1
            if first and step % _LOG_STEPS == 0:
                print(f"{self._minutes:6.2f} min  step {step}  loss {recent / _LOG_STEPS:.4f}", flush=True)
                recent = 0.0
            if first and self._minutes >= next_snapshot:
                on_snapshot(self._average)
                next_snapshot += self._schedule.snapshot_minutes
        if first:
            on_snapshot(self._average)

    def _step(self, batch: Batch, step: int, minutes: float) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = self._schedule.rate(step, self._minutes)
        value = self._loss(batch)
        self._optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        self._minutes = share_gradients(self._parameters, minutes)
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._update_average(min(_EMA_DECAY, (1 + step) / (10 + step)))
        return value.item()

    @torch.no_grad()
    def _update_average(self, decay: float) -> None:
        pairs = zip(self._average.parameters(), self._model.parameters(), strict=True)
        for average, current in pairs:
            average.lerp_(current, 1.0 - decay)


def share_gradients(parameters: Sequence[nn.Parameter], minutes: float) -> float:
    """Average gradients over the processes, and their clocks, which they must agree on."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([*(g.flatten() for g in gradients), torch.tensor([minutes])])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    pieces = flat[:-1].split([g.numel() for g in gradients])
    for gradient, piece in zip(gradients, pieces, strict=True):
        gradient.copy_(piece.view_as(gradient))
    return float(flat[-1])


def in_processes(work: Callable[[int, argparse.Namespace], None], args: argparse.Namespace) -> None:
    """Run `work(rank, args)` in `args.processes` one-thread processes joined by gloo."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_one_process, (work, args, f"file://{folder}/store"), nprocs=args.processes)


def _one_process(
    rank: int, work: Callable[[int, argparse.Namespace], None], args: argparse.Namespace, store: str
) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=args.processes)
    work(rank, args)
    distributed.destroy_process_group()


def starting_model(tokenizer: WhisperTokenizer, start: Path | None) -> WhisperForConditionalGeneration:
    """A fresh model, or the checkpoint to go on from."""
    if start is not None:
        return WhisperForConditionalGeneration.from_pretrained(start)
    model = WhisperForConditionalGeneration(model_config(tokenizer, TEACHER_DECODER_LAYERS))
    strengthen_front_end(model.model.encoder)
    return model


def strengthen_front_end(encoder: WhisperEncoder) -> None:
    """Let the sound weigh as much as the fixed position sinusoids from the first step.

    At the usual initialisation the sinusoids are six times as strong, and a thousand steps go by before words appear.
    """
    nn.init.kaiming_normal_(encoder.conv1.weight, nonlinearity="relu")
    nn.init.kaiming_normal_(encoder.conv2.weight, nonlinearity="relu")
    with torch.no_grad():
        encoder.conv2.weight.mul_(2.0)


def train_teacher(rank: int, args: argparse.Namespace) -> None:
    """One process of the training run."""
    tokenizer = WhisperTokenizer.from_pretrained(args.work / "tokenizer")
    model = starting_model(tokenizer, args.start)
    loss = TeacherLoss(model, compiled=args.compile, head_start=_HEAD_START_STEPS if args.start else 0)
    batches = BatchMaker(SpeechCorpus(args.work / "training"), tokenizer, args.seed + rank)
    schedule = Schedule(args.minutes, args.batch, args.peak_rate)
    Trainer(model, loss, schedule).run(batches, lambda m: save_checkpoint(m, tokenizer, args.output))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder pocket_opt/sample/teacher")
    parser.add_argument("--minutes", type=float, default=75.0)
    parser.add_argument("--batch", type=int, default=8, help="clips a step and process")
    parser.add_argument("--peak-rate", type=float, default=2e-3)
    parser.add_argument("--start", type=Path, help="checkpoint to go on from")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--seed", type=int, default=4)
    in_processes(train_teacher, parser.parse_args())


if __name__ == "__main__":
    main()
