"""One graph says what the host loop says: every row, language, task, times, limits, and windows that are read again."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import onnxruntime
import pytest
import soundfile
from exported_whisper import run_pass
from extensions_fixtures import needs_extensions
from runner_fixtures import export, sound, talkative_checkpoint

from pocket_opt.artifact import Artifact
from pocket_opt.evaluation.forced import forced_clip, run_whole
from pocket_opt.models.whisper.runner.all_in_one import AllInOne
from pocket_opt.models.whisper.runner.audio import read_audio
from pocket_opt.models.whisper.runner.transcript import DecodeOptions, Fallback, RequestError
from pocket_opt.models.whisper.runner.whisper import Whisper

SECONDS = (2.0, 4.0, 0.5)
CASES = {
    "detected": DecodeOptions(),
    "told": DecodeOptions("de", "translate"),
    "times": DecodeOptions("en", timestamps=True),
    "few": DecodeOptions("en", max_new_tokens=3),
    "detected times": DecodeOptions(timestamps=True, max_new_tokens=12),
}


@cache
def root_of(seed: int = 3, *, multilingual: bool = True, pad: int | None = None) -> Path:
    """The graphs of a small random model, in `parts`, and the one made of them, in `one`."""
    root = Path(mkdtemp(prefix="all-in-one-"))
    source = talkative_checkpoint(root / "source", seed=seed, multilingual=multilingual, pad=pad)
    run_pass("compose_all_in_one", export(source, root / "parts").save(), root / "one")
    return root


@cache
def pair(seed: int = 3, *, multilingual: bool = True, pad: int | None = None) -> tuple[Whisper, AllInOne]:
    """The host loop and the graph of the same small random model."""
    root = root_of(seed, multilingual=multilingual, pad=pad)
    return Whisper(root / "parts"), AllInOne(root / "one")


def opened(graph: AllInOne) -> onnxruntime.InferenceSession:
    """The graph's session, as a caller without this package has it."""
    return graph._graph


def same(host: Whisper, graph: AllInOne, audio: list[np.ndarray], options: DecodeOptions) -> None:
    for expected, found in zip(
        host.transcribe(audio, options), graph.transcribe(audio, options), strict=True
    ):
        assert (found.tokens, found.text) == (expected.tokens, expected.text)
        assert (found.segments, found.language) == (expected.segments, expected.language)
        assert found.no_speech_prob == pytest.approx(expected.no_speech_prob, rel=1e-3, abs=1e-6)
        assert found.avg_logprob == pytest.approx(expected.avg_logprob, abs=1e-4)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [3, 4])
def test_a_batch_of_three_is_heard_alike(case: str, seed: int) -> None:
    audio = [sound(seconds, kind) for kind, seconds in enumerate(SECONDS)]
    same(*pair(seed), audio, CASES[case])


@pytest.mark.parametrize("options", [DecodeOptions(), DecodeOptions(timestamps=True)], ids=["plain", "times"])
def test_an_english_only_model_is_told_nothing(options: DecodeOptions) -> None:
    host, graph = pair(multilingual=False)
    same(host, graph, [sound(4, 0), sound(1, 1)], options)
    assert "spoken_language" not in [port.name for port in opened(graph).get_outputs()]


def test_rows_that_ended_are_padded() -> None:
    same(*pair(pad=7), [sound(seconds, kind) for kind, seconds in enumerate(SECONDS)], CASES["detected"])


@pytest.mark.parametrize(("beams", "language"), [(1, None), (1, "en"), (3, "de")])
def test_long_audio_is_read_as_the_host_reads_it(beams: int, language: str | None) -> None:
    host, graph = searching() if beams > 1 else pair()
    options = DecodeOptions(language, beams=beams, fallback=None)
    audio = [sound(15.3, 0), sound(3, 1), sound(9, 2)]
    same(host, graph, audio, options)
    assert list(graph.stream(audio[0], options)) == list(host.stream(audio[0], options))


def test_what_needs_draws_or_words_before_is_refused() -> None:
    _, graph = pair()
    for options in (DecodeOptions(condition_on_previous=True), DecodeOptions(fallback=Fallback((0.0, 0.5)))):
        with pytest.raises(RequestError, match="leave it out"):
            graph.transcribe([sound(1, 0)], options)


def test_nothing_but_audio_is_needed() -> None:
    host, graph = pair()
    session = opened(graph)
    [text, *_] = session.run(None, {"audio": sound(3, 1)[None]})
    assert text.tolist() == [host.transcribe([sound(3, 1)])[0].text]
    assert [port.name for port in session.get_inputs()] == ["audio"]


