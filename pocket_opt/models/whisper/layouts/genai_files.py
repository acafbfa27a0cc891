"""What onnxruntime-genai reads beside the graphs: ports, sizes and search in one table, the front end in another.

The client takes the names of ports from the table, so our graphs keep theirs. Its front end pads or cuts every clip
to one window; in the first two frames and the last it is not Whisper's own.
Source: onnxruntime-genai 0.18, `src/config.cpp`, `src/models/whisper.cpp`, `src/models/whisper_processor.cpp`.
"""

from __future__ import annotations

from typing import Any

from pocket_opt.artifact import Artifact
from pocket_opt.models.whisper.layouts.artifacts import generation_table
from pocket_opt.models.whisper.mel_graph import HOP, N_FFT

FRONT_END = "audio_processor_config.json"


def genai_config(artifact: Artifact) -> dict[str, Any]:
    """The table of `genai_config.json`."""
    dims, generation = artifact.metadata["dims"], generation_table(artifact)
    sizes = {"hidden_size": dims["d_model"], "session_options": {"provider_options": []}}
    return {
        "model": {
            "type": "whisper",
            "bos_token_id": generation.get("bos_token_id", generation["eos_token_id"]),
            "eos_token_id": generation["eos_token_id"],
            "pad_token_id": generation.get("pad_token_id", generation["eos_token_id"]),
            "context_length": dims["target_positions"],
            "vocab_size": dims["vocab"],
            "speech": {"config_filename": FRONT_END},
            "encoder": {
                **sizes,
                **_heads(dims["d_model"], dims["encoder_heads"], dims["encoder_layers"]),
                "filename": artifact.components["encoder"].files[0],
                "inputs": {"audio_features": "features"},
                "outputs": {
                    "encoder_hidden_states": "encoder_hidden",
                    "cross_present_key_names": "cross_key_%d",
                    "cross_present_value_names": "cross_value_%d",
                },
            },
            "decoder": {
                **sizes,
                **_heads(dims["d_model"], dims["decoder_heads"], dims["decoder_layers"]),
                "filename": artifact.components["decoder"].files[0],
                "inputs": {
                    "input_ids": "tokens",
                    "past_key_names": "past_key_%d",
                    "past_value_names": "past_value_%d",
                    "cross_past_key_names": "cross_key_%d",
                    "cross_past_value_names": "cross_value_%d",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present_key_%d",
                    "present_value_names": "present_value_%d",
                },
            },
        },
        "search": {
            "do_sample": False,
            "early_stopping": True,
            "max_length": dims["target_positions"],
            "num_beams": 1,
            "past_present_share_buffer": False,
            "top_k": 1,
        },
    }


def front_end_config(artifact: Artifact) -> dict[str, Any]:
    """The table of `audio_processor_config.json`."""
    dims = artifact.metadata["dims"]
    transform = {"n_fft": N_FFT, "frame_length": N_FFT, "hop_length": HOP}
    mel = {"chunk_size": dims["window_s"], "hop_length": HOP, "n_fft": N_FFT, "n_mel": dims["mels"]}
    steps: tuple[tuple[str, dict[str, Any]], ...] = (
        ("AudioDecoder", {}),
        ("STFTNorm", transform),
        ("LogMelSpectrum", mel),
    )
    sequence = [_operation(kind, attrs) for kind, attrs in steps]
    return {"feature_extraction": {"sequence": sequence}}


def _operation(kind: str, attrs: dict[str, Any]) -> dict[str, Any]:
    return {"operation": {"name": kind, "type": kind, **({"attrs": attrs} if attrs else {})}}


def _heads(width: int, heads: int, layers: int) -> dict[str, int]:
    return {
        "head_size": width // heads,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "num_hidden_layers": layers,
    }
