"""Train a teacher with the diffusion loss on high-quality images, from scratch or as LoRA on a base model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import Dataset

from tsdsr.data.datasets import CropDataset
from tsdsr.data.photographs import OnePhoto, Photo
from tsdsr.diffusion.losses import fake_loss
from tsdsr.models.denoiser import as_denoiser
from tsdsr.models.latents import decode_latents, encode_images
from tsdsr.models.zoo import get_spec
from tsdsr.training.config import TeacherConfig
from tsdsr.training.engine import Engine
from tsdsr.training.networks import trained_parameters
from tsdsr.training.precision import autocast
from tsdsr.training.prompts import LabelPrompts, Prompts, mix
from tsdsr.training.provenance import RunFiles
from tsdsr.training.run_log import make_accelerator
from tsdsr.training.sample_rng import SampleRNG
from tsdsr.training.samples import CropSamples, TrainingData, TrainingSample
from tsdsr.training.sharding import ShardMode
from tsdsr.training.validation import save_sheet

_NOISE, _DROPOUT = 11, 12


class DenoiserModule(nn.Module):
    """Denoiser as a module, so that it can be wrapped for several processes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z_t: Tensor, t: Tensor, prompt: Any) -> Tensor:
        """Compute the native prediction (B, C, h, w) at times (B,)."""
        return as_denoiser(self.network)(z_t, t, prompt)


class TeacherTrainer(Engine):
    """Trains a multi-step teacher; one instance is one run in one folder.

    Args:
        config (TeacherConfig): the run's settings.
        network (nn.Module): the denoiser; its parameters that require gradients are trained.
        vae (nn.Module): the frozen autoencoder.
        data (TrainingData): photographs.
        output, prompts, accelerator, dtype, workers, files, shard: as for
            :class:`tsdsr.training.student.StudentTrainer`.

    Raises:
        TrainingError: the folder contains a run with other settings.
    """

    config: TeacherConfig

    def __init__(
        self,
        config: TeacherConfig,
        network: nn.Module,
        vae: Any,
        data: TrainingData,
        output: Path,
        prompts: Prompts | None = None,
        accelerator: Accelerator | None = None,
        dtype: torch.dtype = torch.float32,
        workers: int = 0,
        files: RunFiles | None = None,
        shard: ShardMode | None = None,
    ) -> None:
        super().__init__(config, output, accelerator or make_accelerator(output, "cpu"), dtype, workers, files, shard)
        self.data = data
        self.process = get_spec(config.networks.model).process
        self.prompts = prompts or LabelPrompts()
        self.null = self.on_device(self.prompts.null())
        self.network, self.vae = network, vae.requires_grad_(False)
        module = DenoiserModule(network)
        self.place(module, self.vae)
        self.teacher = self.prepare("teacher", module, trained_parameters(module))
        self.average("teacher")
        self.resume()

    def train_step(self, batches: Sequence[TrainingSample]) -> dict[str, Tensor]:
        total = torch.zeros((), device=self.device)
        for i, batch in enumerate(batches):
            with torch.no_grad(), autocast(self.device, self.dtype):
                z_hq = self.data.latents.of(self.vae, batch.x_hq, batch.key)
            items = batch.item.tolist()
            with self.accumulating(self.teacher, i + 1 == len(batches)):
                loss = self._loss(z_hq, items, batch.prompt)
                self.roles["teacher"].backward(loss, len(batches))
            total += loss.detach() / len(batches)
        return {"loss/teacher": total} | self.update({"teacher": total}, {"teacher": self.learning_rate()})

    def _loss(self, z_hq: Tensor, items: Sequence[int], texts: Sequence[str]) -> Tensor:
        """Compute the diffusion loss, with the empty prompt for some samples."""
        rng = SampleRNG(self.config.seed, _NOISE, items)
        noise = rng.normal(z_hq.shape[1:], z_hq)
        t = self._times(rng.uniform()).to(self.device, non_blocking=True)
        prompt = self.on_device(self.prompts.of(texts))
        dropped = SampleRNG(self.config.seed, _DROPOUT, items).uniform() < self.config.prompt_dropout
        prompt = mix(prompt, self.null, dropped)
        z_t = self.process.add_noise(z_hq, noise, t)
        with autocast(self.device, self.dtype):
            prediction = self.teacher(z_t, t, prompt)
        return fake_loss(self.process, prediction, z_hq, noise, t)

    def dataset(self, length: int) -> Dataset[TrainingSample]:
        return CropSamples(self.data, length, self.config.crops, self.config.seed)

    def _times(self, u: Tensor) -> Tensor:
        """Map uniform numbers in [0, 1) to times from the scheduler's list, by the configured density."""
        last = self.process.num_train_timesteps - 1
        if self.config.time_density == "logit_normal":
            clipped = u.double().clamp(1e-6, 1 - 1e-6)
            u = torch.sigmoid(torch.special.ndtri(clipped)).float()
        return self.process.time_at((u * last).clamp(0, last))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Compute the loss on fixed held-out crops at five fixed times.

        Stores a sheet of one-step estimates of the clean image at increasing noise.
        """
        losses: dict[int, list[float]] = {}
        rows: list[Tensor] = []
        with self.averaged():
            for index, photo in enumerate(self.data.validation):
                self.stop_validation_if_asked()
                estimates = self._validate_one(photo, index, losses)
                if len(rows) < 6:
                    rows.append(estimates)
        if not rows or not self.accelerator.is_main_process:
            return {}
        save_sheet(rows, self.output / f"validation-{self.step:06d}.png")
        figures = {f"loss_{t:04d}": sum(v) / len(v) for t, v in losses.items()}
        return figures | {"loss": sum(figures.values()) / len(figures)}

    def _validate_one(self, photo: Photo, index: int, losses: dict[int, list[float]]) -> Tensor:
        crops = dataclasses.replace(self.config.crops, size=self.config.validation_crop, fixed=0)
        dataset = CropDataset([OnePhoto(photo)], 1, crops, seed=1_000_003 + index)
        x_hq = dataset[0][None].to(self.device)
        prompt = self.on_device(self.prompts.of([self.data.prompt(photo)]))
        with autocast(self.device, self.dtype):
            z_hq = encode_images(self.vae, x_hq)
        noise = SampleRNG(self.config.seed, _NOISE, [10**9 + index]).normal(z_hq.shape[1:], z_hq)
        shown = [x_hq[0]]
        for time in (100, 300, 500, 700, 900):
            t = torch.full((1,), float(time), device=self.device)
            z_t = self.process.add_noise(z_hq, noise, t)
            with autocast(self.device, self.dtype):
                prediction = as_denoiser(self.network)(z_t, t, prompt)
            losses.setdefault(time, []).append(fake_loss(self.process, prediction, z_hq, noise, t).item())
            x0 = self.process.to_x0(z_t, prediction.float(), t)
            with autocast(self.device, self.dtype):
                x = decode_latents(self.vae, x0)
            shown.append(x[0].clamp(0, 1))
        return torch.cat(shown, dim=-1)
