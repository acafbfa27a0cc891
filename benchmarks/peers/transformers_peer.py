"""transformers in fp32: `generate()` as people call it, or (setting "loop") its model in a bare loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from protocol import serve, size_mb
from transformers import WhisperForConditionalGeneration


class Loop:
    """The model, fed step by step."""

    def __init__(self, job: dict[str, Any]) -> None:
        torch.set_num_threads(job["threads"])
        checkpoint = Path(job["checkpoint"])
        self.size_mb = size_mb([checkpoint / "model.safetensors"])
        self.model = WhisperForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
        self.hidden: Any = None
        self.cache: Any = None

    @torch.inference_mode()
    def encode(self, features: Any) -> None:
        self.hidden = self.model.get_encoder()(torch.from_numpy(features)).last_hidden_state
        self.cache = None

    @torch.inference_mode()
    def decode(self, tokens: list[int]) -> Any:
        output = self.model(
            encoder_outputs=(self.hidden,),
            decoder_input_ids=torch.tensor([tokens]),
            past_key_values=self.cache,
            use_cache=True,
        )
        self.cache = output.past_key_values
        return output.logits[0, -1].numpy()


class Generate(Loop):
    """`generate()`, with exactly as many tokens as asked for."""

    def generate(self, features: Any, prompt: list[int], count: int) -> list[int]:
        return generated(self.model, torch.from_numpy(features), prompt, count)


def generated(model: Any, features: Any, prompt: list[int], count: int) -> list[int]:
    """Tokens of `generate()` after `prompt`, greedy, with neither fewer nor more than `count`."""
    model.generation_config.suppress_tokens = None
    model.generation_config.begin_suppress_tokens = None
    model.generation_config.forced_decoder_ids = None
    sequence = model.generate(
        features,
        decoder_input_ids=torch.tensor([prompt]),
        do_sample=False,
        num_beams=1,
        min_new_tokens=count,
        max_new_tokens=count,
        return_timestamps=False,
    )[0].tolist()
    return sequence[len(prompt) :] if sequence[: len(prompt)] == prompt else sequence


if __name__ == "__main__":
    serve(lambda job: (Loop if job["precision"] == "loop" else Generate)(job), ("transformers", "torch"))
