"""Sessions of OpenVINO over ONNX files, which look like those of onnxruntime.

OpenVINO computes in threads of its own, which a forked process does not have: a network that its
parent compiled waits for them forever. So a process that was forked compiles its own at the first
window, and nobody forks while a window is under way or a network is compiled: locks that are held
then would be held in the forked process for good.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from threading import RLock
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.models.openvino_cache import compile_file
from openeo_cloudmask.models.pool import share_threads
from openeo_cloudmask.models.processor import count_threads

_compiling = RLock()
_sessions: WeakSet[OpenVinoSession] = WeakSet()


class OpenVinoSession:
    """A network compiled for this processor, one window at a time in each of its streams."""

    def __init__(self, path: Path) -> None:
        """Compile the file.

        Raises:
            ModuleNotFoundError: openvino is not installed.
        """
        self._path = path
        self.workers, _ = share_threads(count_threads())
        self._threads = count_threads()
        self._compiled: Any = None
        self._free: SimpleQueue[_Room] = SimpleQueue()
        self._held: list[_Room] = []
        _sessions.add(self)
        self.input_names = tuple(item.any_name for item in self._compile_once().inputs)

    def _compile_once(self) -> Any:  # noqa: ANN401 - no types
        """Return the compiled network; compile it unless this process has done so."""
        with _compiling:
            if self._compiled is not None:
                return self._compiled
            self._compiled = compile_file(
                self._path,
                {
                    "INFERENCE_PRECISION_HINT": "f32",  # what is not quantised stays as it is
                    "NUM_STREAMS": self.workers,
                    "INFERENCE_NUM_THREADS": self._threads,
                    "ENABLE_CPU_PINNING": False,  # other processes have their cores too
                },
            )
            # Tensors are made here, by one thread: made by two at once, they may wait forever.
            for _ in range(self.workers):
                self._free.put(_make_room(self._compiled))
            return self._compiled

    def run(self, _outputs: None, feed: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Return the network's one output for one window, as onnxruntime does."""
        if self._compiled is None:
            self._compile_once()
        free = self._free
        room = free.get()
        try:
            for name, values in feed.items():
                room.inputs[name][...] = values
            room.request.start_async()
            room.request.wait()
            return [room.output.copy()]
        finally:
            free.put(room)

    def hold(self) -> None:
        """Wait until no window is under way, and let none begin."""
        if self._compiled is not None:
            self._held = [self._free.get() for _ in range(self.workers)]

    def go_on(self) -> None:
        """Let windows begin again."""
        for room in self._held:
            self._free.put(room)
        self._held = []

    def forget(self) -> None:
        """Leave what the parent compiled, in a forked process.

        It is never freed: that would wait for its threads to end, which are not there.
        """
        for left in (self._compiled, self._held, self._free):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(left))
        self._compiled, self._held, self._free = None, [], SimpleQueue()


class _Room(NamedTuple):
    """A request, and the memory it reads and writes."""

    request: Any
    inputs: Mapping[str, NDArray[Any]]
    output: NDArray[np.float32]


def _make_room(compiled: Any) -> _Room:  # noqa: ANN401 - no types
    request = compiled.create_infer_request()
    inputs = {item.any_name: request.get_tensor(item).data for item in compiled.inputs}
    return _Room(request, inputs, request.get_output_tensor().data)


def _before_fork() -> None:
    _compiling.acquire()
    for session in list(_sessions):
        session.hold()


def _after_fork() -> None:
    for session in list(_sessions):
        session.go_on()
    _compiling.release()


def _in_child() -> None:
    for session in list(_sessions):
        session.forget()
    _compiling.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
