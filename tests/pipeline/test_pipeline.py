from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from tests.conftest import as_batch, mini_prompt, randomise
from tsdsr.errors import InvalidInputError, TSDSRError
from tsdsr.images.reading import read_picture
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.models.mini import MiniUNet
from tsdsr.models.zoo import MINI, get_spec
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.options import RestoreKeywords, RestoreOptions
from tsdsr.resize import upsample_bicubic

PIPES = ["mini_pipe", "sd3_pipe", "sd21_pipe", "flux2_pipe"]


@pytest.fixture(params=PIPES)
def pipe(request: pytest.FixtureRequest) -> OneStepSRPipeline:
    return request.getfixturevalue(request.param)


def small(photo: Image.Image, width: int = 24, height: int = 20) -> Image.Image:
    return photo.resize((width, height))


@pytest.mark.parametrize("scale", [1, 1.5, 2, 3.3, 4, 8])
def test_any_scale_from_one_to_eight(pipe: OneStepSRPipeline, photo: Image.Image, scale: float) -> None:
    result = pipe(small(photo), scale=scale).images
    assert [im.size for im in result] == [(round(24 * scale), round(20 * scale))]


def test_a_target_size_is_met_to_the_pixel(pipe: OneStepSRPipeline, photo: Image.Image) -> None:
    for fit in ("cover", "stretch"):
        assert pipe(small(photo), target_size=(101, 67), fit=fit).images[0].size == (101, 67)


def test_kinds_of_input_and_output(mini_pipe: OneStepSRPipeline, photo: Image.Image) -> None:
    tensor = as_batch(small(photo))
    from_pil = mini_pipe(small(photo)).images[0]
    from_tensor = mini_pipe(tensor).images
    assert from_tensor.shape == (1, 3, 80, 96)
    assert torch.equal(mini_pipe(tensor[0]).images, from_tensor)
    assert np.array_equal(np.asarray(from_pil), (from_tensor[0] * 255).round().byte().permute(1, 2, 0).numpy())
    arrays = mini_pipe(tensor, output_type="np").images
    assert np.array_equal(arrays[0], from_tensor[0].permute(1, 2, 0).numpy())
    assert isinstance(mini_pipe(tensor, output_type="pil").images[0], Image.Image)


def test_a_list_may_mix_sizes_and_a_batch_equals_singles(pipe: OneStepSRPipeline, photo: Image.Image) -> None:
    images = [small(photo), small(photo, 16, 32)]
    together = pipe(images).images
    for image, result in zip(images, together, strict=True):
        assert np.array_equal(np.asarray(pipe(image).images[0]), np.asarray(result))
    batch = torch.cat([as_batch(small(photo)), as_batch(small(photo.rotate(90)))])
    singles = torch.cat([pipe(x[None]).images for x in batch])
    torch.testing.assert_close(pipe(batch).images, singles, rtol=0, atol=1e-4)


def test_it_is_deterministic_unless_asked_to_sample(sd3_pipe: OneStepSRPipeline, photo: Image.Image) -> None:
    def run(seed: int | None) -> np.ndarray:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return np.asarray(sd3_pipe(small(photo), generator=generator).images[0])

    assert np.array_equal(run(None), run(None))
    assert np.array_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))
    assert not np.array_equal(run(1), run(None))


def test_saved_and_loaded_it_gives_the_same_picture(
    pipe: OneStepSRPipeline, photo: Image.Image, tmp_path: Path
) -> None:
    pipe.save_pretrained(tmp_path / "model")
    index = json.loads((tmp_path / "model" / "model_index.json").read_text())
    assert index["_class_name"] == "OneStepSRPipeline"
    assert not list((tmp_path / "model").rglob("*.bin"))
    loaded = OneStepSRPipeline.from_pretrained(tmp_path / "model")
    assert loaded.spec is pipe.spec
    before, after = (np.asarray(p(small(photo)).images[0], dtype=int) for p in (pipe, loaded))
    assert np.abs(before - after).max() <= 1  # SD2 divides by alpha = 0.07: rounding may move a value across a step


def test_half_precision_stays_close(pipe: OneStepSRPipeline, photo: Image.Image) -> None:
    exact = pipe(small(photo), output_type="pt").images
    for component in (pipe.denoiser, pipe.vae):
        torch.nn.Module.to(component, torch.bfloat16)
    assert pipe.dtype == torch.bfloat16
    assert (pipe(small(photo), output_type="pt").images - exact).abs().mean() < 0.02


def test_it_moves_as_other_pipelines_do(mini_pipe: OneStepSRPipeline, photo: Image.Image) -> None:
    moved = mini_pipe.to("cpu", torch.float64)
    assert moved.dtype == torch.float64
    assert moved.prompt.conditioning().labels.dtype == torch.int64
    assert moved(small(photo)).images[0].size == (96, 80)


def test_the_untrained_mini_returns_the_bicubic_enlargement(photo: Image.Image) -> None:
    pipe = OneStepSRPipeline(MiniUNet(), MINI.make_autoencoder(), FixedPrompt.from_conditioning(mini_prompt()))
    x = as_batch(small(photo, 23, 21))
    torch.testing.assert_close(pipe(x, scale=3).images, upsample_bicubic(x, (63, 69)), rtol=0, atol=1e-6)


