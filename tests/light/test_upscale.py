"""``tsdsr upscale`` with `mini`: every kind of file of the core, folders, pipes, options."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from tests.cli.command import run
from tests.images.colored import iccp, write_png
from tsdsr.images.reading import read_picture
from tsdsr.processor import multiplies_int8

Write = Callable[[Path, np.ndarray], None]
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def deep(photo: np.ndarray) -> np.ndarray:
    return photo.astype(np.uint16) * 257 + 3


def with_alpha(photo: np.ndarray) -> np.ndarray:
    alpha = np.tile(np.linspace(0, 255, photo.shape[1]).astype(np.uint8), (photo.shape[0], 1))
    return np.dstack((photo, alpha))


def pil(mode: str, **options: object) -> Write:
    return lambda path, photo: Image.fromarray(photo).convert(mode).save(path, **options)


KINDS: dict[str, tuple[str, Write, tuple[int, int, bool]]] = {
    "PNG": (".png", pil("RGB"), (3, 8, False)),
    "PNG with alpha": (".png", lambda path, photo: Image.fromarray(with_alpha(photo)).save(path), (3, 8, True)),
    "grey PNG": (".png", pil("L"), (1, 8, False)),
    "PNG of 16 bits": (".png", lambda path, photo: write_png(path, deep(photo)), (3, 16, False)),
    "grey PNG of 16 bits": (".png", lambda path, photo: write_png(path, deep(photo)[..., :1]), (1, 16, False)),
    "PNG with a profile": (".png", lambda path, photo: write_png(path, photo, iccp(PROFILE)), (3, 8, False)),
    "palette": (".png", pil("P"), (3, 8, False)),
    "JPEG": (".jpg", pil("RGB", quality=95, icc_profile=PROFILE), (3, 8, False)),
    "grey JPEG": (".jpg", pil("L", quality=95), (1, 8, False)),
    "WebP": (".webp", pil("RGB", lossless=True), (3, 8, False)),
    "WebP with alpha": (
        ".webp",
        lambda f, photo: Image.fromarray(with_alpha(photo)).save(f, lossless=True),
        (3, 8, True),
    ),
    "TIFF": (".tif", pil("RGB"), (3, 8, False)),
    "TIFF of 16 bits": (".tif", lambda path, photo: tifffile.imwrite(path, deep(photo)), (3, 16, False)),
    "BMP": (".bmp", pil("RGB"), (3, 8, False)),
    "AVIF": (".avif", pil("RGB", quality=95), (3, 8, False)),
}
"""Kind of file → suffix, how to write it, and (channels without alpha, bits, alpha) of the result."""


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file(kind: str, photo: np.ndarray, tmp_path: Path) -> None:
    suffix, write, (channels, bits, alpha) = KINDS[kind]
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write(source, photo)
    code, output = run("upscale", source, "-o", target, "--scale", 2)
    assert code == 0, output
    before, after = read_picture(source), read_picture(target)
    assert after.pixels.shape == (96, 128, channels)
    assert (after.max_value, after.alpha is not None) == (2**bits - 1, alpha)
    assert after.metadata.icc == before.metadata.icc
    reduced = np.asarray(after.pixels, np.float64).reshape(48, 2, 64, 2, channels).mean((1, 3))
    opaque = slice(None) if before.alpha is None else slice(40, None)
    error = (reduced - before.pixels)[:, opaque] / after.max_value
    assert 10 * np.log10(1 / np.square(error).mean()) > 24  # the same photograph, sharper


def test_the_orientation_of_exif_is_applied(photo: np.ndarray, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = 6, "A maker"
    Image.fromarray(photo).save(tmp_path / "a.jpg", exif=tags)
    code, output = run("upscale", tmp_path / "a.jpg", "-o", tmp_path / "b.jpg", "--scale", 1.5)
    assert code == 0, output
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.size == (72, 96)
        assert image.getexif().get(0x0112, 1) == 1
        assert image.getexif()[0x010F] == "A maker"


def test_a_pipe(photo: np.ndarray) -> None:
    source = BytesIO()
    Image.fromarray(photo).save(source, "PNG")
    command = [sys.executable, "-m", "tsdsr", "upscale", "-", "-o", "-", "--format", "webp"]
    made = subprocess.run(command, input=source.getvalue(), capture_output=True, check=True)
    with Image.open(BytesIO(made.stdout)) as image:
        assert (image.format, image.size) == ("WEBP", (256, 192))
    assert made.stderr.startswith(b"1 upscaled")


def test_a_folder_with_a_broken_file(photo: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "photos" / "more"
    folder.mkdir(parents=True)
    Image.fromarray(photo).save(folder / "a.png")
    Image.fromarray(photo).save(folder.parent / "b.jpg")
    (folder.parent / "broken.png").write_bytes(b"x")
    arguments = ("upscale", folder.parent, "-o", tmp_path / "out", "--scale", 1)
    code, output = run(*arguments)
    assert (code, "2 upscaled, 0 skipped (already there), 1 failed" in output) == (1, True), output
    assert sorted(p.name for p in (tmp_path / "out").rglob("[!.]*.*")) == ["a.png", "b.jpg"]
    code, output = run(*arguments)
    assert "0 upscaled, 2 skipped (already there), 1 failed" in output


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ("--target 100x100 --fit contain", (100, 75)),
        ("--target 100\u00d7100 --fit cover", (100, 100)),
        ("--target 90x100 --fit stretch --color-fix none", (90, 100)),
        ("--scale 1.5 --detail 0.3 --color-fix adain", (96, 72)),
        ("--scale 3 --tile 128 --tile-batch 2", (192, 144)),
        ("--scale 2 --tile off --engine onnx --provider cpu", (128, 96)),
        ("--scale 2 --icc srgb --device cpu --dtype fp32 --seed 3", (128, 96)),
    ],
)
def test_options(options: str, size: tuple[int, int], photo: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    code, output = run("upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", *options.split())
    assert code == 0, output
    with Image.open(tmp_path / "b.png") as image:
        assert image.size == size


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--compile", "--compile"),
        ("--dtype bf16", "mini in bf16"),
        ("--dtype fp16", "mini in fp16"),
        ("--engine torch", "mini in torch"),
        ("--device cuda", "mini on the device 'cuda'"),
        ("--device mps", "mini on the device 'mps'"),
        ("--preset upstream", "--preset upstream"),
    ],
)
def test_an_option_that_needs_torch_says_so(options: str, named: str, photo: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    code, output = run("upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", *options.split())
    assert (code, output.count("\n")) == (2, 1)
    assert f"error: {named} needs PyTorch: run pip install '.[torch]' in the folder of tsdsr" in output


@pytest.mark.parametrize(("options", "extra"), [("--quantize int8", "quantize"), ("--engine openvino", "openvino")])
def test_an_option_names_its_own_extra(
    options: str, extra: str, photo: np.ndarray, tmp_path: Path, tried_imports: list[str]
) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    code, output = run("upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", *options.split())
    assert (code, output.count("\n")) == (2, 1)
    assert f"run pip install '.[{extra}]' in the folder of tsdsr" in output
    assert set(tried_imports) <= {extra}
    tried_imports.clear()


@pytest.mark.parametrize("options", ["--compile --engine onnx", "--quantize int8 --provider cpu", "--compile --fast"])
def test_options_of_different_engines_are_refused(options: str, photo: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    code, output = run("upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", *options.split())
    assert code == 2
    assert "needs PyTorch as the engine; leave out --" in output


def test_a_provider_that_is_not_there_is_refused(photo: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    code, output = run("upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", "--provider", "coreml")
    assert code == 2
    assert "provider 'coreml' cannot be used by ONNX Runtime here" in output


def test_fast_is_8_bit_arithmetic_where_the_processor_has_it(photo: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    run("upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", "--engine", "onnx")
    code, output = run("upscale", tmp_path / "a.png", "-o", tmp_path / "c.png", "--fast")
    if not multiplies_int8():
        assert (code, "leave out 'fast'" in output) == (2, True)
        return
    assert code == 0, output
    plain, fast = (read_picture(tmp_path / name).pixels.astype(float) for name in ("b.png", "c.png"))
    assert 0 < np.square(plain - fast).mean() < 255**2 / 10**4.5  # 45 dB
    code, output = run("upscale", tmp_path / "a.png", "-o", tmp_path / "c.png")
    assert "c.png was made with other settings (fast or quantize)" in output
    assert code == 1  # the plain result is another one


@pytest.mark.parametrize("options", ["--fast --engine torch", "--fast --engine openvino"])
def test_fast_is_for_onnx_runtime(options: str, photo: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    code, output = run("upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", *options.split())
    assert (code, "'fast' is for mini in ONNX Runtime" in output) == (2, True)
