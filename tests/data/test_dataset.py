"""Data sets: what is read from a list, and every mistake in one as an error with its line."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pocket_opt.data.dataset import Dataset
from pocket_opt.errors import UserError

ROWS = (
    {"file": "a.wav", "text": "turn on, please", "language": "EN", "condition": "clean"},
    {
        "file": "sub/b.flac",
        "text": "schließe das Fenster",
        "language": "de",
        "translation": "close the window",
        "segments": [[0.1, 0.4, "schließe das Fenster"]],
    },
    {"file": "c.wav", "text": "", "condition": "nospeech"},
)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    rng = np.random.default_rng(0)
    for row, seconds in zip(ROWS, (1.0, 0.5, 0.25), strict=True):
        soundfile.write(
            tmp_path / str(row["file"]), 0.1 * rng.standard_normal(round(16_000 * seconds)), 16_000
        )
    write_json(tmp_path, ROWS)
    return tmp_path


def write_json(directory: Path, rows: object) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]  # type: ignore[attr-defined]
    (directory / "transcripts.jsonl").write_text("\n".join(lines), encoding="utf-8")


def write_csv(directory: Path, text: str) -> None:
    (directory / "transcripts.jsonl").unlink(missing_ok=True)
    (directory / "transcripts.csv").write_text(text, encoding="utf-8")


def error_of(source: object, where: str = "data.evaluation.path") -> str:
    with pytest.raises(UserError) as caught:
        Dataset.open(source, where=where)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_reads_every_column(clips: Path) -> None:
    first, second, third = Dataset.open(clips)
    assert (first.id, first.text, first.language, first.condition) == (
        "a.wav",
        "turn on, please",
        "en",
        "clean",
    )
    assert (second.id, second.translation) == ("sub/b.flac", "close the window")
    assert second.segments == ((0.1, 0.4, "schließe das Fenster"),)
    assert (third.text, third.language, third.segments) == ("", None, ())
    assert [clip.duration_s for clip in (first, second, third)] == [1.0, 0.5, 0.25]
    assert second.sha256 == hashlib.sha256(second.path.read_bytes()).hexdigest()
    assert first.samples().shape == (16_000,)
    assert first.samples(8_000).shape == (8_000,)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_says_the_same_as_jsonl(clips: Path, delimiter: str) -> None:
    expected = Dataset.open(clips).digest()
    columns = ("file", "text", "language", "translation", "condition", "segments")
    lines = [delimiter.join(columns)]
    for row in ROWS:
        values = (row.get(name, "") for name in columns)
        texts = [
            json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value for value in values
        ]
        lines.append(delimiter.join('"' + str(text).replace('"', '""') + '"' for text in texts))
    write_csv(clips, "\ufeff" + "\r\n".join(lines))
    assert Dataset.open(clips).digest() == expected
    assert Dataset.open(clips / "transcripts.csv").digest() == expected


def test_references_by_task(clips: Path) -> None:
    english, german, silence = Dataset.open(clips)
    assert english.reference("translate") == english.reference() == "turn on, please"
    assert german.reference() == "schließe das Fenster"
    assert german.reference("translate") == "close the window"
    assert silence.reference("translate") is None
    assert [clip.id for clip in Dataset.open(clips).select(language="de")] == ["sub/b.flac"]
    assert [clip.id for clip in Dataset.open(clips).select(task="translate")] == ["a.wav", "sub/b.flac"]


def test_digest_follows_content_not_place(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    digest = Dataset.open(clips).digest()
    moved = tmp_path_factory.mktemp("moved") / "clips"
    shutil.copytree(clips, moved)
    assert Dataset.open(moved).digest() == digest
    soundfile.write(moved / "a.wav", np.zeros(16_000), 16_000)
    changed_audio = Dataset.open(moved).digest()
    write_json(moved, [{**ROWS[0], "text": "turn off"}, *ROWS[1:]])
    assert len({digest, changed_audio, Dataset.open(moved).digest()}) == 3


def test_digest_is_pinned(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(
        b"RIFF,\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80>\0\0\0}\0\0\x02\0\x10\0data\x08\0\0\0" + bytes(8)
    )
    write_json(tmp_path, [{"file": "a.wav", "text": "so"}])
    assert (
        Dataset.open(tmp_path).digest() == "8e7c0f49e652f3c59c503328e9a3b6db2f63b7c7e936f3d57fa46035db896f7d"
    )


@pytest.fixture
def elsewhere(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two other recordings of the same name, in folders that the list is not in."""
    place = tmp_path_factory.mktemp("elsewhere")
    for folder, value in (("one", 0.1), ("two", 0.2)):
        (place / folder).mkdir()
        soundfile.write(place / folder / "a.wav", np.full(1_600, value), 16_000)
    return place


