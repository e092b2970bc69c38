"""`mini` for spandrel, the loader of upscaling models in ComfyUI, chaiNNer and others.

:func:`register` adds the architecture to spandrel's registry. From then on ``spandrel.ModelLoader`` takes the network's
safetensors file alone:

* the shape of the network is read from names and shapes of the tensors, its embeddings of time and prompt are among
  them;
* the time, the prompt and the scale of the latents are constants of every `mini`: :data:`tsdsr.models.zoo.MINI`,
  :data:`~tsdsr.models.mini_network.PROMPTS`, :class:`~tsdsr.models.mini_folder.MiniLatents`.

The module runs the pipeline, with enlargement, tiles and colour alignment: a host that does not tile gets what
``tsdsr upscale`` makes in torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from tsdsr.errors import MissingDependencyError, WeightsError, install_extra

try:
    from spandrel import (
        MAIN_REGISTRY,
        Architecture,
        ArchRegistry,
        ArchSupport,
        ImageModelDescriptor,
        ModelTiling,
        SizeRequirements,
    )
    from torch import Tensor, nn
except (ImportError, RuntimeError) as error:  # a torchvision that does not match torch raises RuntimeError
    raise MissingDependencyError(
        f"the loader of other programs is spandrel: {install_extra('eval')} ({error})"
    ) from error

from tsdsr.models.mini_folder import MiniLatents
from tsdsr.models.mini_network import PROMPTS, MiniNetwork
from tsdsr.models.zoo import MINI
from tsdsr.pipeline.torch_pipeline import TorchMini

SCALE = 4
"""Enlargement: spandrel's models have a fixed one, and `mini` was trained for this one."""

_PROMPT = PROMPTS.index("clean photograph")
_CHANNELS = 3 * MINI.vae_scale_factor**2
_NAMES = (
    "conv_in.weight",
    "time_embedding.linear_1.weight",
    "time_embedding.linear_2.weight",
    "prompt_embedding.weight",
    "encoder.0.0.modulation.linear.weight",
    "modulation_out.linear.weight",
)


def register(registry: ArchRegistry = MAIN_REGISTRY) -> None:
    """Add the architecture of `mini` to spandrel. A second call changes nothing.

    Args:
        registry (spandrel.ArchRegistry): registry to extend; default: the one that every ``ModelLoader`` uses.
    """
    registry.add(ArchSupport.from_architecture(MiniArchitecture()), ignore_duplicates=True)


class MiniUpscaler(nn.Module):
    """`mini` as an upscaler of images.

    Args:
        network (MiniNetwork): the student.
    """

    def __init__(self, network: MiniNetwork) -> None:
        super().__init__()
        self.network = network
        self._pipe = TorchMini(network, MiniLatents(), _PROMPT)

    def forward(self, image: Tensor) -> Tensor:
        """Restore and enlarge images (B, 3, h, w) in [0, 1], to (B, 3, 4 h, 4 w) of the same dtype.

        Internally, latents and images are float32, whatever the dtype of the weights. Large images are tiled by free
        memory.
        """
        return self._pipe.upscale(image, SCALE).to(image.dtype)


class MiniArchitecture(Architecture[MiniUpscaler]):
    """spandrel's entry for `mini`: detection by names of tensors, and loading."""

    def __init__(self) -> None:
        super().__init__(id="TSDSRMini", name="TSD-SR mini", detect=is_mini)

    def load(self, state_dict: Mapping[str, Any]) -> ImageModelDescriptor[MiniUpscaler]:
        """Load the weights of a network, as spandrel read them.

        Raises:
            WeightsError: tensors are missing, too many or of other shapes.
        """
        model = MiniUpscaler(MiniNetwork(**network_arguments(state_dict)))
        try:
            return ImageModelDescriptor(
                model,
                {f"network.{name}": tensor for name, tensor in state_dict.items()},
                architecture=self,
                purpose="SR",
                tags=[f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}M"],
                supports_half=True,
                supports_bfloat16=True,
                scale=SCALE,
                input_channels=3,
                output_channels=3,
                size_requirements=SizeRequirements(),  # the pipeline pads
                tiling=ModelTiling.INTERNAL,
            )
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"this is not a complete file of mini; copy it again ({reason})") from error


def is_mini(state_dict: Mapping[str, Any]) -> bool:
    """Return whether tensors are those of a network of `mini` that is not folded."""
    return all(name in state_dict for name in _NAMES) and state_dict["conv_in.weight"].shape[1:2] == (_CHANNELS,)


def network_arguments(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of :class:`MiniNetwork` that a network with these tensors was made with.

    Args:
        state_dict (mapping): tensors by name, with :func:`is_mini`.
    """

    def blocks(stage: str) -> int:
        return next(n for n in count() if f"{stage}.{n}.conv1.weight" not in state_dict)

    levels = next(n for n in count() if f"down.{n}.weight" not in state_dict) + 1
    downs = [int(state_dict[f"down.{n}.weight"].shape[0]) for n in range(levels - 1)]
    fine = state_dict.get("fine.up.weight")
    prompts, width = state_dict["prompt_embedding.weight"].shape
    return {
        "in_channels": _CHANNELS,
        "channels": [int(state_dict["conv_in.weight"].shape[0]), *downs],
        "encoder_blocks": [blocks(f"encoder.{n}") for n in range(levels)],
        "decoder_blocks": [blocks(f"decoder.{n}") for n in range(levels - 1)],
        "embed_dim": int(width),
        "num_prompts": int(prompts),
        "learned_skip": "skip.weight" in state_dict,
        "fine_channels": 0 if fine is None else int(fine.shape[1]),
        "fine_blocks": blocks("fine.stage"),
    }
