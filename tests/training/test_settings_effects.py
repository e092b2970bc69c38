"""Each setting of losses and distillation has the intended effect, of the right size."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training import test_run_settings
from tests.training.golden_runs import MadeUpSamples, student
from tests.training.observe import SHOWN, Seen, observe, shows, single
from tests.training.test_run_settings import ELSEWHERE
from tests.training.tiny import distance
from tsdsr.data.operators import unsharp_mask
from tsdsr.diffusion.losses import WalkPoint
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.denoiser import as_denoiser
from tsdsr.training.adversarial import FeatureAdversary, LatentAdversary
from tsdsr.training.config import (
    NetworkSettings,
    Phase,
    RunConfig,
    Schedule,
    StudentConfig,
    TeacherConfig,
    TSDSettings,
)
from tsdsr.training.image_losses import grid_loss
from tsdsr.training.pixel_adversary import PixelAdversary
from tsdsr.training.prompts import LabelPrompts
from tsdsr.training.student import StudentTrainer
from tsdsr.training.weave import weave_loss

PLAIN = TSDSettings(guidance=1.5, points=2, first=300, last=700)
ALL = {"l1_weight": 0.5, "perceptual_weight": 0.5, "latent_mse_weight": 0.5, "grid_weight": 0.5, "weave_weight": 0.5}
PARTS = {
    "l1_weight": "loss/l1",
    "perceptual_weight": "loss/perceptual",
    "latent_mse_weight": "loss/latent_mse",
    "grid_weight": "loss/grid",
    "weave_weight": "loss/weave",
    "adversarial_weight": "loss/adversarial",
    "gamma_reg": "loss/tsd",
}


def test_every_setting_has_a_test_of_its_effect() -> None:
    """A new setting needs an entry: a test marked with ``shows``, or the name of a test elsewhere."""
    assert test_run_settings.__name__
    classes = (Schedule, Phase, TSDSettings, NetworkSettings, RunConfig, StudentConfig, TeacherConfig)
    fields = {f"{c.__name__}.{f.name}" for c in classes for f in dataclasses.fields(c) if f.name in c.__annotations__}
    fields -= {"StudentConfig.phases"}  # RunConfig's, with a narrower type
    assert SHOWN | ELSEWHERE.keys() == fields
    root = Path(__file__).parents[2]
    for name, place in ELSEWHERE.items():
        file, _, test = place.partition("::")
        assert f"def {test}(" in (root / file).read_text(), name


@shows(*(f"Phase.{name}" for name in PARTS))
@pytest.mark.parametrize("name", PARTS)
def test_a_weight_scales_its_term_exactly(tmp_path: Path, name: str) -> None:
    """The loss and its gradient are straight lines in every weight, with the term itself as slope."""
    base: dict[str, Any] = {**ALL, "tsd": PLAIN, "adversarial_weight": 0.5}
    three = [observe(single(**base | {name: weight}), tmp_path, differing_fake) for weight in (1.0, 2.0, 4.0)]
    losses = [seen.records[0]["loss/student"] for seen in three]
    term = three[0].records[0][PARTS[name]]
    assert term > 0
    assert losses[1] - losses[0] == pytest.approx(term, rel=1e-3)
    assert losses[2] - losses[1] == pytest.approx(2 * term, rel=1e-3)
    g = [seen.gradients["student"][0] for seen in three]
    torch.testing.assert_close(g[2] - g[1], 2 * (g[1] - g[0]), rtol=1e-3, atol=1e-5)
    assert (g[1] - g[0]).norm() > 1e-5


@shows("Phase.gamma_rec")
def test_gamma_rec_scales_the_reconstruction_losses_and_nothing_else(tmp_path: Path) -> None:
    def step(gamma: float) -> Seen:
        weights = {"l1_weight": 1.0, "perceptual_weight": 0.5, "latent_mse_weight": 2.0}
        return observe(single(gamma_rec=gamma, grid_weight=1.0, tsd=PLAIN, **weights), tmp_path)

    one, three = step(1.0), step(3.0)
    r = one.records[0]
    reconstruction = r["loss/l1"] + 0.5 * r["loss/perceptual"] + 2 * r["loss/latent_mse"]
    assert three.records[0]["loss/student"] - r["loss/student"] == pytest.approx(2 * reconstruction, rel=1e-4)
    assert r["loss/student"] == pytest.approx(reconstruction + r["loss/grid"] + r["loss/tsd"], rel=1e-4)


@shows("TSDSettings.lambda_vsd", "TSDSettings.lambda_tsm", "TSDSettings.later_weight")
@pytest.mark.parametrize("name", ["lambda_vsd", "lambda_tsm", "later_weight"])
def test_weights_within_tsd_scale_the_gradient(tmp_path: Path, name: str) -> None:
    def step(weight: float) -> Seen:
        return observe(single(tsd=dataclasses.replace(PLAIN, **{name: weight})), tmp_path, differing_fake)

    three = [step(weight) for weight in (0.0, 0.4, 0.8)]
    g = [seen.gradients["student"][0] for seen in three]
    torch.testing.assert_close(g[2] - g[1], g[1] - g[0], rtol=1e-3, atol=1e-7)
    assert (g[1] - g[0]).norm() > 1e-5


def test_without_one_lambda_the_gradient_is_that_of_the_other(tmp_path: Path) -> None:
    for vsd, tsm, name in ((1.0, 0.0, "tsd/vsd_rms"), (0.0, 1.0, "tsd/tsm_rms")):
        tsd = dataclasses.replace(PLAIN, lambda_vsd=vsd, lambda_tsm=tsm)
        record = observe(single(tsd=tsd), tmp_path, differing_fake).records[0]
        assert record["loss/tsd"] == pytest.approx(0.5 * record[name] ** 2, rel=1e-4)


def differing_fake(run: StudentTrainer) -> None:
    """Let the fake network differ from the teacher, so that VSD is not zero."""
    assert run.scores is not None
    with torch.no_grad():
        for parameter in run.scores.fake.parameters():
            parameter.mul_(1.2)


RAMPS = [
    *(("Phase", name) for name in (*PARTS, "gamma_rec")),
    ("TSDSettings", "lambda_vsd"),
    ("TSDSettings", "lambda_tsm"),
]


@pytest.mark.parametrize(("kind", "name"), RAMPS)
def test_a_ramp_runs_from_its_first_to_its_last_value(tmp_path: Path, kind: str, name: str) -> None:
    """With learning rate zero the second of two steps is that of a phase with the last value throughout."""

    def losses(value: Any) -> list[float]:
        changes: dict[str, Any] = {**ALL, "adversarial_weight": 0.5, "tsd": PLAIN, "lr": (0.0, 0.0)}
        changes |= {"fake_lr": (0.0, 0.0), "discriminator_lr": (0.0, 0.0)}
        if kind == "Phase":
            changes[name] = value
        else:
            changes["tsd"] = dataclasses.replace(PLAIN, **{name: value})
        seen = observe(single(2, **changes), tmp_path, differing_fake)
        return [record["loss/student"] for record in seen.records if "loss/student" in record]

    first, last, ramp = losses(0.5), losses(2.5), losses((0.5, 2.5))
    assert ramp == pytest.approx([first[0], last[1]], rel=1e-5)
    assert first[1] != pytest.approx(last[1], rel=1e-4)


@shows("Phase.grid_relative")
@pytest.mark.parametrize("relative", [False, True])
def test_the_grid_term_is_that_of_two_latent_positions(tmp_path: Path, relative: bool) -> None:
    """A new `mini` gives its input back, so that the term is known."""
    record = observe(single(grid_weight=1.0, grid_relative=relative), tmp_path).records[0]
    samples = [MadeUpSamples(2)[i] for i in range(2)]
    x_lq, x_hq = (torch.stack([getattr(s, name) for s in samples]) for name in ("x_lq", "x_hq"))
    assert record["loss/grid"] == pytest.approx(grid_loss(x_lq, x_hq, 8, relative).item(), rel=1e-4)


@shows("Phase.sharpen_truth")
def test_losses_on_images_compare_with_a_sharpened_truth_and_the_others_with_the_truth(tmp_path: Path) -> None:
    """A new `mini` gives its input back, so that the losses are known."""
    kinds: dict[str, Any] = {**ALL, "tsd": PLAIN, "adversarial_weight": 0.5, "adversary": "pixel"}
    plain, sharp = (observe(single(**kinds, sharpen_truth=amount), tmp_path).records[0] for amount in (0.0, 0.5))
    samples = [MadeUpSamples(2)[i] for i in range(2)]
    x_lq, x_hq = (torch.stack([getattr(s, name) for s in samples]) for name in ("x_lq", "x_hq"))
    target = unsharp_mask(x_hq, 0.5)
    for name, expected in {
        "loss/l1": (x_lq - target).abs().mean(),
        "loss/perceptual": distance(x_lq, target),
        "loss/grid": grid_loss(x_lq, target, 8),
        "loss/weave": weave_loss(x_lq, target),
    }.items():
        assert sharp[name] == pytest.approx(expected.item(), rel=1e-4), name
        assert sharp[name] != pytest.approx(plain[name], rel=1e-3), name
    for name in ("loss/latent_mse", "loss/tsd", "loss/adversarial", "loss/discriminator"):
        assert sharp[name] == pytest.approx(plain[name], rel=1e-5), name


@shows("Phase.perceptual_crop")
def test_the_perceptual_distance_sees_one_square_of_both_images(tmp_path: Path) -> None:
    pairs: list[tuple[Tensor, Tensor]] = []

    def prepare(run: StudentTrainer) -> None:
        run.distances["lpips"] = lambda a, b: pairs.append((a, b)) or a.mean()  # type: ignore[func-returns-value]

    observe(single(3, perceptual_weight=1.0, perceptual_crop=20, lr=(0.0, 0.0)), tmp_path, prepare)
    corners = []
    for step, (x_hat, x_hq) in enumerate(pairs):
        assert x_hat.shape == x_hq.shape == (2, 3, 20, 20)
        sample = MadeUpSamples(9)[2 * step]
        found = {
            name: [
                (y, x) for y in range(13) for x in range(13)
                if torch.allclose(image[:, y : y + 20, x : x + 20], crop[0], atol=1e-5)
            ]
            for name, image, crop in (("hat", sample.x_lq, x_hat), ("hq", sample.x_hq, x_hq))
        }  # fmt: skip
        assert found["hat"] == found["hq"]
        assert len(found["hq"]) == 1
        corners += found["hq"]
    assert len(set(corners)) > 1


@shows("Phase.adversary")
def test_the_adversary_is_the_kind_asked_for(tmp_path: Path) -> None:
    latent = student(single(adversarial_weight=1.0, adversary="latent"), tmp_path / "a")
    assert isinstance(latent.adversary, LatentAdversary)
    assert latent.scores is None
    pixel = student(single(adversarial_weight=1.0, adversary="pixel"), tmp_path / "c")
    assert isinstance(pixel.adversary, PixelAdversary)
    assert pixel.scores is None
    features = student(single(adversarial_weight=1.0), tmp_path / "b")
    assert isinstance(features.adversary, FeatureAdversary)


@shows("Phase.adversarial_relative")
def test_a_relative_adversary_pulls_at_the_latents_as_their_mean_difference_does(tmp_path: Path) -> None:
    """The absolute value of the loss, and so the strength of the discriminator, does not matter."""
    run = student(single(adversarial_weight=1.0, adversary="pixel"), tmp_path)
    assert run.adversary is not None
    run.adversary.head.eval()  # in training, spectral norms change with every pass
    found = {}
    for relative in (True, False):
        z = torch.randn(2, 48, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
        loss = run._adversarial_loss(z, [0, 1], run.fixed, relative)
        (found[relative],) = torch.autograd.grad(loss, z)
    z = torch.ones(2, 48, 8, 8, requires_grad=True)
    (absolute,) = torch.autograd.grad(z.abs().mean(), z)
    assert found[True].norm().item() == pytest.approx(absolute.norm().item(), rel=1e-4)
    ratio = (found[True].norm() / found[False].norm()).item()
    torch.testing.assert_close(found[True], found[False] * ratio)
    assert ratio != pytest.approx(1, rel=0.1)


class OtherPrompts(LabelPrompts):
    """Images have the other of `mini`'s two prompts than the student."""

    def of(self, texts: Any) -> Conditioning:
        return Conditioning(labels=torch.ones(len(texts), dtype=torch.int64))


