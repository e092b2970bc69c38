"""Second-order degradation of Real-ESRGAN (Wang et al. 2021), with per-sample parameters that can be replayed.

:meth:`SecondOrderDegradation.draw` draws all random parameters of a sample and returns them as a record;
:meth:`SecondOrderDegradation.apply` applies the record. A stored record therefore reproduces its image, and records
drawn from ``(seed, number)`` do not depend on batches or workers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from tsdsr.data import operators
from tsdsr.data.degradation_presets import DegradationSettings, Family, KernelSettings, StageSettings
from tsdsr.data.kernels import delta_kernels, sinc_kernels, smooth_kernels
from tsdsr.data.operators import RESIZE_MODES, ResizeMode
from tsdsr.errors import InvalidInputError
from tsdsr.field_checks import Between, Count, NonNegative, Positive, check_fields


@dataclass(frozen=True)
class KernelRecord:
    """Parameters of a kernel. Family "none" is the identity, "sinc" uses ``cutoff``, others use sigma, angle, beta."""

    family: Family | Literal["sinc", "none"] = "none"
    size: Annotated[int, Between(1, 21)] = 21
    sigma: tuple[Positive, Positive] = (1.0, 1.0)
    angle: float = 0.0
    beta: float = 1.0
    cutoff: float = 0.0


@dataclass(frozen=True)
class StageRecord:
    """Parameters of one order: blur, resize and noise.

    ``strength`` is a standard deviation in units of 1/255 (Gaussian) or a factor (Poisson).
    """

    kernel: KernelRecord
    size: tuple[Count, Count]
    mode: ResizeMode
    noise: Literal["gaussian", "poisson"]
    strength: NonNegative
    grey: bool


@dataclass(frozen=True)
class SampleRecord:
    """All random parameters of one sample.

    Attributes:
        first (StageRecord): the first order.
        first_quality (float): JPEG quality after the first order.
        second (StageRecord): the second order.
        second_quality (float): JPEG quality of the second compression.
        final_kernel (KernelRecord): the final sinc filter, or "none".
        final_mode (str): filter of the resize to the final size.
        jpeg_last (bool): whether the second JPEG compression comes after the final resize and sinc filter.
        size (tuple): height and width of the result.
        noise_seed (int): seed of the pixel noise.
    """

    first: StageRecord
    first_quality: float
    second: StageRecord
    second_quality: float
    final_kernel: KernelRecord
    final_mode: ResizeMode
    jpeg_last: bool
    size: tuple[Count, Count]
    noise_seed: Annotated[int, Between(0, 2**63 - 1)]

    def to_dict(self) -> dict[str, Any]:
        """Convert to a dictionary for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SampleRecord:
        """The inverse of :meth:`to_dict`.

        Raises:
            ConfigError: a value is not allowed.
        """

        def kernel(d: dict[str, Any]) -> KernelRecord:
            record = KernelRecord(**{**d, "sigma": tuple(d["sigma"])})
            check_fields(record)
            return record

        def stage(d: dict[str, Any]) -> StageRecord:
            record = StageRecord(**{**d, "kernel": kernel(d["kernel"]), "size": tuple(d["size"])})
            check_fields(record)
            return record

        parts = {"first": stage(data["first"]), "second": stage(data["second"]), "size": tuple(data["size"])}
        found = cls(**{**data, **parts, "final_kernel": kernel(data["final_kernel"])})
        check_fields(found)
        return found


