"""Settings of a training run: frozen dataclasses that validate their own values."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Union

from tsdsr.data.datasets import CropSettings, PairSettings
from tsdsr.diffusion.losses import Omega, Space
from tsdsr.errors import ConfigError
from tsdsr.field_checks import Between, Count, CountOrZero, NonNegative, Positive, Seed, check_fields
from tsdsr.models.zoo import SPECS, get_spec
from tsdsr.training.network_arguments import check_network_arguments
from tsdsr.wording import counted

Ramp = Union[NonNegative, tuple[NonNegative, NonNegative]]  # noqa: UP007  (Annotated has no `|` in Python 3.10)
"""A number of at least 0, or a pair: its values at the start and end of a phase, interpolated linearly."""

Rates = tuple[NonNegative, NonNegative]
"""Learning rates at the start and end of a phase."""

Share = Annotated[float, Between(0, 1, open_high=True)]
"""A share or a decay, below 1."""

Precision = Literal["fp32", "bf16", "fp16"]
PerceptualName = Literal["lpips", "dists", "vgg", "texture"]
AdversaryName = Literal["features", "latent", "pixel", "vgg"]


def value_at(ramp: Ramp, progress: float) -> float:
    """Return a ramp's value at ``progress`` in [0, 1] of its phase."""
    if isinstance(ramp, int | float):
        return float(ramp)
    start, end = ramp
    return start + (end - start) * progress


@dataclass(frozen=True)
class Schedule:
    """A phase of training: its length, batch size and learning rate.

    Attributes:
        steps (int): optimiser steps.
        batch_size (int): samples per step, over all processes and accumulated micro-batches.
        lr (tuple): learning rate at the start and end, with half a cosine between.
        warmup (int): initial steps over which the rate rises linearly from zero.
        cycles (int): number of cosine cycles.
    """

    steps: Count
    batch_size: Count
    lr: Rates
    warmup: CountOrZero = 0
    cycles: Count = 1

    def __post_init__(self) -> None:
        check_fields(self)
        if self.warmup > self.steps:
            raise ConfigError(f"warmup must lie within the phase's {counted(self.steps, 'step')}, got {self.warmup}")

    def learning_rate(self, step: int, rates: tuple[float, float] | None = None) -> float:
        """Return the rate at 0-based ``step`` of this phase; ``rates`` replaces ``lr`` for another role."""
        start, end = rates or self.lr
        if step < self.warmup:
            return start * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup) * self.cycles % 1
        return end + 0.5 * (start - end) * (1 + math.cos(math.pi * progress))

    def progress(self, step: int) -> float:
        """Return the progress through the phase at its 0-based ``step``: 0 at the first, 1 at the last."""
        return step / max(1, self.steps - 1)


@dataclass(frozen=True)
class TSDSettings:
    """Target score distillation in one phase (eqs. 3 to 6).

    Attributes:
        lambda_vsd (Ramp): weight of VSD, eq. 3.
        lambda_tsm (Ramp): weight of TSM, eq. 4.
        guidance (float): classifier-free guidance scale of teacher and fake network in the residuals; 1 means no
            guidance.
        first (Ramp): first start position of a walk, out of 1000 from noise to clean.
        last (Ramp): last start position of a walk.
        points (int): number of points N of the walk; 1 is plain TSD, more than 1 is DASM.
        step_size (float): step s between points, in positions.
        shift (int): maximum random shift, in positions, of every point but the first.
        later_weight (float): weight of every point but the first, whose weight is 1.
        omega ("sigma2" | "one" | "snr"): weight of a time, see :func:`~tsdsr.diffusion.losses.omega`.
        space ("native" | "eps"): space in which predictions are compared, see :func:`~tsdsr.diffusion.losses.in_space`.
        batched (bool): compute all predictions of a network at a point in one pass. Otherwise use one latent and one
            prompt per pass, which needs less memory.
    """

    lambda_vsd: Ramp = 0.7
    lambda_tsm: Ramp = 0.3
    guidance: Annotated[float, Between(1)] = 7.5
    first: Ramp = 50
    last: Ramp = 950
    points: Annotated[int, Between(1, 1000)] = 1
    step_size: Annotated[float, Between(0, 1000, open_low=True)] = 50
    shift: Annotated[int, Between(0, 1000)] = 0
    later_weight: NonNegative = 0.3
    omega: Omega = "sigma2"
    space: Space = "native"
    batched: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        for p in (0.0, 1.0):
            if not 0 <= value_at(self.first, p) <= value_at(self.last, p) <= 999:
                raise ConfigError(f"positions need 0 <= first <= last <= 999, got first={self.first}, last={self.last}")

    @property
    def step_weights(self) -> tuple[float, ...]:
        return (1.0, *(self.later_weight,) * (self.points - 1))


