"""A perceptual distance on raw VGG16 features, without the finest detail of luma and chroma."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsdsr.errors import MissingDependencyError, install_extra
from tsdsr.training.weave import without_finest_detail
from tsdsr.unpickling import tensors_only

LAYER_WEIGHTS: Mapping[int, float] = MappingProxyType({2: 0.1, 7: 0.1, 14: 1.0, 21: 1.0, 28: 1.0})
"""Position in torchvision's ``vgg16().features`` → weight: the last convolution of each of the five resolutions, with
the weights that Real-ESRGAN (Wang et al. 2021) gives the same layers of VGG19."""

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGGLayers(nn.Module):
    """Frozen layers of VGG16, and their outputs at some positions.

    Args:
        layers (nn.Sequential): convolutions, ReLUs and poolings, as ``torchvision.models.vgg16().features``.
        positions (collection of int): layers whose outputs are wanted.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, layers: nn.Sequential, positions: Collection[int]) -> None:
        super().__init__()
        self.positions = frozenset(positions)
        self.layers = layers[: max(positions) + 1].eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(_MEAN).reshape(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(_DEVIATION).reshape(1, 3, 1, 1))

    def features(self, x: Tensor) -> dict[int, Tensor]:
        """Map images (B, 3, H, W) in [0, 1], sides at least 16, to the outputs by position, in order."""
        x = ((x - self.mean) / self.deviation).contiguous(memory_format=torch.channels_last)
        outputs: dict[int, Tensor] = {}
        for number, layer in enumerate(self.layers):
            # torchvision's ReLUs work in place and would change the outputs that are kept.
            x = F.relu(x) if isinstance(layer, nn.ReLU) else layer(x)
            if number in self.positions:
                outputs[number] = x
        return outputs


class ComparedFeatures(VGGLayers):
    """Layers of VGG16 whose outputs for restored and true images are compared, without the finest detail."""

    def of_both(self, x_hat: Tensor, x_hq: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
        """Return the features of restored and true images by position, float32; gradients reach ``x_hat`` only.

        Args:
            x_hat (Tensor): restored images (B, 3, H, W) in [0, 1], sides at least 16.
            x_hq (Tensor): true images, same shape.
        """
        with torch.no_grad():
            target = self.features(without_finest_detail(x_hq))
        restored = self.features(without_finest_detail(x_hat))
        return {number: (output.float(), target[number].float()) for number, output in restored.items()}


class FeatureDistance(ComparedFeatures):
    """Weighted mean absolute difference of features before activation (ESRGAN, Wang et al. 2018).

    LPIPS normalises the features of every position, so that a faint pattern in a flat region hardly counts; here
    features keep their size. They are computed on :func:`~tsdsr.training.weave.without_finest_detail`, so that patterns
    of single pixels and coloured fringes, which lower any distance of features, gain nothing. The term for those is
    :func:`~tsdsr.training.weave.weave_loss`.

    Args:
        layers (nn.Sequential): convolutions, ReLUs and poolings, as ``torchvision.models.vgg16().features``.
        weights (mapping): position of a layer → weight of its output.
    """

    def __init__(self, layers: nn.Sequential, weights: Mapping[int, float] = LAYER_WEIGHTS) -> None:
        super().__init__(layers, weights)
        self.weights = dict(weights)

    def forward(self, x_hat: Tensor, x_hq: Tensor) -> Tensor:
        """Compute the distance of two batches (B, 3, H, W) in [0, 1], a scalar; gradients reach ``x_hat`` only."""
        total = x_hat.new_zeros(())
        for number, (ours, theirs) in self.of_both(x_hat, x_hq).items():
            total = total + self.weights[number] * F.l1_loss(ours, theirs)
        return total


ADVERSARY_LAYERS: Mapping[int, tuple[int, float]] = MappingProxyType(
    {3: (64, 1.10), 8: (128, 1.76), 15: (256, 2.36), 22: (512, 1.08)}
)
"""Position of the last ReLU of each of the four finest resolutions → channels, and root mean square on photographs."""


class VGGMaps(VGGLayers):
    """VGG16's features after activation at four resolutions, scaled to unit root mean square on photographs.

    Args:
        layers (nn.Sequential): convolutions, ReLUs and poolings, as ``torchvision.models.vgg16().features``.
    """

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__(layers, ADVERSARY_LAYERS)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images (B, 3, H, W) in [0, 1], sides multiples of 8, to feature maps, finest first."""
        return [output / ADVERSARY_LAYERS[number][1] for number, output in self.features(x).items()]


def vgg_layers() -> nn.Sequential:
    """Load the convolutional layers of torchvision's VGG16; torchvision downloads the weights at the first use.

    Raises:
        MissingDependencyError: torchvision is absent, or does not fit torch.
    """
    try:
        from torchvision.models import VGG16_Weights, vgg16
    except (ImportError, RuntimeError) as error:  # torchvision of another build than torch raises the latter
        raise MissingDependencyError(
            f"VGG features need a torchvision that fits torch: {install_extra('train')} ({error})"
        ) from error
    with tensors_only():
        layers: nn.Sequential = vgg16(weights=VGG16_Weights.IMAGENET1K_V1).features
    return layers
