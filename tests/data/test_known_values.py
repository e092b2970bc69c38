"""Strength and order of degradation operators, against values computed by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("cv2", reason="OpenCV is not installed (extra: train)")

from tsdsr.data import first_order, operators, operators_cpu
from tsdsr.data.camera import CameraDegradation, to_linear, to_srgb
from tsdsr.data.degradation_presets import PRESETS
from tsdsr.data.first_order import FirstOrderDegradation, draw_ellipse, jpeg_roundtrip
from tsdsr.data.second_order import KernelRecord, SampleRecord, SecondOrderDegradation, StageRecord, make_kernels

BOTH = pytest.mark.parametrize("module", [operators, operators_cpu], ids=["torch", "opencv"])


def stripes(edge: int = 64) -> Tensor:
    x = torch.zeros(1, 3, edge, edge)
    x[..., ::2] = 1
    return x


@BOTH
def test_gaussian_noise_is_that_of_the_generator_in_parts_of_255(module: Any) -> None:
    x = torch.full((1, 3, 8, 8), 0.5)
    arguments = (torch.tensor([20.0]), torch.tensor([False]))
    noisy = module.add_gaussian_noise(x, *arguments, torch.Generator().manual_seed(1))
    shape = (1, 3, 8, 8) if module is operators else (8, 8, 3)
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    expected = x + (drawn if module is operators else drawn.permute(2, 0, 1)[None]) * 20 / 255
    torch.testing.assert_close(noisy, expected, rtol=0, atol=1e-6, check_stride=False)


@BOTH
def test_noise_stays_within_the_range_of_images(module: Any) -> None:
    for level in (0.0, 1.0):
        x = torch.full((1, 3, 32, 32), level)
        for noise in (module.add_gaussian_noise, module.add_poisson_noise):
            y = noise(x, torch.tensor([30.0]), torch.tensor([False]), torch.Generator().manual_seed(0))
            assert 0 <= y.min() <= y.max() <= 1


@BOTH
def test_rounding_is_to_the_nearest_step(module: Any) -> None:
    x = torch.tensor([-1.0, 0.3, 0.999, 100.4 / 255, 100.6 / 255, 2.0]).reshape(1, 1, 2, 3).expand(1, 3, 2, 3)
    levels = (module.quantise(x) * 255)[0, 0].flatten()
    torch.testing.assert_close(levels, torch.tensor([0.0, 76.0, 255.0, 100.0, 101.0, 255.0]), check_stride=False)


def test_luminance_of_the_primaries() -> None:
    values = [operators.luminance(torch.eye(3)[i].reshape(1, 3, 1, 1)).item() for i in range(3)]
    assert values == pytest.approx([0.299, 0.587, 0.114], abs=1e-3)


def test_a_separable_kernel_blurs_along_its_own_axis() -> None:
    """Wide along x: a point becomes a horizontal streak, in OpenCV's separable filter too."""
    x = torch.zeros(1, 1, 41, 41)
    x[..., 20, 20] = 1
    kernels = make_kernels([KernelRecord("gaussian", 21, (3.0, 0.8))])
    for module in (operators, operators_cpu):
        y = module.filter2d(x, kernels)[0, 0]
        assert y[20, 26] > 100 * y[26, 20]


def test_axes_of_a_blur_are_drawn_apart_and_alike_as_often_as_asked() -> None:
    rng = np.random.default_rng(0)
    for share in (0.0, 0.6, 1.0):
        drawn = np.array([draw_ellipse((0.5, 3.0), share, rng) for _ in range(800)])
        assert np.mean(drawn[:, 0] == drawn[:, 1]) == pytest.approx(share, abs=0.05)
        assert 0.5 <= drawn[:, :2].min() < 0.6
        assert 2.9 < drawn[:, :2].max() <= 3.0
        assert 0 <= drawn[:, 2].min() < 0.1
        assert 3.0 < drawn[:, 2].max() < np.pi


def test_every_jpeg_quality_of_the_range_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    qualities: list[int] = []
    monkeypatch.setattr(first_order, "jpeg_pillow", lambda x, quality: qualities.append(quality) or x)
    rng = np.random.default_rng(0)
    for _ in range(300):
        jpeg_roundtrip(torch.zeros(3, 8, 8), (50, 53), 0.7, rng)
    assert set(qualities) == {50, 51, 52, 53}
    assert len(qualities) == pytest.approx(210, abs=25)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_the_first_order_shrinks_with_antialiasing(mode: Any) -> None:
    plain = FirstOrderDegradation(blur_prob=0, noise_prob=0, jpeg_prob=0, resize_modes=(mode,))
    assert plain(stripes()[0], (15, 15), np.random.default_rng(0)).std() < 0.05


def record(size: int = 64, low: int = 15, **changes: Any) -> SampleRecord:
    """A record that shrinks in its first stage and does nothing else."""
    first = StageRecord(KernelRecord(), (low, low), "bicubic", "gaussian", 0.0, False)
    base = SampleRecord(first, 100.0, first, 100.0, KernelRecord(), "bicubic", True, (low, low), 0)
    return dataclasses.replace(base, **changes)


