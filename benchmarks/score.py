"""Upscale a folder of low-resolution images and score the results against the originals with pyiqa.

    pip install pyiqa
    python benchmarks/score.py --lr LR --hr HR -o OUT --model mini

Files are paired by stem after removing the suffixes _LR4 and _HR. PSNR and SSIM are computed on the Y channel, LPIPS
with AlexNet: the settings of the paper's tables. `--model bicubic` scores plain enlargement, `--model none` what
already lies in OUT.
"""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyiqa
import torch
from PIL import Image

from tsdsr import load_pipeline
from tsdsr.pipeline.imageio import FORMATS, write_image
from tsdsr.pipeline.tensors import to_pil, to_tensors
from tsdsr.resize import upsample_bicubic

METRICS = {
    "psnr": {"test_y_channel": True, "color_space": "ycbcr"},
    "ssim": {"test_y_channel": True, "color_space": "ycbcr"},
    "lpips": {},
    "dists": {},
    "niqe": {},
}


def by_stem(folder: Path) -> dict[str, Path]:
    """Stem without the customary suffixes → file."""
    files = (p for p in sorted(folder.iterdir()) if p.suffix.lower() in FORMATS)
    return {p.stem.removesuffix("_LR4").removesuffix("_HR"): p for p in files}


def load(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        return to_tensors(image)[0][0]


def sheet(rows: list[tuple[Path, Path, Path]]) -> torch.Tensor:
    """One row an image: enlarged input, result, original. Originals share one size."""
    lines = []
    for low, result, original in rows:
        x_hq = load(original)
        lines.append(torch.cat([upsample_bicubic(load(low), tuple(x_hq.shape[-2:])), load(result), x_hq], dim=-1))
    return torch.cat(lines, dim=-2)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lr", type=Path, required=True)
    parser.add_argument("--hr", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--color-fix", default="wavelet")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path, help="store bicubic | result | original of every tenth image here")
    args = parser.parse_args()
    lr, hr = by_stem(args.lr), by_stem(args.hr)
    if lr.keys() != hr.keys():
        raise SystemExit(f"unpaired: {sorted(lr.keys() ^ hr.keys())}")
    pipe = None if args.model in ("bicubic", "none") else load_pipeline(args.model)
    if args.model != "none":
        for stem, path in lr.items():
            x = load(path)
            if pipe is None:
                with Image.open(hr[stem]) as image:
                    result = to_pil(upsample_bicubic(x, (image.height, image.width))[0])
            else:
                with Image.open(path) as image:
                    result = pipe(image.convert("RGB"), color_fix=args.color_fix).images[0]
            write_image(result, args.output / f"{stem}.png")
    outputs = by_stem(args.output)
    if args.sheet:
        to_pil(sheet([(lr[s], outputs[s], hr[s]) for s in sorted(hr)[::10]])).save(args.sheet)
    scores: dict[str, dict[str, float]] = {stem: {} for stem in hr}
    for name, options in METRICS.items():
        metric = pyiqa.create_metric(name, device=torch.device("cpu"), **options)
        for stem, path in hr.items():
            inputs = (load(outputs[stem]),) if name == "niqe" else (load(outputs[stem]), load(path))
            scores[stem][name] = float(metric(*inputs))
    means = {name: round(float(np.mean([s[name] for s in scores.values()])), 4) for name in METRICS}
    report = {"model": args.model, "images": len(scores), "pyiqa": version("pyiqa"), "mean": means}
    print(json.dumps(report))
    if args.json:
        args.json.write_text(json.dumps({**report, "scores": scores}, indent=1))


if __name__ == "__main__":
    main()
