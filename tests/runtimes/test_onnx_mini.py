"""`mini` in ONNX Runtime: the same pictures as in torch, and graphs that do not belong to the weights are refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image
from safetensors.numpy import load_file, save_file

from tsdsr.errors import InvalidInputError, ModelNotFoundError, WeightsError
from tsdsr.models.network_config import WEIGHTS
from tsdsr.pipeline.model_files import MINI_FAST_GRAPH, MINI_GRAPH, resolve_model
from tsdsr.pipeline.torch_pipeline import load_torch_mini
from tsdsr.processor import multiplies_int8
from tsdsr.runtimes import onnx_mini
from tsdsr.runtimes.onnx_mini import load_onnx_mini

MINI = resolve_model("mini")


def small(picture: np.ndarray, edge: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((edge, edge), Image.Resampling.BICUBIC))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MINI, tmp_path / "mini"))


@pytest.mark.parametrize("tile", [None, 256])
def test_both_engines_give_the_same_picture(tile: int | None) -> None:
    photo = small(skimage.data.astronaut(), 100)
    found = load_onnx_mini(MINI, "cpu").upscale_pixels(photo, tile=tile)
    expected = load_torch_mini(MINI, "cpu", "fp32").upscale_pixels(photo, tile=tile)
    assert found.shape == (400, 400, 3)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert psnr(found, expected) > 60


def test_a_batch_gives_the_pictures_of_singles() -> None:
    pipe = load_onnx_mini(MINI, "cpu")
    z_lq = np.random.default_rng(0).normal(size=(3, 48, 8, 12)).astype(np.float32)
    singles = np.concatenate([pipe.denoise(z_lq[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(pipe.denoise(z_lq), singles, rtol=0, atol=1e-5)


@pytest.mark.parametrize("place", [20_000, 40_000, -1], ids=["first tensor", "a tensor", "last byte"])
def test_other_weights_are_refused(copy: Path, place: int) -> None:
    path = copy / "denoiser" / WEIGHTS
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\.onnx: was made for other weights.*run 'tsdsr graph .*mini --overw"):
        load_onnx_mini(copy)


def test_weights_in_another_order_are_refused_before_they_are_read(copy: Path) -> None:
    """At the graph's positions there would be other tensors, on which ONNX Runtime fails with words of its own."""
    path = copy / "denoiser" / WEIGHTS
    save_file(dict(reversed(load_file(path).items())), path)
    with pytest.raises(WeightsError, match=r"model\.onnx: was made for other weights"):
        load_onnx_mini(copy)


def test_a_stale_8_bit_graph_names_the_command_that_makes_it(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tsdsr.runtimes.onnx_mini.multiplies_int8", lambda: True)
    path = copy / "prompt" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-8] + (1).to_bytes(8, "little"))
    with pytest.raises(WeightsError, match=r"model\.int8\.onnx: .*run 'tsdsr graph .* --overwrite --int8 PICTURES'"):
        load_onnx_mini(copy, fast=True)


def test_another_prompt_is_refused(copy: Path) -> None:
    path = copy / "prompt" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-8] + (1).to_bytes(8, "little"))
    with pytest.raises(WeightsError, match="was made for other weights"):
        load_onnx_mini(copy)


def test_damage_is_named(copy: Path) -> None:
    weights = copy / "denoiser" / WEIGHTS
    content = weights.read_bytes()
    weights.write_bytes(content[:-1000])
    with pytest.raises(WeightsError, match=r"safetensors: is damaged or incomplete"):
        load_onnx_mini(copy)
    weights.unlink()
    with pytest.raises(ModelNotFoundError, match=r"safetensors: is missing"):
        load_onnx_mini(copy)
    weights.write_bytes(content)
    graph = copy / MINI_GRAPH
    graph.write_bytes(graph.read_bytes()[:30_000])
    with pytest.raises(WeightsError, match=r"model\.onnx: .*incomplete; run 'tsdsr graph .* --overwrite'"):
        load_onnx_mini(copy)


