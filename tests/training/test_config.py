"""Settings: schedules, checks, recipes, changes from the command line."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.training.tiny import config
from tsdsr.data.datasets import CropSettings, PairSettings
from tsdsr.errors import ConfigError
from tsdsr.pipeline.model_files import resolve_model
from tsdsr.recipes import RECIPES, get_recipe, student_recipe, teacher_recipe
from tsdsr.training.config import NetworkSettings, Phase, Schedule, TSDSettings, value_at
from tsdsr.training.stored_config import config_from_json
from tsdsr.training.weight_memory import estimate_memory, networks_without_storage

TRIALS = Path(__file__).parents[2] / "benchmarks" / "recipes" / "mini_trials.py"


def test_learning_rates_warm_up_fall_and_start_again() -> None:
    phase = Schedule(steps=100, batch_size=1, lr=(1e-3, 1e-5), warmup=10)
    rates = [phase.learning_rate(s) for s in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[9] == rates[10] == pytest.approx(1e-3)
    assert rates[55] == pytest.approx((1e-3 + 1e-5) / 2, rel=1e-6)
    assert rates[-1] == pytest.approx(1e-5, rel=0.1)
    assert all(a >= b for a, b in pairwise(rates[10:]))
    twice = Schedule(steps=100, batch_size=1, lr=(1e-3, 1e-5), cycles=2)
    assert twice.learning_rate(50) == twice.learning_rate(0) == pytest.approx(1e-3)
    assert twice.learning_rate(0, (1e-6, 1e-6)) == pytest.approx(1e-6)


def test_ramps_join_two_values() -> None:
    assert [value_at((1.0, 2.0), p) for p in (0, 0.5, 1)] == [1.0, 1.5, 2.0]
    assert value_at(3, 0.5) == 3.0
    phase = Schedule(steps=11, batch_size=1, lr=(1, 1))
    assert [phase.progress(s) for s in (0, 5, 10)] == [0, 0.5, 1]


def test_the_papers_settings() -> None:
    """Section 4.1 and the released values."""
    recipe = student_recipe("sd3_paper")
    first, last = recipe.phases
    assert recipe.networks.lora_rank == 64
    assert first.batch_size == 16
    assert first.lr[0] == 5e-6
    assert first.fake_lr[0] == 1e-6
    assert first.tsd is not None
    assert last.tsd is not None
    assert (first.tsd.lambda_vsd, first.tsd.lambda_tsm, first.tsd.guidance, first.tsd.points) == (0.7, 0.3, 7.5, 1)
    assert (first.tsd.first, first.tsd.last) == (50, 950)
    assert first.latent_mse_weight == 1
    assert first.diverse_prompts == last.diverse_prompts == 0
    assert last.tsd.lambda_vsd == 0.7
    assert (last.tsd.points, last.tsd.step_size, last.tsd.step_weights) == (4, 50, (1.0, 0.3, 0.3, 0.3))
    assert last.latent_mse_weight == 0
    assert last.gamma_reg == (1.0, 2.0)


def test_the_remedy_against_grids_is_a_recipe_of_its_own() -> None:
    start, first, last = student_recipe("sd3_gradual").phases
    paper = student_recipe("sd3_paper").phases
    assert start.tsd is not None
    assert (start.steps, start.tsd.lambda_vsd, start.diverse_prompts) == (2_000, (0.0, 0.7), (1.0, 0.0))
    assert start.steps + first.steps == paper[0].steps
    assert dataclasses.replace(first, steps=paper[0].steps, warmup=paper[0].warmup) == paper[0]
    assert last == paper[1]


def test_ablations_change_what_they_say() -> None:
    def last(name: str) -> Phase:
        return student_recipe(name).phases[-1]

    def tsd(name: str) -> TSDSettings:
        settings = last(name).tsd
        assert settings is not None
        return settings

    assert tsd("sd3_paper_no_tsm").lambda_tsm == 0
    assert tsd("sd3_paper_no_vsd").lambda_vsd == 0
    assert tsd("sd3_paper_no_dasm").points == 1
    assert last("mini_student_no_tsd").tsd is None
    assert (tsd("sd3_paper_dasm_8x50").points, tsd("sd3_paper_dasm_4x25").step_size) == (8, 25)
    first = student_recipe("sd3_paper_dasm_8x50").phases[0].tsd
    assert first is not None
    assert first.points == 1  # phase 1 does not walk, whatever N


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("mini_student")])
def test_mini_student_learns_to_restore_before_tsd(name: str) -> None:
    """A teacher's weights expect noise: with TSD from the first step, the losses of a student that has them grow."""
    start, *others = student_recipe(name).phases
    assert start.tsd is None
    assert start.l1_weight == 1
    assert start.perceptual_weight == start.latent_mse_weight == start.adversarial_weight == 0
    assert (start.steps, start.batch_size) == (1_000, 16)
    assert [phase.tsd is not None for phase in others] == [name != "mini_student_no_tsd"] * 2
    assert {phase.tsd.space for phase in others if phase.tsd} <= {"eps"}  # with velocities it diverged


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_valid(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe.find(recipe.total_steps - 1)[0] == len(recipe.phases) - 1
    with pytest.raises(ConfigError):
        recipe.find(recipe.total_steps)


def test_recipes_of_the_shipped_mini_are_as_long_as_its_model_card_says() -> None:
    card = (resolve_model("mini") / "README.md").read_text()
    said_of = {
        "mini_v0": "4,000 of L1",
        "mini_camera": "2,800 steps",
        "mini_v1": "560 steps",
        "mini_v2": "220 steps",
        "mini_large": "1,800 steps",
        "mini_v3": "480 steps",
        "mini_crisp": "1,000 steps",
        "mini_crisp_second_order": "600 with",
        "mini_crisp_halved_sharpening": "3,000 steps",
        "mini_crisp_strong_blur": "3,000 more",
        "mini_settled": "480 of 16",
        "mini_texture_sharp": "1,500 of 16",
        "mini_texture_mild": "700 of 16",
        "mini_texture_long": "3,600 of 16",
    }
    for name, said in said_of.items():
        assert said in " ".join(card.split())
        assert f"{get_recipe(name).phases[-1].steps:,}" == said.split()[0]


@pytest.mark.parametrize("name", re.findall(r"^def (mini_\w+)\(", TRIALS.read_text(), re.MULTILINE))
def test_recipes_of_trials_construct(name: str) -> None:
    assert student_recipe(f"{TRIALS}:{name}").total_steps > 0
    assert name not in RECIPES


def test_recipes_know_their_kind() -> None:
    with pytest.raises(ConfigError, match="tsdsr train list"):
        get_recipe("mini_v99")
    with pytest.raises(ConfigError, match="train teacher"):
        student_recipe("mini_teacher")
    with pytest.raises(ConfigError, match="train student"):
        teacher_recipe("mini_student")


@pytest.mark.parametrize(
    ("recipe", "frozen", "trained"),
    [
        ("sd3_24gb", "2112.1 M, 4.43 GB", ["student: 95.2 M trained, 1.90 GB", "fake: 33.0 M trained, 0.53 GB"]),
        ("sd3_teacher", "2112.1 M, 4.39 GB", ["teacher: 89.3 M trained, 1.79 GB"]),
        ("mini_student", "5.2 M, 0.02 GB", ["student: 5.2 M trained, 0.10 GB", "fake: 5.2 M trained, 0.08 GB"]),
        ("mini_v0", "0.0 M, 0.00 GB", ["student: 5.2 M trained, 0.10 GB"]),
        ("mini_teacher", "0.0 M, 0.00 GB", ["teacher: 5.2 M trained, 0.10 GB"]),
    ],
)
def test_memory_is_counted_without_allocating_it(recipe: str, frozen: str, trained: list[str]) -> None:
    first, *roles, _ = estimate_memory(get_recipe(recipe))
    assert first == f"frozen weights, shared by the roles: {frozen}"
    assert len(roles) == len(trained)
    assert all(line.startswith(start) for line, start in zip(roles, trained, strict=True))


WRONG = [
    (lambda: Schedule(0, 1, (1, 1)), "steps must be a whole number of at least 1 and at most .*, got 0"),
    (lambda: Schedule(1, 1, (1, 1), warmup=2), "warmup must lie within"),
    (lambda: Schedule(1, 1, (1, 1), cycles=0), "cycles"),
    (lambda: TSDSettings(guidance=0.5), "guidance must be a finite number of at least 1"),
    (lambda: TSDSettings(first=900, last=(950, 800)), "positions need"),
    (lambda: Phase(1, 1, (1, 1), perceptual=()), "at least one distance"),
    (lambda: Phase(1, 1, (1, 1), diverse_prompts=(0.0, 1.5)), "probability"),
    (lambda: NetworkSettings(model="sd3", lora_rank=0), "lora_rank"),
    (lambda: NetworkSettings(lora_rank=4), "mini is trained whole"),
    (lambda: NetworkSettings(base_precision="bf16"), "stored in fp32"),
    (lambda: NetworkSettings(model="sd4"), "model must be one of 'mini', 'sd3'"),
    (lambda: NetworkSettings(config={"chanels": 3}), "config has no 'chanels'; mini's network takes channels"),
    (lambda: NetworkSettings(model="sd3", lora_rank=4, config={"num_layers": 2}), "no effect"),
    (lambda: NetworkSettings(model="sd3", lora_rank=4, fake_targets=()), "fake_targets"),
    (lambda: config(phases=()), "at least one phase"),
    (lambda: config(ema_decay=1.0), r"ema_decay must be a finite number in \(0, 1\)"),
    (lambda: config(betas=(0.9, 1.0)), r"betas must be a list of 2: each a finite number in \[0, 1\)"),
    (lambda: config(validation_share=1.0), "validation_share"),
    (lambda: config(accumulation=0), "accumulation"),
    (lambda: config(log_every=0), "log_every"),
    (lambda: config(validation_crop=40), "validation_crop must be a multiple of 16 for mini, got 40"),
    (lambda: config(pairs=PairSettings(crops=CropSettings(size=40))), "pairs.crops.size must be a multiple of 16"),
    (lambda: dataclasses.replace(teacher_recipe("mini_teacher"), crops=CropSettings(size=40)), "crops.size must be"),
    (lambda: dataclasses.replace(teacher_recipe("mini_teacher"), prompt_dropout=1.0), "prompt_dropout"),
    (lambda: dataclasses.replace(teacher_recipe("mini_teacher"), time_density="normal"), "'uniform', 'logit_normal'"),
]


@pytest.mark.parametrize(("make", "message"), WRONG)
def test_settings_check_themselves(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_lora_targets_and_network_arguments_are_checked_without_loading_anything() -> None:
    with pytest.raises(ConfigError, match="no module of SD3Transformer2DModel is called nope"):
        networks_without_storage(
            dataclasses.replace(
                student_recipe("sd3_paper"),
                networks=NetworkSettings(model="sd3", lora_rank=2, base_precision="bf16", fake_targets=("nope",)),
            )
        )


@pytest.mark.parametrize("name", RECIPES)
def test_settings_survive_json(name: str) -> None:
    recipe = get_recipe(name)
    read = config_from_json(recipe.to_json())
    assert type(read) is type(recipe)
    assert read.to_json() == recipe.to_json()
    if not recipe.networks.config:  # lists in it are read as tuples
        assert read == recipe
