"""Create the pictures of the tutorials, and the old photograph of docs/tutorials/restore-a-photograph.md.

    python examples/make_tutorial_pictures.py

scikit-image's photographer (CC0, by Lav Varshney) is toned and degraded to a small scan with a fixed seed. The packaged
`mini` restores it as a reader of the tutorial does. The sheet of docs/tutorials/publish-a-comparison.md comes from the
commands of that page, on photographs of scikit-image (CC0 and public domain).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from tsdsr import load_pipeline
from tsdsr.data.first_order import FirstOrderDegradation
from tsdsr.pixels import to_tensor, to_uint8

ROOT = Path(__file__).resolve().parents[1]
SCAN = ROOT / "examples" / "old_photo.jpg"
IMAGES = ROOT / "docs" / "images"
DEGRADATION = FirstOrderDegradation(
    blur_prob=1, blur_sigma=(1.2, 1.8), noise_prob=1, noise_sigma=(3, 5), jpeg_prob=1, jpeg_quality=(75, 85)
)
PERSON = (0, 60, 600, 620)
"""What the tutorial shows of the restored photograph, in its pixels; and below, where detail is most visible."""
FACE = (190, 90, 510, 330)
COMPARED = ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "rocket")


def main() -> None:
    scan = DEGRADATION(to_tensor(toned(skimage.data.camera())), (192, 192), np.random.default_rng(0))
    Image.fromarray(to_uint8(scan)).save(SCAN, quality=92, subsampling=0, optimize=True)
    pipe = load_pipeline("mini", engine="onnx")
    with Image.open(SCAN) as photo:
        before = photo.resize((768, 768), Image.Resampling.BICUBIC)
        restored, calm = (pipe(photo, scale=4, detail=detail).images[0] for detail in (1.0, 0.3))
    side_by_side(before.crop(PERSON), restored.crop(PERSON)).save(IMAGES / "old-photo.webp", quality=82, method=6)
    pair = side_by_side(restored.crop(FACE), calm.crop(FACE))
    pair.save(IMAGES / "old-photo-detail.webp", quality=82, method=6)
    with tempfile.TemporaryDirectory() as folder, Image.open(blind_sheet(Path(folder))) as sheet:
        sheet.save(IMAGES / "blind-sheet.webp", quality=75, method=6)


def blind_sheet(folder: Path) -> Path:
    """Make the second sheet of docs/tutorials/publish-a-comparison.md in a folder."""
    (folder / "originals").mkdir()
    for name in COMPARED:
        photograph = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        photograph.save(folder / "originals" / f"{name}.png")
    for command in (
        "data degrade originals -o test --crop 256",
        "compare mini bicubic --lr test/lr --gt test/hr -o compared --metrics psnr --dtype fp32 --runs 0",
        "study sheets sheets mini=compared/mini bicubic=compared/bicubic --lr test/lr --gt test/hr --key key.json"
        " --seed 1",
    ):
        subprocess.run([sys.executable, "-m", "tsdsr", *command.split()], cwd=folder, check=True)
    return folder / "sheets" / "sheet-02.png"


def toned(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a grey photograph (H, W) in the brown of old prints, (H, W, 3)."""
    light = grey[..., None] / 255
    brown = light ** np.array([0.85, 1.0, 1.25]) * [245, 232, 205] + [8, 6, 10]
    return brown.clip(0, 255).astype(np.uint8)


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Return two pictures of equal size beside each other on white."""
    sheet = Image.new("RGB", (left.width + 8 + right.width, left.height), "white")
    sheet.paste(left, (0, 0))
    sheet.paste(right, (left.width + 8, 0))
    return sheet


if __name__ == "__main__":
    main()
