"""Student, teacher and fake networks: how they share weights, and their predictions.

With LoRA, there is one network: student, teacher and fake are three adapters of it (or two, and the bare base as
teacher), of which one is active at a time. Every call activates its own. A backward pass must find the adapter of its
forward pass active, because it may recompute activations. The autoencoder carries the student's adapter, which is off
outside of the student's passes. Without LoRA, the teacher is frozen, the fake is a trainable copy of it, and the
student is a separate network.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from tsdsr.diffusion.losses import Predictions, guided
from tsdsr.errors import ConfigError
from tsdsr.models.adapters import activity, attach_lora, belongs_to, new_lora, train_adapters, use_adapter
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.denoiser import as_denoiser, restore
from tsdsr.models.latents import decode_latents, encode_images
from tsdsr.models.zoo import ModelSpec
from tsdsr.training.config import NetworkSettings
from tsdsr.training.precision import keep_outer_layers_in_float32
from tsdsr.training.prompts import join

Role = Literal["teacher", "fake"]
STUDENT, FAKE = "student", "fake"
"""Names of the trained roles, and of their adapters."""


class Student(nn.Module):
    """Encoder, denoiser and decoder of the one-step student; the encoder and the denoiser are trained.

    Args:
        denoiser (ModelMixin): network.
        vae (ModelMixin): autoencoder; its decoder is frozen.
        spec (ModelSpec): the base model.
    """

    def __init__(self, denoiser: ModelMixin, vae: ModelMixin, spec: ModelSpec) -> None:
        super().__init__()
        self.denoiser, self.vae, self.spec = denoiser, vae, spec

    @contextmanager
    def active(self) -> Iterator[None]:
        """Keep the student's adapters active within the block. Its backward pass belongs into one as well."""
        use_adapter(self.denoiser, STUDENT)
        use_adapter(self.vae, STUDENT)
        try:
            yield
        finally:
            use_adapter(self.vae, None)

    def forward(self, x_lq: Tensor, prompt: Conditioning) -> tuple[Tensor, Tensor]:
        """Map enlarged low-quality images (B, 3, H, W) in [0, 1] to ``z_hat`` and ``x_hat``, nominally in [0, 1]."""
        with self.active():
            z_lq = encode_images(self.vae, x_lq)
            z_hat = restore(as_denoiser(self.denoiser), self.spec.process, z_lq, self.spec.timestep, prompt)
            return z_hat, decode_latents(self.vae, z_hat)


class ScoreNetworks(nn.Module):
    """Teacher and fake: the two score networks of the distillation.

    Args:
        fake (ModelMixin): the fake network, or the shared base with its adapters.
        teacher (ModelMixin | None): a separate network; None if ``fake`` contains both roles.
        has_teacher_adapter (bool): whether the shared base has a teacher adapter; otherwise the bare base is the
            teacher.
    """

    def __init__(self, fake: ModelMixin, teacher: ModelMixin | None = None, has_teacher_adapter: bool = False) -> None:
        super().__init__()
        self.fake, self.teacher = fake, teacher
        self.has_teacher_adapter = has_teacher_adapter
        if teacher is not None:
            teacher.requires_grad_(False)

    def network(self, role: Role) -> nn.Module:
        """Return the module for a role, with its adapter active."""
        if self.teacher is not None:
            own: nn.Module = self.teacher if role == "teacher" else self.fake
            return own
        use_adapter(self.fake, role if role == FAKE or self.has_teacher_adapter else None)
        network: nn.Module = self.fake
        return network

    def forward(self, z_t: Tensor, t: Tensor, conditioning: Conditioning, role: Role = "fake") -> Tensor:
        """Compute a role's native prediction for noisy latents (B, C, h, w) at times (B,)."""
        return as_denoiser(self.network(role))(z_t, t, conditioning)

    def predictions(
        self,
        z_hat_t: Tensor,
        z_hq_t: Tensor,
        t: Tensor,
        prompt: Conditioning,
        null: Conditioning,
        guidance: float = 7.5,
        batched: bool = True,
    ) -> Predictions:
        """Compute the predictions of both roles at one point of the walk, with guidance.

        If batched, one teacher pass covers both latents and both prompts, and one fake pass covers both prompts.
        Otherwise each of the six predictions is a separate pass.

        Args:
            z_hat_t, z_hq_t (Tensor): noisy latents (B, C, h, w).
            t (Tensor): times (B,).
            prompt (Conditioning): batch B.
            null (Conditioning): the empty prompt, batch 1 or B, on the same device and in the same dtype.
            guidance (float): scale; 1 skips the empty prompt.
            batched (bool): see above.
        """
        null = null.expand(len(t))

        def ask(role: Role, *latents: Tensor) -> list[Tensor]:
            denoiser = as_denoiser(self.network(role))
            if guidance == 1:
                questions = [(z, prompt) for z in latents]
            else:
                questions = [(z, c) for z in latents for c in (prompt, null)]
            if batched:
                z, c = torch.cat([z for z, _ in questions]), join(*(c for _, c in questions))
                answers = list(denoiser(z, t.repeat(len(questions)), c).chunk(len(questions)))
            else:
                answers = [denoiser(z, t, c) for z, c in questions]
            if guidance == 1:
                return answers
            return [guided(c, u, guidance) for c, u in zip(answers[::2], answers[1::2], strict=True)]

        teacher_hat, teacher_hq = ask("teacher", z_hat_t, z_hq_t)
        (fake_hat,) = ask("fake", z_hat_t)
        return Predictions(teacher_hat, fake_hat, teacher_hq)


