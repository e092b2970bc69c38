"""Run ten steps of a tiny model for each kind of recipe; ``golden_runs.json`` stores the results.

After a change that intentionally alters results, regenerate the file and review the differences::

    PYTHONPATH=src python -m tests.training.golden_runs

The runs use synthetic images and no files, so results change only with the trainer, its networks or its random numbers.
The trainer computes in float32, so values are compared with a tolerance: :data:`TOLERANCE` is ten times the largest
deviation between torch versions and with other convolution kernels (oneDNN off), and a small fraction of the effect of
a wrong sign or factor.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tests.conftest import sd2_prompt, sd3_prompt, tiny_mmdit, tiny_vae
from tests.training.tiny import LORA, NETWORK, distance, mini_networks, sd2_networks, sd3_networks
from tsdsr.data.datasets import CropSettings, PairSettings
from tsdsr.models.adapters import new_lora, train_adapters, use_adapter
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.mini import MiniUNet
from tsdsr.models.zoo import MINI, get_spec
from tsdsr.training.config import NetworkSettings, Phase, Schedule, StudentConfig, TeacherConfig, TSDSettings
from tsdsr.training.engine import Engine
from tsdsr.training.prompts import LabelPrompts
from tsdsr.training.samples import TrainingData, TrainingSample
from tsdsr.training.student import StudentTrainer
from tsdsr.training.teacher import TeacherTrainer

FILE = Path(__file__).with_name("golden_runs.json")
TOLERANCE = 1e-3
SIZE = 32
UNLOGGED = {"step", "steps_per_second", "memory_gb"}
DATA = TrainingData(())


class MadeUpSamples(Dataset[TrainingSample]):
    """Smooth images with an edge, and the same darker and blurred; two texts in turn."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> TrainingSample:
        rng = np.random.default_rng((5, index))
        y, x = np.mgrid[:SIZE, :SIZE] / SIZE
        phase, slope = rng.uniform(0, 6, (3, 1, 1)), rng.uniform(-3, 3, (3, 1, 1))
        image = 0.5 + 0.3 * np.sin(9 * (x + slope * y) + phase) + 0.15 * (x > rng.uniform(0.2, 0.8))
        x_hq = torch.from_numpy(image.clip(0, 1).astype(np.float32))
        x_lq = torch.nn.functional.avg_pool2d(x_hq[None], 5, 1, 2, count_include_pad=False)[0] * 0.9
        return TrainingSample(index, x_lq, x_hq, ("a house", "")[index % 2])


class ScaledPrompts:
    """Conditionings that differ by role and by text.

    Args:
        fixed (Conditioning): the student's.
    """

    def __init__(self, fixed: Conditioning) -> None:
        self._fixed = fixed

    def _scaled(self, factors: Sequence[float]) -> Conditioning:
        scale = torch.tensor(factors)
        tensors = self._fixed.expand(len(factors)).tensors()
        return Conditioning(**{k: v * scale.reshape(-1, *(1,) * (v.ndim - 1)) for k, v in tensors.items()})

    def fixed(self) -> Conditioning:
        return self._fixed

    def null(self) -> Conditioning:
        return self._scaled([-1.0])

    def of(self, texts: Sequence[str]) -> Conditioning:
        return self._scaled([0.5 if text else 0.7 for text in texts])


def phase(steps: int = 5, **changes: Any) -> Phase:
    shared: dict[str, Any] = {"batch_size": 2, "lr": (3e-3, 1e-3), "fake_lr": (2e-3, 1e-3)}
    return Phase(steps=steps, **shared | changes)


def two_phases(first: dict[str, Any], second: dict[str, Any], **changes: Any) -> StudentConfig:
    """Five steps each; every step is logged and every third monitored."""
    base = StudentConfig(
        phases=(phase(**first), phase(**second)),
        networks=NetworkSettings(config=NETWORK),
        pairs=PairSettings(crops=CropSettings(size=SIZE)),
        ema_decay=0.8,
        log_every=1,
        validate_every=100,
        checkpoint_every=100,
        monitor_every=3,
        seed=3,
    )
    return dataclasses.replace(base, **changes)


def student(config: StudentConfig, out: Path) -> StudentTrainer:
    """A student's trainer with the networks and prompts of its model, and stand-ins for LPIPS and DISTS."""
    model = config.networks.model
    if model == "mini":
        networks, prompts = mini_networks(1, config.needs_scores), LabelPrompts()
    elif model == "sd3":
        networks, prompts = sd3_networks(config.networks), ScaledPrompts(sd3_prompt())
    else:
        networks, prompts = sd2_networks(model), ScaledPrompts(sd2_prompt())
    run = StudentTrainer(config, networks, DATA, out, prompts, perceptual=distance)
    if "dists" in run.distances:
        run.distances["dists"] = lambda x_hat, x_hq: (x_hat.diff(dim=-2) - x_hq.diff(dim=-2)).abs().mean()
    return run


