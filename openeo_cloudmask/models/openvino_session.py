"""Sessions of OpenVINO over ONNX files, which look like those of onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.models.pool import share_threads
from openeo_cloudmask.models.processor import count_threads


class OpenVinoSession:
    """A network compiled for this processor, one window at a time in each of its streams."""

    def __init__(self, path: Path) -> None:
        """Compile the file.

        Raises:
            ModuleNotFoundError: openvino is not installed.
        """
        import openvino

        core = openvino.Core()
        model = core.read_model(path)
        shapes = {item: item.partial_shape for item in model.inputs}
        model.reshape(
            {
                item: [1, *(shape[axis] for axis in range(1, len(shape)))]
                for item, shape in shapes.items()
            }
        )
        threads = count_threads()
        self.workers, _ = share_threads(threads)
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",  # what is not quantised stays as it is
                "NUM_STREAMS": self.workers,
                "INFERENCE_NUM_THREADS": threads,
                "ENABLE_CPU_PINNING": False,  # other processes have their cores too
            },
        )
        # Tensors are made here, by one thread: made by two at once, they may wait forever.
        self._free: SimpleQueue[_Room] = SimpleQueue()
        for _ in range(self.workers):
            request = compiled.create_infer_request()
            inputs = {item.any_name: request.get_tensor(item).data for item in compiled.inputs}
            self._free.put(_Room(request, inputs, request.get_output_tensor().data))

    def run(self, _outputs: None, feed: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Return the network's one output for one window, as onnxruntime does."""
        room = self._free.get()
        try:
            for name, values in feed.items():
                room.inputs[name][...] = values
            room.request.start_async()
            room.request.wait()
            return [room.output.copy()]
        finally:
            self._free.put(room)


class _Room(NamedTuple):
    """A request, and the memory it reads and writes."""

    request: Any
    inputs: Mapping[str, NDArray[Any]]
    output: NDArray[np.float32]