@dataclass
class Networks:
    """All networks for training a student.

    Attributes:
        student (Student): the student to train.
        scores (ScoreNetworks | None): teacher and fake; None for reconstruction only.
        vae (ModelMixin): the original autoencoder, for ``z_hq``; with LoRA the student's, its adapter being off.
        lora (bool): whether the roles are adapters.
    """

    student: Student
    scores: ScoreNetworks | None
    vae: ModelMixin
    lora: bool = False

    def trained(self) -> dict[str, dict[str, nn.Parameter]]:
        """Return the trained weights by role, ``student`` and ``fake``, and by name."""
        modules: dict[str, nn.Module] = {STUDENT: self.student}
        if self.scores is not None:
            modules[FAKE] = self.scores
        return {
            role: {
                name: parameter
                for name, parameter in trained_parameters(module).items()
                if not self.lora or belongs_to(name, role)
            }
            for role, module in modules.items()
        }


@dataclass
class Parts:
    """Loaded or new weights to build networks from.

    Attributes:
        denoiser (ModelMixin): LoRA: the base model. Full training: the student's initial network.
        vae (ModelMixin): the base model's autoencoder.
        teacher (ModelMixin | dict | None): LoRA: the teacher's LoRA weights, None for the bare base. Full training:
            the teacher's network, None where no teacher is needed.
        student_lora, vae_lora (dict | None): initial LoRA weights of the student; None starts from the base.
    """

    denoiser: ModelMixin
    vae: ModelMixin
    teacher: ModelMixin | dict[str, Tensor] | None = None
    student_lora: dict[str, Tensor] | None = None
    vae_lora: dict[str, Tensor] | None = None


def build_networks(parts: Parts, spec: ModelSpec, settings: NetworkSettings, seed: int, scores: bool) -> Networks:
    """Build student, teacher and fake from loaded parts.

    Args:
        parts (Parts): consumed by this call.
        spec (ModelSpec): the base model.
        settings (NetworkSettings): rank, targets, checkpointing.
        seed (int): seed for the initial LoRA weights.
        scores (bool): whether teacher and fake are needed.

    Raises:
        ConfigError: full training with TSD but without a teacher.
        WeightsError: LoRA weights do not match the network.
    """
    if settings.lora_rank is None:
        networks = _build_full(parts, spec, scores)
    else:
        networks = _build_lora(parts, spec, settings, settings.lora_rank, seed, scores)
    if networks.scores is not None:
        if networks.scores.teacher is None:
            student = activity(networks.scores.fake, STUDENT)
            keep_outer_layers_in_float32(networks.scores.fake, unless=student)
        else:
            keep_outer_layers_in_float32(networks.scores.fake)
            keep_outer_layers_in_float32(networks.scores.teacher)
    if settings.gradient_checkpointing:
        for network in (networks.student.denoiser, networks.student.vae, networks.scores and networks.scores.fake):
            enable_gradient_checkpointing(network)
    return networks


def enable_gradient_checkpointing(network: Any) -> None:
    """Recompute activations in the backward pass to save memory, if the network supports it."""
    if network is not None and network._supports_gradient_checkpointing:
        network.enable_gradient_checkpointing()
        network.train()  # diffusers recomputes only in training mode; none of these networks has dropout
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):  # of FLUX.2's autoencoder: its statistics scale the latents
                module.eval()


def _build_full(parts: Parts, spec: ModelSpec, scores: bool) -> Networks:
    student_vae = copy.deepcopy(parts.vae)
    _freeze_decoder(student_vae)
    teacher = parts.teacher
    pair = None
    if scores:
        if not isinstance(teacher, nn.Module):
            raise ConfigError(
                "distillation needs a teacher: train one with 'tsdsr train teacher' and give it as --teacher"
            )
        pair = ScoreNetworks(copy.deepcopy(teacher).requires_grad_(True), teacher)
    student = Student(parts.denoiser, student_vae, spec)
    return Networks(student, pair, parts.vae.requires_grad_(False))


def _build_lora(
    parts: Parts, spec: ModelSpec, settings: NetworkSettings, rank: int, seed: int, scores: bool
) -> Networks:
    generator = torch.Generator().manual_seed(seed)
    denoiser, vae = parts.denoiser, parts.vae
    for module, targets, given in (
        (denoiser, spec.lora_targets, parts.student_lora),
        (vae, spec.vae_lora_targets, parts.vae_lora),
    ):
        if given is None:
            new_lora(module, targets, rank, STUDENT, generator)
        else:
            attach_lora(module, given, STUDENT)
    pair = None
    if scores:
        if isinstance(parts.teacher, dict):
            attach_lora(denoiser, parts.teacher, "teacher")
        new_lora(denoiser, settings.fake_targets, rank, FAKE, generator)
        pair = ScoreNetworks(denoiser, has_teacher_adapter=isinstance(parts.teacher, dict))
    train_adapters(denoiser, {STUDENT, FAKE})
    train_adapters(vae, {STUDENT})
    use_adapter(vae, None)
    return Networks(Student(denoiser, vae, spec), pair, vae, lora=True)


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of a module that require gradients, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _freeze_decoder(vae: nn.Module) -> None:
    for name, parameter in vae.named_parameters():
        if name.startswith(("decoder.", "post_quant_conv.")):
            parameter.requires_grad_(False)


def channels_last(module: Any) -> Any:
    """Convert convolution weights to channels-last for speed. Typed ``Any`` because torch's stubs differ by version."""
    return module.to(memory_format=torch.channels_last)
