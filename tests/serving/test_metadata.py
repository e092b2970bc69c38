"""What files keep is kept through the server too, with mini: EXIF, colour profile, transparency, 16 bits."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms

from tests.serving.conftest import ADDRESS, TestClient, opened
from tsdsr import load_pipeline
from tsdsr.serving.app import create_app
from tsdsr.serving.settings import ServeSettings


@pytest.fixture
def mini(tmp_path: Path) -> TestClient:
    pipe = load_pipeline("mini", engine="onnx", threads=1)
    return TestClient(create_app(pipe, ServeSettings(folder=tmp_path)), ADDRESS)


def test_metadata_transparency_and_16_bits_are_kept(mini: TestClient) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[ExifTags.Base.Artist], exif[ExifTags.Base.Orientation] = "Somebody", 6
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 4), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", exif=exif, icc_profile=profile)
    deep = io.BytesIO()
    tifffile.imwrite(deep, (pixels[..., :3].astype(np.uint16) << 8) + 7, photometric="rgb")
    with mini as client:
        first = client.post("/v1/upscale?scale=2", files={"image": ("a.png", file.getvalue())})
        second = client.post("/v1/upscale?scale=2", files={"image": ("a.tif", deep.getvalue())})
        (model,) = client.get("/v1/models").json()
    assert (model["engine"], model["provider"]) == ("onnx", "cpu")
    image = opened(first.content)
    assert (image.format, image.mode, image.size) == ("PNG", "RGBA", (32, 48))  # upright
    assert image.info["icc_profile"] == profile
    assert image.getexif()[ExifTags.Base.Artist] == "Somebody"
    assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    assert second.headers["content-type"] == "image/tiff"
    assert second.headers["content-disposition"] == 'attachment; filename="a.tif"'
    result = tifffile.imread(io.BytesIO(second.content))
    assert (result.dtype, result.shape) == (np.uint16, (32, 48, 3))
    assert len(np.unique(result & 255)) > 50
