"""What must not be published: paths, passwords, tokens. And what must not be mistaken for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocket_opt.bundle.scrub import scrub, scrub_override, scrub_text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/home/anna/models/x", "<path>"),
        ("/home/anna/my models/x y", "<path>"),
        ("~/clips", "<path>"),
        ("C:\\Users\\anna\\x", "<path>"),
        ("\\\\server\\share\\x", "<path>"),
        ("sqlite:////home/anna/mlflow.db", "<path>"),
        ("file:///mnt/data", "<path>"),
        ("https://anna:hunter2@mlflow.example.org/x", "https://mlflow.example.org/x"),
        ("postgresql://me:p@ss@host/db", "postgresql://host/db"),
        ("postgresql://me:p/ss@host:5432/db", "postgresql://host:5432/db"),
        ("https://anna@h.example/x", "https://h.example/x"),
        ("read ../clips/a.wav", "read <path>"),
        ("../clips", "<path>"),
        ("clips/../../anna/x", "<path>"),
        ("https://h.example/x?token=abc123&page=2", "https://h.example/x?token=<secret>&page=2"),
        ("read from /tmp/a/b.wav, then mixed", "read from <path>, then mixed"),
        ("hf_abcdefghijklmnopqrstuvwxyz", "<secret>"),
        ("Bearer eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.c2lnbmF0dXJl", "Bearer <secret>"),
    ],
)
def test_what_goes(text: str, clean: str) -> None:
    assert scrub_text(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "encoder.layers.0.self_attn.q_proj/MatMul",
        "/encoder/layers.0/MatMul",
        "sample:teacher",
        "https://huggingface.co/openai/whisper-tiny/home/x",
        "https://huggingface.co/openai/whisper-tiny@main",
        "http://localhost:5000/openai/whisper-tiny@main",
        "a...b, 1..2",
        "openai/whisper-tiny",
        "12 tokens/s, 3 ms / token",
        "a value and/or another",
        "<|startoftranscript|>",
        "relative/dir/file.json",
    ],
)
def test_what_stays(text: str) -> None:
    assert scrub_text(text) == text


def test_names_of_keys_decide_too() -> None:
    table = {
        "api_key": "abc",
        "hub": {"token": "abc", "revision": "main"},
        "path": "relative/dir",
        "output_dir": "outputs",
        "model": {"path": "sample:teacher"},
        "eos_token": "<|endoftext|>",
        "max_new_tokens": 64,
        "password": "",
        "dims": (1, 2.5, None, True),
        "place": Path("/home/anna"),
        "name": "/encoder/MatMul",
        "lexicon": "/projects/anna/x.txt",
        "files": ["/projects/x", "encoder/MatMul"],
        "data": {"evaluation": "clips", "calibration": "sample:calibration"},
        "calibration": "minmax",
    }
    assert scrub(table) == {
        "api_key": "<secret>",
        "hub": {"token": "<secret>", "revision": "main"},
        "path": "<path>",
        "output_dir": "<path>",
        "model": {"path": "sample:teacher"},
        "eos_token": "<|endoftext|>",
        "max_new_tokens": 64,
        "password": "",
        "dims": [1, 2.5, None, True],
        "place": "<path>",
        "name": "/encoder/MatMul",
        "lexicon": "<path>",
        "files": ["<path>", "encoder/MatMul"],
        "data": {"evaluation": "<path>", "calibration": "sample:calibration"},
        "calibration": "minmax",
    }


def test_overrides_keep_their_key() -> None:
    assert scrub_override("recipe.model.path=/data/m") == "recipe.model.path=<path>"
    assert scrub_override("recipe.data.evaluation=clips") == "recipe.data.evaluation=<path>"
    assert scrub_override("recipe.data.calibration=sample:calibration").endswith("=sample:calibration")
    assert scrub_override("data.evaluation={path: clips, limit: 3}") == "data.evaluation=<path>"
    assert scrub_override("nodes.x.params.lexicon=/projects/x") == "nodes.x.params.lexicon=<path>"
    assert (
        scrub_override("nodes.x.params={one:/projects/x,b:[/y,enc/z]}")
        == "nodes.x.params={one:<path>,b:[<path>,enc/z]}"
    )
    assert scrub_override("tracking.uri=https://h.example/x/y") == "tracking.uri=https://h.example/x/y"
    assert scrub_override("hub.token=abc") == "hub.token=<secret>"
    assert scrub_override("decoder=basic") == "decoder=basic"
    assert scrub_override("~nodes.fuse") == "~nodes.fuse"


def test_the_home_of_this_user_goes_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocket_opt.bundle.scrub._HOME", "/odd place/anna/")
    assert scrub_text("from /odd place/anna/x.wav") == "from <path>/x.wav"
