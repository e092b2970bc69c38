"""The table of supported base models; everything that differs between them is a field of :class:`ModelSpec`.

To add a base model, add a row here and, if its network has a new call signature, an adapter in
:mod:`tsdsr.models.denoiser`. Rows name classes as "module:Class", which are imported on first use, so the table needs
neither torch nor diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from tsdsr.errors import ModelNotFoundError
from tsdsr.models.text_parts import FLUX2_KLEIN_TEXT, SD2_TEXT, SD3_TEXT, TextPart

if TYPE_CHECKING:
    import torch
    from diffusers.models.modeling_utils import ModelMixin

    from tsdsr.diffusion.process import NoiseProcess


def _frozen(**values: Any) -> Mapping[str, Any]:
    return MappingProxyType(values)


def _named(path: str) -> Any:
    """Import the class that "module:Class" names."""
    module, name = path.split(":")
    return getattr(import_module(module), name)


@dataclass(frozen=True)
class ModelSpec:
    """Everything the rest of the package needs to know about a base model.

    How the latents of its autoencoder are scaled is written in :mod:`tsdsr.models.latents`.

    Attributes:
        name (str): key in the table, stored with every pipeline.
        process_path (str): class of the noising process, "module:Class"; see :attr:`process`.
        process_arguments (mapping): its arguments.
        timestep (float): the student's fixed time ``T``.
        vae_scale_factor (int): pixels per latent position of the denoiser along each axis.
        size_multiple (int): image sides must be multiples of this number of pixels.
        native_size (int): edge in pixels of the images that the student works best on; larger images are tiled.
        min_tile (int): smallest tile edge in pixels; tiles may shrink to it to cover an image evenly. This costs a
            local network nothing; the other networks keep their native size.
        tile_overlap (int): overlap in pixels at which tile borders are invisible.
        tile_bytes (float): working memory in bytes per pixel of a tile in float32; half of it in 16 bits.
        fixed_tile_bytes (int): working memory in bytes that does not depend on the tile size.
        faithful_strength (float): share of the step with the highest PSNR, measured.
        prompt_shapes (mapping): :class:`Conditioning` field → shape without the batch dimension.
        denoiser_path (str): class of the network, "module:Class"; see :attr:`denoiser_class`.
        denoiser_config (mapping): arguments of the full-size network.
        denoiser_subfolder (str): subfolder of the network in a diffusers folder of the base model.
        vae_path (str): class of the autoencoder, "module:Class"; see :attr:`vae_class`.
        vae_config (mapping): arguments of the full-size autoencoder.
        lora_targets (tuple): suffixes of the module names that carry LoRA in the released layout.
        vae_lora_targets (tuple): the same for the autoencoder's encoder.
        text_parts (tuple): text encoders.
        hub_id (str | None): hub ID under which the base model is published.
        released (bool): whether the paper's authors publish a student's LoRA for it.
        licence (mapping): the base model's licence, in the fields of a model card on the hub.
        precision ("fp16" | "bf16"): precision in which pipelines and text embeddings are stored by default.
    """

    name: str
    process_path: str
    timestep: float
    vae_scale_factor: int
    size_multiple: int
    native_size: int
    prompt_shapes: Mapping[str, tuple[int, ...]]
    denoiser_path: str
    denoiser_config: Mapping[str, Any]
    denoiser_subfolder: str
    vae_path: str
    vae_config: Mapping[str, Any]
    process_arguments: Mapping[str, Any] = field(default_factory=_frozen)
    lora_targets: tuple[str, ...] = ()
    vae_lora_targets: tuple[str, ...] = ()
    text_parts: tuple[TextPart, ...] = ()
    hub_id: str | None = None
    released: bool = False
    licence: Mapping[str, str] = field(default_factory=_frozen)
    min_tile: int = 512
    tile_overlap: int = 96
    tile_bytes: float = 4000.0
    fixed_tile_bytes: int = 300_000_000
    faithful_strength: float = 0.0
    precision: Literal["fp16", "bf16"] = "fp16"

    @cached_property
    def process(self) -> NoiseProcess:
        """The noising process and native prediction. Needs torch."""
        process: NoiseProcess = _named(self.process_path)(**self.process_arguments)
        return process

    @cached_property
    def denoiser_class(self) -> type[ModelMixin]:
        """The class of the network. Needs diffusers."""
        network_class: type[ModelMixin] = _named(self.denoiser_path)
        return network_class

    @cached_property
    def vae_class(self) -> type[ModelMixin]:
        """The class of the autoencoder. Needs diffusers."""
        vae_class: type[ModelMixin] = _named(self.vae_path)
        return vae_class

    @property
    def stored_dtype(self) -> torch.dtype:
        """:attr:`precision` as torch's type. Needs torch."""
        import torch

        return {"fp16": torch.float16, "bf16": torch.bfloat16}[self.precision]

    def strength(self, detail: float) -> float:
        """Map ``detail`` to the share of the step that is taken: ``z_lq + strength (z_hat - z_lq)``.

        Args:
            detail (float): in [0, 1]; 0 gives ``faithful_strength``, 1 the whole step, linear in between.
        """
        return self.faithful_strength + (1 - self.faithful_strength) * detail

    def make_denoiser(self) -> ModelMixin:
        """Create the full-size network with random weights, in torch's default dtype."""
        return self.denoiser_class(**self.denoiser_config)

    def make_autoencoder(self) -> Any:
        """Create the full-size autoencoder with random weights, in torch's default dtype."""
        return self.vae_class(**self.vae_config)


