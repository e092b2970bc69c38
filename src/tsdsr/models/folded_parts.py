"""What all folded networks have in common: stored outputs in place of layers, and the check of time and prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from tsdsr.errors import InvalidInputError
from tsdsr.models.conditioning import Conditioning

_SIGNATURE_LENGTH = 32
_SIGNATURE_TOLERANCE = 0.02
"""Relative tolerance. Half precision changes a signature by 0.4 %, another prompt by tens of per cent."""


def prompt_signature(conditioning: Conditioning) -> dict[str, list[list[float]]]:
    """Compute a short signature that distinguishes prompts and is robust to half precision.

    Args:
        conditioning (Conditioning): the prompt, any batch size.

    Returns:
        dict: conditioning field → for each sample, 32 means over consecutive segments of the tensor.
    """
    return {
        name: F.adaptive_avg_pool1d(tensor.detach().float().reshape(len(tensor), -1), _SIGNATURE_LENGTH).tolist()
        for name, tensor in conditioning.tensors().items()
    }


class Constant(nn.Module):
    """Replaces a layer whose output is constant.

    Args:
        shape (int): shape of the output without the batch dimension.
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1, *shape))

    def forward(self, like: Tensor) -> Tensor:
        """Return the stored output for each sample of ``like``, shape (B, *shape)."""
        return self.value.expand(len(like), *self.value.shape[1:])


class RemovedLayer(nn.Module):
    """Replaces a layer whose output is unused."""

    def forward(self, *_: object) -> None:
        return None


class FoldedNetwork(ModelMixin, ConfigMixin):
    """Base class of folded networks; checks that a call uses the time and prompt the network was folded for.

    Create one with :func:`tsdsr.optimize.fold.fold` or ``from_pretrained``. The constructor leaves weights
    uninitialised.
    """

    _supports_gradient_checkpointing = False

    def require(self, t: Tensor, conditioning: Conditioning) -> None:
        """Raise unless time and prompt are those the network was folded for.

        Args:
            t (Tensor): time of each sample, shape (B,).
            conditioning (Conditioning): the prompt, any batch size.

        Raises:
            InvalidInputError: the time or the prompt differs.
        """
        timestep = float(self.config["timestep"])
        if not bool((t == timestep).all()):
            raise InvalidInputError(
                f"this model is folded at time {timestep:g} and cannot run at {sorted(set(t.tolist()))}; "
                "use the unfolded model"
            )
        if _is_same(conditioning, _accepted.get(self, {})):
            return
        found, stored = prompt_signature(conditioning), self.config["prompt"]
        if found.keys() != stored.keys() or not all(_same(found[name], stored[name]) for name in stored):
            raise InvalidInputError("this model is folded for one prompt and cannot take another: use the unfolded one")
        tensors = conditioning.tensors()
        if not any(tensor.is_inference() for tensor in tensors.values()):  # these do not tell when they are changed
            _accepted[self] = {name: (ref(tensor), tensor._version) for name, tensor in tensors.items()}


_accepted: WeakKeyDictionary[FoldedNetwork, dict[str, tuple[ref[Tensor], int]]] = WeakKeyDictionary()
"""Network → the prompt that it took last. A signature takes milliseconds, and a GPU would wait for it at every step."""


def _is_same(conditioning: Conditioning, accepted: Mapping[str, tuple[ref[Tensor], int]]) -> bool:
    """Whether a prompt has the very tensors that were accepted, and none was changed since."""
    tensors = conditioning.tensors()
    return tensors.keys() == accepted.keys() and all(
        accepted[name][0]() is tensor and accepted[name][1] == tensor._version for name, tensor in tensors.items()
    )


def skeleton(network_class: type[ModelMixin], config: Mapping[str, Any]) -> Any:
    """Build the full network on the meta device, so that parts removed by folding never take memory."""
    with torch.device("meta"):
        return network_class.from_config(dict(config))


def materialise(network: nn.Module) -> None:
    """Allocate uninitialised weights on the default device; loading a state dict fills them."""
    network.to_empty(device=torch.get_default_device()).requires_grad_(False).eval()


def _same(found: Sequence[Sequence[float]], stored: Sequence[Sequence[float]]) -> bool:
    a, b = torch.tensor(found), torch.tensor(stored)
    return bool(((a - b).norm(dim=-1) <= _SIGNATURE_TOLERANCE * b.norm(dim=-1)).all())