@shows("Phase.diverse_prompts")
@pytest.mark.parametrize("share", [0.0, 0.25, 1.0, (0.0, 1.0)])
def test_the_student_sees_the_image_prompt_as_often_as_asked(tmp_path: Path, share: Any) -> None:
    seen: list[float] = []

    def prepare(run: StudentTrainer) -> None:
        run.prompts = OtherPrompts()
        run.networks.student.register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[1].labels.double().mean().item())
        )

    observe(single(2, batch_size=64, l1_weight=1.0, diverse_prompts=share), tmp_path, prepare)
    expected = share if isinstance(share, tuple) else (share, share)
    assert seen == pytest.approx(expected, abs=0.0 if expected[0] in (0.0, 1.0) else 0.15)


def walk(tmp_path: Path, count: int = 2, seed: int = 0, **changes: Any) -> tuple[StudentTrainer, list[WalkPoint]]:
    """The points of a walk of `mini` on made-up latents, with teacher and fake that differ."""
    tsd = TSDSettings(**{"guidance": 1.0, "first": 400, "last": 400, **changes})
    run = student(single(tsd=tsd, config={"seed": seed}), tmp_path / "walk")
    differing_fake(run)
    z = torch.randn(2, count, 48, 8, 8, generator=torch.Generator().manual_seed(0))
    prompt = run.prompts.of([""] * count)
    return run, list(run.walk(tsd, 0.0, range(count), z[0], z[1], prompt))


