"""The table of base models: sizes of the real architectures, checked without memory on the meta device."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tsdsr.errors import ModelNotFoundError
from tsdsr.models.conditioning import default_conditioning
from tsdsr.models.denoiser import as_denoiser, restore
from tsdsr.models.latents import decode_latents, encode_images
from tsdsr.models.zoo import SPECS, ModelSpec, get_spec
from tsdsr.training.tensor_counter import TensorCounter, give_fake_tensors

each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


# In millions: SD3-medium is published as 2 B, SD2's UNet as 866 M, SD3.5-medium's attention adds 0.2 B to SD3-medium;
# SD3.5-large is published as 8 B, FLUX.2 klein as 4 B.
SIZES = {"sd3": 2028, "sd35": 2243, "sd35-large": 8057, "flux2-klein": 3876, "sd21-base": 866, "sd21": 866}


@pytest.mark.parametrize(("name", "millions"), SIZES.items())
def test_full_size_networks_have_the_published_size(name: str, millions: int) -> None:
    with torch.device("meta"):
        network = get_spec(name).make_denoiser()
    assert round(sum(p.numel() for p in network.parameters()) / 1e6) == millions


@each_spec
def test_rows_are_consistent(spec: ModelSpec) -> None:
    with torch.device("meta"):
        network, vae = spec.make_denoiser(), spec.make_autoencoder()
    as_denoiser(network)
    assert spec.size_multiple % spec.vae_scale_factor == 0
    assert spec.native_size % spec.size_multiple == 0
    assert 0 < spec.timestep <= spec.process.t_max
    assert default_conditioning(spec).batch_size == 1
    for targets, module in ((spec.lora_targets, network), (spec.vae_lora_targets, vae)):
        names = [name for name, _ in module.named_modules()]
        for target in targets:
            optional = target == "quant_conv"  # SD3's autoencoder has none; the released list names it all the same
            assert optional or any(n == target or n.endswith("." + target) for n in names), target


@pytest.mark.parametrize("name", ["sd3", "sd35-large", "flux2-klein"])
def test_the_memory_of_a_tile_covers_the_tensors_that_live_at_the_same_time(name: str) -> None:
    spec, edge = get_spec(name), 512
    with torch.device("meta"):
        network, vae = spec.make_denoiser().to(torch.bfloat16), spec.make_autoencoder().to(torch.bfloat16)
    with FakeTensorMode(), torch.no_grad():
        held, x = give_fake_tensors(network, vae), torch.rand(1, 3, edge, edge)
        with TensorCounter(held) as counter:
            z = encode_images(vae, x)
            z = restore(as_denoiser(network), spec.process, z, spec.timestep, default_conditioning(spec))
            decode_latents(vae, z)
    assert 1000 * edge**2 < counter.peak < spec.fixed_tile_bytes + spec.tile_bytes / 2 * edge**2


def test_the_students_times_are_those_of_the_paper() -> None:
    assert get_spec("sd3").timestep == 1000
    assert get_spec("sd21-base").timestep == 999
    alpha, sigma = get_spec("sd3").process.coefficients(torch.tensor(1000.0))
    assert (alpha.item(), sigma.item()) == (0, 1)


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(ModelNotFoundError, match="sd21-base"):
        get_spec("sd9")
