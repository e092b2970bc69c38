"""Second-order degradation: replay, independence of batches and workers, and the published ranges."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.conftest import as_batch
from tsdsr.data.degradation_presets import PRESETS, DegradationSettings, KernelSettings
from tsdsr.data.second_order import SampleRecord, SecondOrderDegradation, make_kernels
from tsdsr.errors import ConfigError, InvalidInputError


@pytest.fixture
def images(photo: Image.Image) -> Tensor:
    parts = [photo.crop((180, 60, 308, 188)), photo.crop((0, 300, 128, 428))]
    return torch.cat([as_batch(part) for part in parts])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_batch_of_any_preset(preset: str, images: Tensor) -> None:
    lq, hq, records = SecondOrderDegradation(PRESETS[preset])(images, generator())
    assert lq.shape == (2, 3, 32, 32)
    assert hq.shape == images.shape
    assert torch.equal((lq * 255).round() / 255, lq)
    assert 0 <= lq.min() <= lq.max() <= 1
    assert torch.equal(hq, images) != PRESETS[preset].sharpen_target
    assert len(records) == 2


def test_the_same_seed_gives_the_same_bytes(images: Tensor) -> None:
    degradation = SecondOrderDegradation(PRESETS["realesrgan"])
    first, second, other = (degradation(images, generator(s))[0] for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_batch_equals_singles(images: Tensor) -> None:
    degradation = SecondOrderDegradation(PRESETS["osediff"])
    together, _, records = degradation(images, generator())
    singles = torch.cat([degradation.apply(images[i : i + 1], [records[i]]) for i in range(2)])
    # the blur of the whole batch may round differently, which moves a value by one grey level now and then
    assert ((together - singles).abs() * 255).max() <= 2
    assert (together == singles).float().mean() > 0.99


def test_a_record_written_to_json_makes_the_same_image(images: Tensor) -> None:
    degradation = SecondOrderDegradation(PRESETS["realesrgan"])
    lq, _, records = degradation(images, generator(5))
    stored = json.loads(json.dumps([r.to_dict() for r in records]))
    again = [SampleRecord.from_dict(d) for d in stored]
    assert again == records
    assert torch.equal(degradation.apply(images, again), lq)


def draws(settings: DegradationSettings, count: int = 3000) -> list[SampleRecord]:
    degradation, g = SecondOrderDegradation(settings), generator()
    return [degradation.draw((512, 512), g) for _ in range(count)]


@pytest.mark.parametrize("preset", ["realesrgan", "stablesr"])
def test_draws_follow_the_published_ranges_and_probabilities(preset: str) -> None:
    settings = PRESETS[preset]
    records = draws(settings)
    count = len(records)

    def share(hits: int) -> object:
        return pytest.approx(hits, abs=4 * (count * 0.25) ** 0.5)  # four standard deviations at worst

    for order, stage, base in (("first", settings.first, 512), ("second", settings.second, 128)):
        drawn = [getattr(r, order) for r in records]
        blurred = [d for d in drawn if d.kernel.family != "none"]
        assert len(blurred) == share(count * stage.blur_prob)
        ringing = [d for d in blurred if d.kernel.family == "sinc"]
        assert len(ringing) == share(len(blurred) * stage.kernels.sinc_prob)
        smooth = [d.kernel for d in blurred if d.kernel.family != "sinc"]
        kinds = Counter((k.family, k.sigma[0] == k.sigma[1]) for k in smooth)
        for kind, probability in zip(stage.kernels.kinds, stage.kernels.kind_prob, strict=True):
            assert kinds[kind] == share(len(smooth) * probability)
        low, high = stage.kernels.sigma
        sigmas = [s for k in smooth for s in k.sigma]
        assert low <= min(sigmas) < low + 0.1
        assert high - 0.1 < max(sigmas) <= high
        assert {k.size for k in smooth} == set(range(7, 22, 2))
        for family, (lowest, highest) in (
            ("generalized", stage.kernels.beta_generalized),
            ("plateau", stage.kernels.beta_plateau),
        ):
            betas = [k.beta for k in smooth if k.family == family]
            assert lowest <= min(betas) <= max(betas) <= highest
            assert sum(b > 1 for b in betas) == share(len(betas) / 2)
        for d in ringing:
            assert torch.pi / (3 if d.kernel.size < 13 else 5) <= d.kernel.cutoff <= torch.pi
        factors = [d.size[0] / base for d in drawn]
        up, down = sum(f > 1 for f in factors), sum(f < 0.999 for f in factors)
        assert up == share(count * stage.resize_prob[0])
        assert down == share(count * stage.resize_prob[1])
        assert stage.resize_range[0] - 0.01 <= min(factors)
        assert max(factors) <= stage.resize_range[1]
        assert Counter(d.mode for d in drawn) == {m: share(count // 3) for m in ("area", "bilinear", "bicubic")}
        gaussian = [d.strength for d in drawn if d.noise == "gaussian"]
        poisson = [d.strength for d in drawn if d.noise == "poisson"]
        assert len(gaussian) == share(count * stage.gaussian_prob)
        for strengths, (lowest, highest) in ((gaussian, stage.gaussian_sigma), (poisson, stage.poisson_scale)):
            assert lowest <= min(strengths) <= max(strengths) <= highest
            mean = sum(strengths) / len(strengths)
            assert mean == pytest.approx((lowest + highest) / 2, rel=0.05)
        assert sum(d.grey for d in drawn) == share(count * stage.grey_prob)
        qualities = [getattr(r, f"{order}_quality") for r in records]
        lowest, highest = stage.jpeg_quality
        assert lowest <= min(qualities) < lowest + 1
        assert highest - 1 < max(qualities) <= highest
    final = [r.final_kernel for r in records if r.final_kernel.family == "sinc"]
    assert len(final) == share(count * settings.final_sinc_prob)
    assert all(torch.pi / 3 <= k.cutoff <= torch.pi for k in final)
    assert sum(r.jpeg_last for r in records) == share(count / 2)
    assert {r.size for r in records} == {(128, 128)}


def test_every_operator_leaves_its_mark(images: Tensor) -> None:
    """Changing one field of a record changes the picture: nothing drawn is left unused."""
    degradation = SecondOrderDegradation(PRESETS["osediff"])
    (base,) = (r for r in draws(PRESETS["osediff"], 40)[17:18])
    kernel = dataclasses.replace(base.first.kernel, family="gaussian", sigma=(2.5, 2.5))
    changes = {
        "first.kernel": dataclasses.replace(base, first=dataclasses.replace(base.first, kernel=kernel)),
        "first.size": dataclasses.replace(base, first=dataclasses.replace(base.first, size=(40, 40))),
        "first.noise": dataclasses.replace(base, first=dataclasses.replace(base.first, noise="gaussian", strength=30)),
        "first_quality": dataclasses.replace(base, first_quality=5.0),
        "second.kernel": dataclasses.replace(base, second=dataclasses.replace(base.second, kernel=kernel)),
        "second.size": dataclasses.replace(base, second=dataclasses.replace(base.second, size=(11, 11))),
        "second.noise": dataclasses.replace(
            base, second=dataclasses.replace(base.second, noise="gaussian", strength=29, grey=not base.second.grey)
        ),
        "second_quality": dataclasses.replace(base, second_quality=6.0),
        "final_kernel": dataclasses.replace(
            base, final_kernel=dataclasses.replace(base.final_kernel, family="sinc", size=9, cutoff=1.2)
        ),
        "jpeg_last": dataclasses.replace(base, jpeg_last=not base.jpeg_last),
        "noise_seed": dataclasses.replace(base, noise_seed=base.noise_seed + 1),
    }
    plain = degradation.apply(images[:1], [base])
    for name, record in changes.items():
        assert not torch.equal(degradation.apply(images[:1], [record]), plain), name


def test_kernels_of_mixed_records(images: Tensor) -> None:
    records = [r.first.kernel for r in draws(PRESETS["realesrgan"], 60)]
    kernels = make_kernels(records)
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(60))
    assert {r.family for r in records} >= {"gaussian", "sinc", "plateau", "generalized"}
    for record, kernel in zip(records, kernels, strict=True):
        assert torch.equal(make_kernels([record])[0], kernel)


@pytest.mark.cuda
def test_on_a_gpu_the_picture_is_nearly_the_same(images: Tensor) -> None:
    """Noise comes from another generator there and JPEG from another codec; without noise the rest must agree."""
    pytest.importorskip("kornia")
    degradation = SecondOrderDegradation(PRESETS["osediff"])
    record = draws(PRESETS["osediff"], 1)[0]
    quiet = dataclasses.replace(
        record,
        first=dataclasses.replace(record.first, noise="gaussian", strength=0.0),
        second=dataclasses.replace(record.second, noise="gaussian", strength=0.0),
    )
    cpu, gpu = degradation.apply(images[:1], [quiet]), degradation.apply(images[:1].cuda(), [quiet]).cpu()
    assert (cpu - gpu).abs().mean() < 4 / 255


def test_impossible_settings_are_refused(images: Tensor) -> None:
    base = PRESETS["realesrgan"]
    for stage in (
        {"blur_prob": 1.5},
        {"resize_prob": (0.5, 0.2, 0.1)},
        {"resize_range": (1.2, 1.5)},
        {"jpeg_quality": (30, 101)},
        {"gaussian_sigma": (5, 1)},
    ):
        with pytest.raises(ConfigError):
            dataclasses.replace(base.first, **stage)
    for kernels in ({"sizes": (8, 20)}, {"kind_prob": (1.0,)}, {"beta_plateau": (1.5, 2.0)}, {"sigma": (0.0, 1.0)}):
        with pytest.raises(ConfigError):
            KernelSettings(**kernels)
    with pytest.raises(ConfigError):
        dataclasses.replace(base, scale=0)
    with pytest.raises(InvalidInputError, match="as many records"):
        SecondOrderDegradation(base).apply(images, draws(base, 1))
