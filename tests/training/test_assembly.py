"""Inputs that the trainer passes on: encoders, noise, prompts, photographs, and the stored weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from tests.conftest import tiny_vae
from tests.training.golden_runs import CONFIGS, TEACHER, MadeUpSamples, student, teacher
from tests.training.observe import flat, quietly, single
from tsdsr.cli import app
from tsdsr.data.datasets import CropSettings, PairSettings
from tsdsr.data.first_order import FirstOrderDegradation
from tsdsr.data.sources import Source
from tsdsr.diffusion.losses import reconstruction_loss
from tsdsr.diffusion.process import FlowMatching
from tsdsr.models.adapters import adapter_state
from tsdsr.models.latents import encode_images
from tsdsr.training.build import training_data, write_student_lora
from tsdsr.training.config import TSDSettings
from tsdsr.training.prompts import LabelPrompts

MILD = FirstOrderDegradation(blur_prob=0, noise_prob=0, jpeg_prob=0)


def test_true_latents_come_from_the_original_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after the student's own encoder has moved away from it."""
    seen: list[Tensor] = []

    def recorded(x_hat: Tensor, x_hq: Tensor, z_hat: Tensor, z_hq: Tensor, *rest: Any) -> Any:
        seen.append(z_hq.clone())
        return reconstruction_loss(x_hat, x_hq, z_hat, z_hq, *rest)

    monkeypatch.setattr("tsdsr.training.student.reconstruction_loss", recorded)
    config = CONFIGS["SD3"]
    run = student(dataclasses.replace(config, phases=config.phases[:1]), tmp_path)  # type: ignore[arg-type]
    run.dataset = MadeUpSamples  # type: ignore[method-assign]
    quietly(run)
    x_hq = torch.stack([MadeUpSamples(10)[i].x_hq for i in (8, 9)])
    with torch.no_grad():
        expected = encode_images(tiny_vae(16), x_hq)
        with run.networks.student.active():
            moved = encode_images(run.vae, x_hq)
    torch.testing.assert_close(seen[-1], expected, rtol=1e-4, atol=1e-5)
    assert (moved - expected).abs().max() > 0.01


def test_noise_is_shared_by_the_pair_and_by_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """z_hat and z_hq are noised alike; the fake network, another sample and another step see other noise."""
    seen: list[Tensor] = []
    honest = FlowMatching.add_noise

    def recorded(process: FlowMatching, z: Tensor, noise: Tensor, t: Any) -> Tensor:
        seen.append(noise.clone())
        return honest(process, z, noise, t)

    monkeypatch.setattr(FlowMatching, "add_noise", recorded)
    run = student(single(2, tsd=TSDSettings()), tmp_path)
    run.dataset = MadeUpSamples  # type: ignore[method-assign]
    quietly(run)
    assert len(seen) == 6
    for hat, hq, fake in (seen[:3], seen[3:]):
        assert torch.equal(hat, hq)
        assert fake.shape == hat.shape
    different = [row for noise in (seen[0], seen[2], seen[3], seen[5]) for row in noise]
    for i, one in enumerate(different):
        assert all((one - other).abs().mean() > 0.5 for other in different[:i])
        assert one.std() == pytest.approx(1, abs=0.1)


def test_the_fake_network_learns_wherever_a_walk_can_come(tmp_path: Path) -> None:
    """Positions from the first start to the last start plus N steps, and nowhere else."""
    tsd = TSDSettings(guidance=1.0, first=300, last=400, points=2, step_size=100)
    run = student(single(1, tsd=tsd, batch_size=200), tmp_path)
    run.dataset = MadeUpSamples  # type: ignore[method-assign]
    assert run.scores is not None
    asked: list[Tensor] = []
    run.scores.fake.register_forward_pre_hook(lambda _, inputs: asked.append(1000 - inputs[1]))
    quietly(run)
    assert asked[0].shape == (200,)  # the walk's first point, its second, then the fake's own loss
    learned = asked[2]
    assert learned.min() == pytest.approx(300, abs=15)
    assert learned.max() == pytest.approx(600, abs=15)


