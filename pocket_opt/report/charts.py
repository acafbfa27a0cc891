"""Small bar charts of one variant as SVG files: where the time goes, and what each pass made of the size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, LEFT, RIGHT, ROW, TOP = 720, 210, 110, 26, 44
BARS = "#1f77c9"
MOST = 15

Bars = Sequence[tuple[str, float]]


def charts(manifest: Mapping[str, Any]) -> dict[str, str]:
    """File name -> SVG; a chart without data is left out."""
    details = manifest["details"].get("profile", {})
    phases, operators = (
        list(details.get(name, {}).items()) for name in ("by_phase_ms", "by_operator_type_ms")
    )
    found = {
        "size_by_pass.svg": ("Size after each pass", _sizes(manifest), "MB"),
        "time_by_phase.svg": ("Time by phase", phases, "ms"),
        "time_by_operator.svg": (
            "Time by operator type",
            operators[:MOST],
            "ms",
        ),
    }
    return {name: bar_chart(*chart) for name, chart in found.items() if chart[1]}


def bar_chart(title: str, bars: Bars, unit: str) -> str:
    """Horizontal bars with their values, readable on a light and on a dark page."""
    longest = max((value for _, value in bars), default=0) or 1
    height = TOP + ROW * len(bars) + 12
    frame = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {frame} font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
        f'<text x="16" y="27" font-size="16" font-weight="600" fill="#1c2430">{escape(title)} ({unit})</text>',
    ]
    for place, (label, value) in enumerate(bars):
        y, length = TOP + ROW * place, (WIDTH - LEFT - RIGHT) * value / longest
        lines += [
            f'<text x="{LEFT - 10}" y="{y + 15}" text-anchor="end" fill="#1c2430">{escape(label)}</text>',
            f'<rect x="{LEFT}" y="{y + 2}" width="{length:.1f}" height="{ROW - 8}" rx="3" fill="{BARS}"/>',
            f'<text x="{LEFT + length + 8:.1f}" y="{y + 15}" fill="#5d6878">{value:.4g} {unit}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _sizes(manifest: Mapping[str, Any]) -> Bars:
    return [
        (node["name"], node["bytes_after"] / 1e6) for node in manifest["nodes"] if node["kind"] == "build"
    ]
