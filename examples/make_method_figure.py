"""Draw the data flow of one training step for docs/explanation/method.md.

python examples/make_method_figure.py
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from panels import IMAGES

TRAINED, FROZEN, LOSS, PLAIN = "#cfe3f7", "#e9e9e9", "#fbe3cf", "white"
NETWORKS = (  # text, centre x, centre y, width, colour
    ("encoder", 16, 50, 11, TRAINED),
    ("student", 36, 50, 11, TRAINED),
    ("decoder", 62, 50, 11, FROZEN),
    ("encoder", 16, 10, 11, FROZEN),
    ("walk (DASM)\nsame noise for both", 49, 24, 17, PLAIN),
    ("fake", 71, 31, 10, TRAINED),
    ("teacher", 71, 17, 10, FROZEN),
    ("VSD", 90, 31, 9, LOSS),
    ("TSM", 90, 17, 9, LOSS),
    ("LPIPS,\nMSE", 90, 50, 9, LOSS),
)
ARROWS = (  # from, to, label, label's position
    ((5, 50), (10, 50), r"$x_{lq}$", (3, 50)),
    ((22, 50), (30, 50), r"$z_{lq}$", (26, 52.5)),
    ((42, 50), (56, 50), r"$\hat z$", (46, 52.5)),
    ((68, 50), (85, 50), r"$\hat x$", (76, 52.5)),
    ((5, 10), (10, 10), r"$x_{hq}$", (3, 10)),
    ((45, 49), (45, 29), "", (0, 0)),
    ((58, 27), (66, 31), r"$\hat z_t$", (61, 31.5)),
    ((58, 25), (66, 19), "", (0, 0)),
    ((58, 22), (66, 16), r"$z^{hq}_t$", (60.5, 16)),
    ((76, 31), (85, 31), "", (0, 0)),
    ((76, 19), (85, 29), "", (0, 0)),
    ((76, 17), (85, 17), "", (0, 0)),
)


def main() -> None:
    figure = Figure(figsize=(8.6, 4.7), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlim(0, 100)
    axes.set_ylim(5, 59)
    axes.axis("off")
    for text, x, y, width, colour in NETWORKS:
        box = FancyBboxPatch((x - width / 2, y - 3), width, 6, "round,pad=0.3", facecolor=colour, edgecolor="0.4")
        axes.add_patch(box)
        axes.text(x, y, text, ha="center", va="center", fontsize=9)
    for start, end, label, place in ARROWS:
        arrow(axes, start, end)
        axes.text(*place, label, ha="center", va="center", fontsize=11)
    line(axes, (22, 45, 45), (10, 10, 19.5))
    axes.text(26, 12.5, r"$z_{hq}$", ha="center", va="center", fontsize=11)
    axes.text(90, 56, r"against $x_{hq}$, $z_{hq}$", ha="center", va="center", fontsize=9)
    axes.text(71, 36, r"learns $\hat z$ (eq. 9)", ha="center", va="center", fontsize=8)
    line(axes, (90, 90), (34.5, 40.5), colour="#c03020", arrowhead=False)
    line(axes, (90, 41, 41), (40.5, 40.5, 46), colour="#c03020")
    line(axes, (90, 90), (20.5, 27.5), colour="#c03020", arrowhead=False)
    axes.text(66, 42, r"gradient at $\hat z$ (eq. 5)", color="#c03020", ha="center", fontsize=9)
    for k, (name, colour) in enumerate((("trained", TRAINED), ("frozen", FROZEN), ("losses", LOSS))):
        axes.text(12 + 9 * k, 33, name, fontsize=9, ha="center", bbox={"facecolor": colour, "edgecolor": "0.4"})
    figure.savefig(IMAGES / "training-step.webp", dpi=110, pil_kwargs={"quality": 90, "method": 6})


def arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], colour: str = "0.25") -> None:
    """Draw a straight arrow."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "shrinkA": 0, "shrinkB": 0})


def line(axes: Any, x: tuple[float, ...], y: tuple[float, ...], colour: str = "0.25", arrowhead: bool = True) -> None:
    """Draw a line with corners, which ends in an arrow."""
    axes.plot(x, y, color=colour, linewidth=1)
    if arrowhead:
        arrow(axes, (x[-2], y[-2]), (x[-1], y[-1]), colour)


if __name__ == "__main__":
    main()
