"""The node pack for ComfyUI against the contract of its nodes; integrations/comfyui/tests checks a real ComfyUI."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.integrations.comfy_stand_in import PACK, Interrupted, Pack, Progress, load_pack
from tsdsr import load_pipeline
from tsdsr.errors import InvalidInputError, ModelNotFoundError
from tsdsr.images.transparency import enlarge_alpha
from tsdsr.pipeline.model_files import resolve_model
from tsdsr.pipeline.sr_pipeline import SRPipeline

if sys.version_info >= (3, 11):
    import tomllib

WORKFLOWS = sorted((PACK / "example_workflows").glob("*.json"))
WIDGETS = ("COMBO", "STRING", "FLOAT", "INT")


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pack:
    return load_pack(tmp_path / "models", monkeypatch)


@pytest.fixture(scope="module")
def pipe() -> SRPipeline:
    return load_pipeline("mini", engine="onnx")


def photo(batch: int = 1, height: int = 20, width: int = 24, channels: int = 3) -> torch.Tensor:
    return torch.rand(batch, height, width, channels, generator=torch.Generator().manual_seed(0))


def upscale(pack: Pack, model: Any, image: torch.Tensor, **options: Any) -> Any:
    defaults = {port.id: port.options["default"] for port in nodes(pack)["TSDSRUpscale"][1] if port.kind in WIDGETS}
    return pack.part("nodes").TSDSRUpscale.execute(model, image, **{**defaults, **options})


def nodes(pack: Pack) -> dict[str, tuple[Any, list[Any]]]:
    """Return node classes and their inputs by id."""

    async def listed() -> Any:
        return await (await pack.module.comfy_entrypoint()).get_node_list()

    with ThreadPoolExecutor(1) as thread:  # a browser of another test may have an event loop in this one
        found = thread.submit(asyncio.run, listed()).result()
    return {schema.node_id: (node, schema.inputs) for node in found for schema in [node.define_schema()]}


def on_cpu(pack: Pack, pipe: SRPipeline) -> Any:
    return pack.part("loading").LoadedModel(pipe, None)


def test_the_nodes_and_their_inputs(pack: Pack) -> None:
    found = {name: [(port.kind, port.id) for port in inputs] for name, (_, inputs) in nodes(pack).items()}
    assert found == {
        "LoadTSDSR": [
            *(("COMBO", name) for name in ("model", "engine", "device", "precision")),
            ("STRING", "path"),
        ],
        "TSDSRUpscale": [
            ("TSDSR_MODEL", "model"),
            ("IMAGE", "image"),
            ("FLOAT", "scale"),
            ("INT", "width"),
            ("INT", "height"),
            ("COMBO", "fit"),
            ("FLOAT", "detail"),
            ("COMBO", "color_fix"),
            ("INT", "tile"),
            ("INT", "seed"),
            ("MASK", "mask"),
        ],
    }
    for _, inputs in nodes(pack).values():
        assert all(port.options["default"] in port.options["options"] for port in inputs if "default" in port.options
                   and port.kind == "COMBO")  # fmt: skip
        assert all(port.options.get("tooltip") or port.id in ("model", "image") for port in inputs)


def test_a_batch_is_that_of_the_pipeline_in_full_precision(pack: Pack, pipe: SRPipeline) -> None:
    images = photo(2)
    result, masks = upscale(pack, on_cpu(pack, pipe), images, detail=0.5, color_fix="adain")
    for image, found in zip(images, result, strict=True):
        expected = pipe.upscale_pixels(image.numpy(), 4, detail=0.5, color_fix="adain")
        np.testing.assert_array_equal(found.numpy(), expected)
    assert (result.dtype, result.shape, masks.shape) == (torch.float32, (2, 80, 96, 3), (2, 80, 96))
    assert not masks.any()
    assert Progress.seen == [(1, 2), (2, 2)]


def test_grey_and_values_beyond_the_range(pack: Pack, pipe: SRPipeline) -> None:
    grey = photo(channels=1)
    assert upscale(pack, on_cpu(pack, pipe), grey, scale=2.0)[0].shape == (1, 40, 48, 1)
    beyond, within = photo() * 3 - 1, (photo() * 3 - 1).clamp(0, 1)
    results = [upscale(pack, on_cpu(pack, pipe), image, scale=1.5)[0] for image in (beyond, within)]
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"width": 60}, (50, 60)),
        ({"height": 30}, (30, 36)),
        ({"width": 60, "height": 60}, (50, 60)),
        ({"width": 60, "height": 60, "fit": "cover"}, (60, 60)),
    ],
)
def test_sizes_in_place_of_the_scale(pack: Pack, pipe: SRPipeline, sizes: dict[str, Any], expected: Any) -> None:
    assert upscale(pack, on_cpu(pack, pipe), photo(), **sizes)[0].shape[1:3] == expected


def test_a_mask_is_enlarged_as_alpha_is(pack: Pack, pipe: SRPipeline) -> None:
    hidden = torch.zeros(20, 24)
    hidden[5:12, 6:15] = 1
    image = photo(2)
    result, masks = upscale(pack, on_cpu(pack, pipe), image, mask=torch.stack([hidden, torch.zeros(20, 24)]))
    alpha = enlarge_alpha(((1 - hidden.numpy()) * 65535).astype(np.uint16), (80, 96))
    np.testing.assert_allclose(1 - masks[0].numpy(), alpha / 65535, atol=1e-6)
    assert not masks[1].any()
    np.testing.assert_array_equal(result[1].numpy(), pipe.upscale_pixels(image[1].numpy(), 4))
    plain = upscale(pack, on_cpu(pack, pipe), image[:1])[0]
    assert float((plain[0] - result[0]).abs()[:, 80:].max()) < 0.03  # far from the hole, whose colours are filled
    assert float((plain[0] - result[0]).abs()[24:44, 28:56].mean()) > 0.05


def test_an_opaque_mask_may_have_any_size_and_others_may_not(pack: Pack, pipe: SRPipeline) -> None:
    opaque = upscale(pack, on_cpu(pack, pipe), photo(), mask=torch.zeros(1, 64, 64))
    assert torch.equal(opaque[0], upscale(pack, on_cpu(pack, pipe), photo())[0])
    with pytest.raises(InvalidInputError, match=r"mask has the shape \(1, 64, 64\).*connect the mask of the same"):
        upscale(pack, on_cpu(pack, pipe), photo(), mask=torch.ones(1, 64, 64))
    with pytest.raises(InvalidInputError, match="Split Image with Alpha"):
        upscale(pack, on_cpu(pack, pipe), photo(channels=4))


def test_an_interrupt_ends_at_the_next_tile(pack: Pack, pipe: SRPipeline) -> None:
    pack.memory.interrupt_at = 2
    with pytest.raises(Interrupted):
        upscale(pack, on_cpu(pack, pipe), photo(height=48, width=48), tile=64)
    assert [done for done, _ in Progress.seen] == [1]
    assert Progress.seen[0][1] > 4


def test_a_tile_that_no_model_takes_is_refused_before_the_run(pack: Pack) -> None:
    check = pack.part("nodes").TSDSRUpscale.validate_inputs
    assert check(tile=10) == "tile must be at least 64 pixels, got 10"
    assert [check(tile=tile) for tile in (0, 64, None)] == [True] * 3


def test_a_model_in_torch_comes_to_the_device_and_leaves_it(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pack.part("loading").load_model("mini", engine="torch", precision="fp32")
    moves: list[torch.device] = []
    monkeypatch.setattr(type(model.pipe), "to", lambda pipe, device: moves.append(device) or pipe)
    pack.memory.interrupt_at = 2
    upscale(pack, model, photo())
    with pytest.raises(Interrupted):
        upscale(pack, model, photo())
    assert moves == [torch.device("cpu")] * 4
    assert pack.memory.emptied == 2
    ((room, device), _) = pack.memory.freed
    weights = sum(p.nbytes for p in model.pipe.network.parameters())
    assert room > weights + 80 * 96 * 100
    assert device == torch.device("cpu")


def test_on_a_gpu_mini_runs_in_torch_and_waits_in_ram(pack: Pack) -> None:
    pack.memory.device = torch.device("cuda:0")
    model = pack.part("loading").load_model("mini")
    assert (model.pipe.engine, model.device, model.pipe.device.type) == ("torch", pack.memory.device, "cpu")
    assert model.pipe.dtype in (torch.float16, torch.bfloat16)
    assert pack.part("loading").load_model("mini", device="cpu", precision="fp32").pipe.engine == "onnx"


def test_models_are_listed_and_found(pack: Pack, tmp_path: Path) -> None:
    loading = pack.part("loading")
    assert loading.model_names() == ["mini"]
    shutil.copytree(resolve_model("mini"), pack.models / "tsdsr" / "mine")
    (pack.models / "tsdsr" / "empty").mkdir()
    assert loading.model_names() == ["mini", "mine"]
    execute = pack.part("nodes").LoadTSDSR.execute
    for name, path in (("mine", ""), ("mini", f" {pack.models / 'tsdsr' / 'mine'} ")):
        (model,) = execute(name, "onnx", "auto", "auto", path)
        assert model.pipe.engine == "onnx"
    with pytest.raises(ModelNotFoundError, match="no such model"):
        execute("mini", "auto", "auto", "auto", str(tmp_path / "nowhere"))


def test_the_stock_loader_takes_mini(pack: Pack) -> None:
    registry = pytest.importorskip("spandrel", reason="the extra 'eval' is not installed").MAIN_REGISTRY
    assert "TSDSRMini" in registry


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_example_workflows_fit_the_nodes(pack: Pack, path: Path) -> None:
    workflow = json.loads(path.read_text(encoding="utf-8"))
    by_id = {node["id"]: node for node in workflow["nodes"]}
    for identifier, source, output, target, place, _ in workflow["links"]:
        assert identifier in by_id[source]["outputs"][output]["links"]
        assert by_id[target]["inputs"][place]["link"] == identifier
    for node in workflow["nodes"]:
        if node["type"] in nodes(pack):
            inputs = nodes(pack)[node["type"]][1]
            assert {port["name"] for port in node["inputs"]} == {port.id for port in inputs}
            values = dict(
                zip((port.id for port in inputs if port.kind in WIDGETS), node["widgets_values"], strict=True)
            )
            assert values == {port.id: port.options.get("default", "mini") for port in inputs if port.kind in WIDGETS}
    assert path.with_suffix(".jpg").stat().st_size < 100_000


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is part of Python from 3.11")
def test_the_pack_brings_no_torch_of_its_own() -> None:
    config = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))
    assert config["project"]["dependencies"] == ["tsdsr>=0.2.0"]
    assert set(config["tool"]["comfy"]) == {"PublisherId", "DisplayName", "requires-comfyui"}