def teacher(config: TeacherConfig, out: Path) -> TeacherTrainer:
    """A teacher's trainer: all of `mini`, or a LoRA on a tiny SD3."""
    torch.manual_seed(2)
    if config.networks.lora_rank is None:
        return TeacherTrainer(config, MiniUNet(**NETWORK), MINI.make_autoencoder(), DATA, out)
    network = tiny_mmdit()
    targets = get_spec("sd3").lora_targets
    new_lora(network, targets, config.networks.lora_rank, "teacher", torch.Generator().manual_seed(0))
    train_adapters(network, {"teacher"})
    use_adapter(network, "teacher")
    return TeacherTrainer(config, network, tiny_vae(16), DATA, out, ScaledPrompts(sd3_prompt()))


RECONSTRUCTION: dict[str, Any] = {"l1_weight": 1.0, "perceptual_weight": (0.2, 2.0), "perceptual": ("lpips", "dists")}
LORA_LOSSES: dict[str, Any] = {
    "lr": (1e-2, 1e-2), "perceptual_weight": 0.5, "latent_mse_weight": 1.0, "diverse_prompts": (0.8, 0.2),
}  # fmt: skip
SD2_PAIRS = PairSettings(crops=CropSettings(size=64))
"""The least that SD2 takes; made-up images are smaller."""

TEACHER = TeacherConfig(
    phases=(Schedule(steps=10, batch_size=4, lr=(3e-3, 1e-3), warmup=3, cycles=2),),
    networks=NetworkSettings(config=NETWORK),
    crops=CropSettings(size=SIZE),
    time_density="logit_normal",
    prompt_dropout=0.4,
    ema_decay=0.8,
    log_every=1,
    seed=3,
)
CONFIGS: dict[str, StudentConfig | TeacherConfig] = {
    "mini reconstruction": two_phases(
        {**RECONSTRUCTION, "warmup": 2, "grid_weight": 4.0, "perceptual_crop": 20},
        {**RECONSTRUCTION, "gamma_rec": (1.0, 3.0), "grid_weight": (0.5, 1.0), "grid_relative": True},
        accumulation=2, weight_decay=0.1, max_grad_norm=0.5,
    ),
    "mini TSD": two_phases(
        {"l1_weight": 1.0, "gamma_reg": (1.0, 9.0), "tsd": TSDSettings(lambda_vsd=(0.1, 0.7), first=(50, 300))},
        {"l1_weight": 0.2, "gamma_rec": 2.0, "tsd": TSDSettings(lambda_tsm=(0.3, 0.9), last=(950, 600))},
        betas=(0.8, 0.95),
    ),
    "mini DASM": two_phases(
        {"l1_weight": 0.1, "tsd": TSDSettings(guidance=1.5, points=4, step_size=40, shift=25, omega="snr")},
        {"l1_weight": 0.1, "tsd": TSDSettings(guidance=1.0, points=3, shift=9, omega="one", space="eps",
                                              later_weight=0.6, batched=False)},
    ),
    "mini latent adversary": two_phases(
        {"l1_weight": 1.0, "adversarial_weight": 0.1, "adversary": "latent", "grid_weight": 1.0},
        {"l1_weight": 1.0, "adversarial_weight": (0.1, 0.9), "adversary": "latent", "discriminator_lr": (3e-4, 1e-5)},
    ),
    "mini pixel adversary": two_phases(
        {"l1_weight": 1.0, "sharpen_truth": 0.5, "perceptual_weight": 0.5, "perceptual": ("vgg",), "weave_weight": 2.0,
         "adversarial_weight": 0.1, "adversary": "pixel"},
        {"l1_weight": 1.0, "weave_weight": (1.0, 4.0), "adversarial_weight": (0.1, 0.9), "adversary": "pixel"},
    ),
    "mini feature adversary": two_phases(
        {"lr": (1e-3, 1e-3), "l1_weight": 1.0, "adversarial_weight": (0.2, 0.5), "tsd": TSDSettings(points=2)},
        {"lr": (1e-3, 5e-4), "l1_weight": 1.0, "adversarial_weight": 0.5, "discriminator_lr": (3e-4, 1e-5)},
    ),
    "SD3": two_phases(
        {**LORA_LOSSES, "tsd": TSDSettings()}, {**LORA_LOSSES, "tsd": TSDSettings(points=2, shift=25)}, networks=LORA
    ),
    **{
        model: two_phases(
            {**LORA_LOSSES, "tsd": TSDSettings()}, {**LORA_LOSSES, "tsd": TSDSettings(points=2)},
            networks=dataclasses.replace(LORA, model=model), pairs=SD2_PAIRS,
        )
        for model in ("sd21-base", "sd21")
    },
    "mini teacher": dataclasses.replace(TEACHER, accumulation=2),
    "SD3 teacher": dataclasses.replace(TEACHER, networks=LORA, time_density="uniform"),
}  # fmt: skip


