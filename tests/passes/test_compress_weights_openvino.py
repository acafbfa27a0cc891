"""NNCF's weight compression: counts, sizes, one table for embedding and head, and every way to be refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from exported_whisper import ENCODER_LAYERS, LINEAR, digests, run_pass
from openvino_models import converted

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.openvino_graphs.checks import require_agreement

TABLE, CONVOLUTIONS = 1, 2


def test_eight_bits_take_every_layer_and_the_table_once(tmp_path: Path) -> None:
    outcome = run_pass("compress_weights_openvino", converted(), tmp_path)
    assert outcome.did["components"]["decoder"]["by_type"] == {"i8": LINEAR["decoder"] + TABLE}
    assert outcome.did["components"]["encoder"]["by_type"] == {"i8": LINEAR["encoder"] + CONVOLUTIONS}
    levels = require_agreement(converted(), outcome.artifact, ("encoder", "decoder"), least_db=20)
    assert min(levels.values()) < 60
    weights = outcome.artifact.root / "decoder.bin"
    assert weights.stat().st_size < 0.35 * (converted().root / "decoder.bin").stat().st_size


def test_four_bits_leave_the_table_in_eight(tmp_path: Path) -> None:
    eight = run_pass("compress_weights_openvino", converted(), tmp_path / "8")
    four = run_pass("compress_weights_openvino", converted(), tmp_path / "4", bits=4)
    by_type = four.did["components"]["decoder"]["by_type"]
    assert by_type["i4"] >= LINEAR["decoder"] - 1
    assert by_type["i8"] >= TABLE
    assert four.did["bytes_after"] < eight.did["bytes_after"] < 0.5 * eight.did["bytes_before"]


def test_zero_points_and_a_table_of_four_bits(tmp_path: Path) -> None:
    params = {"bits": 4, "table_bits": 4, "symmetric": False, "components": ("decoder",)}
    by_type = run_pass("compress_weights_openvino", converted(), tmp_path, **params).did["components"][
        "decoder"
    ]["by_type"]
    assert "i4" not in by_type
    assert by_type["u4"] >= LINEAR["decoder"] + TABLE


def test_excluded_layers_keep_their_weights(tmp_path: Path) -> None:
    params = {"components": ("encoder",), "exclude": (r".*/Conv", r".*\.fc[12]/.*")}
    did = run_pass("compress_weights_openvino", converted(), tmp_path, **params).did
    assert did["tensors"] == LINEAR["encoder"] - 2 * ENCODER_LAYERS


def test_the_same_bytes_twice(tmp_path: Path) -> None:
    first, second = (
        digests(run_pass("compress_weights_openvino", converted(), tmp_path / place, bits=4).artifact)
        for place in ("a", "b")
    )
    assert first == second


def test_a_pattern_without_a_match_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match=r"(?s)'.*fc9.*' matches nothing.*parameter exclude"):
        run_pass("compress_weights_openvino", converted(), tmp_path, exclude=(".*fc9.*",))


def test_nothing_compressed_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="no weight of component 'encoder' was compressed"):
        run_pass("compress_weights_openvino", converted(), tmp_path, exclude=(".*",))


@pytest.mark.parametrize(
    ("params", "message"),
    [({"exclude": ("(",)}, "no regular expression"), ({"table_bits": 4}, "cannot have fewer bits")],
)
def test_values_that_fit_no_model(tmp_path: Path, params: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_pass("compress_weights_openvino", converted(), tmp_path, **params)


def test_groups_fill_the_rows(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match=r"(?s)groups of 48 do not fill rows of 64.*8, 16, 32, 64"):
        run_pass("compress_weights_openvino", converted(), tmp_path, bits=4, group_size=48)


def test_onnx_is_refused(tmp_path: Path) -> None:
    from exported_whisper import exported

    with pytest.raises(
        PocketOptError, match=r"(?s)no OpenVINO component 'encoder'.*run convert_openvino first"
    ):
        run_pass("compress_weights_openvino", exported(), tmp_path)


def test_telemetry_is_off(tmp_path: Path) -> None:
    run_pass("compress_weights_openvino", converted(), tmp_path)
    assert os.environ["NNCF_CI"]
    from nncf.telemetry.wrapper import NNCFTelemetry, telemetry

    assert not isinstance(telemetry, NNCFTelemetry)
