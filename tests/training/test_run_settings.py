"""Each setting of a run, its schedule and its networks has the intended effect, also for teachers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import tiny_mmdit, tiny_vae
from tests.training.golden_runs import SD2_PAIRS, TEACHER, MadeUpSamples, phase, student, teacher, two_phases
from tests.training.observe import Seen, flat, observe, quietly, shows, single
from tests.training.tiny import LORA, sd3_networks
from tsdsr.data.datasets import CropSettings, PairSettings
from tsdsr.data.sources import Source
from tsdsr.models.zoo import MINI, get_spec
from tsdsr.training.build import new_network, training_data
from tsdsr.training.config import Schedule, TSDSettings
from tsdsr.training.networks import Parts, build_networks
from tsdsr.training.samples import TrainingData

STUDENT_TESTS = "tests/training/test_student.py"
ELSEWHERE = {
    "RunConfig.max_skipped": f"{STUDENT_TESTS}::test_steps_that_are_not_finite_are_counted_and_end_the_run",
    "NetworkSettings.gradient_checkpointing": f"{STUDENT_TESTS}::test_gradient_checkpointing_changes_no_gradient",
    "NetworkSettings.base_precision": "tests/training/test_networks.py"
    "::test_low_precision_bases_carry_full_precision_lora",
    "Phase.equivariance_weight": "tests/training/test_equivariance.py"
    "::test_its_weight_scales_the_loss_and_its_gradient",
    "Phase.perceptual": f"{STUDENT_TESTS}::test_perceptual_distances_take_turns",
    "Phase.tsd": f"{STUDENT_TESTS}::test_tsd_alone_reaches_every_parameter_of_the_student",
    "TeacherConfig.time_density": "tests/training/test_teacher.py::test_times_are_drawn_with_the_configured_density",
}
"""Settings whose effect another file tests."""

TSD = TSDSettings(guidance=1.5)
EVERYONE: dict[str, Any] = {"tsd": TSD, "l1_weight": 1.0, "adversarial_weight": 0.5}


@shows("Schedule.steps", "Schedule.batch_size", "RunConfig.phases")
def test_samples_are_numbered_through_all_phases(tmp_path: Path) -> None:
    items: list[int] = []

    class Numbered(MadeUpSamples):
        def __getitem__(self, index: int) -> Any:
            items.append(index)
            return super().__getitem__(index)

    config = two_phases({"steps": 2, "l1_weight": 1.0}, {"steps": 3, "batch_size": 4, "l1_weight": 1.0}, accumulation=2)
    run = student(config, tmp_path)
    run.dataset = Numbered  # type: ignore[method-assign]
    quietly(run)
    assert run.step == 5
    assert items == list(range(2 * 2 + 3 * 4))


@shows("Schedule.lr", "Schedule.warmup", "Schedule.cycles", "Phase.fake_lr", "Phase.discriminator_lr")
def test_every_role_has_its_own_scheduled_rate(tmp_path: Path) -> None:
    rates = {"lr": (4e-3, 1e-3), "fake_lr": (8e-3, 2e-3), "discriminator_lr": (2e-3, 2e-3)}
    config = single(6, warmup=2, cycles=2, **EVERYONE, **rates)
    seen = observe(config, tmp_path)
    wave = [0.5, 1.0, 1.0, 0.5, 1.0, 0.5]  # the cosine's start and middle, twice, after two steps of warm-up
    student_rates = [4e-3 * 0.5, 4e-3, *(1e-3 + 3e-3 * v for v in wave[2:])]
    assert seen.rates["student"] == pytest.approx(student_rates)
    assert seen.rates["fake"] == pytest.approx([2 * v for v in student_rates])
    assert seen.rates["discriminator"] == pytest.approx([1e-3, *[2e-3] * 5])


@pytest.mark.parametrize("role", ["student", "fake", "discriminator"])
def test_a_rate_moves_its_own_role_only_and_in_proportion(tmp_path: Path, role: str) -> None:
    name = {"student": "lr"}.get(role, f"{role}_lr")
    one, two = (observe(single(**EVERYONE | {name: (rate, rate)}), tmp_path) for rate in (1e-3, 2e-3))
    for other in ("student", "fake", "discriminator"):
        factor = 2 if other == role else 1
        torch.testing.assert_close(two.change(other), factor * one.change(other), rtol=1e-3, atol=1e-6)
    assert one.change(role).abs().max() == pytest.approx(1e-3, rel=0.05)  # Adam's first step


@shows("RunConfig.max_grad_norm")
def test_gradients_are_clipped_to_the_norm_role_by_role(tmp_path: Path) -> None:
    free = observe(single(**EVERYONE, config={"max_grad_norm": 1e6}), tmp_path)
    bound = observe(single(**EVERYONE, config={"max_grad_norm": 1e-3}), tmp_path)
    for role in ("student", "fake", "discriminator"):
        gradient = free.gradients[role][0]
        assert torch.equal(free.clipped[role][0], gradient)
        torch.testing.assert_close(bound.clipped[role][0], gradient / gradient.norm() * 1e-3, rtol=1e-3, atol=1e-8)
        assert bound.records[0][f"grad_norm/{role}"] == pytest.approx(gradient.norm().item(), rel=1e-4)


@shows("RunConfig.weight_decay")
def test_weight_decay_shrinks_weights_apart_from_the_gradient(tmp_path: Path) -> None:
    none, some = (observe(single(**EVERYONE, config={"weight_decay": w}), tmp_path) for w in (0.0, 0.5))
    for role in ("student", "fake"):
        expected = -none.rates[role][0] * 0.5 * none.before[role]
        torch.testing.assert_close(some.change(role) - none.change(role), expected, rtol=1e-2, atol=2e-7)


@shows("RunConfig.betas")
def test_betas_are_the_moments_decay(tmp_path: Path) -> None:
    seen = observe(single(l1_weight=1.0, config={"betas": (0.7, 0.95)}), tmp_path)
    state = list(seen.run.roles["student"].optimizer.state.values())
    gradient = seen.clipped["student"][0]
    torch.testing.assert_close(flat([s["exp_avg"] for s in state]), 0.3 * gradient, rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(flat([s["exp_avg_sq"] for s in state]), 0.05 * gradient**2, rtol=1e-4, atol=1e-12)


@shows("RunConfig.ema_decay")
@pytest.mark.parametrize("decay", [0.05, 0.15])
def test_the_average_decays_as_asked(tmp_path: Path, decay: float) -> None:
    """The average's first step takes the weights over; a run's early steps decay by at most 2 / 11."""
    positions = []

    def prepare(run: Any) -> None:
        honest = run.update

        def update(*arguments: Any) -> Any:
            result = honest(*arguments)
            positions.append(flat(run.roles["student"].parameters))
            return result

        run.update = update

    seen = observe(single(2, l1_weight=1.0, config={"ema_decay": decay}), tmp_path, prepare)
    assert seen.run.ema is not None
    expected = decay * positions[0] + (1 - decay) * positions[1]
    torch.testing.assert_close(flat(seen.run.ema.shadow_params), expected, rtol=0, atol=1e-6)
    assert (positions[1] - positions[0]).abs().max() > 1e-3


@shows("RunConfig.accumulation")
def test_micro_batches_give_the_gradient_of_the_batch(tmp_path: Path) -> None:
    one, two = (observe(single(batch_size=4, **EVERYONE, config={"accumulation": n}), tmp_path) for n in (1, 2))
    for role in ("student", "fake", "discriminator"):
        torch.testing.assert_close(two.gradients[role][0], one.gradients[role][0], rtol=1e-3, atol=1e-6)
    for name in ("loss/student", "loss/fake", "loss/discriminator", "loss/l1"):
        assert two.records[0][name] == pytest.approx(one.records[0][name], rel=1e-4)


@shows("RunConfig.seed")
def test_the_seed_changes_samples_noise_and_initial_weights(tmp_path: Path) -> None:
    folder = coloured(tmp_path / "photos", 4)
    runs = [student(single(**EVERYONE, config={"seed": s}), tmp_path / str(i)) for i, s in enumerate((0, 0, 1))]
    z = torch.zeros(1, 48, 8, 8)
    for what in (
        lambda run: flat(run.adversary.head.parameters()),
        lambda run: flat([next(run.walk(TSD, 0.0, [0], z, z, run.fixed)).z_hat_t]),
        lambda run: flat(new_network(MINI, run.config).parameters()),
        lambda run: flat(
            dataset_of(run, folder)[i].x_hq
            for i in range(4)  # type: ignore[arg-type]
        ),
        lambda run: flat(sd3_networks_of(run.config.seed)),
    ):
        first, same, other = (what(run) for run in runs)
        assert torch.equal(first, same)
        assert not torch.equal(first, other)


def sd3_networks_of(seed: int) -> list[Any]:
    """The first factors of a new student's LoRA."""
    networks = build_networks(Parts(tiny_mmdit(), tiny_vae(16)), get_spec("sd3"), LORA, seed, scores=True)
    return [p for n, p in networks.student.named_parameters() if "lora_A" in n]


