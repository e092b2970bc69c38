"""Training of a one-step student with reconstruction losses: phases, EMA, exact resume.

All randomness is a function of the seed and the step (or the item's number), so that a run killed at any moment and
started again with the same command continues as if nothing had happened.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Subset

from tsdsr.data.datasets import PairDataset, PairSettings
from tsdsr.data.sources import Source, list_photos, split_photos
from tsdsr.diffusion.losses import ReconstructionTerms, pixel_reconstruction_loss
from tsdsr.errors import ConfigError, TrainingError
from tsdsr.models.denoiser import as_denoiser, restore
from tsdsr.models.mini import MiniUNet
from tsdsr.models.zoo import MINI, default_conditioning
from tsdsr.training.checkpoint import load_latest_checkpoint, save_checkpoint
from tsdsr.training.config import Phase, StudentConfig
from tsdsr.training.perceptual import lpips_distance

Perceptual = Callable[[Tensor, Tensor], Tensor]


class StudentTrainer:
    """Trains `mini` to restore in one step; one instance is one run in one folder.

    Args:
        config (StudentConfig): the run's settings.
        photos (Path): folder of sharp photographs.
        output (Path): folder for checkpoints, log and the trained student; an interrupted run there is resumed.
        device (str): "cpu", "cuda", …
        dtype (torch.dtype): autocast precision; float32 means none.
        workers (int): data loading processes.
        perceptual (callable | None): replaces LPIPS-VGG; used by tests.

    Raises:
        TrainingError: the folder holds a run with other settings.
        ConfigError: float16 is asked for.
    """

    def __init__(
        self,
        config: StudentConfig,
        photos: Path,
        output: Path,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        workers: int = 0,
        perceptual: Perceptual | None = None,
    ) -> None:
        self.config, self.output, self.device, self.dtype = config, Path(output), torch.device(device), dtype
        self.workers = workers
        if dtype == torch.float16:
            raise ConfigError("float16 needs loss scaling, which this trainer lacks; train in bf16 or fp32")
        self.train_photos, self.validation_photos = split_photos(list_photos(photos), config.validation_share)
        torch.manual_seed(config.seed)  # initial weights; nothing later draws from the global generator
        self.network = MiniUNet(**config.network).to(self.device, memory_format=torch.channels_last)
        average = get_ema_multi_avg_fn(config.ema_decay)  # type: ignore[no-untyped-call]
        self.ema = AveragedModel(self.network, multi_avg_fn=average)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=0.0, betas=config.betas, weight_decay=config.weight_decay
        )
        self.conditioning = default_conditioning(MINI).to(self.device, torch.float32)
        self.vae = MINI.make_autoencoder().to(self.device)
        needs_lpips = any(phase.perceptual_weight for phase in config.phases)
        self.perceptual = perceptual or (lpips_distance("vgg", self.device) if needs_lpips else None)
        self.step = 0
        self._resume()

    def run(self, until: int | None = None) -> None:
        """Train up to global step ``until`` (default: the end), then store the student."""
        until = min(until or self.config.total_steps, self.config.total_steps)
        started, first = time.perf_counter(), self.step
        for x_lq, x_hq in self._batches(until):
            terms, grad_norm = self._train_step(x_lq.to(self.device), x_hq.to(self.device))
            self.step += 1
            if self.step % self.config.log_every == 0:
                rate = (self.step - first) / (time.perf_counter() - started)
                self._log(
                    l1=terms.l1.item(), perceptual=terms.perceptual.item(), grad_norm=grad_norm, steps_per_second=rate
                )
            if self.step % self.config.validate_every == 0:
                self._log(**{f"validation_{k}": v for k, v in self.validate().items()})
            if self.step % self.config.checkpoint_every == 0:
                self._save()
        self._save()
        self.student().save_pretrained(self.output / "student")

    def student(self) -> MiniUNet:
        """The averaged weights, as a model to save or use."""
        return cast(MiniUNet, self.ema.module)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean PSNR (dB, RGB), L1 and perceptual distance over fixed crops of the held-out photographs; stores a sheet.

        An empty validation split gives an empty result.
        """
        if not self.validation_photos:
            return {}
        settings = self._validation_settings()
        rows: list[Tensor] = []
        scores: dict[str, list[float]] = {"psnr": [], "l1": [], "perceptual": []}
        for index, photo in enumerate(self.validation_photos):
            x_lq, x_hq = PairDataset([Source("validation", (photo,))], 1, settings, seed=1_000_003 + index)[0]
            x_hat = self._restore(self.student(), x_lq[None].to(self.device)).clamp(0, 1)
            x_hq = x_hq[None].to(self.device)
            scores["psnr"].append(-10 * math.log10(max(1e-10, torch.mean((x_hat - x_hq) ** 2).item())))
            scores["l1"].append((x_hat - x_hq).abs().mean().item())
            if self.perceptual is not None:
                scores["perceptual"].append(self.perceptual(x_hat, x_hq).item())
            rows.append(torch.cat([x_lq, x_hat[0].cpu(), x_hq[0].cpu()], dim=-1))
        self._sheet(rows[:8])
        return {name: float(np.mean(values)) for name, values in scores.items() if values}

    def _train_step(self, x_lq: Tensor, x_hq: Tensor) -> tuple[ReconstructionTerms, float]:
        phase, phase_step = self.config.locate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = phase.learning_rate(phase_step)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            x_hat = self._restore(self.network, x_lq)
            terms = pixel_reconstruction_loss(
                x_hat, x_hq, self._perceptual_of(phase), phase.l1_weight, phase.perceptual_weight
            )
        if not torch.isfinite(terms.total):
            raise TrainingError(f"step {self.step}: the loss is {terms.total.item()}; lower the learning rate")
        self.optimizer.zero_grad(set_to_none=True)
        terms.total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        self.ema.update_parameters(self.network)
        return terms, norm.item()

    def _restore(self, network: torch.nn.Module, x_lq: Tensor) -> Tensor:
        """Enlarged low-quality images in [0, 1] → restored ones, through the latent space and the one step."""
        factor = self.vae.config["scaling_factor"]
        z_lq = self.vae.encode(x_lq * 2 - 1).latent_dist.mode() * factor
        z_hat = restore(as_denoiser(network), MINI.process, z_lq, MINI.timestep, self.conditioning)
        x_hat: Tensor = self.vae.decode(z_hat / factor).sample
        return x_hat / 2 + 0.5

    def _perceptual_of(self, phase: Phase) -> Perceptual | None:
        """The phase's perceptual term: none, on whole crops, or on a random square drawn from (seed, step)."""
        perceptual, edge = self.perceptual, phase.perceptual_crop
        if not phase.perceptual_weight or perceptual is None:
            return None
        size = self.config.pairs.crops.size
        if edge is None or edge >= size:
            return perceptual
        rng = np.random.default_rng((self.config.seed, 7, self.step))
        y, x = (int(v) for v in rng.integers(size - edge + 1, size=2))

        def cropped(x_hat: Tensor, x_hq: Tensor) -> Tensor:
            return perceptual(x_hat[..., y : y + edge, x : x + edge], x_hq[..., y : y + edge, x : x + edge])

        return cropped

    def _batches(self, until: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches from the current step on; item numbers run through all phases."""
        source = Source("training photographs", tuple(self.train_photos))
        first_item, begin = 0, 0
        for phase in self.config.phases:
            end = min(begin + phase.steps, until)
            start = max(begin, self.step)
            items = range(
                first_item + (start - begin) * phase.batch_size, first_item + (end - begin) * phase.batch_size
            )
            if items:
                dataset = PairDataset([source], items.stop, self.config.pairs, self.config.seed)
                yield from DataLoader(
                    Subset(dataset, items),
                    phase.batch_size,
                    num_workers=self.workers,
                    persistent_workers=self.workers > 0,
                    pin_memory=self.device.type == "cuda",
                    generator=torch.Generator(),  # keeps the loader off the global one
                )
            first_item, begin = first_item + phase.steps * phase.batch_size, begin + phase.steps

    def _validation_settings(self) -> PairSettings:
        pairs = self.config.pairs
        crops = dataclasses.replace(pairs.crops, size=self.config.validation_crop, shrink_prob=0.0)
        return dataclasses.replace(pairs, crops=crops, other_scale_prob=0.0)

    def _sheet(self, rows: list[Tensor]) -> None:
        sheet = torch.cat(rows, dim=-2).clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
        self.output.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sheet).save(self.output / f"validation-{self.step:06d}.png")

    def _log(self, **values: float) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        record = {"step": self.step, **{k: round(v, 6) for k, v in values.items()}}
        with (self.output / "log.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(" ".join(f"{k}={v:g}" for k, v in record.items()), flush=True)

    def _save(self) -> None:
        save_checkpoint(
            self.output,
            self.step,
            {
                "config": self.config.to_json(),
                "step": self.step,
                "network": self.network.state_dict(),
                "ema": self.ema.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
        )

    def _resume(self) -> None:
        state = load_latest_checkpoint(self.output)
        if state is None:
            return
        if state["config"] != self.config.to_json():
            raise TrainingError(f"{self.output}: holds a run with other settings; choose another output folder")
        self.step = int(state["step"])
        self.network.load_state_dict(state["network"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