def test_ids_of_files_elsewhere_are_unique_and_tell_no_place(clips: Path, elsewhere: Path) -> None:
    named = [{"file": str(elsewhere / folder / "a.wav"), "text": "x"} for folder in ("one", "two")]
    write_json(clips, [*ROWS, *named])
    data = Dataset.open(clips)
    ids = [clip.id for clip in data][3:]
    assert ids == [f"a-{clip.sha256[:8]}.wav" for clip in list(data)[3:]]
    shutil.move(elsewhere / "one", elsewhere / "three")
    write_json(clips, [*ROWS, {**named[0], "file": str(elsewhere / "three" / "a.wav")}, named[1]])
    assert Dataset.open(clips).digest() == data.digest()


def test_ids_do_not_depend_on_how_a_path_is_written(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Dataset.open(clips).digest()
    write_json(clips, [{**row, "file": str(clips / str(row["file"]))} for row in ROWS])
    monkeypatch.chdir(clips.parent)
    assert Dataset.open(clips.name).digest() == Dataset.open(clips).digest() == expected
    write_json(clips, [{**row, "file": f"sub/../{row['file']}"} for row in ROWS])
    assert Dataset.open(clips).digest() == expected


def test_a_linked_file_has_the_name_of_its_link(clips: Path, elsewhere: Path) -> None:
    (clips / "linked.wav").symlink_to(elsewhere / "one" / "a.wav")
    write_json(clips, [{"file": "linked.wav", "text": "x"}])
    assert [clip.id for clip in Dataset.open(clips)] == ["linked.wav"]


def test_the_same_recording_elsewhere_twice_is_a_mistake(clips: Path, elsewhere: Path) -> None:
    shutil.copy(elsewhere / "one" / "a.wav", elsewhere / "two" / "a.wav")
    write_json(clips, [{"file": str(elsewhere / folder / "a.wav"), "text": "x"} for folder in ("one", "two")])
    assert "is listed twice, first in" in error_of(clips)


UNREADABLE = Path("/proc/self/mem")
"""A file that is there and refuses to be read, also to root."""


@pytest.mark.skipif(not UNREADABLE.is_file(), reason="this system has no /proc")
def test_a_file_that_cannot_be_read_is_told_with_its_line(clips: Path) -> None:
    write_json(clips, [ROWS[0], {"file": str(UNREADABLE), "text": "x"}])
    message = error_of(clips)
    assert f"{UNREADABLE} cannot be read" in message
    assert "transcripts.jsonl, line 2" in message


def test_a_folder_that_cannot_be_entered_is_told_with_its_line(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    write_json(clips, [ROWS[0]])
    place = clips / "transcripts.jsonl"
    is_file = Path.is_file
    monkeypatch.setattr(
        Path, "is_file", lambda path: refuse(path) if path.suffix == ".wav" else is_file(path)
    )
    message = error_of(place)
    assert "a.wav cannot be read (Permission denied)" in message
    assert "transcripts.jsonl, line 1" in message


def test_limit_spreads_and_repeats(clips: Path) -> None:
    data = Dataset.open(clips)
    assert data.limit(None) is data
    assert data.limit(3) is data
    assert [clip.id for clip in data.limit(2)] == ["a.wav", "sub/b.flac"]
    assert data.limit(2) == data.limit(2)
    assert data.limit(2).digest() != data.digest()
    assert data.duration_s == 1.75


def test_no_such_place(tmp_path: Path) -> None:
    assert "does not exist" in error_of(tmp_path / "absent")
    assert "data.evaluation.path" in error_of(tmp_path / "absent")
    (tmp_path / "list.txt").write_text("")
    assert "neither a directory nor" in error_of(tmp_path / "list.txt")
    assert "neither transcripts.jsonl nor" in error_of(tmp_path)


def test_two_lists(clips: Path) -> None:
    (clips / "transcripts.csv").write_text("file,text\na.wav,x\n")
    assert "both" in error_of(clips)
    assert len(Dataset.open(clips / "transcripts.csv")) == 1


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_empty_json_list(clips: Path, content: str) -> None:
    (clips / "transcripts.jsonl").write_text(content)
    assert "lists no clips" in error_of(clips)


@pytest.mark.parametrize("content", ["", "file,text\n"])
def test_empty_csv_list(clips: Path, content: str) -> None:
    write_csv(clips, content)
    assert "lists no clips" in error_of(clips)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("{", "not JSON"),
        ("[1]", "expected an object"),
        ({"files": "a.wav", "text": "x"}, "no 'file'; is it 'files'?"),
        ({"file": "a.wav", "txt": "x"}, "no 'text'; is it 'txt'?"),
        ({"file": "a.wav", "text": None}, "no 'text'"),
        ({"file": "a.wav"}, "no 'text'"),
        ({"file": "a.wav", "text": "x", "langauge": "de"}, "did you mean 'language'?"),
        ({"file": "a.wav", "text": 3}, "'text' must be a string"),
        ({"file": "a.wav", "text": "x", "language": ["de"]}, "'language' must be a string"),
        ({"file": "a.wav", "text": "x", "duration_s": "long", "sha256": ""}, "'duration_s' must be a number"),
        ({"file": "a.wav", "text": "x", "segments": [[0, 1]]}, "'segments' cannot be read"),
        ({"file": "a.wav", "text": "x", "segments": "no"}, "'segments' cannot be read"),
        ({"file": "absent.wav", "text": "x"}, "no audio file 'absent.wav'"),
        ({"file": "", "text": "x"}, "no audio file ''"),
        ({"file": "a.wav", "text": "x", "sha256": "0" * 64}, "another SHA-256"),
        (ROWS[1], "is listed twice, first in"),
        ({"file": "sub/../sub/b.flac", "text": "x"}, "is listed twice, first in"),
    ],
)
def test_mistakes_in_json_are_told_with_their_line(clips: Path, row: object, expected: str) -> None:
    write_json(clips, [ROWS[1], "", row, ROWS[2]])
    message = error_of(clips)
    assert expected in message
    assert "transcripts.jsonl, line 3" in message
    assert "\n  next:" in message


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("file;txt\na.wav;x\n", 1, "is it 'txt'?"),
        ("file,text,langauge\na.wav,x,de\n", 1, "did you mean 'language'?"),
        ("file,text\na.wav,turn on, please\n", 2, "another number of fields"),
        ("file,text\na.wav\n", 2, "another number of fields"),
        ('file,text\na.wav,"x\n', 2, "not CSV"),
        ("file,text\na.wav,x\nb.wav,y\n", 3, "no audio file 'b.wav'"),
    ],
)
def test_mistakes_in_csv_are_told_with_their_line(clips: Path, text: str, line: int, expected: str) -> None:
    write_csv(clips, text)
    message = error_of(clips)
    assert expected in message
    assert f"transcripts.csv, line {line}" in message


