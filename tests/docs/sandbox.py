"""The reader's folder: the files and models that the pages of the documentation name.

Pictures have few pixels and models few weights, so that every command takes a moment.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import skimage.data
import tifffile
from PIL import Image

from tests.conftest import REFERENCE, complete_reference, tiny_mini
from tests.docs.pages import ROOT
from tests.models.base_models import write_klein, write_sd3
from tests.models.text_models import write_blip
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.models.zoo import MINI

SIZE = (48, 36)
"""Width and height of most photographs."""

CHECKOUT = ("benchmarks", "examples", "integrations", "src", "compose.yaml", "Dockerfile", "pyproject.toml")
"""Files of the repository, for commands that are typed in a clone."""


def photograph(name: str, size: tuple[int, int] = SIZE) -> Image.Image:
    """Return one of scikit-image's photographs, made small."""
    return Image.fromarray(getattr(skimage.data, name)()).convert("RGB").resize(size)


def write_photo(path: Path) -> None:
    """Write a JPEG as cameras do, with EXIF."""
    exif = Image.Exif()
    exif[0x0110] = "Camera"
    photograph("astronaut").save(path, quality=90, exif=exif)


def write_scan(path: Path) -> None:
    """Write a TIFF with 16 bits a channel."""
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, np.asarray(photograph("coffee")).astype(np.uint16) * 257, photometric="rgb")


def write_logo(path: Path) -> None:
    """Write a PNG with transparency."""
    logo = photograph("chelsea", (32, 32)).convert("RGBA")
    logo.putalpha(Image.radial_gradient("L").resize(logo.size))
    logo.save(path)


def write_film(path: Path) -> None:
    """Write eight frames with sound."""
    from tests.video.clips import write_clip

    write_clip(path, sounds=["aac"], size=SIZE[::-1])


def write_photos(folder: Path, size: tuple[int, int] = (72, 64)) -> None:
    """Write a folder of photographs, one of them in a folder of its own."""
    (folder / "more").mkdir(parents=True)
    for name, path in {"astronaut": "a.jpg", "coffee": "b.jpg", "chelsea": "c.png", "rocket": "more/d.jpg"}.items():
        photograph(name, size).save(folder / path)


def write_scans(folder: Path) -> None:
    """Write a folder of scanned pictures."""
    for name in ("1.tif", "2.tif"):
        write_scan(folder / name)


def write_frames(folder: Path) -> None:
    """Write the frames of a film."""
    from tests.video.clips import picture

    folder.mkdir()
    for number in range(3):
        Image.fromarray(picture(number, *SIZE[::-1])).save(folder / f"{number:04d}.png")


def write_test_set(folder: Path, edge: int) -> None:
    """Write the photographs of a test set, square."""
    folder.mkdir()
    for name in ("astronaut", "coffee", "chelsea"):
        photograph(name, (edge, edge)).save(folder / f"{name}.png")


def write_sd3_of_lora(folder: Path) -> None:
    """Write the base model that the released code's tiny LoRA belongs to."""
    with tempfile.TemporaryDirectory() as place:
        shutil.move(complete_reference(Path(place) / "reference") / "tiny_sd3", folder)


def write_mini(folder: Path) -> None:
    """Write a pipeline of the kind of `mini`."""
    import torch

    from tsdsr.pipeline.convert import save_pipeline
    from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline

    torch.manual_seed(0)
    prompt = FixedPrompt.from_conditioning(Conditioning(labels=torch.zeros(1, dtype=torch.int64)))
    save_pipeline(OneStepSRPipeline(tiny_mini(), MINI.make_autoencoder(), prompt), folder)


def write_comfyui(folder: Path) -> None:
    """Write the folders of ComfyUI that extensions and models go into."""
    (folder / "custom_nodes").mkdir(parents=True)
    (folder / "models" / "upscale_models").mkdir(parents=True)


WRITERS: dict[str, Callable[[Path], object]] = {
    "photo.jpg": write_photo,
    "scan.tif": write_scan,
    "logo.png": write_logo,
    "film.mp4": write_film,
    "photos": write_photos,
    "kept": write_photos,
    "scans": write_scans,
    "frames": write_frames,
    "test_LR": lambda folder: write_test_set(folder, 16),
    "test_HR": lambda folder: write_test_set(folder, 64),
    "PHOTOS": write_photos,
    "PICTURES": write_photos,
    "FFHQ": write_photos,
    "SD3": write_sd3,
    "SD3_OF_LORA": write_sd3_of_lora,
    "LORA": lambda folder: shutil.copytree(REFERENCE / "tiny_sd3" / "lora", folder),
    "EMBEDDINGS": lambda folder: shutil.copytree(REFERENCE / "tiny_sd3" / "emb", folder),
    "KLEIN": write_klein,
    "MODEL_FOLDER": write_mini,
    "MODEL": write_mini,
    "ComfyUI": write_comfyui,
    "PIPELINE": write_mini,
    "tiny-mini": write_mini,
    "Salesforce/blip-image-captioning-large": write_blip,
}
"""What the reader has, by name. Names in capitals stand for names of the reader's choice."""


class Sandbox:
    """Makes folders for readers. What a page names is made once, and copied for each page.

    Args:
        store (Path): where everything is made.
    """

    def __init__(self, store: Path) -> None:
        self.store = store

    def prepare(self, folder: Path, text: str) -> None:
        """Put what a page names into a folder, and links to the repository's files."""
        for name in CHECKOUT:
            (folder / name).symlink_to(ROOT / name)
        for name in WRITERS:
            if re.search(rf"(?<![\w/.-]){re.escape(name)}(?![\w-])", text):
                self._copy(name, folder / name)

    def _copy(self, name: str, target: Path) -> None:
        made = self.store / name
        if not made.exists():
            made.parent.mkdir(parents=True, exist_ok=True)
            WRITERS[name](made)
        target.parent.mkdir(parents=True, exist_ok=True)
        if made.is_dir():
            shutil.copytree(made, target)
        else:
            shutil.copy(made, target)