class SecondOrderDegradation:
    """The second-order degradation with given settings.

    Args:
        settings (DegradationSettings): ranges and probabilities, see :data:`tsdsr.data.degradation_presets.PRESETS`.
    """

    def __init__(self, settings: DegradationSettings) -> None:
        self.settings = settings

    def __call__(self, x_hq: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, list[SampleRecord]]:
        """Degrade a batch.

        Args:
            x_hq (Tensor): sharp images (B, 3, H, W) in [0, 1], on any device.
            generator (torch.Generator): CPU generator; the only source of randomness.

        Returns:
            tuple: low-quality images (B, 3, H // scale, W // scale) on the 8-bit grid of [0, 1]; targets
            (B, 3, H, W), sharpened if ``sharpen_target`` is set; and the records.
        """
        records = [self.draw((x_hq.shape[-2], x_hq.shape[-1]), generator) for _ in range(len(x_hq))]
        return self.apply(x_hq, records), self.target(x_hq), records

    def target(self, x_hq: Tensor) -> Tensor:
        """Return the ground truth: ``x_hq``, or its unsharp-masked version if ``sharpen_target`` is set."""
        if not self.settings.sharpen_target:
            return x_hq
        sharp: Tensor = operators_for(x_hq.device).unsharp_mask(x_hq)
        return sharp

    def draw(
        self, size: tuple[int, int], generator: torch.Generator, low: tuple[int, int] | None = None
    ) -> SampleRecord:
        """Draw all random parameters for one image.

        Args:
            size (tuple): height and width of the sharp image.
            generator (torch.Generator): CPU generator.
            low (tuple | None): height and width of the result; default ``size // scale``.
        """
        s, g = self.settings, generator
        low = low or (size[0] // s.scale, size[1] // s.scale)
        return SampleRecord(
            first=_draw_stage(s.first, size, g),
            first_quality=_uniform(g, *s.first.jpeg_quality),
            second=_draw_stage(s.second, low, g),
            second_quality=_uniform(g, *s.second.jpeg_quality),
            final_kernel=_draw_sinc(s.second.kernels, torch.pi / 3, g)
            if _coin(g, s.final_sinc_prob)
            else KernelRecord(),
            final_mode=RESIZE_MODES[_choice(g, (1, 1, 1))],
            jpeg_last=_coin(g, 0.5),
            size=low,
            noise_seed=int(torch.randint(2**62, (), generator=g)),
        )

    @torch.no_grad()
    def apply(self, x_hq: Tensor, records: Sequence[SampleRecord]) -> Tensor:
        """Degrade images as the records specify.

        Args:
            x_hq (Tensor): sharp images (B, 3, H, W) in [0, 1], before unsharp masking.
            records (sequence of SampleRecord): one record per image, all with the same result size.

        Returns:
            Tensor: (B, 3, h, w) on the 8-bit grid of [0, 1].

        Raises:
            InvalidInputError: The number of records differs from the number of images, or the result sizes differ.
        """
        if len(records) != len(x_hq) or len({r.size for r in records}) != 1:
            raise InvalidInputError(f"{len(x_hq)} images need as many records, all of one size; got {len(records)}")
        kernels = make_kernels([k for r in records for k in (r.first.kernel, r.second.kernel, r.final_kernel)])
        triples = kernels.reshape(len(records), 3, 1, *kernels.shape[-2:])
        # One image at a time: sizes differ after the first resize.
        images = (image[None] for image in self.target(x_hq))
        results = [self._one(*each) for each in zip(images, triples, records, strict=True)]
        return torch.cat(results).contiguous()

    def _one(self, x: Tensor, kernels: Tensor, r: SampleRecord) -> Tensor:
        """Degrade one image (1, 3, H, W) with the kernels (3, 1, k, k) of its record."""
        ops = operators_for(x.device)
        generator = torch.Generator(x.device).manual_seed(r.noise_seed)

        def resize_and_add_noise(x: Tensor, stage: StageRecord) -> Tensor:
            x = ops.resize(x, stage.size, stage.mode, self.settings.antialias)
            add = ops.add_gaussian_noise if stage.noise == "gaussian" else ops.add_poisson_noise
            noisy: Tensor = add(x, torch.tensor([stage.strength]), torch.tensor([stage.grey]), generator)
            return noisy

        x = resize_and_add_noise(ops.filter2d(x, kernels[0]), r.first)
        x = ops.jpeg(x, torch.tensor([r.first_quality]))
        x = resize_and_add_noise(ops.filter2d(x, kernels[1]), r.second)
        quality = torch.tensor([r.second_quality])
        if not r.jpeg_last:
            x = ops.jpeg(x, quality)
        x = ops.filter2d(ops.resize(x, r.size, r.final_mode, self.settings.antialias), kernels[2])
        result: Tensor = ops.quantise(ops.jpeg(x, quality) if r.jpeg_last else x)
        return result


def operators_for(device: torch.device) -> ModuleType:
    """Return the operator module for a device.

    Raises:
        MissingDependencyError: OpenCV is needed but not installed.
    """
    if device.type != "cpu":
        return operators
    from tsdsr.data import operators_cpu  # imported here because OpenCV is an optional dependency

    return operators_cpu


def make_kernels(records: Sequence[KernelRecord], max_size: int = 21) -> Tensor:
    """Create the kernels of N records, shape (N, max_size, max_size)."""
    kernels = delta_kernels(len(records), max_size)
    sinc = [i for i, r in enumerate(records) if r.family == "sinc"]
    smooth = [i for i, r in enumerate(records) if r.family not in ("sinc", "none")]
    if sinc:
        chosen = [records[i] for i in sinc]
        sizes = torch.tensor([r.size for r in chosen])
        kernels[sinc] = sinc_kernels(torch.tensor([r.cutoff for r in chosen]), sizes, max_size)
    if smooth:
        chosen = [records[i] for i in smooth]
        kernels[smooth] = smooth_kernels(
            [r.family for r in chosen],  # type: ignore[misc]
            torch.tensor([r.sigma for r in chosen]),
            torch.tensor([r.angle for r in chosen]),
            torch.tensor([r.beta for r in chosen]),
            torch.tensor([r.size for r in chosen]),
            max_size,
        )
    return kernels


def _draw_stage(s: StageSettings, size: tuple[int, int], g: torch.Generator) -> StageRecord:
    kernel = _draw_kernel(s.kernels, g) if _coin(g, s.blur_prob) else KernelRecord()
    direction = _choice(g, s.resize_prob)
    low, high = s.resize_range
    factor = (_uniform(g, 1, high), _uniform(g, low, 1), 1.0)[direction]
    gaussian = _coin(g, s.gaussian_prob)
    return StageRecord(
        kernel=kernel,
        size=(max(1, int(size[0] * factor)), max(1, int(size[1] * factor))),
        mode=RESIZE_MODES[_choice(g, (1, 1, 1))],
        noise="gaussian" if gaussian else "poisson",
        strength=_uniform(g, *(s.gaussian_sigma if gaussian else s.poisson_scale)),
        grey=_coin(g, s.grey_prob),
    )


def _draw_kernel(s: KernelSettings, g: torch.Generator) -> KernelRecord:
    if _coin(g, s.sinc_prob):
        return _draw_sinc(s, None, g)
    family, isotropic = s.kinds[_choice(g, s.kind_prob)]
    sigma_x = _uniform(g, *s.sigma)
    sigma_y = sigma_x if isotropic else _uniform(g, *s.sigma)
    angle = 0.0 if isotropic else _uniform(g, -torch.pi, torch.pi)
    low, high = s.beta_plateau if family == "plateau" else s.beta_generalized
    # Half of the kernels are flatter than a Gaussian, half are more peaked.
    beta = _uniform(g, low, 1) if _coin(g, 0.5) else _uniform(g, 1, high)
    return KernelRecord(family, _draw_size(s, g), (sigma_x, sigma_y), angle, 1.0 if family == "gaussian" else beta)


def _draw_sinc(s: KernelSettings, lowest: float | None, g: torch.Generator) -> KernelRecord:
    """Draw a sinc filter. The default lowest cutoff is pi/3 for small and pi/5 for large kernels."""
    size = _draw_size(s, g)
    low = lowest if lowest is not None else torch.pi / (3 if size < 13 else 5)
    return KernelRecord("sinc", size, cutoff=_uniform(g, low, torch.pi))


def _draw_size(s: KernelSettings, g: torch.Generator) -> int:
    low, high = s.sizes
    return low + 2 * int(torch.randint((high - low) // 2 + 1, (), generator=g))


def _uniform(g: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=g, dtype=torch.float64))


def _coin(g: torch.Generator, probability: float) -> bool:
    return float(torch.rand((), generator=g, dtype=torch.float64)) < probability


def _choice(g: torch.Generator, weights: Sequence[float]) -> int:
    return int(torch.multinomial(torch.tensor(weights, dtype=torch.float64), 1, generator=g))