@pytest.mark.parametrize("antialias", [False, True])
def test_the_second_order_antialiases_as_its_settings_say(antialias: bool) -> None:
    settings = dataclasses.replace(PRESETS["osediff"], antialias=antialias)
    spread = SecondOrderDegradation(settings).apply(stripes(), [record()]).std().item()
    assert (spread < 0.05) is antialias
    large = StageRecord(KernelRecord(), (64, 64), "bicubic", "gaussian", 0.0, False)
    spread = SecondOrderDegradation(settings).apply(stripes(), [record(first=large, second=large)]).std().item()
    assert (spread < 0.05) is antialias  # the last resize, too


@pytest.mark.parametrize("jpeg_last", [False, True])
def test_operators_run_in_the_order_of_the_diagram(monkeypatch: pytest.MonkeyPatch, jpeg_last: bool) -> None:
    calls: list[tuple[str, float]] = []

    def note(name: str, what: Any) -> None:
        honest = getattr(operators_cpu, name)

        def recorded(x: Tensor, *arguments: Any) -> Tensor:
            calls.append((name, what(*arguments)))
            result: Tensor = honest(x, *arguments)
            return result

        monkeypatch.setattr(operators_cpu, name, recorded)

    note("filter2d", lambda kernels: round(1 / kernels.max().item()))
    note("resize", lambda size, *_: size[0])
    note("jpeg", lambda quality: quality.item())
    for name in ("add_gaussian_noise", "add_poisson_noise"):
        note(name, lambda strength, *_: strength.item())
    sigma = {"a": 0.6, "b": 0.9, "c": 1.2}
    kernels = {k: KernelRecord("gaussian", 21, (s, s)) for k, s in sigma.items()}
    one = StageRecord(kernels["a"], (40, 40), "bicubic", "gaussian", 3.0, False)
    two = StageRecord(kernels["b"], (20, 20), "area", "poisson", 0.5, True)
    whole = SampleRecord(one, 60.0, two, 80.0, kernels["c"], "bilinear", jpeg_last, (16, 16), 7)
    SecondOrderDegradation(PRESETS["osediff"]).apply(torch.rand(1, 3, 64, 64), [whole])
    peak = {k: round(1 / make_kernels([v]).max().item()) for k, v in kernels.items()}
    assert len(set(peak.values())) == 3
    start = [
        ("filter2d", peak["a"]), ("resize", 40), ("add_gaussian_noise", 3.0), ("jpeg", 60.0),
        ("filter2d", peak["b"]), ("resize", 20), ("add_poisson_noise", 0.5),
    ]  # fmt: skip
    final = [("resize", 16), ("filter2d", peak["c"])]
    assert calls == start + ([*final, ("jpeg", 80.0)] if jpeg_last else [("jpeg", 80.0), *final])


def test_a_sharpened_truth_is_degraded_sharpened() -> None:
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    plain, sharp = (dataclasses.replace(PRESETS["osediff"], sharpen_target=s) for s in (False, True))
    target = SecondOrderDegradation(sharp).target(x)
    assert (target - x).abs().max() > 0.1
    got = SecondOrderDegradation(sharp).apply(x, [record()])
    torch.testing.assert_close(got, SecondOrderDegradation(plain).apply(target, [record()]), rtol=0, atol=1.01 / 255)
    assert (got - SecondOrderDegradation(plain).apply(x, [record()])).abs().max() > 0.05


def camera_spread(level: float, seed: int = 0, **changes: Any) -> float:
    """Standard deviation of the linear green of a flat picture."""
    settings = CameraDegradation(
        **{"blur_sigma": (0.3, 0.3), "sharpen_prob": 0, "jpeg_prob": 0, "gradient_prob": 0, **changes}
    )
    flat = to_srgb(torch.full((3, 64, 64), level))
    return float(to_linear(settings(flat, (64, 64), np.random.default_rng(seed)))[1].std())


def test_the_sensor_has_the_noise_asked_for() -> None:
    """Half of green is as read, half is the mean of four: together 5/8 of the variance."""
    spread = camera_spread(0.4, photons=(1e9, 1e9), read_noise=(0.02, 0.02))
    assert spread == pytest.approx(0.02 * 0.625**0.5, rel=0.06)
    spread = camera_spread(0.4, photons=(500, 500), read_noise=(1e-9, 1e-9))
    assert spread == pytest.approx((0.4 / 500 * 0.625) ** 0.5, rel=0.06)


def test_photons_are_drawn_evenly_by_logarithm() -> None:
    """Of 100 to 10,000 the middle is 1,000."""
    variances = [camera_spread(0.4, s, photons=(100, 10_000), read_noise=(1e-9, 1e-9)) ** 2 for s in range(60)]
    assert 500 < 0.4 * 0.625 / np.median(variances) < 2000
