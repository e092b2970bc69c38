"""How close results come to the pictures that the released code made with a tiny SD3 (tests/reference), ×4, in float32.

    python benchmarks/released_pictures.py            # --preset upstream
    python benchmarks/released_pictures.py --fold     # the same with a folded network

Compares the stored windows of each picture. How many values differ depends on the machine and the version of torch.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tsdsr.optimize.fold import fold
from tsdsr.pipeline.convert import convert_released, save_pipeline
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.upstream import upscale_like_upstream

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.conftest import complete_reference, reference_windows

PICTURES = {"128x128": "sq128", "101x77": "small101x77", "210x150, tiled": "big210x150"}
FOLDERS = {"none": "nofix", "adain": "adain", "wavelet": "wavelet"}


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fold", action="store_true")
    given = parser.parse_args()
    print("| picture | colour fix | largest difference | within one level, % | identical, % |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        reference = complete_reference(Path(work) / "reference")
        tiny, folder = reference / "tiny_sd3", Path(work) / "pipeline"
        pipe = convert_released(tiny, tiny / "lora", tiny / "emb")
        if given.fold:
            fold(pipe)
        save_pipeline(pipe, folder, torch.float32)
        pipe = load_diffusers_pipeline(folder, "cpu", "fp32")
        for title, name in PICTURES.items():
            source = Image.open(reference / "inference" / "inputs" / f"{name}.png")
            for method, sub in FOLDERS.items():
                expected = np.asarray(Image.open(reference / "inference" / sub / f"{name}.png"), dtype=int)
                error = np.abs(reference_windows(upscale_like_upstream(pipe, source, 4, method)) - expected)
                within, same = 100 * (error <= 1).mean(), 100 * (error == 0).mean()
                print(f"| {title} | {method} | {error.max()} | {within:.3f} | {same:.3f} |")


if __name__ == "__main__":
    main()
