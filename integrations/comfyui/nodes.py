"""The nodes *Load TSD-SR* and *TSD-SR Upscale*."""

from __future__ import annotations

from typing import Any

import comfy.utils
from comfy import model_management
from comfy_api.latest import ComfyExtension, io
from torch import Tensor

from tsdsr.errors import InvalidInputError
from tsdsr.pipeline.options import COLOR_FIXES, FITS, MAX_SCALE, RestoreOptions
from tsdsr.runtimes.open_model import ENGINES

from .loading import LoadedModel, load_model, model_names
from .restoring import restore_batch, target_of

Model = io.Custom("TSDSR_MODEL")
CATEGORY = "TSD-SR"
_LARGEST_SIDE = 65536


class LoadTSDSR(io.ComfyNode):
    """Loads a model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadTSDSR",
            display_name="Load TSD-SR",
            category=CATEGORY,
            description="Loads a one-step super-resolution model. 'mini' needs no download.",
            inputs=[
                io.Combo.Input("model", options=model_names(), tooltip="mini, or a folder in models/tsdsr"),
                io.Combo.Input(
                    "engine",
                    options=list(ENGINES),
                    default="auto",
                    tooltip="What runs the model. auto: torch on a GPU; mini on a CPU in ONNX Runtime",
                ),
                io.Combo.Input(
                    "device", options=["auto", "cpu"], default="auto", tooltip="auto: the device that ComfyUI uses"
                ),
                io.Combo.Input(
                    "precision",
                    options=["auto", "fp32", "fp16", "bf16"],
                    default="auto",
                    tooltip="Precision of the network. Images are float32 in any case",
                ),
                io.String.Input(
                    "path",
                    default="",
                    optional=True,
                    tooltip="A pipeline folder, exported folder or hub ID (owner/name), in place of 'model'",
                ),
            ],
            outputs=[Model.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, model: str, engine: str, device: str, precision: str, path: str = "") -> io.NodeOutput:
        return io.NodeOutput(load_model(path.strip() or model, engine, device, precision))


class TSDSRUpscale(io.ComfyNode):
    """Restores and enlarges pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TSDSRUpscale",
            display_name="TSD-SR Upscale",
            category=CATEGORY,
            description="Restores and enlarges photographs in one step. Large pictures are tiled without seams.",
            inputs=[Model.Input("model"), io.Image.Input("image"), *_sizes(), *_options()],
            outputs=[io.Image.Output(display_name="image"), io.Mask.Output(display_name="mask")],
        )

    @classmethod
    def validate_inputs(cls, tile: int | None = None) -> bool | str:
        """Refuse a tile that no model takes before anything runs. A connected input has no value yet."""
        try:
            RestoreOptions(tile=tile or "auto")
        except InvalidInputError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        model: LoadedModel,
        image: Tensor,
        scale: float,
        width: int,
        height: int,
        fit: str,
        detail: float,
        color_fix: str,
        tile: int,
        seed: int,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        options = RestoreOptions(scale, target_of(width, height, image), fit, color_fix, detail, tile or "auto")
        progress = comfy.utils.ProgressBar(len(image))

        def on_tile(done: int, total: int) -> None:
            model_management.throw_exception_if_processing_interrupted()
            progress.update_absolute(done, total)

        with model.ready(options, options.size(*image.shape[1:3])) as pipe:
            images, masks = restore_batch(pipe, image, mask, options, None if seed < 0 else seed, on_tile)
        place = model_management.intermediate_device()
        return io.NodeOutput(images.to(place), masks.to(place))


def _sizes() -> list[Any]:
    return [
        io.Float.Input("scale", default=4.0, min=1.0, max=MAX_SCALE, step=0.1, round=0.001, tooltip="Enlargement"),
        io.Int.Input(
            "width",
            default=0,
            min=0,
            max=_LARGEST_SIDE,
            tooltip="Width of the result in pixels, in place of the scale; 0: from the height, or by the scale",
        ),
        io.Int.Input(
            "height",
            default=0,
            min=0,
            max=_LARGEST_SIDE,
            tooltip="Height of the result in pixels, in place of the scale; 0: from the width, or by the scale",
        ),
        io.Combo.Input(
            "fit",
            options=list(FITS),
            default="contain",
            tooltip="If width and height have another aspect. contain: stay within; cover: fill and crop; stretch",
        ),
    ]


def _options() -> list[Any]:
    return [
        io.Float.Input(
            "detail",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.05,
            round=0.001,
            display_mode=io.NumberDisplay.slider,
            tooltip="0: most faithful; 1: most detail",
        ),
        io.Combo.Input(
            "color_fix",
            options=list(COLOR_FIXES),
            default="wavelet",
            tooltip="How colours are aligned with the input; none: as the model made them",
        ),
        io.Int.Input(
            "tile",
            default=0,
            min=0,
            max=_LARGEST_SIDE,
            step=16,
            tooltip="Largest edge of a tile in pixels of the result; 0: by free memory",
        ),
        io.Int.Input(
            "seed",
            default=-1,
            min=-1,
            max=2**53 - 1,
            control_after_generate=False,
            tooltip="-1: deterministic; else the latent is sampled with this seed (mini has nothing to sample)",
        ),
        io.Mask.Input("mask", optional=True, tooltip="Transparency of the image, as 'Load Image' gives it"),
    ]


class TSDSRExtension(ComfyExtension):
    """The nodes of this pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [LoadTSDSR, TSDSRUpscale]


async def comfy_entrypoint() -> TSDSRExtension:
    """Return the extension; ComfyUI calls it when it loads the pack."""
    return TSDSRExtension()
