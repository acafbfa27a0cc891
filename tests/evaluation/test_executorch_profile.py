"""Where the time of a program goes: XNNPACK's operators of every method, in their phases."""

from __future__ import annotations

from pathlib import Path

from executorch_programs import lowered

from pocket_opt.evaluation.profile import PASS, ProfileParams
from pocket_opt.evaluation.result import read_result


def test_every_phase_has_operators_of_xnnpack(tmp_path: Path) -> None:
    # 60 passes: more than a buffer for what the operators gave would hold.
    params = ProfileParams(new_tokens=3, repeats=60, threads=1)
    inputs = {"model": lowered().artifact}
    PASS.requires(inputs, params)
    outcome = PASS.run(inputs, params, tmp_path)
    table = read_result(outcome.artifact)
    metrics, kinds = table["metrics"], table["details"]["by_operator_type_ms"]
    phases = {name: metrics[f"phase_{name}"]["value"] for name in ("mel", "encoder", "prefill", "step")}
    assert all(share > 0 for share in phases.values())
    assert abs(sum(phases.values()) - 100) < 0.1
    assert metrics["share_attention"]["value"] > 0
    assert any(name.startswith("Fully Connected") for name in kinds)
    assert not any("DELEGATE_CALL" in name or "Method" in name for name in kinds)
