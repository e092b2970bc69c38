"""Tables of the reference that stand in pages with other text are those of the code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.docs.pages import ROOT
from tsdsr.data.degradation_presets import PRESETS, DegradationSettings, StageSettings
from tsdsr.evaluation.metrics import METRICS

PAGES = ROOT / "docs" / "reference"


def table(*rows: Sequence[str]) -> str:
    """Return a table in Markdown; the first row is its head."""
    head, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def shown(value: Any) -> str:
    """Return a range, several numbers, or one value as the pages write them."""
    if not isinstance(value, tuple):
        return f"{value:g}"
    return " to ".join(f"{v:g}" for v in value) if len(value) == 2 else ", ".join(f"{v:g}" for v in value)


def kernels_and_stage(stage: StageSettings) -> dict[str, Any]:
    return {
        "blur: probability": stage.blur_prob,
        "blur: sigma along each axis, pixels": stage.kernels.sigma,
        "blur: β of the generalised Gaussian": stage.kernels.beta_generalized,
        "blur: β of the plateau kernel": stage.kernels.beta_plateau,
        "resize: probability of up, down, none": stage.resize_prob,
        "resize: factor": stage.resize_range,
        "noise: probability of Gaussian instead of Poisson": stage.gaussian_prob,
        "noise: sigma of the Gaussian, in 1/255": stage.gaussian_sigma,
        "noise: strength of the Poisson": stage.poisson_scale,
        "noise: probability of the same in all channels": stage.grey_prob,
        "JPEG: quality": stage.jpeg_quality,
    }


def test_the_presets() -> None:
    strong, mild = PRESETS["osediff"], PRESETS["stablesr"]
    stages = [kernels_and_stage(stage) for stage in (strong.first, strong.second, mild.first, mild.second)]
    names = "`realesrgan`, `osediff`: first order", "second order", "`stablesr`: first order", "second order"
    rows: list[Sequence[str]] = [("parameter", *names)]
    rows += [(label, *(shown(stage[label]) for stage in stages)) for label in stages[0]]
    assert table(*rows) in (PAGES / "degradation.md").read_text()


def test_what_the_presets_have_in_common() -> None:
    """The page says these once, in prose."""
    for name, preset in PRESETS.items():
        plain = DegradationSettings(first=preset.first, second=preset.second)
        assert (preset.final_sinc_prob, preset.scale, preset.antialias) == (0.8, 4, plain.antialias)
        assert preset.sharpen_target == (name != "osediff")
        for stage in (preset.first, preset.second):
            assert (stage.kernels.sinc_prob, stage.kernels.sizes) == (0.1, (7, 21))
            assert stage.kernels.kind_prob == (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    assert PRESETS["realesrgan"].first == PRESETS["osediff"].first


def test_the_metrics() -> None:
    rows: list[Sequence[str]] = [("`--metrics`", "pyiqa", "better", "variant")]
    for name, spec in METRICS.items():
        rows.append((f"`{name}`", f"`{spec.pyiqa_name}`", "↑" if spec.higher_is_better else "↓", spec.variant))
    assert table(*rows) in (PAGES / "metrics.md").read_text()
