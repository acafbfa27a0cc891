"""The page: self-contained, safe with any text, and drawn by a real browser where one is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from variant_fixtures import LEVELS, failure, manifest

from pocket_opt.report import write_report
from pocket_opt.report.charts import bar_chart, charts
from pocket_opt.report.html import page

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=3000",
)


def many(root: Path) -> list[dict[str, Any]]:
    """51 variants of three recipes and four targets."""
    tables = []
    for recipe in ("pocket_whisper", "whisper_tiny", "whisper_small"):
        for number, target in enumerate(("cpu", "sd8elite", "openvino", "web")):
            for level in LEVELS if target == "cpu" else LEVELS[1:]:
                place = root / f"{recipe}-{target}-{level}"
                factor = 1 + 0.3 * number
                tables.append(
                    manifest(place, level, recipe=recipe, target=target, worse=0.2 * number, factor=factor)
                )
    return tables


def data_of(text: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_page_carries_its_data_and_asks_for_nothing(tmp_path: Path) -> None:
    files = write_report(
        [manifest(tmp_path / level, level) for level in LEVELS], [failure()], tmp_path / "out"
    )
    text = files.html.read_text(encoding="utf-8")
    data = data_of(text)
    assert [row["level"] for row in data["rows"]] == list(LEVELS)
    assert data["rows"][3]["values"]["wer"] == 3.71
    assert data["failures"][0]["reason"].startswith("node 'quantize'")
    assert "default-src 'none'" in text
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=\"(?!data:)", text)
    assert files.csv.read_text(encoding="utf-8").count("\n") == 8
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.csv", "report.html"]


def test_no_text_can_leave_the_data(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><!--"
    table = manifest(tmp_path, "HIGH", overrides=(evil,), license=evil)
    text = page([table])
    assert "alert(1)</script>" not in text
    assert data_of(text)["rows"][0]["overrides"] == evil


def test_an_empty_report_is_a_page_too() -> None:
    assert data_of(page([]))["rows"] == []


def test_charts_show_sizes_and_times_and_leave_out_what_is_not_there(tmp_path: Path) -> None:
    found = charts(manifest(tmp_path / "a", "HIGH"))
    assert set(found) == {"size_by_pass.svg", "time_by_phase.svg", "time_by_operator.svg"}
    assert "0.112 MB" in found["size_by_pass.svg"]
    table = manifest(tmp_path / "b", "HIGH")
    assert set(charts({**table, "details": {}})) == {"size_by_pass.svg"}
    assert "a &lt; b" in bar_chart("a < b", [("x", 0.0)], "ms")


def rendered(place: Path, script: str = "") -> str:
    """The page's DOM after its program (and `script`) ran in a real browser."""
    if script:
        place.write_text(
            place.read_text(encoding="utf-8").replace("</body>", f"<script>{script}</script></body>")
        )
    assert BROWSER
    profile = place.parent / "profile"
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", place.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_a_browser_draws_every_variant(tmp_path: Path) -> None:
    tables = many(tmp_path / "made")
    files = write_report(tables, [failure()], tmp_path)
    dom = rendered(files.html)
    assert dom.count('<tr class="row"') == len(tables) == 51
    assert dom.count('class="dot') == 51
    assert dom.count('class="front"') == 3
    assert "1 failed" in dom
    assert "51 variants of pocket_whisper, whisper_small, whisper_tiny" in dom


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_choosing_axes_filtering_sorting_and_opening_work(tmp_path: Path) -> None:
    files = write_report(many(tmp_path / "made"), [], tmp_path)
    script = """
      const box = (id) => document.getElementById(id);
      const choose = (id, value) => { box(id).value = value; box(id).dispatchEvent(new Event("change")); };
      choose("recipe", "whisper_tiny"); choose("x", "rtf"); choose("y", "peak_mb");
      document.getElementById("log-x").click();
      [...document.querySelectorAll("#legend button")].find((button) => button.textContent === "web").click();
      [...document.querySelectorAll("thead button")].find((button) => button.textContent.startsWith("memory")).click();
      document.querySelector("tr.row").click();
      document.querySelector(".dot").dispatchEvent(new MouseEvent("mouseenter", { clientX: 50, clientY: 50 }));
    """
    dom = rendered(files.html, script)
    assert dom.count('<tr class="row"') + dom.count('<tr class="row lit"') == 13
    assert "Real-time factor</text>" in dom
    assert "Peak memory (MB)</text>" in dom
    assert 'aria-sort="ascending"' in dom
    assert dom.count('<tr class="more"') == 1
    assert "sum of the model files" in dom
    memory = [
        float(value)
        for value in re.findall(r'<td class="number">(\d+)</td><td class="(?:within|over|no)', dom)
    ]
    assert memory == sorted(memory)
    tip = dom[dom.index('id="tip"') :]
    assert "Word error rate" in tip
    assert 'hidden=""' not in tip[:40]
