"""A picture of validation results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from tsdsr.files import atomic_path


def save_sheet(rows: Sequence[Tensor], path: Path) -> None:
    """Store rows (3, H, W) in [0, 1], one below the other, as PNG."""
    sheet = torch.cat(list(rows), dim=-2).clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    with atomic_path(path) as temporary:
        Image.fromarray(sheet).save(temporary, format="PNG")
