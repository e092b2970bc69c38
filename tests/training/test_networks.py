"""Roles: which network predicts, which networks share weights, and that batching changes nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers import SD3Transformer2DModel
from safetensors.torch import load_file
from torch import Tensor

from tests.conftest import flux2_prompt, tiny_mmdit, tiny_vae
from tests.training.tiny import LORA, TinyPrompts, flux2_networks, mini_networks, sd3_networks
from tsdsr.diffusion.losses import Predictions, gradient_loss, tsd_gradient
from tsdsr.diffusion.process import FlowMatching
from tsdsr.diffusion.trajectory import paired_walk, walk_positions
from tsdsr.errors import ConfigError
from tsdsr.models.adapters import adapter_state, attach_lora, new_lora
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.denoiser import as_denoiser
from tsdsr.models.latents import encode_images
from tsdsr.models.lora import read_released_lora
from tsdsr.models.zoo import MINI, get_spec
from tsdsr.training.config import NetworkSettings
from tsdsr.training.networks import Parts, ScoreNetworks, build_networks
from tsdsr.training.prompts import LabelPrompts, join, mix


def latents(channels: int, batch: int = 2) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, batch, channels, 8, 8, generator=torch.Generator().manual_seed(1))
    return z[0], z[1]


@pytest.mark.parametrize("guidance", [1.0, 7.5])
@pytest.mark.parametrize("kind", ["mini", "sd3", "flux2"])
def test_batched_and_single_passes_agree(kind: str, guidance: float) -> None:
    networks = {"mini": mini_networks, "sd3": sd3_networks, "flux2": flux2_networks}[kind]()  # type: ignore[operator]
    prompts = {"mini": LabelPrompts(), "sd3": TinyPrompts(), "flux2": TinyPrompts(flux2_prompt())}[kind]
    a, b = latents(48 if kind == "mini" else 16)
    t = torch.tensor([200.0, 800.0])
    assert networks.scores is not None
    with torch.no_grad():
        answers = [
            networks.scores.predictions(a, b, t, prompts.of(["", ""]), prompts.null(), guidance, batched)
            for batched in (True, False)
        ]
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_predictions_ask_the_right_network_for_the_right_latent() -> None:
    networks = mini_networks()
    scores, prompts = networks.scores, LabelPrompts()
    assert scores is not None
    assert scores.teacher is not None
    with torch.no_grad():
        for parameter in scores.fake.parameters():
            parameter.mul_(1.1)
    a, b = latents(48)
    t, c = torch.tensor([200.0, 800.0]), prompts.of(["", ""])
    null = prompts.null().expand(2)
    with torch.no_grad():
        got = scores.predictions(a, b, t, c, null, 3.0)
        teacher, fake = as_denoiser(scores.teacher), as_denoiser(scores.fake)
        for answer, network, z in (
            (got.teacher_hat, teacher, a),
            (got.fake_hat, fake, a),
            (got.teacher_hq, teacher, b),
        ):
            u, v = network(z, t, null), network(z, t, c)
            torch.testing.assert_close(answer, u + 3 * (v - u), rtol=1e-4, atol=1e-5)


def test_with_lora_all_roles_stand_on_one_set_of_weights() -> None:
    networks = sd3_networks()
    assert networks.scores is not None
    assert networks.student.denoiser is networks.scores.fake
    assert networks.vae is networks.student.vae
    trained = networks.trained()
    assert all(".lora_" in n and ".student." in n for n in trained["student"])
    assert any(n.startswith("vae.encoder") for n in trained["student"])
    assert not any("decoder" in n for n in trained["student"])
    assert all(".lora_" in n and ".fake." in n for n in trained["fake"])


def test_the_student_answers_with_its_own_adapters_whatever_was_asked_before() -> None:
    networks = sd3_networks()
    student, scores, vae = networks.student, networks.scores, networks.vae
    assert scores is not None
    x, prompt = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)), TinyPrompts().fixed()
    with torch.no_grad():
        base = encode_images(vae, x)
        for role, parameters in networks.trained().items():
            for name, parameter in parameters.items():
                if "lora_B" in name:
                    parameter.fill_(0.05 if role == "student" else 0.02)
        before = student(x, prompt)
        scores.network("fake")
        assert torch.equal(encode_images(vae, x), base)  # its adapter is off outside of the student
        after = student(x, prompt)
        with student.active():
            own = encode_images(vae, x)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not torch.allclose(own, base)


def test_the_teacher_is_the_bare_base_or_its_own_lora_and_never_the_fake() -> None:
    z, t, c = latents(16)[0], torch.tensor([300.0, 600.0]), TinyPrompts().of(["", ""])
    plain = as_denoiser(tiny_mmdit())
    with torch.no_grad():
        expected = plain(z, t, c)
    networks = sd3_networks()
    scores = networks.scores
    assert scores is not None
    with torch.no_grad():
        for name, parameter in scores.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
        assert torch.equal(scores(z, t, c, "teacher"), expected)
        assert not torch.allclose(scores(z, t, c, "fake"), expected)
    tuned = tiny_mmdit()
    new_lora(tuned, get_spec("sd3").lora_targets, 3, "teacher", torch.Generator().manual_seed(4))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.02)
    state = adapter_state(tuned, "teacher")
    parts = Parts(tiny_mmdit(), tiny_vae(16), state)
    scores = build_networks(parts, get_spec("sd3"), LORA, 0, scores=True).scores
    assert scores is not None
    with torch.no_grad():
        torch.testing.assert_close(scores(z, t, c, "teacher"), as_denoiser(tuned)(z, t, c))
        torch.testing.assert_close(scores(z, t, c, "fake"), expected)  # its B is zero still


def test_low_precision_bases_carry_full_precision_lora() -> None:
    settings = dataclasses.replace(LORA, base_precision="bf16")
    parts = Parts(tiny_mmdit().to(torch.bfloat16), tiny_vae(16))
    networks = build_networks(parts, get_spec("sd3"), settings, 0, scores=True)
    for module in (networks.student, networks.scores):
        assert module is not None
        assert {p.dtype for n, p in module.named_parameters() if "lora" in n} == {torch.float32}


def test_tsd_without_a_teacher_is_refused() -> None:
    with pytest.raises(ConfigError, match="teacher"):
        build_networks(Parts(MINI.make_denoiser(), MINI.make_autoencoder()), MINI, NetworkSettings(), 0, scores=True)


def test_prompts_are_mixed_and_joined_by_row() -> None:
    a, b = Conditioning(labels=torch.zeros(3, dtype=torch.int64)), Conditioning(labels=torch.ones(1, dtype=torch.int64))
    mixed = mix(a, b, torch.tensor([True, False, True]))
    assert mixed.labels is not None
    assert mixed.labels.tolist() == [1, 0, 1]
    joined = join(a, mixed).labels
    assert joined is not None
    assert joined.tolist() == [0, 0, 0, 1, 0, 1]


@pytest.mark.parametrize("case", ["single_step", "dasm4_teacher_lora"])
def test_parity_with_the_released_code(reference: Path, case: str) -> None:
    """Gradients and loss of the released distillation block, on its tiny SD3, in float64.

    Relative to the largest element: TSD and TSM within 1e-5. VSD alone is the small difference of two large, guided
    predictions; the reference holds it in float32, which leaves it 4e-5 of uncertainty in the single-step case.
    """
    folder = reference / "tsd" / case
    c = {k: v.double() if v.is_floating_point() else v for k, v in load_file(folder / "case.safetensors").items()}
    model = SD3Transformer2DModel.from_pretrained(reference / "tiny_sd3", subfolder="transformer").eval()
    tuned = (folder / "teacher.safetensors").is_file()
    if tuned:
        attach_lora(model, read_released_lora(folder / "teacher.safetensors"), "teacher")
    attach_lora(model, read_released_lora(folder / "transformer_reg.safetensors"), "fake")
    scores = ScoreNetworks(torch.nn.Module.to(model, torch.float64), has_teacher_adapter=tuned)
    prompt = Conditioning(c["prompt_embeds"], c["pooled_prompt_embeds"])
    null = Conditioning(c["null_prompt_embeds"], c["null_pooled_prompt_embeds"])
    process = FlowMatching(shift=3.0)
    positions = walk_positions(c["start_index"], len(c["indices"]) - 1, 50)
    assert positions[:, 0].tolist() == c["indices"][:-1].tolist()

    def predict(z_hat_t: Tensor, z_hq_t: Tensor, t: Tensor) -> Predictions:
        return scores.predictions(z_hat_t, z_hq_t, t, prompt, null, 7.5)

    times = process.time_at(positions).expand(-1, 2)
    got = tsd_gradient(process, paired_walk(process, predict, c["z_hat"], c["z_hq"], c["noise"], times))
    for name, tolerance in (("tsd", 1e-5), ("tsm", 1e-5), ("vsd", 1e-5 if tuned else 4e-5)):
        expected = c[f"grad_{name}"]
        assert ((getattr(got, name) - expected).abs().max() / expected.abs().max()).item() < tolerance
    loss = gradient_loss(c["z_hat"].requires_grad_(), got.tsd)
    assert loss.item() == pytest.approx(c["loss"].item(), rel=1e-5)


def test_trained_whole_a_student_has_an_encoder_of_its_own_and_a_frozen_decoder() -> None:
    settings = NetworkSettings(model="sd3")
    networks = build_networks(Parts(tiny_mmdit(), tiny_vae(16)), get_spec("sd3"), settings, 0, scores=False)
    student = {n: p for n, p in networks.student.vae.named_parameters() if p.requires_grad}
    assert student
    assert all(name.startswith(("encoder.", "quant_conv.")) for name in student)
    assert not any(p.requires_grad for p in networks.vae.parameters())
    assert not {id(p) for p in student.values()} & {id(p) for p in networks.vae.parameters()}
