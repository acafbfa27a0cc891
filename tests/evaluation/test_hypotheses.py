"""What was said of each clip, written and read: whatever characters are in it."""

from __future__ import annotations

from pathlib import Path

from pocket_opt.artifact import Artifact, Component
from pocket_opt.evaluation.hypotheses import FILE, Hypothesis, read_hypotheses, write_hypotheses
from pocket_opt.evaluation.result import COMPONENT
from pocket_opt.evaluation.scoring import ErrorCounts


def test_characters_that_end_a_line_elsewhere_stay_in_theirs(tmp_path: Path) -> None:
    text = "one\u2028two\u0085three\nfour\x0c"
    words, nothing = ErrorCounts(1, 0, 0, 4), None
    said = [
        Hypothesis(f"{n}.wav", "transcribe", "", "", text, text, (1, 2), True, False, False, words, nothing)
        for n in range(2)
    ]
    write_hypotheses(tmp_path, said)
    assert read_hypotheses(Artifact(tmp_path, {COMPONENT: Component("json", (FILE,))})) == said
