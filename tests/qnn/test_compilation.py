"""The compiler of the real package: contexts are contexts, and what it leaves to the CPU is named."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from compiled_whisper import ELITE, GEN3, one_node, planted, static

from pocket_opt.errors import PocketOptError
from pocket_opt.models.whisper.runner.qnn_backend import provider_options
from pocket_opt.qnn import compilation, context


def compile_decoder(directory: Path, chip: dict[str, object]) -> bytes:
    directory.mkdir()
    wrapper = directory / "decoder.onnx"
    compiled = compilation.compile_graph(static().path("decoder"), wrapper, provider_options(chip, {}))
    assert compiled.share == 100
    (name,) = context.binaries(wrapper)
    return (directory / name).read_bytes()


def test_two_generations_have_different_binaries(tmp_path: Path) -> None:
    elite, gen3 = compile_decoder(tmp_path / "a", ELITE), compile_decoder(tmp_path / "b", GEN3)
    assert elite != gen3


def test_a_second_chip_does_not_fit_into_the_same_directory(tmp_path: Path) -> None:
    wrapper = tmp_path / "one.onnx"
    source = one_node(tmp_path / "source.onnx", "Relu", [1, 8])
    compilation.compile_graph(source, wrapper, provider_options(ELITE, {}))
    before = wrapper.read_bytes()
    with pytest.raises(PocketOptError, match=r"there is a compiled one.onnx already"):
        compilation.compile_graph(source, wrapper, provider_options(GEN3, {}))
    assert wrapper.read_bytes() == before


def test_what_only_the_compiler_refuses_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    source = planted(tmp_path / "graphs", "Cosh").path("encoder")
    wrapper = tmp_path / "encoder.onnx"
    with pytest.raises(PocketOptError, match="the NPU cannot take 1 nodes of encoder") as caught:
        compilation.compile_graph(source, wrapper, provider_options(ELITE, {}))
    assert caught.value.where == "planted/Cosh (Cosh)"
    assert not wrapper.exists()


def test_the_cpu_takes_a_part_where_it_may(tmp_path: Path) -> None:
    source = planted(tmp_path / "graphs", "Cosh").path("encoder")
    wrapper = tmp_path / "encoder.onnx"
    compiled = compilation.compile_graph(source, wrapper, provider_options(ELITE, {}), allow_fallback=True)
    assert compiled.left == (("planted/Cosh", "Cosh"),)
    assert compiled.share == pytest.approx(100 * (1 - 1 / compiled.operators))
    assert compiled.operators == len(onnx.load(source).graph.node)


@pytest.mark.parametrize(("keep", "message"), [(0.5, "cannot be loaded"), (0.0, "cannot be loaded")])
def test_a_truncated_context_is_found_when_it_is_loaded_again(
    tmp_path: Path, keep: float, message: str
) -> None:
    wrapper = tmp_path / "decoder.onnx"
    options, part = provider_options(ELITE, {}), static().components["decoder"]
    compiled = compilation.compile_graph(static().path("decoder"), wrapper, options)
    (name,) = context.binaries(wrapper)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(PocketOptError, match=message):
        compilation.require_same_when_reloaded(compiled, wrapper, options, part, fallback=False)


def test_a_lost_binary_is_named(tmp_path: Path) -> None:
    wrapper = tmp_path / "one.onnx"
    source = one_node(tmp_path / "source.onnx", "Relu", [1, 8])
    compilation.compile_graph(source, wrapper, provider_options(ELITE, {}))
    (tmp_path / "one_qnn.bin").unlink()
    with pytest.raises(PocketOptError, match=r"names no binary beside it") as caught:
        context.binaries(wrapper)
    assert caught.value.where == "one_qnn.bin"


def test_products_are_those_of_the_shapes() -> None:
    dims = static().metadata["dims"]
    found = compilation.multiplications(static().path("decoder"))
    head = dims["vocab"] * dims["d_model"]
    linear = 6 * dims["d_model"] ** 2 + 2 * dims["d_model"] * dims["decoder_ffn_dim"]
    attention = 2 * dims["d_model"] * (dims["target_positions"] + 1 + dims["source_positions"])
    assert found == head + linear + attention