def test_rows_have_languages_and_frames_of_their_own() -> None:
    _, graph = pair()
    session = opened(graph)
    audio = np.stack([sound(4, 0)] * 3)
    feeds = {"audio": audio, "language": np.array(["de", "", "en"]), "start_frame": np.array([0, 0, 120])}
    tokens, language = session.run(["tokens", "spoken_language"], feeds)
    for row in range(3):
        alone = {name: value[row : row + 1] for name, value in feeds.items()}
        only, code = session.run(["tokens", "spoken_language"], alone)
        assert language[row] == code[0]
        assert tokens[row, : only.shape[1]].tolist() == only[0].tolist()


@pytest.mark.parametrize(("name", "value"), [("language", "xx"), ("task", "sing")])
def test_an_unknown_code_stops_the_run_at_a_node_that_says_so(name: str, value: str) -> None:
    _, graph = pair()
    session = opened(graph)
    with pytest.raises(Exception, match=f"unknown_{name}"):
        session.run(None, {"audio": sound(1, 0)[None], name: np.array([value])})


def test_as_many_tokens_as_a_measurement_wants() -> None:
    _, graph = pair()
    session = opened(graph)
    many = np.array([30])
    feeds = {"audio": sound(1, 0)[None], "max_new_tokens": many, "min_new_tokens": many}
    [tokens] = session.run(["tokens"], feeds)
    assert tokens.shape == (1, 30)
    assert graph.vocabulary.end not in tokens


@needs_extensions
def test_files_are_heard_as_samples_are(tmp_path: Path) -> None:
    host, _ = pair()
    run_pass("compose_all_in_one", Artifact.load(root_of() / "parts"), tmp_path, audio="file")
    graph = AllInOne(tmp_path)
    audio = [sound(seconds, kind) for kind, seconds in enumerate(SECONDS)]
    same(host, graph, audio, CASES["detected times"])
    same(host, graph, [sound(9, 0)], DecodeOptions(fallback=None))
    soundfile.write(tmp_path / "a.flac", audio[1], 16_000, subtype="PCM_16")
    data = np.frombuffer((tmp_path / "a.flac").read_bytes(), np.uint8)
    [text] = opened(graph).run(["text"], {"audio_bytes": data})
    assert text.tolist() == [host.transcribe([read_audio(tmp_path / "a.flac", 16_000)])[0].text]


def test_a_greedy_graph_refuses_beams() -> None:
    with pytest.raises(RequestError, match="decoding=beam searches by 1 to 5"):
        pair()[1].transcribe([sound(1, 0)], DecodeOptions(beams=3))


@cache
def searching(
    seed: int = 3, *, multilingual: bool = True, pad: int | None = None
) -> tuple[Whisper, AllInOne]:
    """The host's beam search, and a graph that searches."""
    root = root_of(seed, multilingual=multilingual, pad=pad)
    if not (root / "beams").exists():
        run_pass(
            "compose_all_in_one", Artifact.load(root / "parts"), root / "beams", beams=5, length_penalty=0.5
        )
    return Whisper(root / "parts"), AllInOne(root / "beams")


@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize(("beams", "length_penalty"), [(1, 1.0), (2, 1.0), (3, 0.0), (5, 2.0)])
@pytest.mark.parametrize("model", [{}, {"multilingual": False}, {"pad": 7, "seed": 4}], ids=str)
def test_beams_find_what_the_host_finds(
    model: dict, beams: int, length_penalty: float, timestamps: bool
) -> None:
    audio = [sound(seconds, kind) for kind, seconds in enumerate(SECONDS)]
    options = DecodeOptions(timestamps=timestamps, beams=beams, length_penalty=length_penalty)
    same(*searching(**model), audio, options)


def test_beams_and_penalty_are_inputs_with_defaults() -> None:
    host, graph = searching()
    session, audio = opened(graph), sound(3, 1)
    [text] = session.run(["text"], {"audio": audio[None]})
    assert text.tolist() == [host.transcribe([audio], DecodeOptions(beams=5, length_penalty=0.5))[0].text]
    for beams in (0, 6):
        with pytest.raises(Exception, match="unsupported_beams"):
            session.run(None, {"audio": audio[None], "beams": np.array([beams])})


def test_it_is_timed_with_the_beams_that_were_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    _, graph = searching()
    clip = forced_clip(graph._dims, 5)
    heard: list[int] = []
    hear = graph.hear

    def noting(audio: list[np.ndarray], options: DecodeOptions, *, new_tokens: int) -> list[str]:
        heard.append(options.beams)
        return hear(audio, options, new_tokens=new_tokens)

    monkeypatch.setattr(graph, "hear", noting)
    for beams in (1, 4):
        assert run_whole(graph, clip, beams)["total"][0] > 0
    assert heard == [1, 4]
