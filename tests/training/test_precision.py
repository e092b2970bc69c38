"""Accuracy of the distillation residuals in mixed precision."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.conftest import randomise, sd3_prompt, tiny_mmdit, tiny_vae
from tests.training.tiny import (
    LORA,
    NETWORK,
    TinyPrompts,
    config,
    mini_networks,
    sd3_config,
    sd3_networks,
    trainer,
)
from tsdsr.errors import ConfigError
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.mini import MiniUNet
from tsdsr.models.zoo import get_spec
from tsdsr.training.config import Phase, TSDSettings
from tsdsr.training.networks import Parts, ScoreNetworks, build_networks
from tsdsr.training.precision import autocast, keep_outer_layers_in_float32, store_in_autocast_dtype
from tsdsr.training.samples import TrainingData
from tsdsr.training.student import StudentTrainer

CPU = torch.device("cpu")
T = torch.tensor([300.0, 700.0])


def residual(scores: ScoreNetworks, dtype: torch.dtype, prompt: Conditioning, null: Conditioning) -> Tensor:
    """VSD's residual under guidance 7.5."""
    channels = 16 if prompt.labels is None else 48
    z = torch.randn(2, channels, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), autocast(CPU, dtype):
        p = scores.predictions(z, z.flip(-1), T, prompt, null, 7.5)
    assert p.teacher_hat.dtype == p.fake_hat.dtype == p.teacher_hq.dtype == torch.float32
    return p.teacher_hat - p.fake_hat


def error(scores: ScoreNetworks, prompt: Conditioning, null: Conditioning) -> float:
    """Relative error of the residual in bfloat16."""
    exact, found = (residual(scores, dtype, prompt, null) for dtype in (torch.float32, torch.bfloat16))
    return ((found - exact).norm() / exact.norm()).item()


def test_a_small_vsd_survives_bfloat16_on_sd3() -> None:
    """The fake differs from the teacher by a LoRA that changes its predictions by about one per cent."""
    prompt = sd3_prompt().expand(2)
    null = TinyPrompts().null()
    errors = []
    for outer in (False, True):
        scores = sd3_networks().scores if outer else ScoreNetworks(copy.deepcopy(_plain_fake()))
        assert scores is not None
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in scores.fake.named_parameters():
                if "lora_B" in name:
                    parameter.copy_(1e-2 * torch.randn(parameter.shape, generator=generator))
        errors.append(error(scores, prompt, null))
    assert errors[0] > 1  # rounding alone is larger than the residual
    assert errors[1] < 0.2 * errors[0]


def _plain_fake() -> torch.nn.Module:
    from tsdsr.models.adapters import new_lora

    base = tiny_mmdit()
    new_lora(base, LORA.fake_targets, 2, "fake", torch.Generator().manual_seed(0))
    return base


def test_a_small_vsd_survives_bfloat16_better_on_mini() -> None:
    labels = Conditioning(labels=torch.zeros(2, dtype=torch.int64)), Conditioning(labels=torch.ones(1).long())
    errors = []
    for outer in (False, True):
        torch.manual_seed(0)
        teacher = randomise(MiniUNet(**NETWORK, learned_skip=True, fine_channels=8))
        fake = copy.deepcopy(teacher)
        with torch.no_grad():
            for parameter in fake.encoder.parameters():
                parameter += 0.05 * parameter.std() * torch.randn_like(parameter)
        if outer:
            for network in (teacher, fake):
                keep_outer_layers_in_float32(network)
        errors.append(error(ScoreNetworks(fake, teacher), *labels))
    assert errors[1] < 0.7 * errors[0]


def test_the_student_follows_autocast_in_the_network_that_it_shares() -> None:
    alone, shared = sd3_networks(scores=False).student, sd3_networks().student
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), autocast(CPU, torch.bfloat16):
        results = [student(x, sd3_prompt())[0] for student in (alone, shared)]
    assert torch.equal(*results)


def test_a_frozen_network_stored_in_16_bits_answers_as_before() -> None:
    networks = []
    for stored in (False, True):
        torch.manual_seed(0)
        network = randomise(MiniUNet(**NETWORK, learned_skip=True, fine_channels=8)).requires_grad_(False)
        keep_outer_layers_in_float32(network)
        if stored:
            store_in_autocast_dtype(network, torch.bfloat16)
            assert network.encoder[0][0].conv1.weight.dtype == torch.bfloat16
            assert network.conv_in.weight.dtype == network.prompt_embedding.weight.dtype == torch.float32
        networks.append(network)
    z, labels = torch.randn(2, 48, 16, 16), torch.zeros(2, dtype=torch.int64)
    with torch.no_grad(), autocast(CPU, torch.bfloat16):
        assert torch.equal(*(network(z, T, labels) for network in networks))


class Converted(TorchDispatchMode):
    """Counts conversions of tensors of one shape to bfloat16."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.shape, self.count = shape, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        converts = func is torch.ops.aten._to_copy.default and kwargs.get("dtype") == torch.bfloat16
        self.count += converts and args[0].shape == self.shape
        return func(*args, **kwargs)


@pytest.mark.parametrize("batched", [True, False])
def test_a_walk_converts_weights_once(batched: bool, tmp_path: Path) -> None:
    """The fake's; the teacher's, which do not change, were converted when the run was built."""
    tsd = TSDSettings(points=3, batched=batched)
    cfg = config(phases=(Phase(steps=1, batch_size=2, lr=(0, 0), tsd=tsd),), monitor_every=0)
    run = StudentTrainer(cfg, mini_networks(), TrainingData(()), tmp_path, dtype=torch.bfloat16)
    assert run.scores is not None
    shape = run.scores.fake.encoder[0][0].conv1.weight.shape
    weights = sum(p.shape == shape for p in run.scores.fake.parameters())
    z = torch.randn(2, 48, 8, 8, requires_grad=True)
    with Converted(shape) as converted:
        run._tsd_loss(tsd, 0.0, [0, 1], z, z.detach(), run.fixed.expand(2), {})
    assert weights > 2
    assert converted.count == weights


def test_float32_is_not_touched() -> None:
    plain, kept = tiny_mmdit(), tiny_mmdit()
    keep_outer_layers_in_float32(kept)
    z, prompt = torch.randn(2, 16, 8, 8), sd3_prompt().expand(2)
    with torch.no_grad():
        results = [
            network(z, prompt.prompt_embeds, prompt.pooled_prompt_embeds, T, return_dict=False)[0]
            for network in (plain, kept)
        ]
    assert torch.equal(*results)


def test_bases_in_16_bits_have_outer_layers_in_float32_and_train(photo_folder: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(LORA, base_precision="bf16")
    cfg = dataclasses.replace(sd3_config(), networks=settings)

    def networks() -> object:
        return build_networks(Parts(tiny_mmdit().to(torch.bfloat16), tiny_vae(16)), get_spec("sd3"), settings, 0, True)

    with pytest.raises(ConfigError, match="base_precision"):
        trainer(photo_folder, tmp_path, cfg, networks=networks(), prompts=TinyPrompts())
    run = trainer(photo_folder, tmp_path, cfg, networks=networks(), prompts=TinyPrompts(), dtype=torch.bfloat16)
    assert run.scores is not None
    stored = {name: p.dtype for name, p in run.scores.fake.named_parameters() if "lora" not in name}
    assert stored["proj_out.base_layer.weight"] == stored["pos_embed.proj.base_layer.weight"] == torch.float32
    assert stored["transformer_blocks.0.attn.to_k.base_layer.weight"] == torch.bfloat16
    run.run()
    assert run.step == 2
