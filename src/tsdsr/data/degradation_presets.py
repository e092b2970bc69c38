"""Published parameter sets of the second-order degradation. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from tsdsr.errors import ConfigError, InvalidInputError
from tsdsr.field_checks import Count, Probability, check_fields

Family = Literal["gaussian", "generalized", "plateau"]
"""Families of blur kernels, see :mod:`tsdsr.data.kernels`."""

FAMILIES: tuple[Family, ...] = ("gaussian", "generalized", "plateau")

Range = tuple[float, float]


@dataclass(frozen=True)
class KernelSettings:
    """Settings for the blur kernels of one order.

    Attributes:
        kinds (tuple): (family, isotropic) pairs to choose from.
        kind_prob (tuple): their probabilities.
        sizes (tuple): smallest and largest kernel edge, both odd.
        sinc_prob (float): probability of a sinc filter instead.
        sigma (tuple): range of the standard deviation along each axis, in pixels.
        beta_generalized (tuple): range of the shape parameter of the generalised Gaussian; must contain 1.
        beta_plateau (tuple): range of the shape parameter of the plateau kernel; must contain 1.
    """

    kinds: tuple[tuple[Family, bool], ...] = (
        ("gaussian", True),
        ("gaussian", False),
        ("generalized", True),
        ("generalized", False),
        ("plateau", True),
        ("plateau", False),
    )
    kind_prob: tuple[Probability, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    sizes: tuple[int, int] = (7, 21)
    sinc_prob: Probability = 0.1
    sigma: Range = (0.2, 3.0)
    beta_generalized: Range = (0.5, 4.0)
    beta_plateau: Range = (1.0, 2.0)

    def __post_init__(self) -> None:
        check_fields(self)
        _check_range("sigma", self.sigma, positive=True)
        if len(self.kinds) != len(self.kind_prob) or abs(sum(self.kind_prob) - 1) > 1e-6:
            raise ConfigError("kind_prob must have one probability per kind, and they must add up to 1")
        if any(v % 2 == 0 for v in self.sizes) or not 1 <= self.sizes[0] <= self.sizes[1] <= 21:
            raise ConfigError(f"sizes must be odd, from 1 to 21, got {self.sizes}")
        for name in ("beta_generalized", "beta_plateau"):
            low, high = getattr(self, name)
            if not 0 < low <= 1 <= high:
                raise ConfigError(f"{name} must be a range that contains 1, got ({low}, {high})")


@dataclass(frozen=True)
class StageSettings:
    """Settings for one order: blur, resize, noise, JPEG.

    Attributes:
        kernels (KernelSettings): blur kernels.
        blur_prob (float): probability of the blur.
        resize_prob (tuple): probabilities of upscaling, downscaling and no resize.
        resize_range (tuple): smallest and largest resize factor.
        gaussian_prob (float): probability of Gaussian noise; otherwise the noise is Poisson.
        gaussian_sigma (tuple): range of the standard deviation of Gaussian noise, in units of 1/255.
        poisson_scale (tuple): range of the strength of Poisson noise.
        grey_prob (float): probability that noise is the same in all channels.
        jpeg_quality (tuple): range of the JPEG quality.
    """

    kernels: KernelSettings
    blur_prob: Probability
    resize_prob: tuple[Probability, Probability, Probability]
    resize_range: Range
    gaussian_sigma: Range
    poisson_scale: Range
    jpeg_quality: Range
    gaussian_prob: Probability = 0.5
    grey_prob: Probability = 0.4

    def __post_init__(self) -> None:
        check_fields(self)
        if abs(sum(self.resize_prob) - 1) > 1e-6:
            raise ConfigError(f"resize_prob must add up to 1, got {self.resize_prob}")
        if not 0 < self.resize_range[0] <= 1 <= self.resize_range[1]:
            raise ConfigError(f"resize_range must contain 1, got {self.resize_range}")
        _check_range("gaussian_sigma", self.gaussian_sigma)
        _check_range("poisson_scale", self.poisson_scale)
        _check_range("jpeg_quality", self.jpeg_quality, positive=True)
        if self.jpeg_quality[1] > 100:
            raise ConfigError(f"jpeg_quality ends at 100, got {self.jpeg_quality}")


@dataclass(frozen=True)
class DegradationSettings:
    """Settings for the second-order degradation.

    Attributes:
        first (StageSettings): the first order.
        second (StageSettings): the second order.
        final_sinc_prob (float): probability of the final sinc filter.
        scale (int): downscaling factor of the result.
        sharpen_target (bool): unsharp-mask the ground truth, and therefore the input, first.
        antialias (bool): antialias bilinear and bicubic downscaling; the published code does not.
    """

    first: StageSettings
    second: StageSettings
    final_sinc_prob: Probability = 0.8
    scale: Count = 4
    sharpen_target: bool = False
    antialias: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


def _check_range(name: str, value: Range, positive: bool = False) -> None:
    low, high = value
    if not (low <= high and (low > 0 if positive else low >= 0)):
        raise ConfigError(
            f"{name} must be an increasing range of {'positive ' if positive else ''}numbers, got {value}"
        )


_REALESRGAN = DegradationSettings(
    first=StageSettings(
        kernels=KernelSettings(),
        blur_prob=1.0,
        resize_prob=(0.2, 0.7, 0.1),
        resize_range=(0.15, 1.5),
        gaussian_sigma=(1, 30),
        poisson_scale=(0.05, 3),
        jpeg_quality=(30, 95),
    ),
    second=StageSettings(
        kernels=KernelSettings(sigma=(0.2, 1.5)),
        blur_prob=0.8,
        resize_prob=(0.3, 0.4, 0.3),
        resize_range=(0.3, 1.2),
        gaussian_sigma=(1, 25),
        poisson_scale=(0.05, 2.5),
        jpeg_quality=(30, 95),
    ),
    sharpen_target=True,
)
_STABLESR_KERNELS = KernelSettings(sigma=(0.2, 1.5), beta_generalized=(0.5, 2.0), beta_plateau=(1.0, 1.5))

PRESETS: Mapping[str, DegradationSettings] = MappingProxyType(
    {
        "realesrgan": _REALESRGAN,
        "osediff": dataclasses.replace(_REALESRGAN, sharpen_target=False),
        "stablesr": DegradationSettings(
            first=StageSettings(
                kernels=_STABLESR_KERNELS,
                blur_prob=1.0,
                resize_prob=(0.2, 0.7, 0.1),
                resize_range=(0.3, 1.5),
                gaussian_sigma=(1, 15),
                poisson_scale=(0.05, 2.0),
                jpeg_quality=(60, 95),
            ),
            second=StageSettings(
                kernels=dataclasses.replace(_STABLESR_KERNELS, sigma=(0.2, 1.0)),
                blur_prob=0.5,
                resize_prob=(0.3, 0.4, 0.3),
                resize_range=(0.6, 1.2),
                gaussian_sigma=(1, 12),
                poisson_scale=(0.05, 1.0),
                jpeg_quality=(60, 100),
            ),
            sharpen_target=True,
        ),
    }
)
"""Published settings by name.

* ``realesrgan``: Real-ESRGAN x4plus (Wang et al. 2021), ground truth sharpened.
* ``osediff``: the same ranges without sharpening, as in the training of SeeSR, OSEDiff and TSD-SR.
* ``stablesr``: the milder ranges of StableSR's training and of its DIV2K validation set.
"""


def check_drawing(settings: DegradationSettings, seed: int, crop: int | None, count: int | None) -> None:
    """Check the arguments of :func:`tsdsr.data.testset.plan_test_set`.

    Raises:
        InvalidInputError: the seed or count is out of range, or the crop is not a multiple of the scale.
    """
    if not 0 <= seed < 2**63:
        raise InvalidInputError(f"the seed must lie between 0 and 2**63 - 1, got {seed}")
    if count is not None and count < 1:
        raise InvalidInputError(f"the count must be at least 1, got {count}")
    if crop is not None and (crop < 1 or crop % settings.scale):
        raise InvalidInputError(f"a crop of {crop} is not a multiple of the scale {settings.scale}")
