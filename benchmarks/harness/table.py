"""The result as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.floor import Floor
from harness.gate import Verdict
from harness.machine import Rates
from harness.rounds import Times

HEAD = (
    "engine",
    "gate dB",
    "top-1",
    "encoder s",
    "ms/token",
    "total s",
    "min-max",
    "of fp32",
    "x floor",
    "MB",
)


def row(
    name: str,
    times: Times,
    reference: Times,
    ready: Mapping[str, Any],
    verdict: Verdict | None,
    floor: Floor,
) -> dict[str, Any]:
    """Everything about one engine; `verdict` None: it is the reference of the gate itself."""
    total = times.median("total_s")
    assert total is not None
    return {
        "engine": name,
        "encoder_s": times.median("encoder_s"),
        "first_s": times.median("first_s"),
        "token_s": times.median("token_s"),
        "total_s": total,
        "total_min_s": times.spread()[0],
        "total_max_s": times.spread()[1],
        "runs": sum(map(len, times.rounds)),
        "of_fp32": times.ratio_to(reference),
        "of_floor": total / floor.total_s,
        "size_mb": ready["size_mb"],
        "load_s": ready["load_s"],
        "versions": ready["versions"],
        "gate": None if verdict is None else {**asdict(verdict), "passed": verdict.passed},
    }


def text(rows: list[dict[str, Any]], failures: Mapping[str, str]) -> str:
    """The rows by total time, then what did not run and why. An engine that fails the gate is marked."""
    lines = [list(HEAD)]
    for entry in sorted(rows, key=lambda entry: float(entry["total_s"])):
        gate = entry["gate"]
        lines.append(
            [
                entry["engine"],
                "reference"
                if gate is None
                else f"{gate['sqnr_db']:.1f}{'' if gate['passed'] else ' FAILED'}",
                "" if gate is None else f"{gate['top1']:.2f}",
                f"{entry['encoder_s']:.3f}",
                f"{1000 * entry['token_s']:.2f}",
                f"{entry['total_s']:.3f}",
                f"{entry['total_min_s']:.3f}-{entry['total_max_s']:.3f}",
                f"{entry['of_fp32']:.3f}",
                f"{entry['of_floor']:.1f}",
                f"{entry['size_mb']:.1f}",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = [
        "  ".join(
            cell.ljust(widths[0]) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    missing = [f"{name}: {reason.strip().splitlines()[0]}" for name, reason in failures.items()]
    return "\n".join([*shown, *(["", "not measured:", *missing] if missing else [])])


def line(name: str, found: Mapping[str, Any]) -> str:
    """One engine by itself, in words."""
    return (
        f"{name}: encoder {found['encoder_s']:.3f} s, {found['total_s']:.3f} s for {found['tokens']} tokens, "
        f"{found['size_mb']:.1f} MB"
    )


def heading(size: str, host: Mapping[str, Any], rates: Rates, floor: Floor, mel_s: float) -> str:
    """The machine and its floor, in a few lines."""
    return (
        f"\n{size} on {host['cpu']}, {host['cores']} cores, {host['memory_gb']} GB\n"
        f"reading {rates.stream_gb_s:.0f} GB/s past the caches, {rates.cache_gb_s:.0f} within; "
        f"matrix products {rates.fp32_gflop_s:.0f} GFLOP/s in fp32, {rates.int8_gop_s:.0f} GOP/s in int8\n"
        f"floor: encoder {floor.encoder_s:.3f} s, {1000 * floor.token_s:.2f} ms a token, {floor.total_s:.3f} s in all; "
        f"log-mel features (not in the times, the same for all) {mel_s:.3f} s\n"
    )
