"""ONNX Runtime: its execution providers, and a watch over what they compute.

An execution provider is ONNX Runtime's term for a kind of hardware with its libraries. Which ones are available depends
on the installed package (``onnxruntime-gpu``, ``onnxruntime-directml`` …) and on plug-ins beside it
(``onnxruntime-ep-webgpu`` …). Their arithmetic differs, and a driver can be wrong: a provider that fails, gives values
that are not finite, or a first tile unlike the CPU's, is replaced by the CPU with one warning.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tsdsr.errors import InvalidInputError, MissingDependencyError, ModelError, TSDSRError
from tsdsr.memory import address_space_left
from tsdsr.runtimes.graph_calls import Floats, Graph, default_threads, guarded, loaded, summary

logger = logging.getLogger(__name__)

# Wheels from 1.32 on contain telemetry, which leaves a file in the folder for temporary files with each import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

PROVIDERS: Mapping[str, str] = MappingProxyType(
    {
        "cuda": "CUDAExecutionProvider",
        "tensorrt": "TensorrtExecutionProvider",
        "coreml": "CoreMLExecutionProvider",
        "directml": "DmlExecutionProvider",
        "webgpu": "WebGpuExecutionProvider",
        "openvino": "OpenVINOExecutionProvider",
        "cpu": "CPUExecutionProvider",
    }
)
"""Name of each provider → ONNX Runtime's, in order of preference."""

TOLERANCE = 0.01
"""Largest root mean square difference from the CPU, for values of about unit variance such as scaled latents.

For `mini` it is 50 dB of PSNR, or 0.7 grey levels, in the picture. Half precision gives a tenth of it.
"""

THREAD_SAFE = ("cuda", "cpu")
"""Providers of which a session may run in several threads at the same time."""

_ON_REQUEST = ("tensorrt",)  # it compiles for minutes, for each size of tile
_PLUGINS = {"webgpu": "onnxruntime_ep_webgpu", "openvino": "onnxruntime_ep_openvino"}
_OPTIONS = {"coreml": {"ModelFormat": "MLProgram"}, "openvino": {"device_type": "AUTO"}}
_NUMBERED = ("cuda", "tensorrt", "directml")


def available_providers() -> tuple[str, ...]:
    """Return the names of the available providers, in order of preference. The last one is "cpu".

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
    """
    onnxruntime = _import_onnxruntime()
    built_in = onnxruntime.get_available_providers()
    return tuple(name for name, own in PROVIDERS.items() if own in built_in or _plugin_devices(name))


def choose_provider(provider: str = "auto") -> tuple[str, str]:
    """Return the name of the provider to use, and its device number ("" for the default).

    Args:
        provider (str): "auto", a name in :data:`PROVIDERS`, or "cuda:1", "tensorrt:1", "directml:1" for another device.

    Raises:
        InvalidInputError: there is no such provider.
        ModelError: it cannot be used here.
    """
    name, _, number = provider.partition(":")
    if name not in ("auto", *PROVIDERS) or (number and (name not in _NUMBERED or not number.isdecimal())):
        raise InvalidInputError(f"unknown provider {provider!r}; choose from auto, {', '.join(PROVIDERS)}")
    available = available_providers()
    if name == "auto":
        return next(name for name in available if name not in _ON_REQUEST), ""
    if name not in available:
        raise ModelError(f"provider {provider!r} cannot be used by ONNX Runtime here, only {', '.join(available)}")
    return name, number


class OnnxSessions:
    """Opens graphs on one provider. After its first failure, all of them run on the CPU.

    Args:
        provider (str): see :func:`choose_provider`.
        threads (int | None): CPU threads; default: :func:`~tsdsr.runtimes.graph_calls.default_threads`.

    Raises:
        InvalidInputError, ModelError: see :func:`choose_provider`.
    """

    def __init__(self, provider: str = "auto", threads: int | None = None) -> None:
        self.provider, self._number = choose_provider(provider)
        self.threads = threads or default_threads()

    def open_graph(
        self,
        path: Path,
        *,
        compare: bool = False,
        remedy: str = "export the model again",
    ) -> Graph:
        """Open a graph.

        Args:
            path (Path): the ONNX file.
            compare (bool): compare the first result with the CPU's.
            remedy (str): what to do with a damaged graph, for the message.

        Raises:
            MemoryError: memory ran out.
            WeightsError: the graph cannot be loaded.
        """

        def on_cpu() -> Graph:
            session = loaded(path, lambda: _create_session(path, "cpu", "", self.threads), remedy)
            return _as_graph(path, session)

        if self.provider == "cpu":
            return on_cpu()
        try:
            session = _create_session(path, self.provider, self._number, self.threads)
        except Exception as error:  # what a driver raises has no common base class
            self.give_up(f"cannot be started ({summary(error)})")
            return on_cpu()
        return _Watched(self, _as_graph(path, session), on_cpu, compare)

    def give_up(self, reason: str) -> None:
        """Use the CPU from now on, with one warning."""
        if self.provider != "cpu":
            logger.warning("ONNX Runtime's provider %s %s; the CPU is used instead", self.provider, reason)
            self.provider = "cpu"


