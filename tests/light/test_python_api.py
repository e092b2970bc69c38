"""The Python API on numpy arrays and PIL images."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tsdsr
from tests.cli.command import run
from tsdsr import load_pipeline, upscale_file
from tsdsr.errors import MissingDependencyError, ModelNotFoundError
from tsdsr.pipeline.model_files import MINI_GRAPH, resolve_model
from tsdsr.pipeline.sr_pipeline import SRPipeline
from tsdsr.runtimes.onnx_mini import OnnxMini


@pytest.fixture(scope="module")
def pipe() -> SRPipeline:
    return load_pipeline()


def test_names_that_need_no_torch(pipe: SRPipeline) -> None:
    assert isinstance(pipe, tsdsr.SRPipeline)
    assert {"mini", "sd3", "sd21"} <= set(tsdsr.SPECS)
    assert tsdsr.get_spec("mini").name == pipe.spec.name == "mini"
    assert tsdsr.WriteOptions().quality is None


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "grey"])
def test_arrays_keep_their_type(kind: str, pipe: SRPipeline, photo: np.ndarray) -> None:
    pixels = {
        "uint8": photo,
        "uint16": photo.astype(np.uint16) * 257,
        "float32": photo.astype(np.float32) / 255,
        "grey": photo[..., :1],
    }[kind]
    result = pipe.upscale_pixels(pixels, 2)
    assert result.dtype == pixels.dtype
    assert result.shape == (96, 128, pixels.shape[2])
    floats = pipe(pixels, 2).images[0]
    assert floats.dtype == np.float32
    assert floats.shape == (96, 128, 3)
    full = 1.0 if pixels.dtype == np.float32 else float(np.iinfo(pixels.dtype).max)
    shown = np.broadcast_to(result, floats.shape) if kind == "grey" else result
    assert np.abs(shown / full - floats).max() < (0.02 if kind == "grey" else 0.0021)


def test_pictures_and_lists_of_them(pipe: SRPipeline, photo: np.ndarray) -> None:
    image = Image.fromarray(photo)
    first, second = pipe([image, image.resize((32, 32))], scale=1.5).images
    assert (first.size, second.size) == ((96, 72), (48, 48))
    assert first.tobytes() == pipe(image, 1.5).images[0].tobytes()  # deterministic


def test_tensors_need_torch(pipe: SRPipeline, photo: np.ndarray) -> None:
    with pytest.raises(MissingDependencyError, match=r"needs PyTorch: run pip install '\.\[torch\]'"):
        pipe(Image.fromarray(photo), output_type="pt")


@pytest.mark.parametrize("local", [True, False], ids=["local", "mini"])
def test_tiles_give_the_picture_of_the_whole(local: bool, pipe: SRPipeline, photo: np.ndarray) -> None:
    """Exactly with a model that sees no neighbours, and without seams with `mini`, which sees far."""
    assert isinstance(pipe, OnnxMini)
    used = OnnxMini(lambda z_lq: z_lq * 0.9, pipe.latents) if local else pipe
    large = np.tile(photo, (3, 2, 1))
    done: list[tuple[int, int]] = []
    whole = used.upscale_pixels(large, 4, tile=None)
    tiled = used.upscale_pixels(large, 4, tile=256, on_tile=lambda *counts: done.append(counts))
    assert done[-1][0] == done[-1][1] >= 6
    difference = np.abs(whole.astype(int) - tiled)
    assert difference.max() <= (1 if local else 30)
    assert np.sqrt(np.square(difference).mean()) < (0.1 if local else 1.3)


def test_from_file_to_file(photo: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png", dpi=(300, 300))
    assert upscale_file(tmp_path / "a.png", tmp_path / "b.tif", 2, icc="srgb") == ()
    with Image.open(tmp_path / "b.tif") as image:
        assert (image.size, round(image.info["dpi"][0])) == ((128, 96), 300)


def test_models_that_need_torch(tmp_path: Path) -> None:
    for arguments in ({"engine": "torch"}, {"dtype": "bf16"}, {"device": "cuda"}):
        with pytest.raises(MissingDependencyError, match=r"needs PyTorch: run pip install '\.\[torch\]'"):
            load_pipeline(**arguments)
    with pytest.raises(ModelNotFoundError, match="no such model"):
        load_pipeline(tmp_path / "nowhere")


def test_a_mini_without_its_graph_says_how_to_make_it(tmp_path: Path, tried_imports: list[str]) -> None:
    mini = shutil.copytree(resolve_model("mini"), tmp_path / "mini")
    (mini / MINI_GRAPH).unlink()
    with pytest.raises(MissingDependencyError, match=rf"no graph for ONNX Runtime \('tsdsr graph {mini}' makes it\)"):
        load_pipeline(mini)
    code, output = run("graph", mini)
    assert (code, output) == (2, "error: making a graph needs the package onnx: run pip install onnx\n")
    assert set(tried_imports) == {"onnx"}
    tried_imports.clear()


def test_the_model_hub_names_its_extra(tmp_path: Path, tried_imports: list[str]) -> None:
    needs = r"needs huggingface_hub: run pip install '\.\[hub\]' in the folder of tsdsr"
    with pytest.raises(MissingDependencyError, match=f"someone/mini@v1: .*a model on the hub {needs}"):
        load_pipeline("someone/mini@v1")
    with pytest.raises(MissingDependencyError, match=f"uploading {needs}"):
        load_pipeline("mini").push_to_hub("someone/mini")
    code, output = run("push", resolve_model("mini"), "someone/mini")
    assert code == 2
    assert output == "error: uploading needs huggingface_hub: run pip install '.[hub]' in the folder of tsdsr\n"
    assert set(tried_imports) == {"huggingface_hub"}
    tried_imports.clear()
