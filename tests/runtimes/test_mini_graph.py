"""The ONNX graph of `mini`: it computes what the network computes, from the network's own file."""

from __future__ import annotations

import inspect
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from tests.conftest import mini_prompt, randomise
from tsdsr.cli import app
from tsdsr.errors import InvalidInputError, MissingDependencyError, ModelError, ModelNotFoundError, WeightsError
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.models.mini import MiniUNet
from tsdsr.models.mini_folder import MADE_FROM, hash_of_weights
from tsdsr.models.network_config import WEIGHTS
from tsdsr.models.zoo import MINI
from tsdsr.optimize.fold import fold
from tsdsr.pipeline.convert import save_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.model_files import MINI_GRAPH, resolve_model
from tsdsr.runtimes.mini_files import MiniShape
from tsdsr.runtimes.mini_graph import write_graph
from tsdsr.safetensors_header import read_array, read_header

SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "fine": {"fine_channels": 8, "fine_blocks": 1},
    "skip": {"learned_skip": True},
    "one level": {"channels": [16], "encoder_blocks": [2], "decoder_blocks": []},
    "many levels": {"channels": [8, 8, 16, 16], "encoder_blocks": [1, 0, 1, 1], "decoder_blocks": [0, 1, 1]},
}


def pipeline(changes: dict[str, Any] | None = None, label: int = 0) -> OneStepSRPipeline:
    """A small `mini` with random weights and prompts that differ."""
    shape = {"channels": [8, 16, 16], "encoder_blocks": [1, 1, 1], "decoder_blocks": [1, 1], "embed_dim": 16}
    network = MiniUNet(**{**shape, **(changes or {})})
    prompt = Conditioning(labels=mini_prompt().tensors()["labels"] + label)
    return OneStepSRPipeline(randomise(network).eval(), MINI.make_autoencoder(), FixedPrompt.from_conditioning(prompt))


def saved(folder: Path, pipe: OneStepSRPipeline, dtype: torch.dtype = torch.float16) -> Path:
    save_pipeline(pipe, folder, dtype)
    return folder


def difference(folder: Path) -> float:
    """Greatest difference between graph and network relative to the step, at two sizes, in float32."""
    pipe = OneStepSRPipeline.from_pretrained(folder, dtype=torch.float32)
    session = onnxruntime.InferenceSession(folder / MINI_GRAPH, providers=["CPUExecutionProvider"])
    found = 0.0
    for batch, height, width in ((1, 16, 24), (2, 8, 8)):
        z_lq = torch.randn(batch, 48, height, width)
        with torch.no_grad():
            z_hat = pipe.denoise(z_lq)
        step = float((z_hat - z_lq).abs().max())
        assert step > 0.01
        result = session.run(None, {"z_lq": z_lq.numpy()})[0]
        found = max(found, float(np.abs(result - z_hat.numpy()).max()) / step)
    return found


@pytest.mark.parametrize("name", SHAPES)
def test_it_computes_the_step_of_any_shape(tmp_path: Path, name: str) -> None:
    folder = saved(tmp_path / "mini", pipeline(SHAPES[name]))
    write_graph(folder)
    assert difference(folder) < 2e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_weights_of_other_precisions(tmp_path: Path, dtype: torch.dtype) -> None:
    folder = saved(tmp_path / "mini", pipeline(SHAPES["fine"]), dtype)
    write_graph(folder)
    assert difference(folder) < 2e-6


def test_the_prompt_is_that_of_the_pipeline(tmp_path: Path) -> None:
    folders = [saved(tmp_path / str(label), pipeline(label=label)) for label in (0, 1)]
    for folder in folders:
        write_graph(folder)
        assert difference(folder) < 2e-6
    assert hash_of_weights(folders[0]) != hash_of_weights(folders[1])


def test_a_folded_pipeline(tmp_path: Path) -> None:
    pipe = pipeline(SHAPES["fine"] | SHAPES["skip"])
    fold(pipe)
    folder = saved(tmp_path / "mini", pipe)
    write_graph(folder)
    assert difference(folder) < 2e-6


def test_the_packaged_graph_is_the_one_of_the_packaged_weights(tmp_path: Path) -> None:
    packaged = resolve_model("mini")
    folder = shutil.copytree(packaged, tmp_path / "mini")
    made = write_graph(folder, overwrite=True)
    new, old = (onnx.load(path, load_external_data=False) for path in (made.path, packaged / MINI_GRAPH))
    assert new.metadata_props == old.metadata_props
    assert new.graph.node == old.graph.node
    for made_now, stored in zip(new.graph.initializer, old.graph.initializer, strict=True):
        if stored.data_location == onnx.TensorProto.EXTERNAL:
            assert made_now == stored
        else:
            values = (onnx.numpy_helper.to_array(tensor) for tensor in (made_now, stored))
            np.testing.assert_allclose(*values, rtol=1e-6, atol=1e-7)
    assert difference(folder) < 2e-6


