"""`mini` at its fixed time and prompt as an ONNX graph without weights of its own.

The graph ``z_lq → z_hat`` lies beside the weights as ``denoiser/model.onnx``. Its convolutions take theirs from the
safetensors file by position, as *external data* of ONNX; the runtime casts 16-bit values to float32 when it loads them.
Only what the fixed time and prompt determine, a scale and a shift for each modulation, is stored in the graph, a few
ten thousand bytes. Making a graph needs the package ``onnx`` and no torch.

The operations are the most common ones of ONNX, so that every runtime has them. A modulation is a batch normalisation
with mean 0 and variance 1, because ONNX Runtime runs it on its own layout of feature maps, and a product and a sum
with constants in the plain layout only, which costs 3 % of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tsdsr.errors import InvalidInputError, MissingDependencyError, ModelError
from tsdsr.files import StrPath, atomic_path, require_writable_file
from tsdsr.models.mini_folder import MADE_FROM, hash_of_weights, prompt_label
from tsdsr.models.network_config import WEIGHTS
from tsdsr.pipeline.model_files import MINI_GRAPH, base_model, require_index
from tsdsr.runtimes.mini_files import (
    Computed,
    Fixed,
    MiniShape,
    Stored,
    Values,
    Weights,
    read_shape,
)

_OPSET, _IR_VERSION = 17, 8  # of 2022, which every runtime of today reads
_EPSILON = 1e-5
_KINDS = {"F32": "FLOAT", "F16": "FLOAT16", "BF16": "BFLOAT16"}
"""safetensors' names of kinds of values → ONNX's."""

N = TypeVar("N", bound="NetworkBuilder")


@dataclass(frozen=True)
class MiniGraph:
    """A graph that was written.

    Attributes:
        path (Path): its file.
        operations (int): number of its operations.
        bytes (int): size of the file.
    """

    path: Path
    operations: int
    bytes: int


def write_graph(folder: StrPath, overwrite: bool = False) -> MiniGraph:
    """Write the graph of a pipeline folder of `mini`, folded or not, to ``denoiser/model.onnx``.

    Args:
        folder (str | PathLike): the pipeline folder.
        overwrite (bool): replace a graph that is there.

    Raises:
        InvalidInputError: there is a graph already, or the folder cannot be written to.
        ModelNotFoundError: the folder holds no pipeline, or files are missing.
        ModelError: it holds another model than `mini`.
        WeightsError: configuration and weights do not fit, or a weight is not finite.
        MissingDependencyError: the package ``onnx`` is not installed.
        FileWriteError: the graph cannot be written.
    """
    folder = Path(folder)
    path = require_graph_path(folder, MINI_GRAPH, overwrite)
    graph, _ = build_graph(folder, NetworkBuilder)
    return store_graph(path, graph, hash_of_weights(folder))


def require_graph_path(folder: Path, name: str, overwrite: bool) -> Path:
    """Return the path of a graph to write in a pipeline folder of `mini`; errors as :func:`write_graph`."""
    require_index(folder)
    if base_model(folder) != "mini":
        raise ModelError(f"{folder}: contains no 'mini'; export other models with 'tsdsr export'")
    path = require_writable_file(folder / name)
    if path.exists() and not overwrite:
        raise InvalidInputError(f"{path}: already exists; add --overwrite to make it again")
    return path


def build_graph(folder: Path, network_class: Callable[[MiniShape, GraphBuilder, Fixed], N]) -> tuple[GraphBuilder, N]:
    """Build the graph of a pipeline folder from its files.

    Args:
        folder (Path): the pipeline folder.
        network_class (callable): makes the :class:`NetworkBuilder`, which is returned as well.

    Raises:
        ModelNotFoundError, WeightsError, MissingDependencyError: see :func:`write_graph`.
    """
    shape, folded = read_shape(folder / "denoiser")
    weights = Weights(folder / "denoiser" / WEIGHTS, "unet." if folded else "")
    fixed = Stored(weights) if folded else Computed(weights, shape, prompt_label(folder, shape.num_prompts))
    graph = GraphBuilder(weights, shape.in_channels)
    network = network_class(shape, graph, fixed)
    network.add()
    weights.require_all_used()
    return graph, network


def store_graph(path: Path, graph: GraphBuilder, made_from: str) -> MiniGraph:
    """Write a graph atomically.

    Raises:
        FileWriteError: it cannot be written.
    """
    content: bytes = graph.model(made_from).SerializeToString()
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return MiniGraph(path, len(graph.nodes), len(content))


class GraphBuilder:
    """Operations and constants of a graph under construction; a value is known by its name.

    Args:
        weights (Weights): the file that convolutions refer to.
        channels (int): number of latent channels.
    """

    def __init__(self, weights: Weights, channels: int) -> None:
        self._onnx = _import_onnx()
        self._weights, self._channels = weights, channels
        self.nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add an operation and return the name of its result."""
        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, values: Values) -> str:
        """Store float32 values in the graph, once for each name."""
        if name not in self._constants:
            self._constants[name] = self._onnx.numpy_helper.from_array(values.astype(np.float32), name)
        return name

    def weight(self, name: str, *shape: int) -> str:
        """Refer to a tensor of the file, as float32."""
        stored, types = self._weights.stored(name, *shape), self._onnx.TensorProto
        tensor = types(name=name, data_type=getattr(types, _KINDS[stored.dtype]), dims=shape)
        tensor.data_location = types.EXTERNAL
        place = {"location": self._weights.path.name, "offset": stored.offset, "length": stored.length}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self._constants[name] = tensor
        return name if stored.dtype == "F32" else self.add("Cast", name, output=f"{name}.float32", to=types.FLOAT)

    def integers(self, name: str, values: NDArray[Any]) -> str:
        """Store integers of any kind in the graph, once for each name."""
        if name not in self._constants:
            self._constants[name] = self._onnx.numpy_helper.from_array(values, name)
        return name

    def weight_values(self, name: str, *shape: int) -> Values:
        """Return the values of a tensor of the file."""
        return self._weights.values(name, *shape)

    def model(self, made_from: str, scalars: Sequence[str] = ()) -> Any:
        """Return the graph from ``z_lq`` to ``z_hat`` as an ``onnx.ModelProto``.

        Args:
            made_from (str): see :data:`MADE_FROM`.
            scalars (sequence of str): further results, each a single number.
        """
        helper, sizes = self._onnx.helper, ["batch", self._channels, "height", "width"]
        ends = [helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, sizes) for name in ("z_lq", "z_hat")]
        more = [helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, []) for name in scalars]
        graph = helper.make_graph(self.nodes, "mini", ends[:1], ends[1:] + more, list(self._constants.values()))
        opset = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION, producer_name="tsdsr")
        helper.set_model_props(model, {MADE_FROM: made_from})
        return model


