from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import whisper_cpu
from harness.children import Child, EngineFailed
from harness.engines import GATE_DB, PEERS, REFERENCE, engine
from harness.environments import DONE, REQUIREMENTS, python_of
from harness.floor import floor
from harness.gate import Verdict, verdict
from harness.machine import Rates
from harness.rounds import Times, run_rounds
from harness.table import row, text
from whisper_fixtures import tiny_checkpoint

RATES = Rates(stream_gb_s=10, cache_gb_s=100, fp32_gflop_s=100, int8_gop_s=400, cache_bytes=32 << 20)
READY = {"size_mb": 1.0, "load_s": 0.1, "versions": {"engine": "1"}}


def run_of(total: float) -> dict[str, float | int | None]:
    return {"encoder_s": total / 2, "first_s": None, "token_s": total / 20, "total_s": total, "tokens": 10}


def times_of(*totals: float) -> Times:
    return Times([[run_of(total), run_of(total)] for total in totals])


class TestEngines:
    def test_ours_are_named_after_target_and_level(self) -> None:
        ours = engine("openvino-HIGH")
        assert (ours.target, ours.level, ours.precision, ours.environment) == ("openvino", "HIGH", "int8", "")

    def test_unknown_ones_are_refused_with_the_known(self) -> None:
        with pytest.raises(ValueError, match="openvino-int8"):
            engine("openvino-int3")

    def test_every_peer_has_adapter_environment_and_gate(self) -> None:
        for peer in PEERS:
            assert (REQUIREMENTS / f"{peer.environment}.txt").is_file()
            assert (REQUIREMENTS.parent / "peers" / peer.adapter).is_file()
            assert peer.precision in GATE_DB

    def test_an_environment_counts_only_when_it_is_finished(self, tmp_path: Path) -> None:
        python = tmp_path / "genai" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.touch()
        assert python_of("genai", tmp_path) is None
        (tmp_path / "genai" / DONE).touch()
        assert python_of("genai", tmp_path) == python

    def test_every_requirement_is_pinned(self) -> None:
        for file in REQUIREMENTS.glob("*.txt"):
            pins = [line for line in file.read_text().splitlines() if not line.startswith("#")]
            assert all("==" in line for line in pins), file


class TestGate:
    @staticmethod
    def compare(tmp_path: Path, expected: np.ndarray, found: np.ndarray, name: str = "cpu-HIGH") -> Verdict:
        np.save(tmp_path / "expected.npy", expected)
        np.save(tmp_path / "found.npy", found)
        return verdict(engine(name), tmp_path / "expected.npy", tmp_path / "found.npy")

    def test_a_known_noise_gives_its_ratio(self, tmp_path: Path) -> None:
        expected = np.random.default_rng(0).standard_normal((8, 5000)).astype(np.float32)
        noise = np.random.default_rng(1).standard_normal((8, 5000)).astype(np.float32)
        assert self.compare(tmp_path, expected, expected + 0.1 * noise).sqnr_db == pytest.approx(20, abs=0.2)

    def test_log_probabilities_and_suppressed_tokens_count_as_logits(self, tmp_path: Path) -> None:
        expected = np.random.default_rng(0).standard_normal((4, 50))
        found = expected - 3.0
        found[:, 7] = -np.inf
        result = self.compare(tmp_path, expected, found)
        assert result.passed
        assert result.sqnr_db > 190
        assert result.top1 == 1

    def test_a_wrong_engine_fails_and_the_bound_depends_on_the_precision(self, tmp_path: Path) -> None:
        expected, other = np.random.default_rng(0).standard_normal((2, 4, 5000))
        assert not self.compare(tmp_path, expected, other).passed
        slightly = expected + 0.1 * other  # 20 dB
        assert self.compare(tmp_path, expected, slightly, "cpu-HIGH").passed
        assert not self.compare(tmp_path, expected, slightly, "cpu-MEDIUM").passed

    def test_logits_of_another_shape_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="shape"):
            self.compare(tmp_path, np.zeros((4, 50)), np.zeros((3, 50)))


