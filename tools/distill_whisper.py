"""Distil the teacher into a student with one decoder layer that shares the teacher's encoder.

As in Distil-Whisper (Gandhi et al. 2023, arXiv:2311.00430): the encoder is copied and frozen, the decoder
starts from a teacher layer, and the loss is the Kullback-Leibler divergence to the teacher plus cross-entropy
on the true text. The student keeps the whole protocol, as the training batches hold all of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import torch
from sample_checkpoint import STUDENT_DECODER_LAYERS, model_config, save_checkpoint
from torch import nn
from torch.nn import functional
from train_whisper import Schedule, Trainer, decode, encode, in_processes, token_loss
from training_batches import IGNORED, Batch, BatchMaker
from training_windows import SpeechCorpus
from transformers import WhisperForConditionalGeneration, WhisperTokenizer

_CROSS_ENTROPY_WEIGHT: Final = 0.5
_TEMPERATURE: Final = 2.0


class DistillationLoss:
    """Divergence to the teacher's distribution plus cross-entropy; the frozen encoder runs once for both."""

    def __init__(
        self, teacher: WhisperForConditionalGeneration, student: WhisperForConditionalGeneration
    ) -> None:
        self._teacher = teacher
        self._student = student

    def parameters(self) -> list[nn.Parameter]:
        """The student's decoder."""
        return [p for p in self._student.parameters() if p.requires_grad]

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Divergence plus weighted token loss."""
        with torch.no_grad():
            encoded = encode(self._teacher.model.encoder, batch.features)
            wanted = decode(self._teacher, encoded, batch)
        logits = decode(self._student, encoded, batch)
        return divergence(logits, wanted, batch.labels) + _CROSS_ENTROPY_WEIGHT * token_loss(
            logits, batch.labels
        )


def divergence(logits: torch.Tensor, wanted: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean KL divergence, softened by the temperature, over the tokens that count."""
    counted = labels != IGNORED
    student = (logits[counted] / _TEMPERATURE).log_softmax(-1)
    teacher = (wanted[counted] / _TEMPERATURE).log_softmax(-1)
    return _TEMPERATURE**2 * functional.kl_div(student, teacher, reduction="batchmean", log_target=True)


def start_student(
    teacher: WhisperForConditionalGeneration, tokenizer: WhisperTokenizer
) -> WhisperForConditionalGeneration:
    """The teacher's encoder, embeddings and first decoder layer; only the decoder stays trainable."""
    student = WhisperForConditionalGeneration(model_config(tokenizer, STUDENT_DECODER_LAYERS))
    kept = set(student.state_dict())
    student.load_state_dict({name: tensor for name, tensor in teacher.state_dict().items() if name in kept})
    student.model.encoder.requires_grad_(False)
    return student


def distill(rank: int, args: argparse.Namespace) -> None:
    """One process of the distillation run."""
    tokenizer = WhisperTokenizer.from_pretrained(args.teacher)
    teacher = WhisperForConditionalGeneration.from_pretrained(args.teacher).eval().requires_grad_(False)
    student = start_student(teacher, tokenizer)
    batches = BatchMaker(SpeechCorpus(args.work / "training"), tokenizer, args.seed + rank)
    schedule = Schedule(args.minutes, args.batch, peak_rate=1.5e-3)
    loss = DistillationLoss(teacher, student)
    Trainer(student, loss, schedule).run(batches, lambda m: save_checkpoint(m, tokenizer, args.output))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True, help="pocket_opt/sample/teacher")
    parser.add_argument("--output", type=Path, required=True, help="pocket_opt/sample/student")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--batch", type=int, default=8, help="clips a step and process")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=5)
    in_processes(distill, parser.parse_args())


if __name__ == "__main__":
    main()
