"""What is claimed for a variant follows from what ran."""

from __future__ import annotations

from pathlib import Path

import pytest
from planned_inputs import write_clips, write_model

from pocket_opt import plan
from pocket_opt.variants import verification

PARTS = ("latency", "memory", "profile", "parity")


@pytest.mark.parametrize(
    ("off", "decoded", "how", "scope"),
    [
        ((), 3, "native", "all 3 clips"),
        ((), 2, "native", "2 of 3 clips"),
        (("quality",), 0, "native", "executed for latency, memory, profile, parity; not scored"),
        (("quality", *PARTS), 0, "structural", "not executed"),
    ],
)
def test_the_scope_is_what_was_measured(
    tmp_path: Path, off: tuple[str, ...], decoded: int, how: str, scope: str
) -> None:
    inputs = [
        f"recipe.model.path={write_model(tmp_path / 'model')}",
        f"data.evaluation.path={write_clips(tmp_path / 'clips')}",
    ]
    planned = plan(overrides=[*inputs, *(f"~nodes.{name}" for name in off)])
    measured = {"quality": {"metrics": {"clips": {"value": decoded}}}}
    assert verification(planned, measured) == {"how": how, "scope": scope}
