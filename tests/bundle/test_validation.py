"""`validate`: a good bundle passes every check, and every kind of damage is found by its check."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from real_bundles import onnx_bundle, source_bundle

from pocket_opt.bundle import Finding, validate_bundle, validation
from pocket_opt.identity import file_digest


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of a good bundle, to be damaged."""
    return Path(shutil.copytree(onnx_bundle().path, tmp_path / "BASIC", copy_function=shutil.copyfile))


def rewrite(bundle: Path, **changes: object) -> None:
    path = bundle / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def relist(bundle: Path, name: str) -> None:
    """Make the manifest agree with the file as it now is."""
    rows = json.loads((bundle / "manifest.json").read_text())["files"]
    now = {"path": name, "size": (bundle / name).stat().st_size, "sha256": file_digest(bundle / name)}
    rewrite(bundle, files=[now if row["path"] == name else row for row in rows])


def failed(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.check, finding.message) for finding in findings if not finding.ok]


def statuses(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.status for finding in findings}


def test_a_good_bundle_passes_every_check() -> None:
    findings = validate_bundle(onnx_bundle().path)
    assert statuses(findings) == dict.fromkeys(
        ("manifest", "files", "runs", "answers", "size", "budget"), "passed"
    )
    answers = next(finding for finding in findings if finding.check == "answers")
    assert answers.message.startswith("7 of 7 transcripts")


def test_without_hypotheses_the_model_still_runs() -> None:
    findings = validate_bundle(source_bundle().path)
    assert failed(findings) == []
    assert statuses(findings)["answers"] == "skipped"
    assert "s of noise" in next(finding.message for finding in findings if finding.check == "runs")


def test_other_data_is_not_compared(tmp_path: Path) -> None:
    clips = Path(validation.__file__).parents[1] / "sample/evaluation"
    shutil.copy(clips / "en-clean-000.flac", tmp_path)
    (tmp_path / "transcripts.jsonl").write_text('{"file": "en-clean-000.flac", "text": "turn it off"}\n')
    for place, why in (
        (tmp_path, "not the one that quality was measured on"),
        (tmp_path / "x", "is not at hand"),
    ):
        findings = validate_bundle(onnx_bundle().path, data_path=place)
        assert statuses(findings)["answers"] == "skipped"
        assert why in next(finding.message for finding in findings if finding.check == "answers")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "encoder.onnx is missing"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "the manifest says"),
        (
            lambda path: path.write_bytes(b"x" * path.stat().st_size),
            "encoder.onnx was changed: its SHA-256 differs",
        ),
    ],
)
def test_damaged_files_are_found_before_anything_runs(bundle: Path, damage: object, message: str) -> None:
    damage(bundle / "encoder.onnx")  # type: ignore[operator]
    findings = validate_bundle(bundle)
    [(check, found)] = failed(findings)
    assert check == "files"
    assert message in found
    assert "runs" not in statuses(findings)


def test_a_missing_card_and_an_unlisted_model_file_are_found(bundle: Path) -> None:
    (bundle / "README.md").unlink()
    rows = json.loads((bundle / "manifest.json").read_text())["files"]
    rewrite(bundle, files=[row for row in rows if row["path"] != "mel.onnx"])
    messages = [message for _, message in failed(validate_bundle(bundle))]
    assert messages == ["README.md is missing", "mel.onnx belongs to a component but is not listed"]


def test_a_manifest_that_breaks_the_schema_ends_the_checks(bundle: Path) -> None:
    rewrite(bundle, verified={"how": "believed", "scope": "none"})
    assert [check for check, _ in failed(validate_bundle(bundle))] == ["manifest"]
    (bundle / "manifest.json").write_text("{")
    assert "damaged" in failed(validate_bundle(bundle))[0][1]
    assert "is no bundle" in failed(validate_bundle(bundle / "nowhere"))[0][1]


def test_a_manifest_cannot_name_files_outside(bundle: Path) -> None:
    rewrite(bundle, files=[{"path": "../../etc/passwd", "size": 1, "sha256": "0" * 64}])
    assert failed(validate_bundle(bundle))[0][0] == "manifest"


def test_a_model_that_does_not_load_is_found(bundle: Path) -> None:
    (bundle / "decoder.onnx").write_bytes(b"not a graph")
    relist(bundle, "decoder.onnx")
    checks = [check for check, _ in failed(validate_bundle(bundle))]
    assert checks == ["runs", "size"]


def test_other_answers_are_found(bundle: Path) -> None:
    stored = bundle / "measurements/quality/hypotheses.jsonl"
    rows = [json.loads(line) for line in stored.read_text().splitlines()]
    lines = [json.dumps({**row, "tokens": [*row["tokens"], 5]}) for row in rows]
    stored.write_text("\n".join(lines) + "\n")
    relist(bundle, "measurements/quality/hypotheses.jsonl")
    [(check, message)] = failed(validate_bundle(bundle))
    assert check == "answers"
    assert message.startswith("0 of 7 transcripts")


def test_a_verdict_that_does_not_follow_is_found(bundle: Path) -> None:
    limits = [{"metric": "size_mb", "limit": 1e-6, "value": 1, "verdict": "within"}]
    rewrite(bundle, budget={"verdict": "within", "limits": limits})
    assert failed(validate_bundle(bundle)) == [("budget", "it is over budget, the manifest says within")]


def test_whole_batches_of_every_task_and_language_are_chosen() -> None:
    def job(task: str, language: str, number: int) -> SimpleNamespace:
        return SimpleNamespace(task=task, language=language, number=number)

    jobs = [job("transcribe", ("en", "en", "de")[n % 3], n) for n in range(24)]
    jobs += [job("translate", "de", n) for n in range(8)]
    chosen = validation.first_batches(jobs, 4, 12)  # type: ignore[arg-type]
    assert [(one.task, one.language) for one in chosen] == (
        [("transcribe", "en")] * 4 + [("transcribe", "de")] * 4 + [("translate", "de")] * 4
    )
    assert len(validation.first_batches(jobs, 4, 100)) == len(jobs)  # type: ignore[arg-type]
