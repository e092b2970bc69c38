"""Teachers: from scratch for `mini`, as LoRA on a base model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.conftest import tiny_mmdit, tiny_vae
from tests.training.tiny import LORA, NETWORK, TinyPrompts, data
from tsdsr.data.datasets import CropSettings
from tsdsr.models.adapters import adapter_state, new_lora, train_adapters, use_adapter
from tsdsr.models.lora import merge_lora, read_released_lora
from tsdsr.models.mini import MiniUNet
from tsdsr.models.zoo import MINI, get_spec
from tsdsr.training.build import load_network, new_network, store_teacher
from tsdsr.training.config import NetworkSettings, Schedule, TeacherConfig
from tsdsr.training.run_log import make_accelerator
from tsdsr.training.teacher import TeacherTrainer

CONFIG = TeacherConfig(
    phases=(Schedule(steps=30, batch_size=4, lr=(2e-3, 2e-4)),),
    networks=NetworkSettings(config=NETWORK),
    crops=CropSettings(size=32),
    validation_share=0.3,
    ema_decay=0.9,
    log_every=1,
)


def mini(photos: Path, out: Path, config: TeacherConfig = CONFIG) -> TeacherTrainer:
    network = new_network(MINI, config)
    accelerator = make_accelerator(out, "cpu")
    return TeacherTrainer(config, network, MINI.make_autoencoder(), data(photos), out, accelerator=accelerator)


def test_a_teacher_learns_resumes_and_is_stored(photo_folder: Path, tmp_path: Path) -> None:
    run = mini(photo_folder, tmp_path / "whole")
    before = run.validate()["loss"]
    run.run()
    assert run.validate()["loss"] < 0.9 * before
    assert (tmp_path / "whole" / "validation-000030.png").is_file()
    mini(photo_folder, tmp_path / "parts").run(until=13)
    rest = mini(photo_folder, tmp_path / "parts")
    assert rest.step == 13
    rest.run()
    for (name, a), b in zip(run.network.named_parameters(), rest.network.parameters(), strict=True):
        assert torch.equal(a, b), name
    with run.averaged():
        folder = store_teacher(run.network, CONFIG, tmp_path / "whole")
        stored = load_network(tmp_path / "whole", MINI, "teacher")
        assert all(torch.equal(a, b) for a, b in zip(run.network.parameters(), stored.parameters(), strict=True))
    assert isinstance(load_network(folder, MINI, "teacher"), MiniUNet)


def test_both_prompts_are_trained(photo_folder: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, prompt_dropout=0.5)
    run = mini(photo_folder, tmp_path, config)
    before = run.network.prompt_embedding.weight.detach().clone()
    run.run(until=8)
    assert bool((run.network.prompt_embedding.weight != before).any(dim=1).all())


def test_a_lora_teacher_is_stored_in_the_released_layout(photo_folder: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(
        CONFIG, networks=LORA, time_density="logit_normal", phases=(Schedule(steps=3, batch_size=2, lr=(1e-2, 1e-2)),)
    )
    spec = get_spec("sd3")
    network = tiny_mmdit()
    new_lora(network, spec.lora_targets, 2, "teacher", torch.Generator().manual_seed(0))
    train_adapters(network, {"teacher"})
    use_adapter(network, "teacher")
    run = TeacherTrainer(
        config, network, tiny_vae(16), data(photo_folder), tmp_path, TinyPrompts(), make_accelerator(tmp_path, "cpu")
    )
    run.run()
    path = store_teacher(adapter_state(network, "teacher"), config, tmp_path)
    z, t = torch.randn(1, 16, 8, 8), torch.tensor([300.0])
    with torch.no_grad():
        tuned = run.teacher(z, t, TinyPrompts().fixed())
    merged = tiny_mmdit()
    before = merged.proj_out.weight.clone()
    merge_lora(merged, read_released_lora(path))
    assert not torch.equal(merged.proj_out.weight, before)
    with torch.no_grad():
        from tsdsr.models.denoiser import as_denoiser

        torch.testing.assert_close(as_denoiser(merged)(z, t, TinyPrompts().fixed()), tuned, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("density", "low", "high"), [("uniform", 480, 521), ("logit_normal", 480, 521)])
def test_times_are_drawn_with_the_configured_density(
    photo_folder: Path, tmp_path: Path, density: str, low: float, high: float
) -> None:
    run = mini(photo_folder, tmp_path, dataclasses.replace(CONFIG, time_density=density))
    times = run._times(torch.rand(20_000, generator=torch.Generator().manual_seed(0)))
    assert low < times.mean() < high
    spread = {"uniform": 1000 / 12**0.5, "logit_normal": 208.0}[density]
    assert times.std().item() == pytest.approx(spread, rel=0.03)
