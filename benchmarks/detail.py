"""Effect of ``--detail``: PSNR, LPIPS, DISTS and NIQE of one model against the share of its step that is taken.

    python benchmarks/detail.py --lr LR --gt HR --model mini

LR and HR are folders of pairs, ×4. Use photographs that are neither training data nor a test set. Enter the share with
the highest PSNR as ``faithful_strength`` in the model's row of ``tsdsr/models/zoo.py``.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tsdsr.data.sources import open_source
from tsdsr.evaluation.metrics import select_metrics
from tsdsr.evaluation.scorer import ScoringSettings
from tsdsr.evaluation.scoring import evaluate
from tsdsr.images.reading import read_picture
from tsdsr.images.writing import write_picture
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.picture_restorer import restore_picture

METRICS = ("psnr", "lpips", "dists", "niqe")


class _PlainPipeline(OneStepSRPipeline):
    """A pipeline whose ``detail`` is the share of the step itself."""

    @property
    def spec(self):  # type: ignore[no-untyped-def]
        return dataclasses.replace(super().spec, faithful_strength=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lr", required=True)
    parser.add_argument("--gt", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--shares", type=float, nargs="+", default=[0, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1])
    args = parser.parse_args()
    pipe = load_diffusers_pipeline(args.model, "cpu", args.dtype)
    pipe.__class__ = _PlainPipeline
    with tempfile.TemporaryDirectory() as temporary:
        systems = {}
        for share in args.shares:
            systems[f"{share:g}"] = folder = Path(temporary) / f"{share:g}"
            for path in open_source(args.lr).images:
                picture = restore_picture(read_picture(path), lambda p, s=share: pipe.upscale_pixels(p, 4, detail=s))
                write_picture(picture, folder / f"{path.stem}.png")
        found = evaluate(systems, args.gt, ScoringSettings(select_metrics(METRICS)))
    table = Table("share", *METRICS, title=f"{args.model}, {len(open_source(args.lr).images)} images")
    for system in found.systems:
        table.add_row(system.name, *(f"{system.scores[name].mean:.4f}" for name in METRICS))
    Console().print(table)


if __name__ == "__main__":
    main()
