"""What may be told to ONNX Runtime's QNN provider. The library takes any key and value in silence: both are checked.

Source: the QNN provider's documentation and the options that onnxruntime-qnn 2.7.0 reads.
"""

from __future__ import annotations

from collections.abc import Mapping

from pocket_opt.errors import UserError, unknown_name

SWITCH = ("0", "1")
CHOICES: Mapping[str, tuple[str, ...]] = {
    "enable_htp_fp16_clamp_overflow": SWITCH,
    "enable_htp_graph_splitting": SWITCH,
    "enable_htp_spill_fill_buffer": SWITCH,
    "enable_vtcm_backup_buffer_sharing": SWITCH,
    "htp_bf16_enable": SWITCH,
    "htp_graph_finalization_optimization_mode": ("0", "1", "2", "3"),
    "htp_performance_mode": (
        *("default", "burst", "balanced", "high_performance", "sustained_high_performance", "low_balanced"),
        *("high_power_saver", "power_saver", "low_power_saver", "extreme_power_saver"),
    ),
    "offload_graph_io_quantization": SWITCH,
    "qnn_context_priority": ("low", "normal", "normal_high", "high"),
}
"""Option -> its values."""

ELSEWHERE: Mapping[str, str] = {
    "backend_path": "it is the NPU's library of the installed package",
    "backend_type": "it is the NPU",
    "enable_htp_fp16_precision": "floats are computed in 16 bits; there is nothing else on the NPU",
    "htp_arch": "set target.soc.htp_arch",
    "soc_model": "set target.soc.soc_model",
    "vtcm_mb": "set target.soc.vtcm_mb",
}
"""Options that follow from something else, and from what."""


def check_options(options: Mapping[str, str], *, where: str) -> None:
    """Raise UserError for an option or value that the provider does not know, or that is set elsewhere."""
    for key, value in options.items():
        if key in ELSEWHERE:
            raise UserError(f"'{key}' is not set here: {ELSEWHERE[key]}", where=where, fix="leave it out")
        if key not in CHOICES:
            raise unknown_name("option of the QNN provider", key, CHOICES, where=where)
        if value not in CHOICES[key]:
            raise unknown_name(f"value of {key}", value, CHOICES[key], where=where)