@dataclass(frozen=True)
class Phase(Schedule):
    """A phase of student training with one set of losses (eqs. 7 and 8).

    Attributes:
        fake_lr (tuple): learning rate of the fake network, scheduled like ``lr``.
        discriminator_lr (tuple): learning rate of the discriminator, scheduled like ``lr``.
        gamma_rec (Ramp): weight of the reconstruction losses.
        gamma_reg (Ramp): weight of TSD.
        perceptual_weight (Ramp): weight of LPIPS; 0 disables it.
        latent_mse_weight (Ramp): weight of the latent MSE.
        l1_weight (Ramp): weight of the pixel L1 term, which is not in the paper.
        perceptual_crop (int | None): edge of a random square to compute LPIPS on instead of the whole crop, for speed.
        perceptual (tuple): perceptual distances, one per step in turn: "lpips", "dists", "vgg" (raw features),
            "texture" (their distributions).
        sharpen_truth (float): weight of an unsharp mask on the ground truth for all losses on images. TSD, the latent
            MSE and the discriminator get the unchanged ground truth. 0 disables it; Real-ESRGAN uses 0.5.
        grid_weight (Ramp): weight of the loss on grid artefacts, which is not in the paper.
        grid_relative (bool): compute that loss per image and relative to the local strength of the residual, see
            :func:`~tsdsr.training.image_losses.grid_loss`.
        weave_weight (Ramp): weight of the loss on single-pixel patterns and coloured fringes, see
            :func:`~tsdsr.training.weave.weave_loss`.
        equivariance_weight (Ramp): weight of the difference between results of images and of their turned copies.
        tsd (TSDSettings | None): settings of TSD; None trains with reconstruction losses only and needs no teacher.
        adversarial_weight (Ramp): weight of the adversarial loss, which is not in the paper.
        adversarial_relative (bool): scale the adversarial gradient so that its norm at the latents is
            ``adversarial_weight`` times that of a mean absolute difference of latents. Each micro-batch is scaled by
            itself, so unlike the other losses, this depends on how a batch is split.
        adversary ("features" | "latent" | "pixel" | "vgg"): input of the discriminator: the fake network's features, or
            what needs no teacher: the latents, the decoded images, or VGG16's features of them. The same in all phases
            of a run.
        diverse_prompts (Ramp): probability that the student sees the image's prompt instead of the fixed one.
    """

    fake_lr: Rates = (1e-6, 1e-6)
    discriminator_lr: Rates = (1e-4, 1e-4)
    gamma_rec: Ramp = 1.0
    gamma_reg: Ramp = 1.0
    perceptual_weight: Ramp = 0.0
    latent_mse_weight: Ramp = 0.0
    l1_weight: Ramp = 0.0
    perceptual_crop: Annotated[int, Between(16, 2**31 - 1)] | None = None
    perceptual: tuple[PerceptualName, ...] = ("lpips",)
    sharpen_truth: NonNegative = 0.0
    grid_weight: Ramp = 0.0
    grid_relative: bool = False
    weave_weight: Ramp = 0.0
    equivariance_weight: Ramp = 0.0
    tsd: TSDSettings | None = None
    adversarial_weight: Ramp = 0.0
    adversarial_relative: bool = False
    adversary: AdversaryName = "features"
    diverse_prompts: Ramp = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.perceptual:
            raise ConfigError("perceptual must name at least one distance; perceptual_weight=0 turns the term off")
        if max(value_at(self.diverse_prompts, p) for p in (0.0, 1.0)) > 1:
            raise ConfigError(f"diverse_prompts is a probability, at most 1, got {self.diverse_prompts}")

    @property
    def needs_scores(self) -> bool:
        """Whether the phase needs a teacher and a fake network."""
        return self.tsd is not None or (self.adversarial_weight != 0.0 and self.adversary == "features")


ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj")
"""Name suffixes of the attention projections that carry LoRA in the released fake network."""


@dataclass(frozen=True)
class NetworkSettings:
    """The networks to train, and how.

    Attributes:
        model (str): key of :data:`tsdsr.models.zoo.SPECS`.
        config (dict): network arguments that differ from those of ``model``, or from those of the network that a
            student starts from, which is then enlarged. Only for models that load no base model.
        lora_rank (int | None): rank of every LoRA; None trains all weights (`mini`).
        fake_targets (tuple): name suffixes of the modules that carry the fake network's LoRA.
        base_precision ("fp32" | "bf16" | "fp16"): precision of frozen base weights; LoRA stays in fp32.
        gradient_checkpointing (bool): recompute activations in the backward pass, if the network supports it.
    """

    model: str = "mini"
    config: dict[str, Any] = field(default_factory=dict)
    lora_rank: Count | None = None
    fake_targets: tuple[str, ...] = ATTENTION
    base_precision: Precision = "fp32"
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.model not in SPECS:
            raise ConfigError(f"model must be one of {', '.join(map(repr, SPECS))}, got {self.model!r}")
        spec = get_spec(self.model)
        if self.lora_rank is not None and not spec.lora_targets:
            raise ConfigError(f"{self.model} is trained whole: lora_rank must be null, got {self.lora_rank}")
        if self.lora_rank is not None and self.config:
            raise ConfigError(f"config has no effect where a base model is loaded, got {sorted(self.config)}")
        if self.lora_rank is not None and not self.fake_targets:
            raise ConfigError("fake_targets must name at least one module")
        check_network_arguments(spec, self.config)
        if self.lora_rank is None and self.base_precision != "fp32":
            raise ConfigError("trained weights are stored in fp32; base_precision is for frozen ones")


