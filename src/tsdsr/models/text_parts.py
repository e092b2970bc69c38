"""The text encoders of the base models. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TextPart:
    """One text encoder of a base model.

    Attributes:
        name (str): key under which its output is stored.
        encoder (str): subfolder of the network.
        tokenizer (str): subfolder of the tokenizer.
        kind ("clip" | "clip_pooled" | "t5" | "qwen3"): "clip" returns the last hidden state (SD2); "clip_pooled" the
            penultimate hidden state and the projected pooled embedding (SD3); "t5" the last hidden state (SD3);
            "qwen3" the hidden states of three layers, side by side, of the prompt as a chat message (FLUX.2 klein).
        max_length (int): number of tokens that prompts are padded or truncated to.
    """

    name: str
    encoder: str
    tokenizer: str
    kind: Literal["clip", "clip_pooled", "t5", "qwen3"]
    max_length: int = 77


SD3_TEXT = (
    TextPart("clip_l", "text_encoder", "tokenizer", "clip_pooled"),
    TextPart("clip_g", "text_encoder_2", "tokenizer_2", "clip_pooled"),
    TextPart("t5", "text_encoder_3", "tokenizer_3", "t5", 256),
)
SD2_TEXT = (TextPart("clip", "text_encoder", "tokenizer", "clip"),)
FLUX2_KLEIN_TEXT = (TextPart("qwen3", "text_encoder", "tokenizer", "qwen3", 512),)