def dataset_of(run: Any, folder: Path) -> Any:
    """Samples of a folder as a trainer draws them."""
    run.data = TrainingData((Source("photos", tuple(sorted(folder.iterdir()))),))
    return run.dataset(4)


def coloured(folder: Path, count: int) -> Path:
    """Photographs of one colour each: the i-th has red 20 i."""
    folder.mkdir()
    for i in range(count):
        Image.fromarray(np.full((48, 48, 3), (20 * i, 90, 200), np.uint8)).save(folder / f"{i:02d}.png")
    return folder


@shows("RunConfig.validation_share", "RunConfig.validation_crop", "StudentConfig.pairs")
def test_held_out_photographs_and_crops_have_the_size_asked_for(tmp_path: Path) -> None:
    folder = coloured(tmp_path / "photos", 10)
    sources = [Source("photos", tuple(sorted(folder.iterdir())))]
    none, some, more = (
        training_data(sources, dataclasses.replace(single(), validation_share=share, validation_crop=48), {})
        for share in (0.0, 0.3, 0.6)
    )
    assert len(none.validation) == 0
    assert 0 < len(some.validation) < len(more.validation)
    pairs = PairSettings(crops=CropSettings(size=16, min_std=0.0))
    run = student(single(config={"pairs": pairs, "validation_crop": 48}), tmp_path / "run")
    run.data = some
    assert run.dataset(1)[0].x_hq.shape == (3, 16, 16)
    shapes = {x.shape for triple in run.restored() for x in triple}
    assert shapes == {(1, 3, 48, 48)}
    run = teacher(dataclasses.replace(TEACHER, crops=pairs.crops), tmp_path / "teacher")
    run.data = some
    assert run.dataset(1)[0].x_hq.shape == (3, 16, 16)