_MMDIT_LORA = (
    "to_k", "to_q", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "proj", "linear", "proj_out",
)  # fmt: skip
_UNET_LORA = ("to_k", "to_q", "to_v", "to_out.0", "conv", "conv1", "conv2", "conv_in", "conv_shortcut", "conv_out",
              "proj_in", "proj_out", "ff.net.2", "ff.net.0.proj")  # fmt: skip
_FLUX2_BLOCKS = (5, 20)
"""Blocks of two streams and of one stream of FLUX.2 klein 4B."""
_FLUX2_LORA = (
    "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "linear_in",
    "linear_out", "to_qkv_mlp_proj", "linear", "x_embedder", "proj_out",
    *(f"single_transformer_blocks.{i}.attn.to_out" for i in range(_FLUX2_BLOCKS[1])),
)  # fmt: skip
_ENCODER_LORA = (
    "encoder.conv_in", "encoder.conv_out", "quant_conv",
    *(f"encoder.down_blocks.{i}.resnets.{j}.conv{k}" for i in range(4) for j in range(2) for k in (1, 2)),
    *(f"encoder.down_blocks.{i}.resnets.0.conv_shortcut" for i in (1, 2)),
    *(f"encoder.down_blocks.{i}.downsamplers.0.conv" for i in range(3)),
    *(f"encoder.mid_block.attentions.0.{p}" for p in ("to_q", "to_k", "to_v", "to_out.0")),
    *(f"encoder.mid_block.resnets.{j}.conv{k}" for j in range(2) for k in (1, 2)),
)  # fmt: skip

_FLOW_MATCHING = "tsdsr.diffusion.process:FlowMatching"
_VARIANCE_PRESERVING = "tsdsr.diffusion.process:VariancePreserving"
_AUTOENCODER_KL = "diffusers.models.autoencoders.autoencoder_kl:AutoencoderKL"
_AUTOENCODER_FLUX2 = "diffusers.models.autoencoders.autoencoder_kl_flux2:AutoencoderKLFlux2"

_KL_BLOCKS = _frozen(
    block_out_channels=(128, 256, 512, 512),
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    layers_per_block=2,
)
_SD3_VAE = _frozen(
    **_KL_BLOCKS, latent_channels=16, scaling_factor=1.5305, shift_factor=0.0609, sample_size=1024,
    use_quant_conv=False, use_post_quant_conv=False,
)  # fmt: skip
_SD2_VAE = _frozen(**_KL_BLOCKS, latent_channels=4, scaling_factor=0.18215, sample_size=768)
_SD3_TRANSFORMER = _frozen(
    sample_size=128, patch_size=2, in_channels=16, out_channels=16, num_layers=24, attention_head_dim=64,
    num_attention_heads=24, joint_attention_dim=4096, caption_projection_dim=1536, pooled_projection_dim=2048,
    pos_embed_max_size=192,
)  # fmt: skip
_SD35_TRANSFORMER = _frozen(
    **{**_SD3_TRANSFORMER, "pos_embed_max_size": 384}, dual_attention_layers=tuple(range(13)), qk_norm="rms_norm"
)
_SD35_LARGE_TRANSFORMER = _frozen(
    **{
        **_SD3_TRANSFORMER, "num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432,
        "qk_norm": "rms_norm",
    }
)  # fmt: skip
_FLUX2_VAE = _frozen(**_KL_BLOCKS, latent_channels=32, sample_size=1024, batch_norm_eps=1e-4, patch_size=(2, 2))
_FLUX2_KLEIN_TRANSFORMER = _frozen(
    patch_size=1, in_channels=128, num_layers=_FLUX2_BLOCKS[0], num_single_layers=_FLUX2_BLOCKS[1],
    attention_head_dim=128, num_attention_heads=24, joint_attention_dim=7680, timestep_guidance_channels=256,
    mlp_ratio=3.0, axes_dims_rope=(32, 32, 32, 32), rope_theta=2000, eps=1e-6, guidance_embeds=False,
)  # fmt: skip
_SD2_UNET = _frozen(
    sample_size=64, in_channels=4, out_channels=4, block_out_channels=(320, 640, 1280, 1280), layers_per_block=2,
    down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    attention_head_dim=(5, 10, 20, 20), cross_attention_dim=1024, use_linear_projection=True,
)  # fmt: skip


