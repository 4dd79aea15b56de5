"""A detector that is loaded when the first window is to be classified."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Lock, Thread

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import ClassScheme
from openeo_cloudmask.inference import Detector, Window
from openeo_cloudmask.models.entry import ModelEntry
from openeo_cloudmask.models.onnx_detector import packaged_onnx


class DeferredDetector:
    """Says what a model needs and gives without loading it.

    Chunks without a valid pixel are common at the edge of a scene; they never load, let alone
    download, any weights. An exported file has a window of its own, so it is opened for that.
    """

    def __init__(
        self,
        entry: ModelEntry,
        band_names: tuple[str, ...],
        load: Callable[[], Detector],
        *,
        exported: bool = False,
    ) -> None:
        self._entry = entry
        self._band_names = band_names
        self._load = load
        self._exported = exported
        self._detector: Detector | None = None
        self._loading = Lock()

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the planes it takes, in this order."""
        return self._band_names

    @property
    def scheme(self) -> ClassScheme:
        """Its own classes."""
        return self._entry.scheme

    @property
    def window(self) -> Window:
        """The window it wants."""
        if self._exported or self._detector is not None:
            return self._loaded().window
        return self._entry.window

    def prepare(self) -> None:
        """Begin to load a network that comes with the package, in a thread of its own.

        What fails there fails again, and is raised, when the first window is to be classified.
        """
        if packaged_onnx(self._entry).is_file():
            Thread(target=self._try_to_load, name="load").start()

    def _try_to_load(self) -> None:
        with suppress(Exception):
            self._loaded()

    def predict_windows(
        self, windows: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Load the detector on first use and return its class probabilities."""
        return self._loaded().predict_windows(windows, valid)

    def _loaded(self) -> Detector:
        with self._loading:  # several threads may ask at once
            if self._detector is None:
                self._detector = self._load()
            return self._detector
