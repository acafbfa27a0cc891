"""The quality pass on a tiny exported model: what is decoded, in which order, and what is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from whisper_fixtures import tiny_checkpoint

from pocket_opt.artifact import Artifact
from pocket_opt.data.dataset import Clip
from pocket_opt.errors import PocketOptError
from pocket_opt.evaluation.decoding import Job
from pocket_opt.evaluation.hypotheses import Hypothesis, read_hypotheses
from pocket_opt.evaluation.quality import PASS, QualityParams, Scorer
from pocket_opt.evaluation.result import read_result
from pocket_opt.passes.base import execute
from pocket_opt.runtimes.base import Transcript

Measure = Callable[..., tuple[dict[str, Any], list[Hypothesis]]]


@pytest.fixture
def measure(exported: Artifact, data: Path, tmp_path: Path) -> Measure:
    def run(model: Artifact = exported, **params: Any) -> tuple[dict[str, Any], list[Hypothesis]]:
        workdir = tmp_path / str(len(list(tmp_path.iterdir())))
        workdir.mkdir()
        settings = QualityParams(data_path=str(data), max_new_tokens=6, **params)
        artifact = execute(PASS, {"model": model}, settings, workdir).artifact
        return read_result(artifact), read_hypotheses(artifact)

    return run


def trained(model: Artifact) -> Artifact:
    return Artifact(model.root, model.components, {**model.metadata, "weights": "pretrained"})


def test_every_clip_is_transcribed_in_order_and_translated_where_that_is_known(
    measure: Measure, exported: Artifact
) -> None:
    table, said = measure(trained(exported))
    assert [(one.id, one.task) for one in said] == [
        ("a.wav", "transcribe"),
        ("b.wav", "transcribe"),
        ("c.wav", "transcribe"),
        ("c.wav", "translate"),
        ("d.wav", "transcribe"),
    ]
    assert said[3].reference == "help please"
    assert all(len(one.tokens) <= 6 for one in said)
    assert {"wer", "cer", "wer_ci_low", "wer_en", "wer_clean", "wer_translate_de", "hallucinations"} <= set(
        table["metrics"]
    )
    assert table["metrics"]["wer"]["n"] == 3


def test_several_processes_hear_what_one_does(measure: Measure) -> None:
    one, three = measure(batch_size=2), measure(batch_size=2, processes=3)
    assert three[1] == one[1]
    assert three[0]["metrics"] == one[0]["metrics"]


def test_there_are_no_more_processes_than_batches(measure: Measure) -> None:
    assert measure(batch_size=2, processes=50)[1] == measure(batch_size=2)[1]


def test_the_batch_size_changes_no_token(measure: Measure) -> None:
    alone, together = measure(batch_size=1)[1], measure(batch_size=3)[1]
    assert [one.tokens for one in alone] == [one.tokens for one in together]


def test_random_weights_have_no_error_rate_and_the_result_says_why(measure: Measure) -> None:
    table, _ = measure()
    assert set(table["metrics"]) == {"clips", "distinct_tokens", "empty_outputs", "looping_outputs"}
    assert table["metrics"]["distinct_tokens"]["value"] > 1
    assert "random" in table["details"]["no_error_rate"]


def test_only_translation(measure: Measure, exported: Artifact) -> None:
    table, said = measure(trained(exported), task="translate")
    assert [one.id for one in said] == ["c.wav"]
    assert table["metrics"]["wer"]["n"] == 1


def test_the_limit_is_spread_over_the_data_set(measure: Measure) -> None:
    assert {one.id for one in measure(limit=2)[1]} == {"a.wav", "c.wav"}


def test_progress_reaches_the_number_of_jobs(exported: Artifact, data: Path, tmp_path: Path) -> None:
    heard: list[tuple[int, int, str]] = []
    settings = QualityParams(data_path=str(data), max_new_tokens=2, batch_size=2)
    execute(PASS, {"model": exported}, settings, tmp_path, lambda *step: heard.append(step))
    assert heard[-1] == (5, 5, "clips")
    assert [done for done, _, _ in heard] == sorted(done for done, _, _ in heard)


def test_an_english_only_model_leaves_other_languages_out_and_says_so(
    measure: Measure, tmp_path: Path
) -> None:
    english = tiny_checkpoint(tmp_path / "english", multilingual=False)
    table, said = measure(english)
    assert [one.id for one in said] == ["a.wav", "b.wav", "d.wav"]
    assert table["details"]["left_out"] == {"transcribe de": 1, "translate de": 1}


def test_a_language_that_no_clip_can_be_decoded_in_is_an_error(measure: Measure) -> None:
    with pytest.raises(PocketOptError, match="no clip of the data set") as caught:
        measure(language="fr")
    assert "transcribe fr" in str(caught.value)


def score(
    text: str, heard: str, *, language: str | None = "en", task: str = "transcribe", **clip: Any
) -> Hypothesis:
    recorded = Clip("x.wav", Path("x.wav"), text, "", 1.0, language=language, **clip)
    return Scorer(None).score(Job(recorded, task, language), Transcript(heard, (1, 2), ()))


def test_texts_are_compared_after_normalization_and_kept_as_they_are() -> None:
    one = score("Turn on TWENTY lights!", "turn on 20 lights")
    assert (one.words.errors if one.words else None) == 0
    assert (one.reference, one.hypothesis) == ("Turn on TWENTY lights!", "turn on 20 lights")


def test_a_translation_is_compared_in_english() -> None:
    one = score("zwanzig", "twenty", language="de", task="translate", translation="20")
    assert one.words is not None
    assert one.words.errors == 0


def test_a_reference_of_which_nothing_is_left_has_no_counts() -> None:
    one = score("hmm", "yes")
    assert (one.words, one.speech) == (None, True)


def test_punctuation_alone_is_an_empty_output() -> None:
    assert score("turn on", " . . ").empty
