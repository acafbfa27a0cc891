"""CTranslate2, the engine of faster-whisper: float32 or int8, greedy, end of text suppressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from protocol import serve, size_mb


class CTranslate2:
    """Generates whole sequences; its logits can be read along the tokens that it chose."""

    def __init__(self, job: dict[str, Any]) -> None:
        target = Path(job["work"])
        if not (target / "model.bin").is_file():
            converter = ctranslate2.converters.TransformersConverter(job["checkpoint"])
            converter.convert(str(target), quantization=job["precision"], force=True)
        self.size_mb = size_mb([target / "model.bin"])
        self.end = job["end"]
        self.model = ctranslate2.models.Whisper(
            str(target),
            device="cpu",
            compute_type=job["precision"],
            intra_threads=job["threads"],
            inter_threads=1,
        )

    def encode(self, features: Any) -> None:
        self.encoded = self.model.encode(ctranslate2.StorageView.from_array(np.ascontiguousarray(features)))

    def _generate(self, features: Any, prompt: list[int], count: int, **options: Any) -> Any:
        return self.model.generate(
            ctranslate2.StorageView.from_array(np.ascontiguousarray(features)),
            [prompt],
            beam_size=1,
            max_length=2 * count,  # at most half of it is generated
            suppress_blank=False,
            suppress_tokens=[self.end],
            **options,
        )[0]

    def generate(self, features: Any, prompt: list[int], count: int) -> list[int]:
        return list(self._generate(features, prompt, count).sequences_ids[0])

    def evidence(self, features: Any, prompt: list[int], count: int) -> tuple[list[int], Any]:
        result = self._generate(features, prompt, count, return_logits_vocab=True)
        rows = [np.asarray(row, np.float32).reshape(-1) for row in result.logits[0]]
        return list(result.sequences_ids[0]), np.stack(rows)


if __name__ == "__main__":
    serve(CTranslate2, ("ctranslate2",))
