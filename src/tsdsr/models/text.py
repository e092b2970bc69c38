"""Text encoding: prompts → embeddings for a base model, with one text encoder in memory at a time."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tsdsr.errors import ModelNotFoundError, WeightsError
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.text_parts import TextPart

Encode = Callable[[Sequence[str]], dict[str, Tensor]]


def load_text_encoder(folder: Path, part: TextPart, device: torch.device | str, dtype: torch.dtype) -> Encode:
    """Load one text encoder with its tokenizer.

    Args:
        folder (Path): diffusers folder of the base model.
        part (TextPart): the encoder to load.
        device, dtype: device and precision of the encoder.

    Returns:
        callable: maps prompts to ``{"hidden": (B, max_length, C)}`` on the CPU; "clip_pooled" also returns
        ``"pooled": (B, C')``.

    Raises:
        ModelNotFoundError: the subfolder is missing.
        WeightsError: it cannot be loaded.
    """
    import transformers

    classes: dict[str, Any] = {
        "clip": transformers.CLIPTextModel,
        "clip_pooled": transformers.CLIPTextModelWithProjection,
        "t5": transformers.T5EncoderModel,
    }
    for subfolder in (part.encoder, part.tokenizer):
        if not (folder / subfolder).is_dir():
            raise ModelNotFoundError(f"{folder / subfolder}: missing; prompts need the base model's text encoders")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder / part.tokenizer, trust_remote_code=False)
        network = classes[part.kind].from_pretrained(folder / part.encoder, dtype=dtype)
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{folder / part.encoder}: cannot be loaded ({error})") from error
    network = network.to(device).eval()

    @torch.no_grad()
    def encode(prompts: Sequence[str]) -> dict[str, Tensor]:
        tokens = tokenizer(
            list(prompts), padding="max_length", max_length=part.max_length, truncation=True, return_tensors="pt"
        )
        ids = tokens.input_ids.to(device)
        if part.kind == "clip_pooled":
            output = network(ids, output_hidden_states=True)
            return {"hidden": output.hidden_states[-2].cpu(), "pooled": output[0].cpu()}
        return {"hidden": network(ids)[0].cpu()}

    return encode


def encode_prompts(
    folder: Path,
    parts: Sequence[TextPart],
    prompts: Sequence[str],
    store: Callable[[TextPart, str, dict[str, Tensor]], None],
    missing: Callable[[TextPart, str], bool] = lambda part, prompt: True,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    batch: int = 8,
    on_batch: Callable[[TextPart, int, int], None] | None = None,
) -> None:
    """Encode prompts with one encoder after the other; peak memory is that of the largest encoder.

    Args:
        folder (Path): diffusers folder of the base model.
        parts (sequence of TextPart): encoders to run.
        prompts (sequence of str): texts; each distinct text is encoded once.
        store (callable): called with (part, prompt, tensors without batch dimension).
        missing (callable): returns whether a (part, prompt) still has to be encoded; an encoder without work is not
            loaded.
        device, dtype: device and precision of the encoders.
        batch (int): prompts per forward pass.
        on_batch (callable | None): called with (part, finished, total) after each batch.

    Raises:
        ModelNotFoundError, WeightsError: see :func:`load_text_encoder`.
    """
    distinct = list(dict.fromkeys(prompts))
    for part in parts:
        todo = [prompt for prompt in distinct if missing(part, prompt)]
        if not todo:
            continue
        encode = load_text_encoder(folder, part, device, dtype)
        for start in range(0, len(todo), batch):
            chunk = todo[start : start + batch]
            tensors = encode(chunk)
            for i, prompt in enumerate(chunk):
                store(part, prompt, {name: value[i] for name, value in tensors.items()})
            if on_batch:
                on_batch(part, min(start + batch, len(todo)), len(todo))
        del encode
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def assemble(parts: Mapping[str, Mapping[str, Tensor]], joint_dim: int = 4096, t5_length: int = 256) -> Conditioning:
    """Combine encoder outputs into the conditioning of a base model, in the layout of diffusers' pipelines.

    For SD3, the two CLIP embeddings are concatenated along the channels, zero-padded to the width of T5 and followed
    by T5's tokens; the pooled embeddings are concatenated. Without T5, zeros take its place. For SD2, the result is the
    single CLIP embedding.

    Args:
        parts (mapping): name of each :class:`TextPart` → its tensors with batch dimension.
        joint_dim (int): width of the joint embedding, used without T5.
        t5_length (int): number of T5 tokens, used without T5.

    Returns:
        Conditioning: (B, 333, 4096) and (B, 2048) for SD3, (B, 77, 1024) for SD2.
    """
    if "clip" in parts:
        return Conditioning(prompt_embeds=parts["clip"]["hidden"])
    clip = torch.cat([parts["clip_l"]["hidden"], parts["clip_g"]["hidden"]], dim=-1)
    pooled = torch.cat([parts["clip_l"]["pooled"], parts["clip_g"]["pooled"]], dim=-1)
    t5 = parts["t5"]["hidden"] if "t5" in parts else clip.new_zeros(len(clip), t5_length, joint_dim)
    padded = F.pad(clip, (0, t5.shape[-1] - clip.shape[-1]))
    return Conditioning(prompt_embeds=torch.cat([padded, t5], dim=-2), pooled_prompt_embeds=pooled)