def test_several_missing_files_are_one_error(clips: Path) -> None:
    write_json(clips, [*ROWS, {"file": "x.wav", "text": ""}, {"file": "y.wav", "text": ""}])
    assert "(and 1 more of 5)" in error_of(clips)


def test_other_encodings_are_refused(clips: Path) -> None:
    (clips / "transcripts.jsonl").write_bytes(b'{"file": "a.wav", "text": "x"}\n{"text": "schlie\xdfe"}\n')
    message = error_of(clips)
    assert "not UTF-8: byte 0xdf" in message
    assert "line 2" in message


def test_corrupt_audio_is_found_at_once(clips: Path) -> None:
    (clips / "a.wav").write_bytes(bytes(1000))
    message = error_of(clips)
    assert "a.wav cannot be read" in message
    assert "transcripts.jsonl, line 1" in message


def test_additional_columns_are_allowed(clips: Path) -> None:
    write_json(clips, [{**ROWS[0], "speaker": 7}])
    assert len(Dataset.open(clips)) == 1


@pytest.mark.parametrize("name", ["evaluation", "calibration"])
def test_shipped_sets(name: str) -> None:
    data = Dataset.open(f"sample:{name}")
    assert {clip.language for clip in data} == {"en", "de"}
    assert all(clip.translation for clip in data if clip.language == "de")


def test_shipped_evaluation_set_is_big_enough_and_intact() -> None:
    data = Dataset.open("sample:evaluation")
    assert len(data) >= 200
    assert {"clean", "noisy"} <= {clip.condition for clip in data}
    for clip in data.limit(10):
        assert len(clip.samples()) / 16_000 == pytest.approx(clip.duration_s, abs=0.001)


def test_misspelt_sample_set() -> None:
    assert "did you mean 'evaluation'?" in error_of("sample:evaluatoin")


def test_opening_a_verified_set_imports_nothing_heavy() -> None:
    program = (
        "import sys; from pocket_opt.data.dataset import Dataset; Dataset.open('sample:evaluation').digest();"
        "print([name for name in ('torch', 'onnxruntime', 'numpy', 'soundfile') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
