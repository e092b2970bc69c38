"""The table of layouts fits the networks that it describes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.conftest import tiny_flux2, tiny_flux2_vae, tiny_mmdit, tiny_unet, tiny_vae
from tests.training.tiny import NETWORK
from tsdsr.errors import ModelError
from tsdsr.models.mini import MiniUNet
from tsdsr.models.zoo import SPECS
from tsdsr.training.adversarial import feature_layer
from tsdsr.training.network_layouts import LAYOUTS, layout_of


def networks() -> list[nn.Module]:
    mini = MiniUNet(**NETWORK, learned_skip=True, fine_channels=8)
    return [tiny_mmdit(), tiny_flux2(), tiny_unet(), mini, tiny_vae(16), tiny_flux2_vae()]


def test_every_layer_and_block_of_the_table_exists() -> None:
    found = {type(network).__name__: network for network in networks()}
    assert found.keys() == LAYOUTS.keys()
    for name, layout in LAYOUTS.items():
        modules = dict(found[name].named_modules()).keys()
        assert {*layout.blocks, *layout.outer} <= modules


def test_every_base_model_has_a_layout() -> None:
    for spec in SPECS.values():
        assert spec.denoiser_path.rpartition(":")[2] in LAYOUTS, spec.name


def test_blocks_hold_most_of_the_weights() -> None:
    """A list that the table forgets would be gathered with the outer layers; `mini` has small ones outside."""
    for network in networks():
        if isinstance(network, MiniUNet):
            continue
        layout = layout_of(network)
        assert layout is not None
        parts = [network.get_submodule(name) for name in layout.blocks if name]
        inside = {id(p) for part in parts for p in part.parameters()}
        lists = [m for m in network.modules() if isinstance(m, nn.ModuleList)]
        assert all(id(p) in inside for m in lists for p in m.parameters()), type(network).__name__


def test_the_discriminator_reads_the_width_of_its_layer() -> None:
    flux2 = tiny_flux2()
    layer, width, text_first = feature_layer(flux2)
    assert layer is flux2.single_transformer_blocks[0]
    assert (width, text_first) == (32, True)
    mmdit = tiny_mmdit()
    assert feature_layer(mmdit) == (mmdit.transformer_blocks[1], 32, False)
    with pytest.raises(ModelError, match="no discriminator features are known for AutoencoderKL"):
        feature_layer(tiny_vae(16))
    with pytest.raises(ModelError, match="Linear"):
        feature_layer(torch.nn.Linear(1, 1))
