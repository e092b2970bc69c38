"""The static page in a real browser: its results are Python's, files keep what they had, it works offline."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tsdsr
from tests.web.conftest import Host, Open
from tsdsr.images.color_spaces import ADOBE_RGB
from tsdsr.images.icc import to_srgb
from tsdsr.images.picture import Metadata, Picture
from tsdsr.images.transparency import enlarge_alpha, fill_transparent

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "astronaut_lq.png"
ONE_THREAD = "?wasm&threads=1"  # several wait for each other in loops, and the processor has other tests
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def pipe() -> tsdsr.SRPipeline:
    return tsdsr.load_pipeline("mini", engine="onnx")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.asarray(Image.open(EXAMPLE).convert("RGB"))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def add(page: Any, content: bytes, name: str = "photo.png") -> None:
    kinds = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
    page.set_input_files("#files", {"name": name, "mimeType": kinds[name.split(".")[-1]], "buffer": content})


def choose(page: Any, **values: str) -> None:
    """Fill in fields of the form of settings; those of the folded part become visible first."""
    page.locator("#more").evaluate("element => { element.open = true }")
    for name, value in values.items():
        field = page.locator(f"#settings [name={name}]")
        if field.evaluate("element => element.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
            field.blur()


def result(page: Any) -> Any:
    """Enlarge what was added, and return the last one as it is downloaded."""
    page.click("#start")
    link = page.locator("#pictures > li:last-child[data-state=done] a.download")
    link.wait_for(timeout=120_000)
    with page.expect_download() as download:
        link.click()
    image = Image.open(download.value.path())
    image.load()
    return image


def difference(image: Image.Image, expected: np.ndarray) -> int:
    found = np.asarray(image)
    assert found.shape == expected.shape
    return int(np.abs(found.astype(int) - expected.astype(int)).max())


def test_the_result_is_that_of_python(opened: Open, pipe: tsdsr.SRPipeline, photo: np.ndarray) -> None:
    page = opened(ONE_THREAD)
    assert page.evaluate("crossOriginIsolated")  # by the service worker: this host sets no headers
    add(page, encoded(Image.fromarray(photo)))
    assert difference(result(page), pipe.upscale_pixels(photo, 4.0)) <= 1


def test_tiles_are_those_of_python(opened: Open, pipe: tsdsr.SRPipeline, photo: np.ndarray) -> None:
    page = opened("?wasm&threads=1&tile=192")
    wide, tall = photo[:60, :90], photo[:90, :60]
    for part, detail, color_fix in ((wide, 40, "adain"), (tall, 100, "wavelet")):
        add(page, encoded(Image.fromarray(part)))
        choose(page, scale="3.3", detail=str(detail), color_fix=color_fix)
        expected = pipe.upscale_pixels(part, 3.3, detail=detail / 100, color_fix=color_fix, tile=192)
        assert difference(result(page), expected) <= 1


def test_grey_and_transparent_pictures_are_those_of_python(
    opened: Open, pipe: tsdsr.SRPipeline, photo: np.ndarray
) -> None:
    page = opened(ONE_THREAD)
    choose(page, scale="2")
    grey = np.asarray(Image.fromarray(photo[:50, :40]).convert("L"))
    add(page, encoded(Image.fromarray(grey)), "grey.png")
    assert difference(result(page), pipe.upscale_pixels(grey[..., None], 2.0)[..., 0]) == 0
    y, x = np.mgrid[:60, :50]
    alpha = (255 - np.hypot(y - 30, x - 25) * 12 + 128).clip(0, 255).astype(np.uint8)
    colours = photo[:60, :50]
    add(page, encoded(Image.fromarray(np.dstack([colours, alpha]))), "logo.png")
    enlarged = pipe.upscale_pixels(fill_transparent(colours, alpha), 2.0)
    assert difference(result(page), np.dstack([enlarged, enlarge_alpha(alpha, (120, 100))])) <= 1


def test_a_photograph_becomes_upright_and_keeps_its_metadata(
    opened: Open, pipe: tsdsr.SRPipeline, photo: np.ndarray
) -> None:
    page, part = opened(ONE_THREAD), Image.fromarray(photo[:40, :60])
    exif, profile = Image.Exif(), ADOBE_RGB.profile()
    exif[0x0112], exif[0x010E] = 6, "A launch"
    content = encoded(part, "JPEG", quality=95, exif=exif, icc_profile=profile)
    choose(page, scale="2")
    for format in ("jpg", "webp", "png"):
        choose(page, format=format)
        add(page, content, "launch.jpg")
        image = result(page)
        assert (image.format, image.size) == (format.upper().replace("JPG", "JPEG"), (80, 120))
        assert (image.getexif()[0x0112], image.getexif()[0x010E]) == (1, "A launch")
        assert image.info["icc_profile"] == profile
    upright = np.asarray(Image.open(io.BytesIO(content)).rotate(-90, expand=True))
    assert difference(image, pipe.upscale_pixels(upright, 2.0)) <= 1  # the browser decodes as Pillow does
    choose(page, icc="srgb")
    add(page, content, "launch.jpg")
    image = result(page)
    assert "icc_profile" not in image.info
    converted = to_srgb(Picture(upright, metadata=Metadata(icc=profile))).pixels
    assert difference(image, pipe.upscale_pixels(converted, 2.0)) <= 3  # two libraries for colours


def test_a_host_is_not_needed_after_the_first_visit(opened: Open, host: Host, photo: np.ndarray) -> None:
    page = opened("?wasm&threads=2")
    host.shutdown()
    host.socket.close()
    page.reload()
    page.locator("#model", has_text="mini ·").wait_for()
    choose(page, scale="2", format="webp")
    for name in ("a.png", "b.png"):
        add(page, encoded(Image.fromarray(photo[:24, :24])), name)
    assert result(page).format == "WEBP"
    page.locator("#pictures > li[data-state=done]").nth(1).wait_for()
    with page.expect_download() as download:
        page.click("#zip")
    with zipfile.ZipFile(download.value.path()) as packed:
        assert sorted(packed.namelist()) == ["a.webp", "b.webp"]
        assert packed.testzip() is None


def test_cancelled_at_a_tile_and_errors_say_what_to_do(opened: Open, photo: np.ndarray) -> None:
    page = opened("?wasm&threads=1&tile=64")
    add(page, encoded(Image.fromarray(photo)), "long.png")
    choose(page, scale="8")
    page.click("#start")
    row = page.locator("#pictures > li")
    row.locator(".status", has_text=re.compile("Tile (?!1 )")).wait_for()
    row.locator("button.cancel").click()
    row.locator(".status", has_text="Cancelled").wait_for()
    add(page, b"not a picture", "broken.png")
    choose(page, scale="2")
    page.click("#start")
    page.locator("#pictures > li[data-state=failed] .status", has_text="cannot be read as a picture").wait_for()


def test_on_a_phone_nobody_is_left_out(opened: Open, photo: np.ndarray) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = opened(ONE_THREAD, bypass_csp=True, **PHONE)  # axe is put into the page as a script

    def check() -> None:
        found = axe.Axe().run(page).response["violations"]
        assert [violation["id"] for violation in found] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    check()
    add(page, encoded(Image.fromarray(photo[:32, :32])))
    page.locator("#pictures > li").wait_for()
    page.emulate_media(color_scheme="dark")
    check()