@dataclass(frozen=True)
class RunConfig:
    """Settings common to all training runs.

    Attributes:
        phases (tuple of Schedule): phases, in order.
        networks (NetworkSettings): networks to train.
        accumulation (int): micro-batches per step.
        ema_decay (float): decay of the exponential moving average of weights that is validated and stored.
        betas (tuple): decay rates of AdamW's moments.
        weight_decay (float): weight decay of AdamW.
        max_grad_norm (float): norm to which each role's gradients are clipped.
        max_skipped (int): maximum number of consecutive steps skipped for a non-finite loss or gradient.
        seed (int): seed of all random numbers, below 2**32.
        validation_share (float): share of photographs held out for validation.
        validation_crop (int): edge of the validation crops, one per held-out photograph.
        validate_every (int): steps between validations.
        checkpoint_every (int): steps between checkpoints.
        log_every (int): steps between lines of the log.
    """

    phases: tuple[Schedule, ...]
    networks: NetworkSettings = field(default_factory=NetworkSettings)
    accumulation: Count = 1
    ema_decay: Annotated[float, Between(0, 1, open_low=True, open_high=True)] = 0.999
    betas: tuple[Share, Share] = (0.9, 0.99)
    weight_decay: NonNegative = 1e-4
    max_grad_norm: Positive = 1.0
    max_skipped: CountOrZero = 10
    seed: Seed = 0
    validation_share: Share = 0.06
    validation_crop: Count = 256
    validate_every: Count = 500
    checkpoint_every: Count = 200
    log_every: Count = 20

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.phases:
            raise ConfigError("a run needs at least one phase")
        if any(phase.batch_size % self.accumulation for phase in self.phases):
            raise ConfigError(f"every batch_size must be a multiple of accumulation={self.accumulation}")
        self.check_size("validation_crop", self.validation_crop)

    def check_size(self, name: str, edge: int) -> None:
        """Check that the network can process images with this edge in pixels.

        Raises:
            ConfigError: the edge is not a multiple of what the network needs.
        """
        if edge % (multiple := get_spec(self.networks.model).size_multiple):
            raise ConfigError(f"{name} must be a multiple of {multiple} for {self.networks.model}, got {edge}")

    @property
    def total_steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    def find(self, step: int) -> tuple[int, int]:
        """Return the index of the phase that contains global ``step``, and the step within it, all 0-based."""
        for number, phase in enumerate(self.phases):
            if step < phase.steps:
                return number, step
            step -= phase.steps
        raise ConfigError(f"step {step} lies beyond the last phase")

    def to_json(self) -> str:
        """Return the settings as JSON, as :mod:`tsdsr.training.stored_config` reads them."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


@dataclass(frozen=True)
class StudentConfig(RunConfig):
    """Settings for training a one-step student.

    Attributes:
        phases (tuple of Phase): see :class:`Phase`.
        pairs (PairSettings): crops and degradation.
        monitor_every (int): steps between measurements of the teacher's direction (figure 3); 0 disables them.
    """

    phases: tuple[Phase, ...]
    pairs: PairSettings = field(default_factory=PairSettings)
    monitor_every: CountOrZero = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_size("pairs.crops.size", self.pairs.crops.size)
        if len(self.adversaries) > 1:
            raise ConfigError(
                "a run has one discriminator: give every phase with an adversarial loss the same adversary"
            )

    @property
    def adversaries(self) -> set[AdversaryName]:
        """Inputs of the discriminator over all phases; empty without a discriminator."""
        return {phase.adversary for phase in self.phases if phase.adversarial_weight}

    @property
    def needs_scores(self) -> bool:
        """Whether any phase needs a teacher and a fake network."""
        return any(phase.needs_scores for phase in self.phases)


@dataclass(frozen=True)
class TeacherConfig(RunConfig):
    """Settings for training a teacher with the diffusion loss on high-quality images.

    Attributes:
        crops (CropSettings): how images are cropped.
        time_density ("uniform" | "logit_normal"): distribution of times: uniform over the scheduler's list, or as in
            SD3's training (Esser et al. 2024).
        prompt_dropout (float): probability of the empty prompt, which guidance needs.
    """

    crops: CropSettings = field(default_factory=CropSettings)
    time_density: Literal["uniform", "logit_normal"] = "uniform"
    prompt_dropout: Share = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_size("crops.size", self.crops.size)
