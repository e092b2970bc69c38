"""Counting of bytes and operations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tsdsr.training.tensor_counter import TensorCounter, give_fake_tensors


def test_bytes_in_use_at_the_same_time() -> None:
    held = torch.ones(1000)
    with TensorCounter([held]) as counter:
        one = held + 1
        assert counter.live == 4000
        one.view(10, 100).add_(held.reshape(10, 100))  # neither copies
        two = one.double()
        assert counter.live == counter.peak == 12000
        del one
        assert (counter.live, counter.peak) == (8000, 12000)
        two = two + 1
    assert (counter.live, counter.peak) == (8000, 16000)


def test_operations_of_products_convolutions_and_attention() -> None:
    a, b, image, kernel = torch.ones(3, 5), torch.ones(5, 7), torch.ones(2, 3, 8, 8), torch.ones(4, 3, 3, 3)
    q = torch.ones(2, 3, 16, 8, requires_grad=True)
    with TensorCounter() as product:
        a @ b
    with TensorCounter() as convolution:
        F.conv2d(image, kernel, padding=1)
    with TensorCounter() as attention:
        answer = F.scaled_dot_product_attention(q, q, q)
    forward = attention.flops
    with attention:
        answer.sum().backward()
    assert product.flops == 2 * 3 * 5 * 7
    assert convolution.flops == 2 * 2 * 64 * 4 * 3 * 9
    assert forward == 2 * 2 * (2 * 3 * 16 * 16 * 8)
    assert attention.flops == 3.5 * forward  # the backward pass computes the weights of attention again


def test_networks_without_storage_keep_shapes_dtypes_and_what_they_share() -> None:
    with torch.device("meta"):
        one = nn.Sequential(nn.Linear(4, 4, dtype=torch.bfloat16), nn.BatchNorm1d(4))
    one[0].requires_grad_(False)
    two = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    two[0].weight = one[0].weight
    with FakeTensorMode():
        tensors = give_fake_tensors(one, two)
        answer = one(torch.ones(2, 4, dtype=torch.bfloat16))
    assert len(tensors) == 8
    assert one[0].weight is two[0].weight
    assert (one[0].weight.dtype, one[0].weight.requires_grad) == (torch.bfloat16, False)
    assert one[1].weight.requires_grad
    assert answer.shape == (2, 4)
    assert answer.device.type == "cpu"
