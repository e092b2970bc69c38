"""Networks sharded over the processes of a run (FSDP2): each process stores a part of every weight.

A block's weights are gathered when the block runs, in the forward and in the backward pass, and freed behind it.
Gradients are averaged and split, and each process updates its own part, so gradients, moments and averages are sharded
alike. With LoRA the roles are adapters of one network (:mod:`tsdsr.training.networks`), which is sharded once.

Weights keep their precision when they are gathered, and inputs are not cast: autocast chooses the precision of each
layer as in other runs. So times, positions and the outer layers stay in float32, and results differ by rounding only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from tsdsr.hashing import hash_text
from tsdsr.training.network_layouts import layout_of
from tsdsr.training.processes import require_equal

ShardMode = Literal["full", "offload"]
"""``full``: weights, gradients and moments are split over the devices. ``offload``: the parts lie in host memory."""


class _Run(nn.Module):
    """All networks of a run below one root, so that one backward pass ends the pending work of all."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self) -> None:
        """Do nothing; the first call makes this module the root of its parts."""


def shard_networks(networks: Sequence[nn.Module], accelerator: Accelerator, offload: bool) -> FSDPModule:
    """Shard networks over all processes, in place. The first process gives the weights; every process calls this.

    Args:
        networks (sequence of nn.Module): networks or modules that contain some. The first process's are on the CPU,
            the others' may be on the meta device.
        accelerator (Accelerator): the run's.
        offload (bool): keep the parts in host memory.

    Returns:
        FSDPModule: the root of all.

    Raises:
        TrainingError: processes have built different networks.
    """
    root = _Run(networks)
    layout = [f"{name} {tuple(t.shape)} {t.dtype} {t.requires_grad}" for name, t in _named_tensors(root)]
    require_equal(accelerator, {"weights": hash_text("\n".join(layout))[:16]}, "networks")
    whole = dict(_named_tensors(root)) if accelerator.is_main_process else {}
    root.to("meta")
    device = torch.device(accelerator.device)
    sharded = _fully_sharded(root, device, offload)
    root.to_empty(device="cpu" if offload else device)
    if offload:
        _move_buffers(root, device)
    with torch.no_grad():
        for name, tensor in _named_tensors(root):
            _spread(whole.pop(name, None), tensor, device)
        root()
    return sharded


def _named_tensors(root: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from ((name, parameter.detach()) for name, parameter in root.named_parameters())
    yield from root.named_buffers()


def _fully_sharded(root: _Run, device: torch.device, offload: bool) -> FSDPModule:
    """Divide all networks below the root into groups of weights.

    Weights are freed after the forward pass of a group and gathered again for its backward pass.
    """
    policy = CPUOffloadPolicy(pin_memory=device.type == "cuda") if offload else OffloadPolicy()
    settings: Mapping[str, Any] = {
        "mesh": init_device_mesh(device.type, (torch.distributed.get_world_size(),)),
        "mp_policy": MixedPrecisionPolicy(cast_forward_inputs=False),
        "offload_policy": policy,
        "reshard_after_forward": True,
    }
    for network in list(root.modules()):
        layout = layout_of(network)
        for name in layout.blocks if layout else ():
            for part in _parts(network, name):
                fully_shard(part, **settings)
    sharded: FSDPModule = fully_shard(root, **settings)
    return sharded


def _parts(network: nn.Module, name: str) -> list[nn.Module]:
    """Return a network's module of a name, or the elements of its list; nothing if the network has none."""
    part: Any = network
    for step in filter(None, name.split(".")):
        part = getattr(part, step)
    if isinstance(part, nn.ModuleList):
        return list(part)
    return [] if part is None else [part]


def _move_buffers(root: nn.Module, device: torch.device) -> None:
    for module in root.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(device)


def _spread(whole: Tensor | None, tensor: Tensor, device: torch.device) -> None:
    """Give each process its part of the first one's tensor, by way of the device, or all of it if it is a buffer."""
    if whole is None:
        sent = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    else:
        sent = whole.to(device).contiguous()
    if isinstance(tensor, DTensor):
        local_part(tensor).copy_(distribute_tensor(sent, tensor.device_mesh, tensor.placements).to_local())
    else:
        torch.distributed.broadcast(sent, 0)
        tensor.copy_(sent)


def keep_gathered(network: nn.Module) -> None:
    """Gather the outer layers of a sharded network until the end of the next backward pass."""
    if isinstance(network, FSDPModule):
        network.unshard()


def local_part(tensor: Tensor) -> Tensor:
    """Return this process's part of a sharded tensor, sharing its memory; any other tensor itself."""
    if not isinstance(tensor, DTensor):
        return tensor
    part: Tensor = tensor.to_local()
    return part.detach()


def sharded_like(part: Tensor, reference: Tensor) -> Tensor:
    """Return a tensor sharded as the reference, of which ``part`` is this process's, sharing its memory."""
    if not isinstance(reference, DTensor):
        return part
    return DTensor.from_local(
        part, reference.device_mesh, reference.placements, run_check=False, shape=reference.shape,
        stride=reference.stride(),
    )  # fmt: skip


def gathered(tensor: Tensor) -> Tensor:
    """Return a sharded tensor whole, on the device; any other tensor itself. Every process calls this."""
    if not isinstance(tensor, DTensor):
        return tensor
    whole: Any = sharded_like(local_part(tensor).to(tensor.device_mesh.device_type), tensor)
    found: Tensor = whole.full_tensor()
    return found


def gathered_network(network: Any, first: bool) -> Any:
    """Return a copy of a sharded network with whole weights on the CPU; any other network itself.

    Args:
        network (ModelMixin): a network of diffusers' or of `mini`.
        first (bool): whether this is the first process; only that one gets a copy, others None.
    """
    if not any(isinstance(parameter, DTensor) for parameter in network.parameters()):
        return network
    state = {}
    for name, tensor in network.state_dict().items():
        whole = gathered(tensor)
        if first:
            state[name] = whole.cpu()
    if not first:
        return None
    plain: Any = next(c for c in type(network).__mro__ if not issubclass(c, FSDPModule))
    copy = plain.from_config(dict(network.config))
    copy.load_state_dict(state)
    return copy.to(next(iter(state.values())).dtype)