@shows("TSDSettings.guidance")
def test_guidance_moves_the_predictions_as_its_equation_says(tmp_path: Path) -> None:
    run, (one,) = walk(tmp_path, guidance=1.0)
    assert run.scores is not None
    _, (other,) = walk(tmp_path, guidance=7.5)
    for name, network, z_t in (
        ("teacher_hat", run.scores.teacher, one.z_hat_t),
        ("fake_hat", run.scores.fake, one.z_hat_t),
        ("teacher_hq", run.scores.teacher, one.z_hq_t),
    ):
        assert network is not None
        with torch.no_grad():
            c, u = (as_denoiser(network)(z_t, one.t, p.expand(2)) for p in (run.fixed, run.null))
        torch.testing.assert_close(getattr(one.predictions, name), c, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(getattr(other.predictions, name), u + 7.5 * (c - u), rtol=1e-4, atol=1e-4)


@shows("TSDSettings.first", "TSDSettings.last")
def test_walks_begin_anywhere_in_their_range(tmp_path: Path) -> None:
    _, points = walk(tmp_path, 150, first=200, last=600)
    starts = 1000 - points[0].t
    assert starts.min() == pytest.approx(200, abs=20)
    assert starts.max() == pytest.approx(600, abs=20)


@shows("TSDSettings.points", "TSDSettings.step_size", "TSDSettings.shift")
def test_a_walk_has_as_many_points_as_far_apart_as_asked(tmp_path: Path) -> None:
    _, points = walk(tmp_path, points=3, step_size=30)
    torch.testing.assert_close(
        torch.stack([p.t for p in points]), torch.tensor([[600.0] * 2, [570.0] * 2, [540.0] * 2])
    )
    _, moved = walk(tmp_path, 100, points=3, step_size=30, shift=10)
    assert moved[0].t.tolist() == [600] * 100
    for k in (1, 2):
        by = moved[k].t - (600 - 30 * k)
        assert by.abs().max() < 10.01
        assert by.min() < -7
        assert by.max() > 7


@shows("TSDSettings.omega", "TSDSettings.space")
def test_omega_and_space_scale_the_residual(tmp_path: Path) -> None:
    """At position 400 of flow matching sigma is 0.6."""

    def rms(**changes: Any) -> float:
        tsd = TSDSettings(**{"guidance": 1.0, "first": 400, "last": 400, **changes})
        return observe(single(tsd=tsd), tmp_path, differing_fake).records[0]["tsd/vsd_rms"]

    one = rms(omega="one")
    assert rms(omega="sigma2") == pytest.approx(0.36 * one, rel=1e-4)
    assert rms(omega="snr") == pytest.approx(0.16 / 0.52 * one, rel=1e-4)
    assert rms(omega="one", space="eps") == pytest.approx(0.4 * one, rel=1e-4)


@shows("TSDSettings.batched")
def test_batching_changes_the_number_of_passes_only(tmp_path: Path) -> None:
    passes: list[int] = []

    def step(batched: bool) -> Seen:
        def prepare(run: StudentTrainer) -> None:
            assert run.scores is not None
            assert run.scores.teacher is not None
            run.scores.teacher.register_forward_hook(lambda *_: passes.append(1))

        return observe(single(tsd=dataclasses.replace(PLAIN, points=1, batched=batched)), tmp_path, prepare)

    together, count = step(True), len(passes)
    alone = step(False)
    assert (count, len(passes) - count) == (1, 4)
    torch.testing.assert_close(together.gradients["student"][0], alone.gradients["student"][0], rtol=1e-3, atol=1e-7)
