"""Prompts from images, with any image-to-text model of transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image

from tsdsr.errors import ModelError, ModelNotFoundError

INSTRUCTION = "Describe this photograph in one sentence: its subject, materials and textures."
"""The instruction for chat models; plain captioning models need none."""

_TASKS = {"florence2": "<DETAILED_CAPTION>"}  # model type → the task prompt it was trained with


def load_captioner(
    model: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    instruction: str | None = None,
    max_tokens: int = 77,
) -> Callable[[Sequence[Image.Image]], list[str]]:
    """Load a captioning model: BLIP, Florence-2, Qwen-VL, or another ``AutoModelForImageTextToText``.

    Args:
        model (str): hub ID or local folder.
        device, dtype: device and precision of the model.
        instruction (str | None): text prompt. Defaults to the model's own captioning prompt, or to
            :data:`INSTRUCTION` for chat models.
        max_tokens (int): maximum number of tokens per caption.

    Returns:
        callable: maps RGB images to one line of text each. Decoding is greedy, so captions are reproducible.

    Raises:
        ModelNotFoundError: the model cannot be loaded.
        ModelError: it needs code of its own.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    try:
        # Without this argument, transformers asks on the terminal whether to run code that comes with the model.
        processor = AutoProcessor.from_pretrained(model, trust_remote_code=False)
        network = AutoModelForImageTextToText.from_pretrained(model, dtype=dtype, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError) as error:
        if "custom code" in str(error):
            raise ModelError(f"{model}: brings its own code, which is never run; give another model") from error
        reason = " ".join(str(error).split())
        raise ModelNotFoundError(f"{model}: is not a captioning model that can be loaded ({reason})") from error
    network = network.to(device).eval()
    text = _prompt(processor, instruction, network.config.model_type)

    @torch.no_grad()
    def caption(images: Sequence[Image.Image]) -> list[str]:
        pictures = [image.convert("RGB") for image in images]
        prompts = {} if text is None else {"text": [text] * len(pictures), "padding": True}
        inputs = processor(images=pictures, return_tensors="pt", **prompts).to(device, dtype)
        output = network.generate(**inputs, max_new_tokens=max_tokens, do_sample=False, num_beams=1)
        if _repeats_prompt(network, inputs, output):
            output = output[:, inputs["input_ids"].shape[1] :]
        lines: list[str] = processor.batch_decode(output, skip_special_tokens=True)
        return [" ".join(line.split()) for line in lines]

    return caption


def _prompt(processor: Any, instruction: str | None, model_type: str) -> str | None:
    """Return the text prompt for an image, in the model's own format, or None."""
    if getattr(processor, "chat_template", None):
        content = [{"type": "image"}, {"type": "text", "text": instruction or INSTRUCTION}]
        chat: str = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        return chat
    return instruction or _TASKS.get(model_type)


def _repeats_prompt(network: Any, inputs: Any, output: torch.Tensor) -> bool:
    """Whether the output of a decoder-only model starts with the prompt tokens."""
    if getattr(network.config, "is_encoder_decoder", False) or "input_ids" not in inputs:
        return False
    ids = inputs["input_ids"]
    return output.shape[1] >= ids.shape[1] and bool((output[:, : ids.shape[1]] == ids).all())