def test_a_folder_of_links_is_read(tmp_path: Path) -> None:
    """As the cache of the hub and of uv consists of: each file is a link to one with another name."""
    for number, path in enumerate(path for path in sorted(MINI.rglob("*")) if path.is_file()):
        blob, link = tmp_path / "blobs" / str(number), tmp_path / "mini" / path.relative_to(MINI)
        for folder in (blob.parent, link.parent):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        link.symlink_to(blob)
    photo = small(skimage.data.astronaut(), 24)
    found = load_onnx_mini(tmp_path / "mini", "cpu").upscale_pixels(photo)
    np.testing.assert_array_equal(found, load_onnx_mini(MINI, "cpu").upscale_pixels(photo))


SCARCE = """
import logging, resource, sys
import numpy as np
from tsdsr.pipeline.model_files import resolve_model
from tsdsr.runtimes.onnx_mini import load_onnx_mini

logging.basicConfig()
pipe = load_onnx_mini(resolve_model("mini"), "cpu", 1)
pixels = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
size = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (size * 1024 + 40_000_000,) * 2)
print(pipe.upscale_pixels(pixels, tile=None).shape)
"""


def test_nothing_is_left_beside_the_results(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry would note a session there."""
    code = "import tsdsr; tsdsr.load_pipeline('mini', engine='onnx', threads=1)"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_with_little_memory_tiles_get_smaller() -> None:
    done = subprocess.run([sys.executable, "-c", SCARCE], capture_output=True, text=True)
    assert done.stdout == "(640, 640, 3)\n", done.stderr
    assert "starting again with tiles of" in done.stderr


@pytest.mark.skipif(not multiplies_int8(), reason="this processor has no fast 8-bit arithmetic")
@pytest.mark.parametrize("name", ["astronaut", "coffee", "page"])
def test_eight_bits_change_little(name: str) -> None:
    photo = small(getattr(skimage.data, name)(), 96)
    photo = photo if photo.ndim == 3 else photo[..., None].repeat(3, 2)
    exact, fast = (load_onnx_mini(MINI, "cpu", fast=fast).upscale_pixels(photo) for fast in (False, True))
    assert 45 < psnr(exact, fast) < 70


@pytest.mark.skipif(not multiplies_int8(), reason="this processor has no fast 8-bit arithmetic")
def test_flat_colours_stay_flat_in_eight_bits() -> None:
    pipe = load_onnx_mini(MINI, "cpu", fast=True)
    for colour in ((0, 0, 0), (255, 255, 255), (255, 0, 0), (128, 128, 128), (51, 102, 204)):
        flat = np.broadcast_to(np.array(colour, np.uint8), (24, 24, 3))
        assert np.abs(pipe.upscale_pixels(flat).astype(int) - np.array(colour)).max() <= 1


def test_where_eight_bits_are_impossible(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_mini, "multiplies_int8", lambda: True)
    with pytest.raises(InvalidInputError, match=r"runs on the CPU.*provider 'cuda'"):
        load_onnx_mini(copy, "cuda", fast=True)
    (copy / MINI_FAST_GRAPH).unlink()
    with pytest.raises(InvalidInputError, match=r"has no 8-bit graph; leave out 'fast', or run 'tsdsr graph .* --int8"):
        load_onnx_mini(copy, fast=True)
    monkeypatch.setattr(onnx_mini, "multiplies_int8", lambda: False)
    with pytest.raises(InvalidInputError, match=r"no fast 8-bit arithmetic \(VNNI\)"):
        load_onnx_mini(MINI, fast=True)


def test_a_masked_array_counts_by_its_values() -> None:
    pixels = small(skimage.data.astronaut(), 24)
    pipe = load_onnx_mini(MINI, "cpu")
    masked = np.ma.masked_array(pixels, mask=pixels > 100)
    np.testing.assert_array_equal(pipe.upscale_pixels(masked), pipe.upscale_pixels(pixels))
    np.testing.assert_array_equal(pipe(masked).images[0], pipe(pixels).images[0])
