"""Functions captured as CUDA graphs: all their kernels start with one call, so a GPU does not wait for Python.

A network of a thousand short kernels takes longer to start than to compute at small sizes. A captured one repeats the
same kernels on the same memory; arguments are copied there, and results from there.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from tsdsr.out_of_memory import is_out_of_memory
from tsdsr.wording import first_line

logger = logging.getLogger(__name__)

KEPT = 4
"""Sizes whose graphs are kept for one function: each holds the memory of its results and arguments."""

_WARMUPS = 2
"""Calls before a capture, in which libraries choose kernels and compilers compile. Neither can be captured."""


class Captured(NamedTuple):
    """A captured call.

    Attributes:
        replay (callable): computes ``result`` from ``inputs`` again.
        inputs (list): arguments; its tensors are what the graph reads.
        result: what the graph writes.
    """

    replay: Callable[[], None]
    inputs: list[Any]
    result: Any


class CaptureSpace:
    """Where graphs are captured that never run at the same time: the memory they share, and the stream of all captures.

    One stream, because libraries keep a workspace for each, and because memory of a graph belongs to its stream.

    Args:
        device (torch.device): a GPU; it need not be the current one.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.pool = device, torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class GraphedFunction:
    """A function of tensors on a GPU that is captured once for each size, and replayed from then on.

    Args:
        function (callable): its arguments are tensors and hashable values; it does not depend on anything else that
            changes, and does not read values of tensors.
        eager (callable): the same, neither compiled nor captured; :mod:`tsdsr.models.groupnorm` calls it.
        space (CaptureSpace): where its calls are captured.
    """

    def __init__(self, function: Callable[..., Any], eager: Callable[..., Any], space: CaptureSpace) -> None:
        self.function, self.eager, self.space = function, eager, space
        self._kept: OrderedDict[Any, Captured | None] = OrderedDict()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function. Tensors of the result are copies, which no later call changes."""
        values, names = [*args, *kwargs.values()], tuple(kwargs)
        key = (names, *((v.shape, v.dtype, v.device) if isinstance(v, Tensor) else v for v in values))
        with torch.inference_mode(False), torch.no_grad():
            if key not in self._kept:
                self._keep(key, self._captured(values, names))
            self._kept.move_to_end(key)
            if (captured := self._kept[key]) is None:
                return self.function(*args, **kwargs)
            for place, value in zip(captured.inputs, values, strict=True):
                if isinstance(value, Tensor):
                    place.copy_(value)
            captured.replay()
            return tree_map_only(Tensor, torch.clone, captured.result)

    def _keep(self, key: Any, captured: Captured | None) -> None:
        while len(self._kept) >= KEPT:
            self._kept.popitem(last=False)
        self._kept[key] = captured

    def _captured(self, values: list[Any], names: tuple[str, ...]) -> Captured | None:
        """Capture a call. Without enough memory, all its graphs are dropped; if it cannot be captured, return None."""
        inputs = [v.clone() if isinstance(v, Tensor) else v for v in values]
        positional = len(inputs) - len(names)

        def call() -> Any:
            return self.function(*inputs[:positional], **dict(zip(names, inputs[positional:], strict=True)))

        try:
            replay, result = capture(call, inputs, self.space)
        except RuntimeError as error:
            # The end of a capture may fail too, and then raises another error.
            if any(found is not None and is_out_of_memory(found) for found in (error, error.__context__)):
                self._kept.clear()
                raise
            logger.warning("cannot be captured as a CUDA graph, and runs without: %s", first_line(error))
            return None
        return Captured(replay, inputs, result)


def capture(call: Callable[[], Any], inputs: Sequence[Any], space: CaptureSpace) -> tuple[Callable[[], None], Any]:
    """Capture a call without arguments as a CUDA graph, after calls that are not captured.

    Args:
        call (callable): computes the result.
        inputs (sequence): what it reads: tensors and other values.
        space (CaptureSpace): where to capture.

    Returns:
        tuple: what replays the graph, and the result that the graph writes.

    Raises:
        RuntimeError: the call does something that cannot be captured, or memory ran out.
    """
    if any(value.device.type != "cuda" for value in inputs if isinstance(value, Tensor)):
        raise RuntimeError("it was moved from the GPU")
    current, side = torch.cuda.current_stream(space.device), space.stream
    # Entering the current stream makes it the current one again: where the end of a capture fails, torch does not.
    with torch.cuda.device(space.device), torch.cuda.stream(current):
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(_WARMUPS):
                call()
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=space.pool, stream=side, capture_error_mode="thread_local"):
            result = call()
    return graph.replay, result