def test_detail_leads_from_faithful_to_the_whole_step(mini_pipe: OneStepSRPipeline, photo: Image.Image) -> None:
    x = [as_batch(small(photo))]

    def result(detail: float) -> torch.Tensor:
        return mini_pipe(0.25 + x[0] / 2, detail=detail, color_fix="none").images

    enlarged = upsample_bicubic(0.25 + x[0] / 2, (80, 96))
    whole = result(1.0)
    assert torch.equal(whole, mini_pipe(0.25 + x[0] / 2, color_fix="none").images)
    for detail in (0.0, 0.5):  # `mini`'s latents are linear in the pixels
        torch.testing.assert_close(result(detail), torch.lerp(enlarged, whole, MINI.strength(detail)))


def test_the_strength_of_a_step() -> None:
    assert get_spec("sd3").strength(0.25) == 0.25  # not calibrated
    assert MINI.strength(1) == 1
    assert 0 < MINI.strength(0) == MINI.faithful_strength < MINI.strength(0.5) < 1


def test_tiles_leave_no_trace_in_mini(mini_pipe: OneStepSRPipeline, photo: Image.Image) -> None:
    """The tiny network sees 22 latent positions to each side, less than a quarter of the overlap: tiling is exact."""
    image = small(photo, 300, 200)
    whole = mini_pipe(image, tile=None, output_type="pt").images
    calls: list[tuple[int, int]] = []
    for batch in (1, 4):
        tiled = mini_pipe(
            image, tile=768, tile_overlap=384, tile_batch=batch, output_type="pt", on_tile=lambda *a: calls.append(a)
        ).images
        torch.testing.assert_close(tiled, whole, rtol=0, atol=2e-5)
    assert calls[-1] == (6, 6)


