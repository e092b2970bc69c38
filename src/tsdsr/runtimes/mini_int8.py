"""`mini` with 8-bit arithmetic: a second small graph over the same weights, for processors that are fast at it.

The convolutions of the residual blocks take nine tenths of the time. In this graph they multiply integers: feature maps
of 8 bits without a sign, with one scale for each tensor, and weights of 8 bits with a sign, with one scale for each
output channel. Everything between them, and the sums of the residual blocks, stays in float32. The runtime rounds the
weights when it loads them, so the graph holds only scales.

The ranges of the feature maps are measured on pictures, once, when the graph is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsdsr.errors import InvalidInputError
from tsdsr.files import StrPath
from tsdsr.models.mini_folder import MiniLatents, hash_of_weights
from tsdsr.pipeline.model_files import MINI_FAST_GRAPH
from tsdsr.runtimes.graph_calls import Floats
from tsdsr.runtimes.mini_files import Fixed, MiniShape
from tsdsr.runtimes.mini_graph import (
    GraphBuilder,
    MiniGraph,
    NetworkBuilder,
    build_graph,
    require_graph_path,
    store_graph,
)
from tsdsr.runtimes.onnx_mini import OnnxMini

Ranges = Mapping[str, tuple[float, float]]
"""Convolution and end (``….conv1.input``) → smallest and largest value of that feature map."""

_UNSIGNED, _SIGNED = 255, 127
_LARGEST_BIAS = 2.0**30  # in steps; biases are 32-bit integers
_SMALLEST = 1e-8
_INT32 = 6  # onnx.TensorProto.INT32
_FOLDER_OF_WEIGHTS = "session.model_external_initializers_file_folder_path"


def write_int8_graph(folder: StrPath, pictures: Sequence[NDArray[Any]], overwrite: bool = False) -> MiniGraph:
    """Write the 8-bit graph of a pipeline folder of `mini`, folded or not, to ``denoiser/model.int8.onnx``.

    Args:
        folder (str | PathLike): the pipeline folder.
        pictures (sequence of ndarray): low-quality pictures (h, w, 3) or (h, w, 1), on which ranges are measured. A few
            with varied content are enough.
        overwrite (bool): replace a graph that is there.

    Raises:
        InvalidInputError: there is no picture, or a graph already, or the folder cannot be written to.
        TSDSRError: see :func:`~tsdsr.runtimes.mini_graph.write_graph`.
    """
    folder = Path(folder)
    path = require_graph_path(folder, MINI_FAST_GRAPH, overwrite)
    if not pictures:
        raise InvalidInputError("an 8-bit graph needs pictures, on which the ranges of values are measured")
    ranges = measure_ranges(folder, pictures)
    graph, _ = build_graph(folder, lambda shape, graph, fixed: _Int8Network(shape, graph, fixed, ranges))
    return store_graph(path, graph, hash_of_weights(folder))


def measure_ranges(folder: Path, pictures: Sequence[NDArray[Any]]) -> Ranges:
    """Measure the ranges of the feature maps while the float32 graph restores pictures.

    Args:
        folder (Path): the pipeline folder.
        pictures (sequence of ndarray): see :func:`write_int8_graph`.
    """
    import onnxruntime

    graph, network = build_graph(folder, _MeasuringNetwork)
    options = onnxruntime.SessionOptions()
    options.enable_mem_pattern = False
    options.add_session_config_entry(_FOLDER_OF_WEIGHTS, str(folder / "denoiser"))
    content = graph.model("", [name for pair in network.ends.values() for name in pair]).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found: dict[str, tuple[float, float]] = {}

    def run(z_lq: Floats) -> Floats:
        z_hat, *scalars = session.run(None, {"z_lq": z_lq})
        for end, low, high in zip(network.ends, scalars[::2], scalars[1::2], strict=True):
            old = found.get(end, (0.0, 0.0))  # zero must be exact: convolutions pad with it
            found[end] = (min(old[0], float(low)), max(old[1], float(high)))
        result: Floats = z_hat
        return result

    pipe = OnnxMini(run, MiniLatents.read(folder))
    for picture in pictures:
        pipe.upscale_pixels(picture)
    return found


class _MeasuringNetwork(NetworkBuilder):
    """The network in float32, with the range of each feature map at both ends of the convolutions.

    Attributes:
        ends (dict): convolution and end → names of its smallest and largest value.
    """

    def __init__(self, shape: MiniShape, graph: GraphBuilder, fixed: Fixed) -> None:
        super().__init__(shape, graph, fixed)
        self.ends: dict[str, tuple[str, str]] = {}

    def _block_conv(self, name: str, x: str, width: int) -> str:
        y = super()._block_conv(name, x, width)
        for end, values in ((f"{name}.input", x), (f"{name}.output", y)):
            low, high = (self.graph.add(kind, values, keepdims=0) for kind in ("ReduceMin", "ReduceMax"))
            self.ends[end] = low, high
        return y


class _Int8Network(NetworkBuilder):
    """The network with 8-bit convolutions in its residual blocks.

    Args:
        shape, graph, fixed: as for :class:`NetworkBuilder`.
        ranges (mapping): ranges of the feature maps.
    """

    def __init__(self, shape: MiniShape, graph: GraphBuilder, fixed: Fixed, ranges: Ranges) -> None:
        super().__init__(shape, graph, fixed)
        self._ranges = ranges

    def _block_conv(self, name: str, x: str, width: int) -> str:
        graph = self.graph
        x, step = self._rounded(f"{name}.input", x)
        weights = np.abs(graph.weight_values(f"{name}.weight", width, width, 3, 3)).max((1, 2, 3))
        biases = np.abs(graph.weight_values(f"{name}.bias", width))
        steps = np.maximum(weights / _SIGNED, np.maximum(biases / (step * _LARGEST_BIAS), _SMALLEST))
        scale = graph.constant(f"{name}.weight.scale", steps)
        zero = graph.integers(f"zeros.{width}", np.zeros(width, np.int8))
        weight = graph.add("QuantizeLinear", graph.weight(f"{name}.weight", width, width, 3, 3), scale, zero, axis=0)
        weight = graph.add("DequantizeLinear", weight, scale, zero, axis=0)
        scale = graph.constant(f"{name}.bias.scale", steps * step)
        bias = graph.add("Round", graph.add("Div", graph.weight(f"{name}.bias", width), scale))
        bias = graph.add("DequantizeLinear", graph.add("Cast", bias, to=_INT32), scale, axis=0)
        y = graph.add("Conv", x, weight, bias, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
        return self._rounded(f"{name}.output", y)[0]

    def _rounded(self, end: str, x: str) -> tuple[str, float]:
        """Round a feature map to 8 bits without a sign; return it and the step between its values."""
        low, high = self._ranges[end]
        step = max((high - low) / _UNSIGNED, _SMALLEST)
        scale = self.graph.constant(f"{end}.scale", np.array(step))
        zero = self.graph.integers(f"{end}.zero", np.array(round(-low / step), np.uint8))
        rounded = self.graph.add("QuantizeLinear", x, scale, zero)
        return self.graph.add("DequantizeLinear", rounded, scale, zero), step