def _sd3(name: str, transformer: Mapping[str, Any], hub_id: str, released: bool = False) -> ModelSpec:
    return ModelSpec(
        name=name,
        process_path=_FLOW_MATCHING,
        process_arguments=_frozen(shift=3.0),
        timestep=1000.0,
        vae_scale_factor=8,
        size_multiple=16,
        native_size=512,
        prompt_shapes=_frozen(prompt_embeds=(333, 4096), pooled_prompt_embeds=(2048,)),
        denoiser_path="diffusers.models.transformers.transformer_sd3:SD3Transformer2DModel",
        denoiser_config=transformer,
        denoiser_subfolder="transformer",
        vae_path=_AUTOENCODER_KL,
        vae_config=_SD3_VAE,
        lora_targets=_MMDIT_LORA,
        vae_lora_targets=_ENCODER_LORA,
        text_parts=SD3_TEXT,
        hub_id=hub_id,
        released=released,
        licence=_frozen(
            license="other",
            license_name="stabilityai-ai-community",
            license_link=f"https://huggingface.co/{hub_id}/blob/main/LICENSE.md",
        ),
    )


def _sd2(name: str, prediction: str, native_size: int, hub_id: str) -> ModelSpec:
    return ModelSpec(
        name=name,
        process_path=_VARIANCE_PRESERVING,
        process_arguments=_frozen(prediction=prediction),
        timestep=999.0,
        vae_scale_factor=8,
        size_multiple=64,
        native_size=native_size,
        prompt_shapes=_frozen(prompt_embeds=(77, 1024)),
        denoiser_path="diffusers.models.unets.unet_2d_condition:UNet2DConditionModel",
        denoiser_config=_frozen(**{**_SD2_UNET, "sample_size": native_size // 8}),
        denoiser_subfolder="unet",
        vae_path=_AUTOENCODER_KL,
        vae_config=_SD2_VAE,
        lora_targets=_UNET_LORA,
        vae_lora_targets=_ENCODER_LORA,
        text_parts=SD2_TEXT,
        hub_id=hub_id,
        licence=_frozen(license="openrail++"),
    )


_FLUX2_KLEIN = ModelSpec(
    name="flux2-klein",
    process_path=_FLOW_MATCHING,
    # diffusers moves the times of its pipeline by exp(mu), where mu depends on the number of latent positions and of
    # steps; few steps get larger shifts, because their coarse steps need most of the noise levels at the noisy end. A
    # time drawn for distillation belongs to no sequence of steps. So this is the value for 1,024 positions, an image of
    # 512 x 512, at the most steps that the formula was fitted to, 200. T is 1000, pure noise, at every shift and size.
    process_arguments=_frozen(shift=1.8776),
    timestep=1000.0,
    vae_scale_factor=16,
    size_multiple=16,
    native_size=512,
    prompt_shapes=_frozen(prompt_embeds=(512, 7680)),
    denoiser_path="diffusers.models.transformers.transformer_flux2:Flux2Transformer2DModel",
    denoiser_config=_FLUX2_KLEIN_TRANSFORMER,
    denoiser_subfolder="transformer",
    vae_path=_AUTOENCODER_FLUX2,
    vae_config=_FLUX2_VAE,
    lora_targets=_FLUX2_LORA,
    vae_lora_targets=_ENCODER_LORA,
    text_parts=FLUX2_KLEIN_TEXT,
    hub_id="black-forest-labs/FLUX.2-klein-base-4B",
    licence=_frozen(license="apache-2.0"),
    precision="bf16",  # as published; hidden states of large language models can exceed the range of fp16
)

MINI = ModelSpec(
    name="mini",
    process_path=_FLOW_MATCHING,
    timestep=1000.0,
    vae_scale_factor=4,
    size_multiple=16,
    native_size=1024,
    prompt_shapes=_frozen(labels=()),
    denoiser_path="tsdsr.models.mini:MiniUNet",
    denoiser_config=_frozen(),
    denoiser_subfolder="denoiser",
    vae_path="tsdsr.models.autoencoder:SpaceToDepthAutoencoder",
    vae_config=_frozen(),
    min_tile=256,
    tile_overlap=128,
    tile_bytes=260.0,
    fixed_tile_bytes=80_000_000,
    faithful_strength=0.5,
)

SPECS: Mapping[str, ModelSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            MINI,
            _sd3("sd3", _SD3_TRANSFORMER, "stabilityai/stable-diffusion-3-medium-diffusers", released=True),
            _sd3("sd35", _SD35_TRANSFORMER, "stabilityai/stable-diffusion-3.5-medium"),
            _sd3("sd35-large", _SD35_LARGE_TRANSFORMER, "stabilityai/stable-diffusion-3.5-large"),
            _FLUX2_KLEIN,
            _sd2("sd21-base", "eps", 512, "stabilityai/stable-diffusion-2-1-base"),
            _sd2("sd21", "v", 768, "stabilityai/stable-diffusion-2-1"),
            _sd2("sd2-base", "eps", 512, "stabilityai/stable-diffusion-2-base"),
        )
    }
)
"""All supported base models by name."""


def get_spec(name: str) -> ModelSpec:
    """Look up a base model by name.

    Raises:
        ModelNotFoundError: there is no such base model.
    """
    try:
        return SPECS[name]
    except KeyError:
        raise ModelNotFoundError(f"unknown base model {name!r}; known: {', '.join(SPECS)}") from None