class _Watched:
    """A graph on a provider, with the CPU in reserve.

    Args:
        sessions (OnnxSessions): the provider.
        graph (callable): the graph on it.
        on_cpu (callable): opens the graph on the CPU.
        compare (bool): compare the first result with the CPU's.
    """

    def __init__(self, sessions: OnnxSessions, graph: Graph, on_cpu: Callable[[], Graph], compare: bool) -> None:
        self._sessions, self._graph, self._on_cpu, self._compare = sessions, graph, on_cpu, compare
        self._replaced = False

    def __call__(self, x: Floats) -> Floats:
        if self._sessions.provider != "cpu":
            try:
                result = self._graph(x)
            except TSDSRError as error:  # a lack of memory is a MemoryError, for which there are smaller tiles
                self._sessions.give_up(f"failed ({error})")
            else:
                if np.isfinite(result).all():
                    return self._compared(x, result) if self._compare else result
                self._sessions.give_up("gave values that are not finite")
        return self._reserve()(x)

    def _compared(self, x: Floats, result: Floats) -> Floats:
        """Return the result, or the CPU's if they differ."""
        on_cpu = self._on_cpu()
        expected = on_cpu(x)
        self._compare = False
        error = np.inf
        if result.shape == expected.shape:
            error = float(np.sqrt(np.mean(np.square(result - expected), dtype=np.float64)))
        if error <= TOLERANCE * max(1.0, float(np.std(expected))):
            return result
        self._sessions.give_up(f"gave a wrong result (off by {error:.2g} on average)")
        self._graph, self._replaced = on_cpu, True
        return expected

    def _reserve(self) -> Graph:
        if not self._replaced:
            self._graph, self._replaced = self._on_cpu(), True
        return self._graph


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingDependencyError("this needs ONNX Runtime: run pip install onnxruntime") from error
    except ImportError as error:
        raise MissingDependencyError(
            f"ONNX Runtime is installed but cannot be imported ({summary(error)}); install it again: "
            "run pip install --force-reinstall onnxruntime"
        ) from error
    return onnxruntime


def _as_graph(path: Path, session: Any) -> Graph:
    name = session.get_inputs()[0].name
    return guarded(path, lambda x: _run(session, {name: x}))


def _run(session: Any, inputs: dict[str, Floats]) -> Any:
    """Return a graph's first output. A signal ends the run.

    Python handles signals in the main thread, between its own instructions: a run there holds them up to its end. Where
    the address space is limited (``ulimit -v``) this is accepted, because glibc ends a process that has no memory for
    a new thread's variables.
    """
    import onnxruntime

    if threading.current_thread() is not threading.main_thread() or address_space_left() is not None:
        return session.run(None, inputs)[0]
    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    with ThreadPoolExecutor(1) as executor:
        try:
            running = executor.submit(session.run, None, inputs, options)
        except RuntimeError:  # no more threads are allowed; signals then wait
            return session.run(None, inputs)[0]
        try:
            return running.result()[0]
        except BaseException:
            options.terminate = True
            raise


def _create_session(path: Path, name: str, number: str, threads: int) -> Any:
    """Create a session on one provider; operations that it lacks run on the CPU.

    Raises:
        Exception: of any class; among others RuntimeError if ONNX Runtime uses the CPU in place of the provider.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised as exceptions
    options.enable_mem_pattern = False  # its plan of one block takes a fifth more memory, and no less time
    own, settings = PROVIDERS[name], dict(_OPTIONS.get(name, {}))
    if devices := _plugin_devices(name):
        options.add_provider_for_devices(devices[:1], {})
        return onnxruntime.InferenceSession(path, options, enable_fallback=0)
    if number:
        settings["device_id"] = number
    providers = [(own, settings)] if name == "cpu" else [(own, settings), PROVIDERS["cpu"]]
    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(path, options, providers=providers, enable_fallback=0)
    if own not in session.get_providers():
        raise RuntimeError("its libraries or its device are missing")
    return session


@lru_cache
def _plugin_devices(name: str) -> tuple[Any, ...]:
    """Return the devices of a provider that comes as a plug-in; none if it is not installed or finds none."""
    import onnxruntime

    package = _PLUGINS.get(name)
    if package is None or find_spec(package) is None or not hasattr(onnxruntime, "get_ep_devices"):
        return ()
    try:
        onnxruntime.register_execution_provider_library(package, import_module(package).get_library_path())
    except Exception as error:  # an incompatible version, a missing driver: as if it were not installed
        logger.warning("the plug-in %s cannot be loaded (%s)", package, summary(error))
        return ()
    return tuple(device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDERS[name])
