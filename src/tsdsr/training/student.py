"""Training of a one-step student: reconstruction and target score distillation (eqs. 3 to 9)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import Dataset

from tsdsr.data.operators import unsharp_mask
from tsdsr.diffusion.losses import (
    Predictions,
    WalkPoint,
    fake_loss,
    gradient_loss,
    reconstruction_loss,
    tsd_gradient,
)
from tsdsr.diffusion.trajectory import paired_walk, walk_positions
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.zoo import get_spec
from tsdsr.training.adversarial import Adversary, discriminator_loss, with_gradient
from tsdsr.training.adversary_choice import make_adversary
from tsdsr.training.artefact_losses import artefact_losses, turn_of_step
from tsdsr.training.config import Phase, StudentConfig, TSDSettings, value_at
from tsdsr.training.engine import Engine
from tsdsr.training.equivariance import with_turned_half
from tsdsr.training.monitors import ScoreGapByTime, direction_cosines, score_gap
from tsdsr.training.networks import Networks, trained_parameters
from tsdsr.training.perceptual_choice import (
    Perceptual,
    perceptual_distance,
    perceptual_names,
    perceptual_of_step,
)
from tsdsr.training.precision import autocast, store_in_autocast_dtype
from tsdsr.training.prompts import LabelPrompts, Prompts, join, mix
from tsdsr.training.provenance import RunFiles
from tsdsr.training.run_log import make_accelerator
from tsdsr.training.sample_rng import SampleRNG
from tsdsr.training.samples import PairSamples, TrainingData, TrainingSample
from tsdsr.training.sharding import ShardMode
from tsdsr.training.validation import validation_figures, validation_pairs

# Random streams of a sample: removing one use does not change another.
_WALK, _FAKE, _PROMPT = 1, 2, 3


class StepLatents(NamedTuple):
    """Results of the student's pass over a micro-batch that the other roles' steps need.

    Attributes:
        items (list of int): sample numbers.
        z_hat, z_hq (Tensor): restored and true latents (B, C, h, w), detached.
        prompt (Conditioning): the images' prompts, on the device.
    """

    items: list[int]
    z_hat: Tensor
    z_hq: Tensor
    prompt: Conditioning


class StudentTrainer(Engine):
    """Trains a one-step student; one instance is one run in one folder.

    Args:
        config (StudentConfig): the run's settings.
        networks (Networks): networks by role; the trainer takes ownership.
        data (TrainingData): photographs.
        output (Path): folder for checkpoints, log and validation images; an interrupted run there is resumed.
        prompts (Prompts | None): conditioning by role; default: `mini`'s.
        accelerator (Accelerator | None): default: one process on the CPU.
        dtype (torch.dtype): autocast precision; float32 means none.
        workers (int): data loading processes.
        files (RunFiles | None): paths that the networks were loaded from; stored with every checkpoint.
        shard (ShardMode | None): how networks are split over the processes.
        perceptual (callable | None): replaces every perceptual distance.

    Raises:
        TrainingError: the folder contains another run.
        ConfigError: settings contradict each other or the number of processes.
    """

    config: StudentConfig

    def __init__(
        self,
        config: StudentConfig,
        networks: Networks,
        data: TrainingData,
        output: Path,
        prompts: Prompts | None = None,
        accelerator: Accelerator | None = None,
        dtype: torch.dtype = torch.float32,
        workers: int = 0,
        files: RunFiles | None = None,
        perceptual: Perceptual | None = None,
        shard: ShardMode | None = None,
    ) -> None:
        super().__init__(config, output, accelerator or make_accelerator(output, "cpu"), dtype, workers, files, shard)
        self.data, self.networks = data, networks
        self.spec = get_spec(config.networks.model)
        self.process = self.spec.process
        self.prompts = prompts or LabelPrompts()
        self.fixed, self.null = (self.on_device(p) for p in (self.prompts.fixed(), self.prompts.null()))
        self.vae, self.scores = networks.vae, networks.scores
        if self.scores is not None and self.scores.teacher is not None:
            store_in_autocast_dtype(self.scores.teacher, dtype)
        self.place(networks.student, *filter(None, [self.scores]), self.vae)
        trained = networks.trained()
        self.student = self.prepare("student", networks.student, trained["student"])
        self._fake: nn.Module | None = None
        self.adversary: Adversary | None = None
        self._head: nn.Module | None = None
        if self.scores is not None:
            self._fake = self.prepare("fake", self.scores, trained["fake"])
        if config.adversaries:
            self.adversary = make_adversary(config, networks, self.device)
            head = self.adversary.head.to(self.device)
            self._head = self.prepare("discriminator", head, trained_parameters(head))
        self.average("student")
        self.distances: dict[str, Perceptual] = {
            name: perceptual or perceptual_distance(name, self.device) for name in perceptual_names(config)
        }
        self.gaps = ScoreGapByTime()
        self._first_point: WalkPoint | None = None
        self._first_hq: Tensor | None = None
        self.resume()

    # One step

    def train_step(self, batches: Sequence[TrainingSample]) -> dict[str, Tensor]:
        number, phase_step = self.config.find(self.step)
        phase = self.config.phases[number]
        progress = phase.progress(phase_step)
        figures: dict[str, Tensor] = {}
        latents: list[StepLatents] = []
        for i, batch in enumerate(batches):
            with self.accumulating(self.student, i + 1 == len(batches)):
                loss, found = self._student_loss(batch, phase, progress, figures)
                with self.networks.student.active():
                    self.roles["student"].backward(loss, len(batches))
            latents.append(found)
        figures = {name: value / len(batches) for name, value in figures.items()}
        rates = {"student": self.learning_rate()}
        if phase.needs_scores:
            figures["loss/fake"] = self._fake_gradients(latents, phase, progress)
            rates["fake"] = self.learning_rate(phase.fake_lr)
        if phase.adversarial_weight:
            figures["loss/discriminator"] = self._discriminator_gradients(latents)
            rates["discriminator"] = self.learning_rate(phase.discriminator_lr)
        return figures | self.update({name: figures[f"loss/{name}"] for name in rates}, rates)

    def _student_loss(
        self, batch: TrainingSample, phase: Phase, progress: float, figures: dict[str, Tensor]
    ) -> tuple[Tensor, StepLatents]:
        """Compute eq. 8 for one micro-batch and add its metrics to ``figures``."""
        turn = turn_of_step(phase, self.config.seed, self.step)
        batch = with_turned_half(batch, turn) if turn else batch
        items = batch.item.tolist()
        prompt = self.on_device(self.prompts.of(batch.prompt))
        with autocast(self.device, self.dtype):
            z_hat, x_hat = self.student(batch.x_lq, self._student_prompt(items, prompt, phase, progress))
        with torch.no_grad(), autocast(self.device, self.dtype):
            z_hq = self.data.latents.of(self.vae, batch.x_hq, batch.key)
        x_hat, z_hat = x_hat.float(), z_hat.float()
        x_hq = unsharp_mask(batch.x_hq, phase.sharpen_truth) if phase.sharpen_truth else batch.x_hq
        with autocast(self.device, self.dtype):
            weights = (phase.perceptual_weight, phase.latent_mse_weight, phase.l1_weight)
            now = (value_at(weight, progress) for weight in weights)
            perceptual = perceptual_of_step(self.config, phase, self.step, self.distances)
            rec = reconstruction_loss(x_hat, x_hq, z_hat, z_hq, perceptual, *now)
        loss = value_at(phase.gamma_rec, progress) * rec.total
        new = {"loss/l1": rec.l1, "loss/perceptual": rec.perceptual, "loss/latent_mse": rec.latent_mse}
        if phase.tsd is not None:
            tsd = self._tsd_loss(phase.tsd, progress, items, z_hat, z_hq, prompt, new)
            loss = loss + value_at(phase.gamma_reg, progress) * tsd
        for name, weight, value in artefact_losses(phase, x_hat, x_hq, 2 * self.spec.vae_scale_factor, turn):
            new[f"loss/{name}"] = value
            loss = loss + value_at(weight, progress) * value
        if phase.adversarial_weight:
            adversarial = self._adversarial_loss(z_hat, items, prompt, phase.adversarial_relative)
            loss = loss + value_at(phase.adversarial_weight, progress) * adversarial
            new["loss/adversarial"] = adversarial
        new["loss/student"] = loss
        for name, value in new.items():
            figures[name] = figures.get(name, 0) + value.detach()
        return loss, StepLatents(items, z_hat.detach(), z_hq, prompt)

    def _adversarial_loss(self, z_hat: Tensor, items: Sequence[int], prompt: Conditioning, relative: bool) -> Tensor:
        """Compute the adversarial loss. Its gradient at ``z_hat`` is found at once, while the fake is active."""
        assert self.adversary is not None
        leaf = z_hat.detach().requires_grad_()
        with autocast(self.device, self.dtype):
            loss = self.adversary.generator_loss(leaf, items, prompt)
        return with_gradient(loss.detach(), z_hat, self.roles["student"].gradient(loss, leaf), relative)

    def _tsd_loss(
        self,
        tsd: TSDSettings,
        progress: float,
        items: Sequence[int],
        z_hat: Tensor,
        z_hq: Tensor,
        prompt: Conditioning,
        figures: dict[str, Tensor],
    ) -> Tensor:
        """Compute eq. 5 over the walk as a scalar attached to the student's graph."""
        walk = self.walk(tsd, progress, items, z_hat, z_hq, prompt)
        if self.config.monitor_every:
            walk = self._recorded(walk, z_hq)
        vsd, tsm = (value_at(weight, progress) for weight in (tsd.lambda_vsd, tsd.lambda_tsm))
        with autocast(self.device, self.dtype):  # one context for all points: it keeps its copies of the fake's weights
            gradient = tsd_gradient(self.process, walk, tsd.step_weights, vsd, tsm, tsd.omega, tsd.space)
        figures["tsd/vsd_rms"] = gradient.vsd.square().mean().sqrt()
        figures["tsd/tsm_rms"] = gradient.tsm.square().mean().sqrt()
        loss = gradient_loss(z_hat, gradient.tsd)
        figures["loss/tsd"] = loss.detach()
        return loss

    def walk(
        self,
        tsd: TSDSettings,
        progress: float,
        items: Sequence[int],
        z_hat: Tensor,
        z_hq: Tensor,
        prompt: Conditioning,
    ) -> Iterator[WalkPoint]:
        """Yield the paired walk of a batch, to be consumed under autocast; noise and positions are drawn per sample."""
        assert self.scores is not None
        scores = self.scores
        rng = SampleRNG(self.config.seed, _WALK, items)
        noise = rng.normal(z_hat.shape[1:], z_hat)
        start = rng.integers(value_at(tsd.first, progress), value_at(tsd.last, progress))
        shifts = rng.integers(-tsd.shift, tsd.shift, tsd.points - 1) if tsd.shift and tsd.points > 1 else None
        last = self.process.num_train_timesteps - 1
        positions = walk_positions(start, tsd.points, tsd.step_size, last, shifts)
        times = self.process.time_at(positions).to(self.device, non_blocking=True)

        def predict(z_hat_t: Tensor, z_hq_t: Tensor, t: Tensor) -> Predictions:
            return scores.predictions(z_hat_t, z_hq_t, t, prompt, self.null, tsd.guidance, tsd.batched)

        return paired_walk(self.process, predict, z_hat, z_hq, noise, times)

    def _recorded(self, walk: Iterator[WalkPoint], z_hq: Tensor) -> Iterator[WalkPoint]:
        """Yield the walk unchanged; keep its gaps and its first point for :meth:`monitor`."""
        for k, point in enumerate(walk):
            self.gaps.add(point.t, score_gap(point))
            if k == 0:
                self._first_point, self._first_hq = point, z_hq
            yield point

    def _fake_gradients(self, latents: Sequence[StepLatents], phase: Phase, progress: float) -> Tensor:
        """Accumulate the fake network's gradients on the student's latents (eq. 9, no guidance); return the mean loss.

        Times are drawn from all positions that a walk can reach.
        """
        assert self._fake is not None
        tsd = phase.tsd or TSDSettings()
        end = value_at(tsd.last, progress) + tsd.points * tsd.step_size
        positions = value_at(tsd.first, progress), min(end, self.process.num_train_timesteps - 1)
        total = torch.zeros((), device=self.device)
        for i, (items, z_hat, _, prompt) in enumerate(latents):
            rng = SampleRNG(self.config.seed, _FAKE, items)
            noise = rng.normal(z_hat.shape[1:], z_hat)
            t = self.process.time_at(rng.integers(*positions)).to(self.device, non_blocking=True)
            z_t = self.process.add_noise(z_hat, noise, t)
            with self.accumulating(self._fake, i + 1 == len(latents)):
                with autocast(self.device, self.dtype):
                    prediction = self._fake(z_t, t, prompt)
                loss = fake_loss(self.process, prediction, z_hat, noise, t)
                self.roles["fake"].backward(loss, len(latents))
            total += loss.detach() / len(latents)
        return total

    def _discriminator_gradients(self, latents: Sequence[StepLatents]) -> Tensor:
        """Accumulate the discriminator's gradients on true and restored latents; return the mean loss."""
        assert self.adversary is not None
        assert self._head is not None
        total = torch.zeros((), device=self.device)
        for i, (items, z_hat, z_hq, prompt) in enumerate(latents):
            with torch.no_grad(), autocast(self.device, self.dtype):
                both = self.adversary.features(torch.cat([z_hq, z_hat]), items * 2, join(prompt, prompt))
            with self.accumulating(self._head, i + 1 == len(latents)):
                with autocast(self.device, self.dtype):
                    loss = discriminator_loss(*self._head(both).chunk(2))
                self.roles["discriminator"].backward(loss, len(latents))
            total += loss.detach() / len(latents)
        return total

    # Conditioning and small helpers

    def _student_prompt(
        self, items: Sequence[int], prompt: Conditioning, phase: Phase, progress: float
    ) -> Conditioning:
        """Return the fixed prompt or, for some samples, the image's own."""
        fixed = self.fixed.expand(len(items))
        share = value_at(phase.diverse_prompts, progress)
        if share == 0:
            return fixed
        chosen = SampleRNG(self.config.seed, _PROMPT, items).uniform() < share
        return mix(fixed, prompt, chosen)

    def dataset(self, length: int) -> Dataset[TrainingSample]:
        return PairSamples(self.data, length, self.config.pairs, self.config.seed)

    # Monitoring and validation

    def monitor(self) -> dict[str, float]:
        """Figures 3 and 5 with guidance as in eqs. 3 and 4, from the walks since the last call, at no extra cost."""
        every = self.config.monitor_every
        if not every or (self.step + 1) % every or self._first_point is None or self._first_hq is None:
            return {}
        hat, hq = direction_cosines(self.process, self._first_point, self._first_hq)
        return {
            "direction_cosine/z_hat": hat.mean().item(),
            "direction_cosine/z_hq": hq.mean().item(),
            **self.gaps.figures(),
        }

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Validate the averaged student on fixed held-out crops, see :func:`validation_figures`."""
        if not self.accelerator.is_main_process:
            for _ in self.restored():
                pass
            return {}
        factor = self.spec.vae_scale_factor
        sheet = self.output / f"validation-{self.step:06d}.png"
        return validation_figures(self.restored(), self.distances, (factor, 2 * factor), sheet)

    @torch.no_grad()
    def restored(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Restore held-out crops with the averaged student: ``(x_lq, x_hat, x_hq)``, (1, 3, H, W) in [0, 1]."""
        pairs = validation_pairs(self.data.validation, self.config.pairs, self.config.validation_crop)
        with self.averaged():
            for x_lq, x_hq in pairs:
                self.stop_validation_if_asked()
                with autocast(self.device, self.dtype):
                    x_hat: Tensor = self.networks.student(x_lq.to(self.device), self.fixed)[1]
                yield x_lq.to(self.device), x_hat.float().clamp(0, 1), x_hq.to(self.device)