def measure(name: str) -> dict[str, Any]:
    """Train by a configuration of :data:`CONFIGS`.

    Returns:
        dict: ``figures``, name → logged values in order; ``weights``, trained role (and "average") → their number, and
        sum and sum of squares of their changes.
    """
    config = CONFIGS[name]
    make: Callable[[Any, Path], Engine] = student if isinstance(config, StudentConfig) else teacher
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        run = make(config, Path(folder))
        run.dataset = MadeUpSamples  # type: ignore[method-assign]
        before = trained(run)
        run.run()
        after = trained(run)
        records = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
    names = sorted({key for record in records for key in record} - UNLOGGED)
    return {
        "figures": {key: [record[key] for record in records if key in record] for key in names},
        "weights": {role: checksum(before[role], after[role]) for role in after},
    }


def trained(run: Engine) -> dict[str, list[Tensor]]:
    """Copies of what each role trains, and of the average."""
    assert run.ema is not None
    tensors = {name: role.parameters for name, role in run.roles.items()} | {"average": run.ema.shadow_params}
    return {name: [t.detach().double().clone() for t in found] for name, found in tensors.items()}


def checksum(before: Sequence[Tensor], after: Sequence[Tensor]) -> dict[str, float]:
    """Number of weights, sum and sum of squares of their changes, to seven digits."""
    change = torch.cat([(b - a).flatten() for a, b in zip(before, after, strict=True)])
    sums = {"sum": change.sum().item(), "squares": change.square().sum().item()}
    return {"count": len(change)} | {key: float(f"{value:.7g}") for key, value in sums.items()}


def deviations(expected: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, float]:
    """How far two measurements of one run are apart, by figure: the largest difference over the largest value.

    Cosines may be near 0 and are compared as they are. Sums of changes may cancel; they are compared with what they
    could be at most, the root of count times squares. What only one of the two has is infinitely far apart.
    """
    result: dict[str, float] = {}
    for name in expected["figures"].keys() | found["figures"].keys():
        a, b = expected["figures"].get(name, []), found["figures"].get(name, [])
        scale = 1.0 if "cosine" in name else max((abs(v) for v in a), default=0.0) or 1.0
        result[name] = max(abs(x - y) for x, y in zip(a, b, strict=True)) / scale if len(a) == len(b) else math.inf
    for role in expected["weights"].keys() | found["weights"].keys():
        c, d = expected["weights"].get(role), found["weights"].get(role)
        if c is None or d is None or c["count"] != d["count"]:
            result[f"{role} count"] = math.inf
            continue
        result[f"{role} squares"] = abs(c["squares"] - d["squares"]) / c["squares"]
        result[f"{role} sum"] = abs(c["sum"] - d["sum"]) / math.sqrt(c["count"] * c["squares"])
    return result


def main() -> None:
    """Measure everything, say what moved by more than the tolerance, and store it."""
    old: dict[str, Any] = json.loads(FILE.read_text()) if FILE.is_file() else {}
    new = {name: measure(name) for name in CONFIGS}
    for name, found in new.items():
        moved = deviations(old[name], found) if name in old else {}
        print(f"{name}: largest deviation {max(moved.values()):.2g}" if moved else f"{name}: new")
        for key, value in sorted(moved.items()):
            if value > TOLERANCE:
                print(f"  {key}: {value:.3g}")
    FILE.write_text("{\n" + ",\n".join(f'"{name}": {{\n{_parts(found)}\n}}' for name, found in new.items()) + "\n}\n")


def _parts(found: Mapping[str, Mapping[str, Any]]) -> str:
    """JSON with a line for each figure."""
    lines = {
        part: ",\n".join(f'  "{key}": {json.dumps(value)}' for key, value in values.items())
        for part, values in found.items()
    }
    return ",\n".join(f' "{part}": {{\n{values}\n }}' for part, values in lines.items())


if __name__ == "__main__":
    main()
