"""Text encoding: prompts → embeddings for a base model, with one text encoder in memory at a time."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsdsr.errors import ModelNotFoundError, WeightsError
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.network_config import read_config
from tsdsr.models.text_parts import TextPart
from tsdsr.wording import counted

Encode = Callable[[Sequence[str]], dict[str, Tensor]]

QWEN3_LAYERS = (9, 18, 27)
"""Layers of Qwen3 whose outputs FLUX.2 klein takes side by side, counted from 1."""


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
        WeightsError: it cannot be loaded, or holds another kind of encoder.
    """
    import transformers

    classes: dict[str, Any] = {
        "clip": transformers.CLIPTextModel,
        "clip_pooled": transformers.CLIPTextModelWithProjection,
        "t5": transformers.T5EncoderModel,
        "qwen3": transformers.Qwen3Model,
    }
    for subfolder in (part.encoder, part.tokenizer):
        if not (folder / subfolder).is_dir():
            raise ModelNotFoundError(f"{folder / subfolder}: missing; prompts need the base model's text encoders")
    _check_kind(folder / part.encoder, classes[part.kind])
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder / part.tokenizer, trust_remote_code=False)
        network = _load(folder / part.encoder, classes[part.kind], dtype)
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{folder / part.encoder}: cannot be loaded ({error})") from error
    if part.kind == "qwen3":
        return _qwen3(folder / part.encoder, network, tokenizer, part.max_length, device)
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


def _check_kind(folder: Path, network_class: Any) -> None:
    """Check that a folder holds an encoder of this kind: transformers would draw the weights of another at random."""
    found, wanted = read_config(folder).get("model_type"), network_class.config_class.model_type
    if found != wanted:
        raise WeightsError(
            f"{folder}: is a text encoder of kind {found!r}, not {wanted!r}; is it the right base model?"
        )


def _load(folder: Path, network_class: Any, dtype: torch.dtype) -> Any:
    """Load an encoder. Weights that it has no place for are ignored, such as those of the layer that predicts words.

    Raises:
        WeightsError: weights are missing, which transformers would draw at random.
    """
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # a table of the ignored weights
    try:
        network, report = network_class.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    finally:
        logging.set_verbosity(verbosity)
    if missing := sorted(report["missing_keys"]):
        raise WeightsError(
            f"{folder}: lacks {counted(len(missing), 'tensor')} of a {network_class.__name__} ({missing[0]} …); copy "
            f"the base model again"
        )
    return network


def _qwen3(folder: Path, network: Any, tokenizer: Any, max_length: int, device: torch.device | str) -> Encode:
    """Encode prompts as FLUX.2 klein takes them: each is a chat message of a user, and the answer is not thought over.

    Layers after the last that is used are dropped before the network moves to the device: a quarter of Qwen3-4B.
    """
    if len(network.layers) < QWEN3_LAYERS[-1]:
        raise WeightsError(f"{folder}: has {len(network.layers)} layers, but layer {QWEN3_LAYERS[-1]} is needed")
    if not getattr(tokenizer, "chat_template", None):
        raise WeightsError(f"{folder.parent}: its tokenizer has no chat template, which the prompts need")
    network.layers = network.layers[: QWEN3_LAYERS[-1]]
    network.norm = nn.Identity()  # otherwise the last of these layers would be returned normalised
    network = network.to(device).eval()

    @torch.no_grad()
    def encode(prompts: Sequence[str]) -> dict[str, Tensor]:
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
            for prompt in prompts
        ]
        tokens = tokenizer(texts, padding="max_length", max_length=max_length, truncation=True, return_tensors="pt")
        states = network(
            input_ids=tokens.input_ids.to(device),
            attention_mask=tokens.attention_mask.to(device),
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states
        return {"hidden": torch.cat([states[layer] for layer in QWEN3_LAYERS], dim=-1).cpu()}

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
    by T5's tokens; the pooled embeddings are concatenated. Without T5, zeros take its place. For SD2 and FLUX.2 klein,
    the result is the single encoder's embedding.

    Args:
        parts (mapping): name of each :class:`TextPart` → its tensors with batch dimension.
        joint_dim (int): width of the joint embedding, used without T5.
        t5_length (int): number of T5 tokens, used without T5.

    Returns:
        Conditioning: (B, 333, 4096) and (B, 2048) for SD3, (B, 77, 1024) for SD2, (B, 512, 7680) for FLUX.2 klein.
    """
    for single in ("clip", "qwen3"):
        if single in parts:
            return Conditioning(prompt_embeds=parts[single]["hidden"])
    clip = torch.cat([parts["clip_l"]["hidden"], parts["clip_g"]["hidden"]], dim=-1)
    pooled = torch.cat([parts["clip_l"]["pooled"], parts["clip_g"]["pooled"]], dim=-1)
    t5 = parts["t5"]["hidden"] if "t5" in parts else clip.new_zeros(len(clip), t5_length, joint_dim)
    padded = F.pad(clip, (0, t5.shape[-1] - clip.shape[-1]))
    return Conditioning(prompt_embeds=torch.cat([padded, t5], dim=-2), pooled_prompt_embeds=pooled)
