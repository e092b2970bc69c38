"""What a training step costs on one device, counted over the real networks without weights or pixels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tsdsr.diffusion.losses import gradient_loss, reconstruction_loss
from tsdsr.errors import MissingDependencyError, install_extra
from tsdsr.models.conditioning import default_conditioning
from tsdsr.models.denoiser import as_denoiser
from tsdsr.models.latents import encode_images
from tsdsr.models.zoo import ModelSpec
from tsdsr.training.config import Phase
from tsdsr.training.networks import Networks
from tsdsr.training.precision import autocast
from tsdsr.training.tensor_counter import TensorCounter, give_fake_tensors

_CPU = torch.device("cpu")  # where tensors without storage claim to be
_TIME = 500.0


@dataclass(frozen=True)
class StepCost:
    """Cost of one micro-batch, by part of the step.

    Attributes:
        peaks (mapping): part → largest number of bytes in use during it, beyond weights, gradients and moments.
        flops (mapping): part → floating point operations; of the walk, those of one point.
    """

    peaks: dict[str, int] = field(default_factory=dict)
    flops: dict[str, int] = field(default_factory=dict)

    @property
    def activations(self) -> int:
        """Bytes that a device needs beyond weights, gradients and moments."""
        return max(self.peaks.values())

    def operations(self, points: int = 1) -> int:
        """Floating point operations of a micro-batch with a walk of ``points`` points."""
        return sum(count * (points if part == "walk" else 1) for part, count in self.flops.items())


def student_step_cost(
    networks: Networks, spec: ModelSpec, phase: Phase, size: int, batch: int, dtype: torch.dtype
) -> StepCost:
    """Count a step of a student: student, one point of the walk, backward pass, fake network.

    The parts are those of :class:`tsdsr.training.student.StudentTrainer`. Discriminators and losses against grids and
    weave are left out; LPIPS stands for every perceptual distance.

    Args:
        networks (Networks): networks by role, on the meta device; they lose their tensors.
        spec (ModelSpec): the base model.
        phase (Phase): its losses and its distillation.
        size (int): edge of the crops in pixels.
        batch (int): samples of a micro-batch.
        dtype (torch.dtype): autocast precision; float32 means none.

    Raises:
        MissingDependencyError: the phase has a perceptual loss, and lpips is not installed.
    """
    cost = StepCost()
    perceptual = _lpips() if phase.perceptual_weight else None
    scores = networks.scores if phase.needs_scores else None
    modules = [m for m in (networks.student, networks.scores, networks.vae, perceptual) if m is not None]
    with _counting(modules, dtype) as counter:
        x_lq, x_hq = torch.empty(batch, 3, size, size), torch.empty(batch, 3, size, size)
        prompt, null = default_conditioning(spec).expand(batch), default_conditioning(spec)
        with _part("student", counter, cost):
            with autocast(_CPU, dtype):
                z_hat, x_hat = networks.student(x_lq, prompt)
            with torch.no_grad(), autocast(_CPU, dtype):
                z_hq = encode_images(networks.vae, x_hq)
            with autocast(_CPU, dtype):
                distance = _on_squares(perceptual, phase.perceptual_crop)
                loss = reconstruction_loss(x_hat, x_hq, z_hat.float(), z_hq, distance, l1_weight=1.0).total
        t = torch.full((batch,), _TIME)
        if scores is not None and phase.tsd is not None:
            with _part("walk", counter, cost), torch.no_grad(), autocast(_CPU, dtype):
                z = z_hat.detach()
                found = scores.predictions(z, z, t, prompt, null, phase.tsd.guidance, phase.tsd.batched)
                gradient = found.teacher_hat - found.fake_hat
                del found
            loss = loss + gradient_loss(z_hat, gradient)
        del x_hat, z_hq
        with _part("backward", counter, cost), networks.student.active():
            torch.autograd.backward(loss)
        z_t = z_hat.detach()
        del z_hat, loss
        if scores is not None:
            with _part("fake", counter, cost):
                with autocast(_CPU, dtype):
                    prediction = scores(z_t, t, prompt)
                torch.autograd.backward(prediction.float().square().mean())
    return cost


def teacher_step_cost(
    network: nn.Module, vae: nn.Module, spec: ModelSpec, size: int, batch: int, dtype: torch.dtype
) -> StepCost:
    """Count a step of a teacher; arguments as for :func:`student_step_cost`."""
    cost = StepCost()
    with _counting([network, vae], dtype) as counter:
        with _part("encoder", counter, cost), torch.no_grad(), autocast(_CPU, dtype):
            z = encode_images(vae, torch.empty(batch, 3, size, size))
        with _part("teacher", counter, cost):
            with autocast(_CPU, dtype):
                prediction = as_denoiser(network)(
                    z, torch.full((batch,), _TIME), default_conditioning(spec).expand(batch)
                )
            torch.autograd.backward(prediction.float().square().mean())
    return cost


@contextmanager
def _counting(modules: Sequence[nn.Module], dtype: torch.dtype) -> Iterator[TensorCounter]:
    """Give the modules tensors without storage, weights and gradients not counted, and count what the block does."""
    norms = nullcontext() if dtype == torch.float32 else norms_in_float32(modules)
    with norms, FakeTensorMode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # checkpointing without inputs that require gradients, as in training
        held = give_fake_tensors(*modules)
        for weight in held:
            if weight.requires_grad:
                weight.grad = torch.empty_like(weight)
        gradients = [weight.grad for weight in held if weight.grad is not None]
        with TensorCounter([*held, *gradients]) as counter:
            yield counter


@contextmanager
def norms_in_float32(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Compute normalisations in float32 within the block, as autocast does on a GPU but not on a CPU."""
    kinds = (nn.GroupNorm, nn.LayerNorm)
    norms = [part for module in modules for part in module.modules() if isinstance(part, kinds)]
    hooks = [norm.float().register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),)) for norm in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _part(name: str, counter: TensorCounter, cost: StepCost) -> Iterator[None]:
    counter.peak, before = counter.live, counter.flops
    yield
    cost.peaks[name], cost.flops[name] = counter.peak, counter.flops - before


def _lpips() -> Any:
    """LPIPS on VGG16 with random weights."""
    try:
        import lpips
    except ImportError as error:
        raise MissingDependencyError(f"training needs lpips: {install_extra('train')}") from error
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's deprecated `pretrained` argument, inside lpips
        return lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False).eval().requires_grad_(False)


def _on_squares(perceptual: Any, edge: int | None) -> Any:
    if perceptual is None:
        return None

    def distance(x_hat: Tensor, x_hq: Tensor) -> Tensor:
        value: Tensor = perceptual(x_hat[..., :edge, :edge], x_hq[..., :edge, :edge], normalize=True).mean()
        return value

    return distance