@pytest.mark.parametrize("name", ["sd3_pipe", "sd21_pipe", "flux2_pipe"])
def test_tiles_bound_what_the_networks_see(request: pytest.FixtureRequest, name: str, photo: Image.Image) -> None:
    pipe: OneStepSRPipeline = request.getfixturevalue(name)
    seen: dict[str, list[int]] = {"denoiser": [], "decoder": []}
    pipe.denoiser.register_forward_pre_hook(
        lambda m, args, kwargs: seen["denoiser"].append(
            (args[0] if args else kwargs["hidden_states"])[0].numel() // m.config["in_channels"]
        ),
        with_kwargs=True,
    )
    pipe.vae.decoder.register_forward_pre_hook(lambda m, args: seen["decoder"].append(args[0][0, 0].numel()))
    assert pipe(small(photo, 150, 100), tile=256).images[0].size == (600, 400)
    assert max(seen["denoiser"]) == (256 // pipe.spec.vae_scale_factor) ** 2
    assert max(seen["decoder"]) == (256 // 8) ** 2
    assert len(seen["denoiser"]) >= 6


def test_small_and_odd_images(pipe: OneStepSRPipeline) -> None:
    for width, height in ((1, 1), (3, 50), (17, 2)):
        assert pipe(Image.new("RGB", (width, height), "teal")).images[0].size == (4 * width, 4 * height)


def test_grey_and_16_bit_images_are_scaled_not_clipped(mini_pipe: OneStepSRPipeline) -> None:
    ramp = np.linspace(0, 65535, 24 * 20).reshape(20, 24).astype(np.uint16)
    expected = mini_pipe(torch.from_numpy(ramp / 65535).float().expand(1, 3, 20, 24)).images
    result = mini_pipe(Image.fromarray(ramp), output_type="pt").images
    torch.testing.assert_close(result.mean(1), expected.mean(1), rtol=0, atol=1e-5)
    assert mini_pipe(Image.new("L", (8, 8))).images[0].mode == "RGB"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_come_back_as_floats(mini_pipe: OneStepSRPipeline, dtype: Any, channels: int) -> None:
    most = 1 if dtype is np.float32 else np.iinfo(dtype).max
    array = (np.random.default_rng(0).random((20, 24, channels)) * most).astype(dtype)
    (result,) = mini_pipe(array, 2).images
    assert (result.dtype, result.shape) == (np.float32, (40, 48, 3))
    assert 0 <= result.min() < 0.5 < result.max() <= 1
    x = torch.from_numpy((array / most).astype(np.float32)).permute(2, 0, 1).expand(3, -1, -1)
    expected = mini_pipe(x, 2, output_type="np").images[0]
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)
    both = mini_pipe([array, array[:10]], 2).images
    assert [a.shape for a in both] == [(40, 48, 3), (20, 48, 3)]
    assert np.array_equal(both[0], result)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_does_not_lie_on_its_side(
    mini_pipe: OneStepSRPipeline, photo: Image.Image, tmp_path: Path, orientation: int
) -> None:
    """As a phone stores it: the pixels as the sensor lay, and a tag that says how to turn them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    small(photo).save(tmp_path / "phone.png", exif=exif)
    with Image.open(tmp_path / "phone.png") as image:
        result = mini_pipe(image, 2).images[0]
    upright = read_picture(tmp_path / "phone.png").pixels
    assert result.size == ((48, 40) if orientation < 5 else (40, 48))
    assert np.array_equal(np.asarray(result), np.asarray(mini_pipe(Image.fromarray(upright), 2).images[0]))


def test_tensors_stay_on_the_device(mini_pipe: OneStepSRPipeline) -> None:
    x = torch.rand(2, 3, 20, 24)
    assert torch.equal(mini_pipe.upscale(x, 2, detail=0.5), mini_pipe(x, 2, detail=0.5).images)
    assert mini_pipe.upscale(x, target_size=(60, 50), fit="stretch").shape == (2, 3, 50, 60)


def test_every_way_in_takes_the_same_options() -> None:
    fields = {field.name for field in dataclasses.fields(RestoreOptions)}
    assert fields == {"scale", *RestoreKeywords.__annotations__}
    own = {"self", "image", "generator", "output_type", "on_tile"}
    assert fields == set(inspect.signature(OneStepSRPipeline.__call__).parameters) - own


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("photo.png", "got str"),
        ([], "got list"),
        (torch.zeros(1, 4, 8, 8), "shape"),
        (torch.zeros(8, 8), "shape"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "uint8"),
        (torch.full((1, 3, 8, 8), 255.0), "255"),
        (torch.full((1, 3, 8, 8), float("nan")), "nan"),
        ([Image.new("RGB", (8, 8)), torch.zeros(1, 3, 8, 8)], "only"),
        (Image.new("F", (8, 8)), "floating-point"),
    ],
)
def test_unusable_images_are_refused(mini_pipe: OneStepSRPipeline, image: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        mini_pipe(image)


def test_an_unknown_kind_of_result_is_refused(mini_pipe: OneStepSRPipeline) -> None:
    with pytest.raises(InvalidInputError, match="output_type"):
        mini_pipe(Image.new("RGB", (8, 8)), output_type="jpeg")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("scale", 9, "scale must lie between 1 and 8, got 9"),
        ("scale", float("nan"), "scale must lie between 1 and 8"),
        ("scale", "4", "scale must lie between 1 and 8, got '4'"),
        ("scale", None, "scale must lie between 1 and 8, got None"),
        ("target_size", (0, 10), "target_size is width and height"),
        ("target_size", (20.5, 10.0), "target_size is width and height"),
        ("target_size", 20, "target_size is width and height"),
        ("target_size", "20x10", "target_size is width and height"),
        ("fit", "crop", "unknown fit 'crop'; choose from contain, cover, stretch"),
        ("fit", ["cover"], "unknown fit"),
        ("color_fix", "sepia", "unknown color_fix 'sepia'"),
        ("detail", 1.5, r"detail must lie in \[0, 1\]"),
        ("detail", "0.5", r"detail must lie in \[0, 1\]"),
        ("tile", 5, "tile must be at least 64 pixels, got 5"),
        ("tile", 2.5, "tile must be"),
        ("tile_overlap", -1, "tile_overlap must be at least 0"),
        ("tile_batch", 0, "tile_batch must be at least 1"),
    ],
)
def test_options_are_checked_without_a_model(
    mini_pipe: OneStepSRPipeline, option: str, value: object, message: str
) -> None:
    image = Image.new("RGB", (8, 8))
    calls: list[Callable[..., object]] = [
        RestoreOptions,
        partial(mini_pipe, image),
        partial(mini_pipe.upscale_pixels, np.asarray(image)),
        partial(mini_pipe.upscale, torch.zeros(1, 3, 8, 8)),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError, match=message):
            call(**{option: value})


def test_values_that_are_not_finite_are_an_error(mini_pipe: OneStepSRPipeline) -> None:
    randomise(mini_pipe.denoiser.conv_out, std=float("inf"))
    with pytest.raises(TSDSRError, match="not finite"):
        mini_pipe(Image.new("RGB", (8, 8)))


def test_grey_stays_grey_and_is_what_rgb_would_be(mini_pipe: OneStepSRPipeline) -> None:
    grey = skimage.data.camera()[:32, :32, None]
    result = mini_pipe.upscale_pixels(grey, 2.0)
    colour = mini_pipe.upscale_pixels(grey.repeat(3, 2), 2.0)
    assert result.shape == (64, 64, 1)
    assert np.abs(colour.mean(-1) - result[..., 0]).max() <= 1


def test_eight_bits_equal_the_pipeline_on_images(mini_pipe: OneStepSRPipeline) -> None:
    pixels = skimage.data.astronaut()[:32, :40]
    expected = np.asarray(mini_pipe(Image.fromarray(pixels), 2.0).images[0])
    assert np.array_equal(mini_pipe.upscale_pixels(pixels, 2.0), expected)
    target = mini_pipe.upscale_pixels(
        pixels, target_size=(50, 48), fit="cover", generator=torch.Generator().manual_seed(0)
    )
    assert target.shape == (48, 50, 3)