class NetworkBuilder:
    """Adds the network of :class:`tsdsr.models.mini_network.MiniNetwork` and the single step to a graph.

    Args:
        shape (MiniShape): shape of the network.
        graph (GraphBuilder): an empty graph.
        fixed (Fixed): scales and shifts.
    """

    def __init__(self, shape: MiniShape, graph: GraphBuilder, fixed: Fixed) -> None:
        self.shape, self.graph, self.fixed = shape, graph, fixed

    def add(self) -> None:
        """Add all operations, from ``z_lq`` to ``z_hat``."""
        shape, graph = self.shape, self.graph
        x, skips = self._conv("conv_in", "z_lq", shape.in_channels, shape.channels[0], 3, pad=1), []
        for level, (width, blocks) in enumerate(zip(shape.channels, shape.encoder_blocks, strict=True)):
            if level:
                skips.append(x)
                x = self._conv(f"down.{level - 1}", x, shape.channels[level - 1], width, 2, stride=2)
            x = self._stage(f"encoder.{level}", x, width, blocks)
        for level in reversed(range(len(shape.channels) - 1)):
            width = shape.channels[level]
            x = graph.add("Add", self._up(f"up.{level}", x, shape.channels[level + 1], width), skips.pop())
            x = self._stage(f"decoder.{level}", x, width, shape.decoder_blocks[level])
        v = self._silu(self._modulation("modulation_out", x, shape.channels[0]))
        v = self._conv("conv_out", v, shape.channels[0], shape.in_channels, 3, pad=1)
        if shape.fine_channels:
            v = graph.add("Add", v, self._fine_level(x))
        if shape.learned_skip:
            factor = graph.constant("skip", self.fixed.skip(shape.in_channels).reshape(1, -1, 1, 1))
            v = graph.add("Add", v, graph.add("Mul", "z_lq", factor))
        graph.add("Sub", "z_lq", v, output="z_hat")  # FlowMatching.to_x0 at the largest time

    def _fine_level(self, x: str) -> str:
        shape, width = self.shape, self.shape.fine_channels
        up = self._up("fine.up", x, shape.channels[0], width)
        up_sample = self._up("fine.up_sample", "z_lq", shape.in_channels, width)
        fine = self._stage("fine.stage", self.graph.add("Add", up, up_sample), width, shape.fine_blocks)
        fine = self._silu(self._modulation("fine.modulation_out", fine, width))
        return self._conv("fine.conv_out", fine, width, shape.in_channels, 4, stride=2, pad=1)

    def _stage(self, name: str, x: str, width: int, blocks: int) -> str:
        for block in (f"{name}.{number}" for number in range(blocks)):
            h = self._silu(self._modulation(f"{block}.modulation", x, width))
            h = self._silu(self._block_conv(f"{block}.conv1", h, width))
            x = self.graph.add("Add", x, self._block_conv(f"{block}.conv2", h, width))
        return x

    def _block_conv(self, name: str, x: str, width: int) -> str:
        return self._conv(name, x, width, width, 3, pad=1)

    def _modulation(self, name: str, x: str, width: int) -> str:
        scale, shift = self.fixed.modulation(name, width)
        return self.graph.add(
            "BatchNormalization",
            x,
            self.graph.constant(f"{name}.scale", scale),
            self.graph.constant(f"{name}.shift", shift),
            self.graph.constant(f"mean.{width}", np.zeros(width)),
            self.graph.constant(f"variance.{width}", np.full(width, 1 - _EPSILON)),
            epsilon=_EPSILON,
        )

    def _silu(self, x: str) -> str:
        return self.graph.add("Mul", x, self.graph.add("Sigmoid", x))

    def _conv(self, name: str, x: str, given: int, made: int, size: int, *, stride: int = 1, pad: int = 0) -> str:
        weight = self.graph.weight(f"{name}.weight", made, given, size, size)
        bias = self.graph.weight(f"{name}.bias", made)
        return self.graph.add("Conv", x, weight, bias, kernel_shape=[size] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def _up(self, name: str, x: str, given: int, made: int) -> str:
        weight, bias = self.graph.weight(f"{name}.weight", given, made, 2, 2), self.graph.weight(f"{name}.bias", made)
        return self.graph.add("ConvTranspose", x, weight, bias, kernel_shape=[2, 2], strides=[2, 2])


def _import_onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError("making a graph needs the package onnx: run pip install onnx") from error
    return onnx
