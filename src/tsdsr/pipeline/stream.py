"""The path from pixels to result, a tile at a time: memory is taken by a row of tiles, never by the enlarged image.

::

    input pixels ─► window enlarged ─► restored ─► blended into a band ─► finished rows ─► colour, rounding ─► canvas
                    └──────────── tile by tile ─────────────┘            └────── block by block ──────┘

Bands run along the shorter side of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tsdsr.devices import to_device
from tsdsr.errors import TSDSRError
from tsdsr.pipeline.blending import AxisTiles, BandBlender, grouped
from tsdsr.pipeline.canvas import CANVAS_WRITERS
from tsdsr.pipeline.color import ColorFix
from tsdsr.pipeline.tensors import padded_positions
from tsdsr.pipeline.tile_plan import TilePlan
from tsdsr.pixels import to_unit
from tsdsr.resize import BicubicWeights

Place = tuple[int, int]
"""Row and column of a tile's first pixel in the enlarged image."""
RestoreTiles = Callable[[Tensor, list[Place]], Tensor]
"""Windows of the enlarged image (N · B, 3, h, w), N of them, and where they lie → restored, of the same shape."""


class EnlargedImage:
    """An image (B, C, h, w) enlarged to ``size`` and padded to multiples, of which windows are made when asked for.

    Args:
        pixels (Tensor): uint8, uint16 or floating point in [0, 1]; C = 1 is repeated to three channels.
        size (tuple): height and width.
        multiple (int): the padded sides are multiples of this.
        device (torch.device): where the windows are wanted.
    """

    def __init__(self, pixels: Tensor, size: tuple[int, int], multiple: int, device: torch.device) -> None:
        self.pixels, self.size, self.multiple, self.device = pixels, size, multiple, device
        self._rows, self._cols = (padded_positions(length, multiple) for length in size)
        self.padded = (len(self._rows), len(self._cols))

    def window(self, rows: range, cols: range) -> Tensor:
        """(B, 3, rows, columns), float32 in [0, 1]: what enlarging and padding the whole gives there."""
        height, width = self.pixels.shape[-2:]
        y = BicubicWeights.at(self._rows[rows.start : rows.stop], height, self.size[0])
        x = BicubicWeights.at(self._cols[cols.start : cols.stop], width, self.size[1])
        crop = to_unit(to_device(self.pixels[..., y.first : y.stop, x.first : x.stop], self.device))
        enlarged = y.to(self.device).apply(x.to(self.device).apply(crop, -1), -2).clamp_(0, 1)
        return enlarged.expand(-1, 3, -1, -1)

    def reduced(self, edge: int) -> Tensor:
        """The whole image (B, 3, h', w') with the area of a tile: its sides are multiples, its proportions about kept.

        Pixels are averaged a row at a time, so that no float copy of the input comes to be.
        """
        factor = edge / math.sqrt(self.size[0] * self.size[1])
        height, width = (max(1, int(factor * length) // self.multiple) * self.multiple for length in self.size)
        rows, cols = (int(length) for length in self.pixels.shape[-2:])
        if rows <= height and cols <= width:
            small = EnlargedImage(self.pixels, (height, width), self.multiple, self.device)
            return small.window(range(height), range(width))
        starts = [i * rows // height for i in range(height)]
        stops = [-(-(i + 1) * rows // height) for i in range(height)]
        lines = [to_unit(self.pixels[..., a:b, :]).mean(-2, keepdim=True) for a, b in zip(starts, stops, strict=True)]
        averaged = F.adaptive_avg_pool2d(torch.cat(lines, dim=-2), (height, width))
        return averaged.to(self.device).expand(-1, 3, -1, -1)


def stream(
    image: EnlargedImage,
    canvas: Tensor,
    restore: RestoreTiles,
    plan: TilePlan,
    multiple: int,
    color_fix: ColorFix,
    on_tile: Callable[[int, int], None] | None = None,
) -> None:
    """Restore an enlarged image into a canvas.

    Args:
        image (EnlargedImage): padded to ``multiple``.
        canvas (Tensor): (B, C, H, W), of the image's size before padding.
        restore (callable): the model.
        plan (TilePlan): tiles; untiled, the model sees the padded image at once.
        multiple (int): sides and places of tiles are multiples of this.
        color_fix ("wavelet" | "adain" | "none"): colour alignment.
        on_tile (callable | None): called with (finished, total) tiles.

    Raises:
        TSDSRError: the model produced values that are not finite.
    """
    if plan.tile is not None and canvas.shape[-1] > canvas.shape[-2]:
        upright = EnlargedImage(image.pixels.mT, image.size[::-1], multiple, image.device)
        stream(upright, canvas.mT, _transposed(restore), plan, multiple, color_fix, on_tile)
        return
    rows, cols = (
        AxisTiles.plan(length, plan.tile or length, plan.overlap, multiple, plan.least) for length in image.padded
    )
    blender, writer = BandBlender(rows, cols), CANVAS_WRITERS[color_fix](canvas, image.window)
    total, done = len(canvas) * len(rows.starts) * len(cols.starts), 0
    height, width = image.size
    finite = torch.ones((), dtype=torch.bool, device=image.device)
    for i, top in enumerate(rows.starts):
        for group in grouped(range(len(cols.starts)), plan.batch):
            places = [(top, cols.starts[j]) for j in group]
            windows = [image.window(range(y, y + rows.tile), range(x, x + cols.tile)) for y, x in places]
            restored = restore(torch.cat(windows), places)
            finite &= torch.isfinite(restored).all()
            for j, tile in zip(group, torch.chunk(restored, len(group)), strict=True):
                blender.add(i, j, tile)
            done += len(restored)
            if on_tile:
                on_tile(done, total)
        if not bool(finite):  # asked once a row: a GPU works ahead meanwhile
            raise TSDSRError("the model produced values that are not finite; try bfloat16 or float32")
        writer.push(blender.finish(i)[..., : height - top, :width])
    writer.close()


def _transposed(restore: RestoreTiles) -> RestoreTiles:
    """The model for an image whose axes are swapped."""
    return lambda windows, places: restore(windows.mT.contiguous(), [(x, y) for y, x in places]).mT
