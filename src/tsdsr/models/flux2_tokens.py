"""Latents of FLUX.2 as tokens, and the positions of its image and text tokens, in the layout of diffusers."""

from __future__ import annotations

import torch
from torch import Tensor


def to_tokens(z: Tensor) -> Tensor:
    """Latents (B, C, h, w) → tokens (B, h * w, C), row by row."""
    return z.flatten(2).transpose(1, 2)


def from_tokens(tokens: Tensor, height: int, width: int) -> Tensor:
    """Tokens (B, h * w, C) → latents (B, C, h, w)."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)


def image_positions(height: int, width: int, device: torch.device) -> Tensor:
    """Positions (frame, row, column, text) of the image tokens: (h * w, 4), int64, frame and text zero.

    Without ``repeat_interleave``: ONNX Runtime cannot run its graph for sizes that are not fixed.
    """
    rows = torch.arange(height, device=device)[:, None].expand(height, width).flatten()
    columns = torch.arange(width, device=device).repeat(height)
    zero = torch.zeros_like(rows)
    return torch.stack((zero, rows, columns, zero), dim=1)


def text_positions(tokens: int, device: torch.device) -> Tensor:
    """Positions (frame, row, column, text) of the text tokens: (tokens, 4), int64, all but the last zero."""
    places = torch.arange(tokens, device=device)
    zero = torch.zeros_like(places)
    return torch.stack((zero, zero, zero, places), dim=1)
