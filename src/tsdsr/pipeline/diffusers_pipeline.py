"""The pipeline as a diffusers pipeline, for any base model."""

from __future__ import annotations

import json
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor, nn

from tsdsr.errors import InvalidInputError
from tsdsr.files import StrPath
from tsdsr.measuring import stage
from tsdsr.models.denoiser import as_denoiser, restore
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.models.groupnorm import SharedGroupNorms
from tsdsr.models.latents import decode_latents, encode_images
from tsdsr.models.zoo import ModelSpec, get_spec
from tsdsr.pipeline.noise import Noise, NoiseField
from tsdsr.pipeline.options import RestoreOptions
from tsdsr.pipeline.stream import EnlargedImage
from tsdsr.pipeline.tile_plan import TilePlan
from tsdsr.pipeline.torch_pipeline import TorchPipeline


class OneStepSRPipeline(TorchPipeline, DiffusionPipeline):
    """Restore and enlarge photographs with one step of a distilled diffusion model.

    A diffusers pipeline: ``from_pretrained(folder or hub ID)``, ``save_pretrained``, ``.to(device, dtype)``.

    Args:
        denoiser (ModelMixin): the student's network, with LoRA merged.
        vae (ModelMixin): the autoencoder, with the student's encoder.
        prompt (FixedPrompt): the student's fixed prompt.
        model (str): name of the base model in :data:`tsdsr.models.zoo.SPECS`.
    """

    model_cpu_offload_seq = "vae->denoiser"

    def __init__(self, denoiser: ModelMixin, vae: ModelMixin, prompt: FixedPrompt, model: str = "mini") -> None:
        DiffusionPipeline.__init__(self)
        get_spec(model)
        self.register_modules(denoiser=denoiser, vae=vae, prompt=prompt)
        self.register_to_config(model=model)

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        device: torch.device = DiffusionPipeline.device.fget(self)
        return device

    @property
    def networks(self) -> list[nn.Module]:
        """The networks, which are on :attr:`device`."""
        return [part for part in self.components.values() if isinstance(part, nn.Module)]

    def _compute_device(self) -> torch.device:
        device: torch.device = self._execution_device  # with offloading, not where the weights lie
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Compute precision of the denoiser. Latents and images stay in float32."""
        dtype: torch.dtype = self.denoiser.dtype
        return dtype

    def to(self, *args: Any, **kwargs: Any) -> OneStepSRPipeline:
        """Move or cast the networks, as in diffusers. float16 on a CPU gives no warning: it works, but slowly."""
        moved: OneStepSRPipeline = DiffusionPipeline.to(self, *args, **{"silence_dtype_warnings": True, **kwargs})
        return moved

    def save_pretrained(self, save_directory: StrPath, **kwargs: Any) -> None:
        """Store the pipeline, as in diffusers. The weights get the permissions of the umask.

        :func:`~tsdsr.pipeline.convert.save_pipeline` writes the whole folder or nothing, and chooses the precision.
        """
        DiffusionPipeline.save_pretrained(self, save_directory, **kwargs)
        for config in (*Path(save_directory).glob("*/config.json"), Path(save_directory) / "model_index.json"):
            values = json.loads(config.read_text(encoding="utf-8"))
            if values.pop("_name_or_path", None) is not None:  # where the part was loaded from on this machine
                config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        for weights in Path(save_directory).glob("*/*.safetensors"):  # safetensors creates private files
            weights.chmod(stat.S_IMODE(weights.with_name("config.json").stat().st_mode))

    @contextmanager
    def _folder_to_push(self) -> Iterator[Path]:
        """Yield the folder that the pipeline was loaded from or, if its networks changed since, a new one."""
        from tsdsr.pipeline.convert import save_pipeline
        from tsdsr.pipeline.diffusers_loading import is_as_stored

        if self.folder is not None and is_as_stored(self, self.folder):
            yield self.folder
            return
        with tempfile.TemporaryDirectory(prefix="tsdsr-push-") as temporary:
            folder = Path(temporary) / (self.spec.name if self.folder is None else self.folder.name)
            save_pipeline(self, folder, self.dtype)
            yield folder

    @cached_property
    def spec(self) -> ModelSpec:
        """Specification of the base model."""
        return get_spec(self.config["model"])

    @contextmanager
    def _normalised_as_a_whole(
        self, image: EnlargedImage, plan: TilePlan, options: RestoreOptions, noise: Sequence[NoiseField] | None
    ) -> Iterator[None]:
        """Normalise tiles within the block with whole-image statistics, measured on a reduced image."""
        norms = SharedGroupNorms(self.vae, self.denoiser)
        if plan.tile is None or not norms:
            yield
            return
        with norms.measured():
            self._restore(image.reduced(plan.tile), [(0, 0)], options, noise)
        with norms.held():
            yield

    @torch.no_grad()
    def encode(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """Encode images (B, 3, H, W) in [0, 1] to scaled latents (B, C, H/f, W/f), see :func:`encode_images`."""
        with stage("encode"):
            return encode_images(self.vae, x, noise)

    @torch.no_grad()
    def denoise(self, z_lq: Tensor) -> Tensor:
        """Take the one step: map scaled latents (B, C, h, w) to ``z_hat``, same shape."""
        denoiser, prompt = as_denoiser(self.denoiser), self.prompt.conditioning()
        with stage("denoise"):
            return restore(denoiser, self.spec.process, z_lq, self.spec.timestep, prompt)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Decode scaled latents (B, C, h, w) to images (B, 3, H, W), nominally in [0, 1]: :func:`decode_latents`."""
        with stage("decode"):
            return decode_latents(self.vae, z)


def require_diffusers_pipeline(pipe: object, what: str) -> None:
    """Check that a pipeline is one whose networks can be changed or stored, not one of another engine.

    Args:
        pipe (object): what was given as a pipeline.
        what (str): what needs it: the subject of the message.

    Raises:
        InvalidInputError: it is not.
    """
    if not isinstance(pipe, OneStepSRPipeline):
        raise InvalidInputError(
            f"{what} needs a OneStepSRPipeline, got {type(pipe).__name__}: load the model with load_diffusers_pipeline"
        )