class TestTable:
    def test_ratios_are_taken_within_a_round(self) -> None:
        # The second round was disturbed: everything took ten times as long.
        assert times_of(1.0, 10.0, 1.0).ratio_to(times_of(2.0, 20.0, 2.0)) == pytest.approx(0.5)
        assert times_of(1.0, 10.0, 1.0).median("first_s") is None

    def test_rows_are_sorted_and_failures_of_the_gate_are_marked(self) -> None:
        least = floor(self.dims(), RATES, 10)
        reference = times_of(2.0, 2.0)
        rows = [
            row(REFERENCE.name, reference, reference, READY, None, least),
            row("cpu-HIGH", times_of(0.5, 0.5), reference, READY, Verdict(30, 1, 17), least),
            row("bad-int8", times_of(0.1, 0.1), reference, READY, Verdict(3, 0.1, 17), least),
        ]
        lines = text(rows, {"genai-int4": "not installed\nlong tail"}).splitlines()
        assert [line.split()[0] for line in lines[1:4]] == ["bad-int8", "cpu-HIGH", REFERENCE.name]
        assert "FAILED" in lines[1]
        assert "FAILED" not in lines[2] + lines[3]
        assert "0.250" in lines[2]
        assert lines[-1] == "genai-int4: not installed"
        assert rows[2]["gate"]["passed"] is False

    @staticmethod
    def dims() -> dict[str, int]:
        sizes = {"d_model": 384, "encoder_layers": 4, "decoder_layers": 4, "mels": 80, "vocab": 51865}
        return {**sizes, "encoder_ffn_dim": 1536, "decoder_ffn_dim": 1536, "source_positions": 1500}

    def test_the_floor_counts_operations_and_bytes(self) -> None:
        least = floor(self.dims(), RATES, 64)
        linear = 1500 * (4 * (4 * 384**2 + 2 * 384 * 1536) + 4 * 2 * 384**2)
        rest = 4 * 2 * 1500**2 * 384 + 3 * 384 * 1500 * (2 * 80 + 384)
        assert least.encoder_s == pytest.approx(2 * linear / 400e9 + 2 * rest / 100e9)
        weights = 4 * (6 * 384**2 + 2 * 384 * 1536) + 51865 * 384
        assert least.token_s == pytest.approx(
            (weights + 4 * 2 * 1500 * 384 * 2) / 10e9
        )  # 37 MB: past the cache
        assert least.total_s == pytest.approx(least.encoder_s + 64 * least.token_s)


class TestChild:
    def test_an_adapter_that_breaks_says_why(self, tmp_path: Path) -> None:
        job = {
            "checkpoint": str(tmp_path / "none"),
            "work": str(tmp_path),
            "threads": 1,
            "bundle": str(tmp_path),
        }
        with pytest.raises(EngineFailed, match="no bundle|manifest"):
            Child("ours.py", job, Path(sys.executable), tmp_path / "ours.log")


@pytest.fixture(scope="module")
def place(quick_root: Path) -> Path:
    folder = quick_root / "whisper-cpu"
    tiny_checkpoint(folder / "model")
    environment = folder / "environments" / "transformers"
    (environment / "bin").mkdir(parents=True)
    (environment / DONE).touch()
    python = environment / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return folder


def words(place: Path, *more: str) -> list[str]:
    quick = ["--rounds=1", "--tokens=8", f"--work={place / 'work'}", f"--envs={place / 'environments'}"]
    local = [f"recipe.model.path={place / 'model'}", "recipe.model.weights=pretrained"]
    return [*quick, *more, *local]


@pytest.fixture(autouse=True)
def _home(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKET_OPT_HOME", str(place / "home"))


def test_one_engine_by_itself_is_one_line_of_json(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert whisper_cpu.main(words(place, "--engine", "cpu-HIGH", "--json")) == 0
    (line,) = capfd.readouterr().out.splitlines()
    found = json.loads(line)
    assert set(found) == {"encoder_s", "total_s", "size_mb", "tokens"}
    assert found["tokens"] == 8
    assert 0 < found["encoder_s"] < found["total_s"]
    assert found["size_mb"] > 0


@pytest.mark.nightly
def test_a_comparison_is_gated_and_written(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = "cpu-HIGH,transformers-fp32-loop,ctranslate2-int8"
    report = place / "result.json"
    assert (
        whisper_cpu.main(words(place, "--engines", names, "--save", str(report))) == 1
    )  # one is not installed
    printed = capfd.readouterr().out
    assert "not measured:" in printed
    (result,) = json.loads(report.read_text())
    rows = {entry["engine"]: entry for entry in result["engines"]}
    assert set(rows) == {"transformers-fp32", "transformers-fp32-loop", "cpu-HIGH"}
    assert "--install" in result["failures"]["ctranslate2-int8"]
    assert rows["transformers-fp32"]["gate"] is None
    assert rows["transformers-fp32-loop"]["gate"]["sqnr_db"] > 100
    assert rows["cpu-HIGH"]["gate"]["passed"]
    assert rows["transformers-fp32"]["of_fp32"] == 1
    assert result["rates"]["int8_gop_s"] > 0


@pytest.mark.parametrize("bad", [["--engine", "cpu-HGIH"], ["--rounds=0"], ["level"]])
def test_mistakes_are_refused_before_any_work(place: Path, bad: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        whisper_cpu.main([*words(place), *bad])
    assert stopped.value.code == 2


def test_every_engine_runs_once_a_round_after_a_warm_up() -> None:
    asked: list[tuple[str, int]] = []

    class Recorder(argparse.Namespace):
        def ask(self, **request: int) -> dict[str, object]:
            asked.append((self.name, request["repeats"]))
            return {"runs": [run_of(1.0)] * request["repeats"]}

    children = {name: Recorder(name=name) for name in ("a", "b")}
    times = run_rounds(children, {}, 3)  # type: ignore[arg-type]
    assert sorted(asked) == sorted([("a", 1), ("a", 2), ("b", 1), ("b", 2)] * 3)
    assert [len(runs) for runs in times["a"].rounds] == [2, 2, 2]
