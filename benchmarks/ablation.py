"""Small-scale ablation of tables 4 and 6 on `mini`: parts of the distillation and DASM's N × s, over several seeds.

    python benchmarks/ablation.py run full --seed 0 --photos PHOTOS --teacher TEACHER -o runs/ablation
    python benchmarks/ablation.py all --seeds 3 --photos PHOTOS --teacher TEACHER -o runs/ablation  # resumes
    python benchmarks/ablation.py score runs/ablation          # pip install pyiqa
    python benchmarks/ablation.py gather runs/ablation -o runs/pictures  # for tsdsr study sheets

Every run starts from the same weights (`--init`, by default the packaged `mini`) and takes `--steps` steps of `--batch`
64-pixel crops with the paper's degradation. A 384-pixel crop of each held-out photograph is restored and stored as PNG.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tsdsr.data.datasets import CropSettings, PairSettings
from tsdsr.data.degradation_presets import PRESETS
from tsdsr.data.sources import open_source
from tsdsr.evaluation.metrics import select_metrics
from tsdsr.evaluation.pyiqa_metrics import make_metric
from tsdsr.files import require_new, write_text
from tsdsr.hashing import hash_model, hash_text
from tsdsr.images.reading import read_rgb
from tsdsr.models.zoo import MINI
from tsdsr.pipeline.model_files import resolve_model
from tsdsr.pixels import to_tensor, to_uint8
from tsdsr.recipes.ablations import ABLATIONS, with_tsd
from tsdsr.training.build import DTYPES, load_parts, training_data
from tsdsr.training.config import Phase, StudentConfig, TSDSettings
from tsdsr.training.networks import build_networks
from tsdsr.training.provenance import RunFiles
from tsdsr.training.run_log import make_accelerator
from tsdsr.training.student import StudentTrainer

FIGURES = "figures.json"
VARIANTS = {"full": lambda phase: phase, **ABLATIONS, "eps": with_tsd(space="eps")}


def settings(variant: str, seed: int, steps: int, batch: int, gamma: float) -> StudentConfig:
    """Settings of a variant: L1 + LPIPS, and TSD with weight ``gamma``, modified by the variant."""
    phase = Phase(
        steps=steps, batch_size=batch, lr=(1e-4, 1e-5), warmup=5, fake_lr=(1e-4, 1e-4), l1_weight=1.0,
        perceptual_weight=0.75, gamma_reg=gamma, tsd=TSDSettings(guidance=1.0, points=4, step_size=50, shift=25),
    )  # fmt: skip
    return StudentConfig(
        phases=(VARIANTS[variant](phase),),
        pairs=PairSettings(crops=CropSettings(size=64), degradation=PRESETS["osediff"]),
        ema_decay=0.99,
        seed=seed,
        validation_crop=384,
        validate_every=steps + 1,
        checkpoint_every=50,
        log_every=10,
    )


def run(
    variant: str,
    seed: int,
    steps: int,
    batch: int,
    gamma: float,
    photos: str,
    teacher: Path,
    init: str,
    output: Path,
    device: str,
    dtype: str,
    workers: int,
) -> None:
    """Train one student, restore the held-out photographs, and store the pictures and figures."""
    config = settings(variant, seed, steps, batch, gamma)
    files = RunFiles(teacher=teacher, student=resolve_model(init))
    networks = build_networks(load_parts(config, files), MINI, config.networks, seed, config.needs_scores)
    out = output / f"{variant}-{seed}"
    data = training_data([open_source(photos)], config, {})
    trainer = StudentTrainer(
        config, networks, data, out, accelerator=make_accelerator(out, device), dtype=DTYPES[dtype], workers=workers,
        files=files,
    )  # fmt: skip
    started, first = time.perf_counter(), trainer.step
    trainer.run()
    figures = {**trainer.validate(), "seconds": time.perf_counter() - started, "steps": trainer.step - first}
    for number, images in enumerate(trainer.restored()):
        for place, image in zip((output / "lq", out / "pred", output / "hq"), images, strict=True):
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(to_uint8(image[0])).save(place / f"{number:02d}.png")
    made_from = made_with(config, photos, teacher, init, dtype)
    write_text(out / FIGURES, json.dumps({"made_from": made_from, "figures": figures}))


def made_with(config: StudentConfig, photos: str, teacher: Path, init: str, dtype: str) -> dict[str, str]:
    """What the figures of a run depend on."""
    return {
        "settings": hash_text(repr(config)),
        "photos": photos,
        "teacher": hash_model(teacher),
        "init": hash_model(resolve_model(init)),
        "dtype": dtype,
    }


def run_all(variants: list[str], seeds: int, first_seed: int, output: Path, **options: Any) -> None:
    """Run each of the variants with each seed that has no figures yet, all variants of one seed before the next seed.

    Raises:
        SystemExit: a folder holds figures of other settings, photographs or models.
    """
    for seed in range(first_seed, first_seed + seeds):
        for variant in variants:
            path = output / f"{variant}-{seed}" / FIGURES
            if not path.exists():
                run(variant, seed, output=output, **options)
                continue
            config = settings(variant, seed, *(options[name] for name in ("steps", "batch", "gamma")))
            wanted = made_with(config, *(options[name] for name in ("photos", "teacher", "init", "dtype")))
            if json.loads(path.read_text(encoding="utf-8")).get("made_from") != wanted:
                raise SystemExit(f"{path}: was made with other settings; give another --output or remove its folder")


def score(output: Path, device: str) -> None:
    """Print LPIPS (alex), DISTS and NIQE of every variant: mean and standard deviation over seeds."""
    chosen = select_metrics(["lpips", "dists", "niqe"])
    metrics = {spec.name: make_metric(spec, device) for spec in chosen}
    table: dict[str, list[dict[str, float]]] = {}
    for folder in sorted(p.parent for p in output.glob(f"*/{FIGURES}")):
        rows: dict[str, list[float]] = {name: [] for name in metrics}
        for path in sorted((folder / "pred").glob("*.png")):
            x_hat, x_hq = (load(p) for p in (path, output / "hq" / path.name))
            for name, metric in metrics.items():
                with torch.no_grad():
                    rows[name].append(metric(x_hat, x_hq))
        figures = json.loads((folder / FIGURES).read_text(encoding="utf-8"))["figures"]
        figures |= {name: statistics.mean(values) for name, values in rows.items()}
        table.setdefault(folder.name.rpartition("-")[0], []).append(figures)
    for variant, runs in table.items():
        cells = []
        for name in ("psnr", "lpips", "dists", "niqe", "grid_4", "grid_8", "seconds"):
            values = [r[name] for r in runs]
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            cells.append(f"{name} {statistics.mean(values):.4f} ± {spread:.4f}")
        print(f"{variant} ({len(runs)} seeds): " + ", ".join(cells))


def gather(runs: Path, output: Path) -> None:
    """Copy the pictures of all seeds into one folder a variant, and their inputs and ground truth into lr and hr.

    The pictures are named SEED-NUMBER.png, so that the folders match.

    Raises:
        SystemExit: ``runs`` holds no run that is complete.
        InvalidInputError: ``output`` exists.
    """
    folders = sorted(p.parent for p in runs.glob(f"*/{FIGURES}"))
    if not folders:
        raise SystemExit(f"{runs}: no complete run; make some with 'all'")
    output = require_new(output)
    for folder in folders:
        variant, _, seed = folder.name.rpartition("-")
        for path in sorted((folder / "pred").glob("*.png")):
            sources = {variant: path, "lr": runs / "lq" / path.name, "hr": runs / "hq" / path.name}
            for name, source in sources.items():
                (output / name).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, output / name / f"{seed}-{path.name}")


def load(path: Path) -> torch.Tensor:
    return to_tensor(read_rgb(path))[None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    one.add_argument("variant", choices=VARIANTS)
    one.add_argument("--seed", type=int, default=0)
    every = commands.add_parser("all")
    every.add_argument("--seeds", type=int, default=3)
    every.add_argument("--first-seed", type=int, default=0, help="to share the work among processes")
    every.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    for training in (one, every):
        training.add_argument("--steps", type=int, default=250)
        training.add_argument("--batch", type=int, default=4)
        training.add_argument("--gamma", type=float, default=10.0)
        training.add_argument("--photos", required=True)
        training.add_argument("--teacher", type=Path, required=True)
        training.add_argument("--init", default="mini", help="where every run starts")
        training.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
        training.add_argument("--dtype", default="fp32", choices=DTYPES)
        training.add_argument("--workers", type=int, default=0)
        training.add_argument("-o", "--output", type=Path, required=True)
    scores = commands.add_parser("score")
    scores.add_argument("output", type=Path)
    scores.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    pictures = commands.add_parser("gather")
    pictures.add_argument("runs", type=Path)
    pictures.add_argument("-o", "--output", type=Path, required=True)
    arguments = vars(parser.parse_args())
    {"run": run, "all": run_all, "score": score, "gather": gather}[arguments.pop("command")](**arguments)


if __name__ == "__main__":
    main()
