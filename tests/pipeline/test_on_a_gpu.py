"""What only a CUDA device can show: its results equal those of the CPU, in every way a pipeline can be run.

Convolutions compute without TF32 here, so that differences are rounding errors of float32.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.conftest import randomise
from tsdsr.errors import MissingDependencyError
from tsdsr.measuring import peak_memory
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.models.folded import FOLDED_CLASSES
from tsdsr.models.folded_flux2 import _kept_rotation
from tsdsr.optimize.compile import compile_pipeline, require_compiler
from tsdsr.optimize.fold import fold
from tsdsr.optimize.quantize import QuantizeMode, quantize
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.filterwarnings("default"),  # hints of compilers about the hardware are no faults
]
MODELS = ("mini", "sd3", "sd21", "flux2")
ROUNDING = 1e-3
SMALL, LARGE = (1, 3, 16, 24), (1, 3, 80, 96)
"""Inputs whose results at scale 4 are one tile, and several tiles of 256."""


@pytest.fixture(autouse=True)
def _without_tf32() -> Iterator[None]:
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.fixture
def pipe(name: str, request: pytest.FixtureRequest) -> OneStepSRPipeline:
    found: OneStepSRPipeline = request.getfixturevalue(f"{name}_pipe")
    randomise(found.denoiser)
    return found


def enlarged(pipe: OneStepSRPipeline, x: Tensor, tile: int | None = None) -> Tensor:
    result: Tensor = pipe(x, scale=4, tile=tile, color_fix="none").images
    return result.cpu()


def largest_difference(a: Tensor, b: Tensor) -> float:
    assert a.std() > 0.01  # else anything would be equal
    return float((a - b).abs().max())


@pytest.mark.parametrize("name", MODELS)
def test_one_step_is_that_of_the_cpu(pipe: OneStepSRPipeline) -> None:
    x = torch.rand(SMALL)
    expected = enlarged(pipe, x)
    assert pipe.to("cuda").device.type == "cuda"
    assert largest_difference(expected, enlarged(pipe, x)) < ROUNDING


@pytest.mark.parametrize("name", MODELS)
def test_tiles_are_those_of_the_cpu(pipe: OneStepSRPipeline) -> None:
    x = torch.rand(LARGE)
    expected = enlarged(pipe, x, tile=256)
    assert largest_difference(expected, enlarged(pipe.to("cuda"), x, tile=256)) < ROUNDING


@pytest.mark.parametrize("name", MODELS)
def test_a_folded_network_equals_the_full_one(pipe: OneStepSRPipeline) -> None:
    if type(pipe.denoiser) not in FOLDED_CLASSES:
        pytest.skip(f"{type(pipe.denoiser).__name__} cannot be folded")
    x = torch.rand(SMALL)
    expected = enlarged(pipe, x)
    fold(pipe.to("cuda"))
    assert largest_difference(expected, enlarged(pipe, x)) < ROUNDING


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", MODELS)
def test_in_16_bits_it_is_close(pipe: OneStepSRPipeline, dtype: torch.dtype) -> None:
    x = torch.rand(SMALL)
    expected = enlarged(pipe, x)
    assert (expected - enlarged(pipe.to("cuda", dtype), x)).abs().mean() < 0.02


@pytest.mark.parametrize(("name", "folded"), [("mini", False), ("sd3", False), ("sd21", True), ("flux2", True)])
def test_a_compiled_pipeline_gives_the_same(
    pipe: OneStepSRPipeline, folded: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Graphs write to the same memory every time: an earlier result must not change, nor may another size's."""
    _need_compiler()
    pipe.to("cuda")
    if folded:
        fold(pipe)
    inputs = [torch.rand(shape) for shape in (SMALL, SMALL, (1, 3, 24, 24), SMALL)]
    expected = [enlarged(pipe, x) for x in inputs]
    tiled = enlarged(pipe, large := torch.rand(LARGE), tile=256)
    compile_pipeline(pipe)
    found = [pipe(x, scale=4, tile=None, color_fix="none").images for x in inputs]
    for a, b in zip(expected, found, strict=True):
        assert largest_difference(a, b.cpu()) < 10 * ROUNDING
    assert "cannot be captured" not in caplog.text
    _kept_rotation.cache_clear()  # what a graph reads must not be given away with it
    torch.cuda.empty_cache()
    others = [torch.full((4096,), 1e9, device="cuda") for _ in range(64)]
    assert largest_difference(expected[0], enlarged(pipe, inputs[0])) < 10 * ROUNDING
    del others
    assert largest_difference(tiled, enlarged(pipe, large, tile=256)) < 10 * ROUNDING
    torch._dynamo.reset()


@pytest.mark.parametrize("mode", ["int8", "int8-dynamic", "fp8"])
@pytest.mark.parametrize("name", ["sd3"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@torch.no_grad()
def test_8_bits_stay_close(pipe: OneStepSRPipeline, mode: QuantizeMode, compiled: bool) -> None:
    pytest.importorskip("torchao", reason="torchao is not installed (the extra 'quantize')")
    if mode == "fp8" and torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("fp8 needs a GPU of the Hopper generation")
    embeds, pooled = pipe.prompt.prompt_embeds.repeat(1, 4, 1), pipe.prompt.pooled_prompt_embeds
    pipe.prompt = FixedPrompt.from_conditioning(Conditioning(embeds, pooled))  # integer products need 17 tokens
    x = torch.rand(SMALL)
    fold(pipe.to("cuda", torch.bfloat16))
    expected = enlarged(pipe, x)
    quantize(pipe, mode)
    if compiled:
        _need_compiler()
        compile_pipeline(pipe)
    assert (enlarged(pipe, x) - expected).abs().mean() < 0.03
    torch._dynamo.reset()


@pytest.mark.parametrize("edge", [256, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_minis_tile_needs_no_more_than_the_table_says(edge: int, dtype: torch.dtype) -> None:
    """The table limits tiles to what is free: a larger need would end in a second attempt with smaller tiles."""
    pipe = load_diffusers_pipeline("mini", "cuda", dtype)
    held = torch.cuda.memory_allocated()
    with peak_memory(pipe.array_device) as peak:
        pipe(torch.rand(1, 3, edge // 4, edge // 4), scale=4, tile=None)
    allowed = pipe.spec.fixed_tile_bytes + pipe.spec.tile_bytes * dtype.itemsize / 4 * edge**2
    assert 0 < peak[0] - held < allowed


def _need_compiler() -> None:
    try:
        require_compiler(torch.device("cuda"))
    except MissingDependencyError as error:
        pytest.skip(str(error))
