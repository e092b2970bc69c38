from __future__ import annotations

import pytest
import torch

from tsdsr.pipeline.transfer import Landing, to_device


def test_on_the_cpu_nothing_is_copied_twice_nor_late() -> None:
    x = torch.rand(2, 3)
    assert to_device(x, torch.device("cpu")) is x
    result, landing = torch.zeros(4, 3), Landing()
    landing.put(x, result[1:3])
    assert torch.equal(result[1:3], x)
    landing.flush()
    assert torch.equal(result[1:3], x)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_copies_from_a_gpu_arrive() -> None:
    x = torch.rand(64, 3)
    result, landing = torch.zeros(64, 3), Landing()
    for start in range(0, 64, 16):
        landing.put(to_device(x[start : start + 16], torch.device("cuda")), result[start : start + 16])
    landing.flush()
    assert torch.equal(result, x)
