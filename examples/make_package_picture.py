"""Draw the packages of tsdsr in layers: ``python examples/make_package_picture.py docs/images/packages.svg``.

A package imports from rows below its own only; ``tests/test_architecture.py`` compares the rows with what is allowed.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

LAYERS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("cli", "the command: parse, call, print"),),
    (
        ("serving", "web page, HTTP"),
        ("video", "frames, sound"),
        ("distributed", "archives on Ray"),
        ("integrations", "spandrel, hub"),
        ("benchmark", "time, memory"),
    ),
    (("runtimes", "ONNX Runtime, OpenVINO, torch"), ("recipes", "a run is a function")),
    (("optimize", "fold, 8 bits, compile"), ("training", "TSD, DASM, trainer"), ("study", "votes of people")),
    (("pipeline", "a photograph in one step, tiles, batches"), ("evaluation", "metrics, comparisons")),
    (("models", "base models, adapters, LoRA"), ("data", "photographs, degradation")),
    (("diffusion", "the paper's equations, on tensors"), ("images", "files and their pixels")),
    (("errors, files, arrays, resize, …", "single modules that every package may import"),),
)
"""Rows from top to bottom: (package, what it is for)."""

_WIDTH, _ROW, _GAP = 900, 58, 8
_FILLS = ("#3b3f8f", "#4a56a6", "#5a6dbb", "#5f78c6", "#9bb3e8", "#adc3ef", "#c3d5f5", "#dfe8f7")


def draw() -> str:
    """Return the picture as SVG."""
    height = len(LAYERS) * (_ROW + _GAP) + _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="system-ui, sans-serif" text-anchor="middle" role="img">',
        "<title>Packages of tsdsr in layers</title>",
        f'<rect width="{_WIDTH}" height="{height}" rx="10" fill="#ffffff"/>',
    ]
    for row, boxes in enumerate(LAYERS):
        width = (_WIDTH - _GAP * (len(boxes) + 1)) / len(boxes)
        ink = "#ffffff" if row < 4 else "#1b1f3b"
        for column, (name, purpose) in enumerate(boxes):
            x, y = _GAP + column * (width + _GAP), _GAP + row * (_ROW + _GAP)
            middle = x + width / 2
            parts += [
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_ROW}" rx="6" fill="{_FILLS[row]}"/>',
                f'<text x="{middle:.1f}" y="{y + 26}" font-size="17" font-weight="600" fill="{ink}">'
                f"{escape(name)}</text>",
                f'<text x="{middle:.1f}" y="{y + 45}" font-size="13" fill="{ink}">{escape(purpose)}</text>',
            ]
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(), encoding="utf-8")