def test_teachers_draw_noise_and_times_for_each_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is told the time its input was noised at, and no two samples share noise."""
    noises: list[Tensor] = []
    times: list[Tensor] = []
    honest = FlowMatching.add_noise

    def recorded(process: FlowMatching, z: Tensor, noise: Tensor, t: Any) -> Tensor:
        noises.append(noise)
        times.append(t)
        return honest(process, z, noise, t)

    monkeypatch.setattr(FlowMatching, "add_noise", recorded)
    run = teacher(dataclasses.replace(TEACHER, accumulation=2), tmp_path)
    run.dataset = MadeUpSamples  # type: ignore[method-assign]
    told: list[Tensor] = []
    run.network.register_forward_pre_hook(lambda _, inputs: told.append(inputs[1]))
    run.run(until=1)
    assert all(torch.equal(a, b) for a, b in zip(times, told, strict=True))
    rows = [row for noise in noises for row in noise]
    assert len(rows) == 4
    assert all((a - b).abs().mean() > 0.5 for i, a in enumerate(rows) for b in rows[:i])
    assert len(set(torch.cat(times).tolist())) == 4


def photographs(folder: Path, count: int, blue: int = 200) -> Source:
    """Photographs of one colour each, so that a crop tells which it is from: the i-th has red 10 i."""
    folder.mkdir()
    for i in range(count):
        Image.fromarray(np.full((48, 48, 3), (10 * i, 90, blue), np.uint8)).save(folder / f"{i:02d}.png")
    return Source(folder.name, tuple(sorted(folder.iterdir())))


def reds(samples: Sequence[Any]) -> set[int]:
    return {round(sample.x_hq[0].mean().item() * 255 / 10) for sample in samples}


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_held_out_photographs_are_never_trained_on(tmp_path: Path, kind: str) -> None:
    source = photographs(tmp_path / "photos", 12)
    crops = CropSettings(size=32, min_std=0.0)
    if kind == "student":
        pairs = PairSettings(crops=crops, degradation=MILD)
        run: Any = student(
            single(config={"pairs": pairs, "validation_share": 0.4, "validation_crop": 48}), tmp_path / "run"
        )
    else:
        settings = dataclasses.replace(TEACHER, crops=crops, validation_share=0.4, validation_crop=48)
        run = teacher(settings, tmp_path / "run")
    run.data = training_data([source], run.config, {})
    held = {int(path.stem) for path in run.data.validation}
    assert 1 < len(held) < 11
    dataset = run.dataset(150)
    trained = reds([dataset[i] for i in range(150)])
    assert trained == set(range(12)) - held
    if kind == "student":
        assert {round(x_hq[0, 0].mean().item() * 25.5) for _, _, x_hq in run.restored()} == held


def test_sources_keep_their_weight_and_photographs_their_text(tmp_path: Path) -> None:
    often, rarely = photographs(tmp_path / "a", 4, blue=0), photographs(tmp_path / "b", 4, blue=200)
    texts = {path: f"{path.parent.name} {path.stem}" for source in (often, rarely) for path in source.images}
    pairs = PairSettings(crops=CropSettings(size=32, min_std=0.0), degradation=MILD)
    config = single(config={"pairs": pairs, "validation_share": 0.0})
    data = training_data([dataclasses.replace(often, weight=5.0), rarely], config, texts)
    for run in (
        student(config, tmp_path / "s"),
        teacher(dataclasses.replace(TEACHER, crops=pairs.crops), tmp_path / "t"),
    ):
        run.data = data
        dataset = run.dataset(240)
        samples = [dataset[i] for i in range(240)]
        for sample in samples:
            folder = "b" if sample.x_hq[2].mean() > 0.5 else "a"
            assert sample.prompt == f"{folder} {round(sample.x_hq[0].mean().item() * 25.5):02d}"
        assert sum(s.prompt.startswith("a") for s in samples) == pytest.approx(200, abs=20)


class FixedIsOne(LabelPrompts):
    """The student's prompt differs from the image's."""

    def fixed(self) -> Any:
        return self.null()


def test_teacher_and_fake_are_asked_about_the_image_not_the_fixed_prompt(tmp_path: Path) -> None:
    run = student(single(tsd=TSDSettings(guidance=1.0)), tmp_path)
    run.dataset = MadeUpSamples  # type: ignore[method-assign]
    run.prompts = FixedIsOne()
    run.fixed = run.prompts.fixed()
    assert run.scores is not None
    labels: dict[str, list[int]] = {"student": [], "teacher": [], "fake": []}
    for name, network in (
        ("student", run.networks.student.denoiser), ("teacher", run.scores.teacher), ("fake", run.scores.fake),
    ):  # fmt: skip
        network.register_forward_pre_hook(lambda _, inputs, name=name: labels[name].extend(inputs[2].tolist()))
    quietly(run)
    assert {name: set(found) for name, found in labels.items()} == {"student": {1}, "teacher": {0}, "fake": {0}}


def test_averaged_weights_are_used_within_the_block_only(tmp_path: Path) -> None:
    run = student(single(4, l1_weight=1.0, config={"ema_decay": 0.5, "validation_crop": 48}), tmp_path / "run")
    run.dataset = MadeUpSamples  # type: ignore[method-assign]
    quietly(run)
    assert run.ema is not None
    parameters = run.roles["student"].parameters
    trained, average = flat(parameters), flat(run.ema.shadow_params)
    assert not torch.allclose(trained, average, atol=1e-5)
    with run.averaged():
        assert torch.equal(flat(parameters), average)
    assert torch.equal(flat(parameters), trained)
    shown: list[Tensor] = []
    run.networks.student.register_forward_pre_hook(lambda *_: shown.append(flat(parameters)))
    run.data = training_data(
        [photographs(tmp_path / "p", 4)], dataclasses.replace(run.config, validation_share=0.5), {}
    )
    run.validate()
    assert shown
    assert all(torch.equal(weights, average) for weights in shown)


def averaged_in_checkpoint(folder: Path, role: str) -> dict[str, Tensor]:
    """The average as the run's last checkpoint holds it; that it is not what was trained is checked."""
    (path,) = folder.glob("checkpoint-*.pt")
    tensors = torch.load(path, weights_only=True)["tensors"]
    average = {k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")}
    assert any((average[k] - tensors[f"{role}.weights.{k}"]).abs().max() > 1e-4 for k in average)
    return average


def train(*arguments: Any) -> None:
    shared = ["--tracker", "none", "--device", "cpu", "--dtype", "fp32", "--set", "validation_share=0.3"]
    shared += ["--set", "ema_decay=0.5", "--set", "phases.0.lr=[0.01,0.01]", "--set", "phases.0.warmup=0"]
    result = CliRunner().invoke(app, ["train", *(str(a) for a in arguments), *shared])
    assert result.exit_code == 0, result.output


def test_the_average_is_what_the_files_hold(photo_folder: Path, tmp_path: Path) -> None:
    """Teacher and student, from the command to the weights on the disk."""
    steps = ["--photos", photo_folder, "--set", "phases.0.steps=4"]
    train("teacher", "--recipe", "mini_smoke_teacher", "-o", tmp_path / "t", *steps, "--until", 4)
    stored = load_file(next((tmp_path / "t" / "teacher").glob("*.safetensors")))
    for name, value in averaged_in_checkpoint(tmp_path / "t", "teacher").items():
        torch.testing.assert_close(stored[name.removeprefix("network.")], value, rtol=0, atol=0)
    train("student", "--recipe", "mini_smoke", "-o", tmp_path / "s", *steps, "--until", 4)
    (pipeline,) = tmp_path.glob("s/pipeline-*")
    assert json.loads((pipeline / "model_index.json").read_text())
    stored = load_file(next((pipeline / "denoiser").glob("*.safetensors")))
    for name, value in averaged_in_checkpoint(tmp_path / "s", "student").items():
        torch.testing.assert_close(stored[name.removeprefix("denoiser.")], value.half(), rtol=0, atol=0)


def test_the_fixed_prompt_is_stored_beside_the_student(tmp_path: Path) -> None:
    run = student(CONFIGS["SD3"], tmp_path / "run")  # type: ignore[arg-type]
    net = run.networks.student
    denoiser, vae = (adapter_state(network, "student") for network in (net.denoiser, net.vae))
    write_student_lora(denoiser, vae, run.spec, run.prompts, tmp_path / "lora")
    stored = load_file(tmp_path / "lora" / "prompt_embeds.safetensors")["prompt_embeds"]
    assert torch.equal(stored, run.prompts.fixed().tensors()["prompt_embeds"])