def test_no_tensor_stands_twice() -> None:
    """The graph's own values are scales and shifts, which the file does not hold."""
    folder = resolve_model("mini") / "denoiser"
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    own = [onnx.numpy_helper.to_array(t) for t in graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL]
    assert sum(values.nbytes for values in own) < 40_000
    assert (folder / "model.onnx").stat().st_size < 80_000
    header = read_header(folder / WEIGHTS)
    stored = {read_array(folder / WEIGHTS, place).astype(np.float32).tobytes() for place in header.values()}
    assert not stored & {values.astype(np.float32).tobytes() for values in own}
    places = set()
    for tensor in graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            external = {item.key: item.value for item in tensor.external_data}
            assert external["location"] == WEIGHTS
            place = header[tensor.name]
            assert (int(external["offset"]), int(external["length"])) == (place.offset, place.length)
            places.add(place.offset)
    assert len(places) == sum(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer)


def test_the_graph_follows_the_standard_and_says_what_it_was_made_from(tmp_path: Path) -> None:
    folder = saved(tmp_path / "mini", pipeline())
    made = write_graph(folder)
    onnx.checker.check_model(str(made.path), full_check=True)
    model = onnx.load(made.path, load_external_data=False)
    assert {domain.domain for domain in model.opset_import} == {""}
    assert {item.key: item.value for item in model.metadata_props} == {MADE_FROM: hash_of_weights(folder)}
    assert (made.operations, made.bytes) == (len(model.graph.node), made.path.stat().st_size)


def test_its_shape_has_the_arguments_and_defaults_of_the_network() -> None:
    arguments = inspect.signature(MiniUNet.__init__).parameters
    defaults = {name: argument.default for name, argument in arguments.items() if name != "self"}
    assert vars(MiniShape()) == defaults


def test_from_the_command_line(tmp_path: Path) -> None:
    folder = saved(tmp_path / "mini", pipeline())
    for arguments, status, message in (
        ([], 0, "model.onnx: 84 operations, "),
        ([], 2, "model.onnx: already exists; add --overwrite"),
        (["--overwrite"], 0, "model.onnx: 84 operations, "),
    ):
        result = CliRunner().invoke(app, ["graph", str(folder), *arguments])
        assert result.exit_code == status, result.output
        assert message in "".join(result.output.split("\n"))


def test_mistakes_and_damage_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelNotFoundError, match="tsdsr convert"):
        write_graph(tmp_path)
    (tmp_path / "model_index.json").write_text('{"model": "sd3"}')
    with pytest.raises(ModelError, match=r"contains no 'mini'.*tsdsr export"):
        write_graph(tmp_path)
    folder = saved(tmp_path / "mini", pipeline())
    config, weights = folder / "denoiser" / "config.json", folder / "denoiser" / WEIGHTS
    settings, tensors = json.loads(config.read_text()), load_file(weights)
    nan = tensors["conv_in.bias"].clone().fill_(float("nan"))
    for changed, message in (
        ({k: v for k, v in tensors.items() if k != "down.0.bias"}, "down.0.bias is missing"),
        ({**tensors, "extra": torch.zeros(1)}, "extra is not part of"),
        ({**tensors, "conv_in.bias": torch.zeros(9)}, r"conv_in.bias has shape \(9,\), but the config asks for \(8,\)"),
        ({**tensors, "conv_in.bias": torch.zeros(8, dtype=torch.int8)}, "is stored as I8, not as F32, F16, BF16"),
        ({**tensors, "conv_in.bias": nan}, "conv_in.bias contains values that are not finite"),
    ):
        save_file(changed, weights)
        with pytest.raises(WeightsError, match=message):
            write_graph(folder)
    save_file(tensors, weights)
    for name, value in (("channels", []), ("embed_dim", "wide"), ("width", 3), ("_class_name", "UNet2DModel")):
        config.write_text(json.dumps(settings | {name: value}))
        with pytest.raises(WeightsError, match=r"describes a |does not describe a "):
            write_graph(folder)
    config.write_text(json.dumps(settings))
    save_file({"labels": torch.tensor([2])}, folder / "prompt" / WEIGHTS)
    with pytest.raises(WeightsError, match="not contain the index of one of the 2 prompts"):
        write_graph(folder)
    assert not (folder / MINI_GRAPH).exists()
    monkeypatch.setitem(sys.modules, "onnx", None)
    save_file({"labels": torch.tensor([1])}, folder / "prompt" / WEIGHTS)
    with pytest.raises(MissingDependencyError, match="needs the package onnx"):
        write_graph(folder)
    monkeypatch.undo()
    write_graph(folder)
    with pytest.raises(InvalidInputError, match="already exists"):
        write_graph(folder)