@shows("RunConfig.validate_every", "RunConfig.checkpoint_every", "RunConfig.log_every", "StudentConfig.monitor_every")
def test_things_happen_as_often_as_asked(tmp_path: Path) -> None:
    every = {"log_every": 2, "validate_every": 3, "checkpoint_every": 4, "monitor_every": 5}
    run = student(single(6, tsd=TSD, config=every), tmp_path)
    run.dataset = MadeUpSamples  # type: ignore[method-assign]
    run.data = TrainingData((), (Path(__file__),))  # something is held out
    validated, logged, monitored = [], [], []
    run.validate = lambda: validated.append(run.step) or {"l1": 0.0}  # type: ignore[method-assign,func-returns-value]
    honest = run.run_log.log

    def log(step: int, values: Any) -> None:
        if "loss/student" in values:
            logged.append(step)
        if "direction_cosine/z_hat" in values:
            monitored.append(step)
        honest(step, values)

    run.run_log.log = log  # type: ignore[method-assign]
    quietly(run)
    saved = sorted(int(p.stem.split("-")[1]) for p in tmp_path.glob("checkpoint-*.pt"))
    assert (validated, saved, monitored) == ([3, 6], [4, 6], [5])
    assert logged == [2, 4, 5, 6]  # a step that is monitored is logged


@shows("RunConfig.networks", "NetworkSettings.model", "NetworkSettings.config")
@shows("NetworkSettings.lora_rank", "NetworkSettings.fake_targets")
def test_networks_are_built_as_the_settings_say(tmp_path: Path) -> None:
    wide = dataclasses.replace(single().networks, config={"channels": [16, 16, 16]})
    assert new_network(MINI, single(config={"networks": wide})).config["channels"] == [16, 16, 16]
    settings = dataclasses.replace(LORA, lora_rank=3, fake_targets=("to_q",))
    networks = sd3_networks(settings)
    assert networks.scores is not None
    ranks = {p.shape[0] for n, p in networks.student.named_parameters() if "lora_A" in n}
    assert ranks == {3}
    fake = [n for n, _ in networks.scores.named_parameters() if ".fake." in n]
    assert fake
    assert all(".to_q." in n for n in fake)
    sd21 = {"networks": dataclasses.replace(LORA, model="sd21"), "pairs": SD2_PAIRS}
    spec = student(single(config=sd21), tmp_path).spec
    assert spec.process.prediction == "v"


@shows("TeacherConfig.prompt_dropout", "TeacherConfig.crops")
@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_the_teacher_sees_the_empty_prompt_as_often_as_asked(tmp_path: Path, share: float) -> None:
    schedule = Schedule(steps=2, batch_size=80, lr=(1e-3, 1e-3))
    run = teacher(dataclasses.replace(TEACHER, phases=(schedule,), prompt_dropout=share), tmp_path)
    run.dataset = MadeUpSamples  # type: ignore[method-assign]
    labels: list[float] = []
    run.network.register_forward_pre_hook(lambda _, inputs: labels.extend(inputs[2].tolist()))
    quietly(run)
    assert len(labels) == 160
    assert float(np.mean(labels)) == pytest.approx(share, abs=0.0 if share == 0 else 0.1)


def test_phases_of_one_run_keep_their_own_settings(tmp_path: Path) -> None:
    config = dataclasses.replace(single(), phases=(phase(1, l1_weight=1.0), phase(1, grid_weight=1.0, tsd=TSD)))
    seen: Seen = observe(config, tmp_path)
    first, second = seen.records
    assert ("loss/grid" in first, "loss/grid" in second) == (False, True)
    assert ("loss/fake" in first, "loss/fake" in second) == (False, True)
