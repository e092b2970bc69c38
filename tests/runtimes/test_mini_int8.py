"""The 8-bit graph of `mini`: made from the weights and a few pictures, without weights of its own."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import skimage.data
from PIL import Image
from typer.testing import CliRunner

from tests.conftest import mini_prompt, randomise
from tsdsr.cli import app
from tsdsr.errors import InvalidInputError
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.models.mini import MiniUNet
from tsdsr.models.mini_folder import MADE_FROM, hash_of_weights
from tsdsr.models.network_config import WEIGHTS
from tsdsr.models.zoo import MINI
from tsdsr.pipeline.convert import save_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.model_files import MINI_FAST_GRAPH, MINI_GRAPH, resolve_model
from tsdsr.processor import multiplies_int8
from tsdsr.runtimes.mini_graph import write_graph
from tsdsr.runtimes.mini_int8 import measure_ranges, write_int8_graph
from tsdsr.safetensors_header import read_array, read_header

PACKAGED = resolve_model("mini")


def picture(edge: int = 32) -> np.ndarray:
    return np.asarray(Image.fromarray(skimage.data.astronaut()).resize((edge, edge)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small `mini` with random weights and one channel that does nothing."""
    network = MiniUNet(channels=[16, 32], encoder_blocks=[1, 1], decoder_blocks=[1], embed_dim=16, fine_channels=16)
    randomise(network)
    network.encoder[0][0].conv1.weight.data[3] = 0
    pipe = OneStepSRPipeline(network.eval(), MINI.make_autoencoder(), FixedPrompt.from_conditioning(mini_prompt()))
    save_pipeline(pipe, tmp_path / "mini")
    return tmp_path / "mini"


def step(folder: Path, graph: str, z_lq: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(folder / graph, providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {"z_lq": z_lq})[0]
    return result - z_lq


@pytest.mark.skipif(not multiplies_int8(), reason="without VNNI, sums overflow")
def test_it_rounds_what_the_exact_graph_computes(folder: Path) -> None:
    write_graph(folder)
    made = write_int8_graph(folder, [picture()])
    assert made.path == folder / MINI_FAST_GRAPH
    z_lq = np.random.default_rng(0).normal(size=(1, 48, 16, 24)).astype(np.float32)
    exact, rounded = step(folder, MINI_GRAPH, z_lq), step(folder, MINI_FAST_GRAPH, z_lq)
    relative = float(np.linalg.norm(exact - rounded) / np.linalg.norm(exact))
    assert 1e-4 < relative < 0.05


def test_ranges_are_those_of_the_feature_maps(folder: Path) -> None:
    one, both = measure_ranges(folder, [picture()]), measure_ranges(folder, [picture(), picture() // 2])
    assert len(one) == 2 * 2 * 5  # both ends of both convolutions of five blocks
    for end, (low, high) in one.items():
        assert low <= 0 <= high
        assert both[end][0] <= low
        assert both[end][1] >= high
        if end.endswith(".input"):
            assert low > -0.2785  # the smallest value of SiLU
    assert both != one


def test_the_runtime_multiplies_integers(tmp_path: Path) -> None:
    """The convolutions of all residual blocks, with weights that it rounds itself."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(PACKAGED / MINI_FAST_GRAPH, options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert kinds["QLinearConv"] == 46
    assert kinds["DequantizeLinear"] <= 1.5 * 46


def test_the_packaged_graph_belongs_to_the_packaged_weights_and_repeats_none() -> None:
    path = PACKAGED / MINI_FAST_GRAPH
    model = onnx.load(path, load_external_data=False)
    assert {item.key: item.value for item in model.metadata_props} == {MADE_FROM: hash_of_weights(PACKAGED)}
    onnx.checker.check_model(str(path), full_check=True)
    assert path.stat().st_size < 200_000
    weights = PACKAGED / "denoiser" / WEIGHTS
    header = read_header(weights)
    stored = {read_array(weights, place).astype(np.float32).tobytes() for place in header.values()}
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            place = {item.key: item.value for item in tensor.external_data}
            assert int(place["offset"]) == header[tensor.name].offset
        else:
            assert onnx.numpy_helper.to_array(tensor).astype(np.float32).tobytes() not in stored


def test_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for content, arguments, status, message in (
        (False, [], 2, "contains no pictures"),
        (True, [], 0, "model.int8.onnx: "),
        (True, [], 2, "add --overwrite"),
        (True, ["--overwrite"], 0, "model.int8.onnx: "),
    ):
        if content:
            Image.fromarray(picture()).save(pictures / "a.png")
        result = CliRunner().invoke(app, ["graph", str(folder), "--int8", str(pictures), *arguments])
        assert result.exit_code == status, result.output
        assert message in "".join(result.output.split("\n"))
        assert (folder / MINI_FAST_GRAPH).exists() == content


def test_pictures_are_needed(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match="needs pictures"):
        write_int8_graph(folder, [])
    shutil.copy(PACKAGED / MINI_GRAPH, folder / MINI_FAST_GRAPH)
    with pytest.raises(InvalidInputError, match="already exists"):
        write_int8_graph(folder, [picture()])
