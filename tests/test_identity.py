"""The identity scheme: literal values are pinned, because every store and every published bundle depends on them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pocket_opt.identity import digest, file_digest, tree_digest


def test_the_digest_of_a_value_is_pinned() -> None:
    value = {"name": "weight_only", "bits": 4, "scale": 0.5, "on": True, "off": None, "parts": ["a", "ü"]}
    assert digest("test", value) == "5334980abeb2c0e5109164c5f8a0cfadc502b9ec9d4e5a353f4e60a770ed3a0f"
    assert digest("test", {}) == "1323d52a98f47c654a1de4eaf9268fb7f3cb7382462f71b3b37519a6a4fe3481"


def test_the_digest_is_the_hash_of_tag_and_canonical_json() -> None:
    assert (
        digest("test", {"b": 1, "a": [2]}) == hashlib.sha256(b'pocket_opt:test\0{"a":[2],"b":1}').hexdigest()
    )


def test_tags_separate_kinds_and_order_of_keys_does_not_matter() -> None:
    assert digest("node", {"a": 1}) != digest("row", {"a": 1})
    assert digest("node", {"a": 1, "b": 2}) == digest("node", {"b": 2, "a": 1})
    assert digest("node", (1, 2)) == digest("node", [1, 2])


@pytest.mark.parametrize(
    "pair", [(1, "1"), (True, 1), (None, ""), ([], {}), (["ab"], ["a", "b"]), (0, False)]
)
def test_values_that_look_alike_differ(pair: tuple[object, object]) -> None:
    assert digest("node", pair[0]) != digest("node", pair[1])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_has_no_digest(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        digest("node", {"x": value})


def test_a_value_that_is_not_json_has_no_digest() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        digest("node", {"path": Path("x")})


def test_file_digest_is_sha256_of_the_bytes_also_over_several_chunks(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"0123456789" * 250_000)
    assert file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(b"")
    assert file_digest(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def _tree(root: Path, content: str = "weights") -> list[Path]:
    (root / "sub").mkdir(parents=True)
    (root / "config.json").write_text("{}")
    (root / "sub" / "model.bin").write_text(content)
    return [root / "sub" / "model.bin", root / "config.json"]


def test_a_tree_has_the_same_digest_wherever_it_lies_and_in_any_order(tmp_path: Path) -> None:
    first, second = _tree(tmp_path / "a"), _tree(tmp_path / "b")
    pinned = "7b6c10a0cd9c886622254a5381f2a010aed1725ba810b9ecbc1c40d68165f139"
    assert tree_digest(tmp_path / "a", first) == tree_digest(tmp_path / "b", reversed(second)) == pinned


def test_a_tree_changes_with_content_names_and_the_number_of_files(tmp_path: Path) -> None:
    files = _tree(tmp_path / "a")
    other = _tree(tmp_path / "b", "other weights")
    before = tree_digest(tmp_path / "a", files)
    assert tree_digest(tmp_path / "b", other) != before
    assert tree_digest(tmp_path / "a", files[:1]) != before
    files[1] = files[1].rename(files[1].with_name("settings.json"))
    assert tree_digest(tmp_path / "a", files) != before


def test_known_digests_are_taken_instead_of_reading(tmp_path: Path) -> None:
    files = _tree(tmp_path)
    right = tree_digest(tmp_path, files)
    model = file_digest(files[0])
    files[0].unlink()
    assert tree_digest(tmp_path, files, {"sub/model.bin": model}) == right
    with pytest.raises(FileNotFoundError):
        tree_digest(tmp_path, files)
