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

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tsdsr.errors import InvalidInputError, MissingDependencyError, ModelError, install_extra
from tsdsr.files import StrPath, atomic_path, require_writable_file
from tsdsr.hashing import hash_file, hash_text
from tsdsr.models.mini_folder import WEIGHTS, prompt_label
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

MADE_FROM = "made_from"
"""Name of the graph's note of the weights that it was made for, see :func:`hash_of_weights`."""

_OPSET, _IR_VERSION = 17, 8  # of 2022, which every runtime of today reads
_EPSILON = 1e-5
_KINDS = {"F32": "FLOAT", "F16": "FLOAT16", "BF16": "BFLOAT16"}
"""safetensors' names of kinds of values → ONNX's."""


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
    require_index(folder)
    if base_model(folder) != "mini":
        raise ModelError(f"{folder}: holds no 'mini'; for other models there is 'tsdsr export'")
    path = require_writable_file(folder / MINI_GRAPH)
    if path.exists() and not overwrite:
        raise InvalidInputError(f"{path}: exists already; add --overwrite to make it again")
    shape, folded = read_shape(folder / "denoiser")
    weights = Weights(folder / "denoiser" / WEIGHTS, "unet." if folded else "")
    fixed = Stored(weights) if folded else Computed(weights, shape, prompt_label(folder, shape.num_prompts))
    graph = _Graph(weights)
    _Network(shape, graph, fixed).add()
    weights.require_all_used()
    content = graph.serialised(shape.in_channels, hash_of_weights(folder))
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return MiniGraph(path, len(graph.nodes), len(content))


def hash_of_weights(folder: Path) -> str:
    """Return a hash of what a graph of this pipeline folder depends on: the weights and the prompt.

    Raises:
        OSError: a file cannot be read.
    """
    return hash_text(" ".join(hash_file(folder / part / WEIGHTS) for part in ("denoiser", "prompt")))


class _Graph:
    """Operations and constants of a graph under construction; a value is known by its name.

    Args:
        weights (Weights): the file that convolutions refer to.
    """

    def __init__(self, weights: Weights) -> None:
        self._onnx = _import_onnx()
        self._weights = weights
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

    def serialised(self, channels: int, made_from: str) -> bytes:
        """Return the graph from ``z_lq`` to ``z_hat`` as the content of a file.

        Args:
            channels (int): number of latent channels.
            made_from (str): see :data:`MADE_FROM`.
        """
        helper, sizes = self._onnx.helper, ["batch", channels, "height", "width"]
        ends = [helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, sizes) for name in ("z_lq", "z_hat")]
        graph = helper.make_graph(self.nodes, "mini", ends[:1], ends[1:], list(self._constants.values()))
        opset = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION, producer_name="tsdsr")
        helper.set_model_props(model, {MADE_FROM: made_from})
        content: bytes = model.SerializeToString()
        return content


class _Network:
    """Adds the network of :class:`tsdsr.models.mini.MiniUNet` and the single step to a graph.

    Args:
        shape (MiniShape): shape of the network.
        graph (_Graph): an empty graph.
        fixed (Fixed): scales and shifts.
    """

    def __init__(self, shape: MiniShape, graph: _Graph, fixed: Fixed) -> None:
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
            h = self._silu(self._conv(f"{block}.conv1", h, width, width, 3, pad=1))
            x = self.graph.add("Add", x, self._conv(f"{block}.conv2", h, width, width, 3, pad=1))
        return x

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
        raise MissingDependencyError(f"making a graph needs the package onnx: {install_extra('onnx')}") from error
    return onnx
