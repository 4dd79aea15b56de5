"""What was found out while masks are judged, so that a rerun of the page does not repeat it."""

from __future__ import annotations

import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import ClassScheme
from openeo_cloudmask.evaluation.evaluate import Evaluation
from openeo_cloudmask.evaluation.grids import GridMask
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.products import Scene
from openeo_cloudmask.viewer.class_spectra import ClassSpectrum, class_spectra
from openeo_cloudmask.viewer.comparison import Comparison
from openeo_cloudmask.viewer.layers import STORE, Layer, class_colors, open_layer
from openeo_cloudmask.viewer.places import Ring
from openeo_cloudmask.viewer.probabilities import PixelSourceFile, Probabilities, probabilities_at
from openeo_cloudmask.viewer.trial import (
    Percentages,
    Trial,
    read_percentages,
    try_mask,
    write_trial,
)

MOST_KEPT = 20
Labels = tuple[NDArray[np.uint8], Grid, ClassScheme]
Made = tuple[str, int]
"""Model and stride."""
Point = tuple[float, float]
"""Longitude and latitude, degrees."""
_WORKERS = ThreadPoolExecutor(max_workers=4, thread_name_prefix="viewer-pixel")
"""Several, so that one session does not wait for another's model to load."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tried:
    """A mask with other thresholds and a buffer."""

    percentages: Path
    """What it is made of."""
    trial: Trial
    mask: GridMask
    layer: Layer
    step: int
    """Pixels of the percentages per pixel of the trial, along a side."""


@dataclass(slots=True)
class Bench:
    """The last results of one session."""

    _restricted: OrderedDict[int, tuple[Evaluation, Ring, Comparison]] = field(
        default_factory=OrderedDict
    )
    _spectra: OrderedDict[tuple[object, ...], tuple[ClassSpectrum, ...]] = field(
        default_factory=OrderedDict
    )
    _asked: OrderedDict[tuple[Path, Made, Point], tuple[Future[Probabilities], threading.Event]] = (
        field(default_factory=OrderedDict)
    )
    _kept: tuple[Path, Percentages] | None = None
    _tried: Tried | None = None

    def restrict(self, comparison: Comparison, ring: Ring) -> Comparison:
        """Return a comparison with the numbers of an area alone.

        Raises:
            ReferenceDataError: nothing can be compared there.
        """
        key = id(comparison.evaluation)
        kept = self._restricted.get(key)
        if kept is None or kept[0] is not comparison.evaluation or kept[1] != ring:
            kept = (comparison.evaluation, ring, comparison.within(ring))
            self._restricted[key] = kept
            while len(self._restricted) > MOST_KEPT:
                self._restricted.popitem(last=False)
        return kept[2]

    def spectra(
        self, key: tuple[object, ...], scene: Callable[[], Scene], labels: Callable[[], Labels]
    ) -> tuple[ClassSpectrum, ...]:
        """Return the spectra of the classes of ``labels``.

        Args:
            key: names scene and labels.
            scene: opens the scene.
            labels: reads labels, their grid and classes.

        Raises:
            CloudMaskError: the scene or the labels cannot be read.
        """
        if key not in self._spectra:
            with scene() as opened:
                self._spectra[key] = class_spectra(opened, *labels())
            while len(self._spectra) > MOST_KEPT:
                self._spectra.popitem(last=False)
        return self._spectra[key]

    def ask_probabilities(
        self, source: PixelSourceFile, made: Made, point: Point
    ) -> Future[Probabilities]:
        """Return what will hold the probabilities of a pixel of a scene.

        What was asked of other pixels is stopped, as it is no longer shown.
        """
        key = (source.path, made, point)
        for other, (waiting, stop) in list(self._asked.items()):
            if other[2] != point and not waiting.done():
                stop.set()
                waiting.cancel()
                del self._asked[other]
        if key not in self._asked:
            stop = threading.Event()
            future = _WORKERS.submit(probabilities_at, source, *made, *point, stop=stop)
            self._asked[key] = (future, stop)
            while len(self._asked) > MOST_KEPT:
                self._asked.popitem(last=False)
        return self._asked[key][0]

    def try_mask(self, percentages: Path, trial: Trial, folder: Callable[[], Path]) -> Tried:
        """Return a mask with other thresholds and a buffer, and its layer; the last one is kept.

        Args:
            percentages: what was kept beside the mask.
            trial: what is tried.
            folder: makes a folder for its file, which is removed with the next trial.

        Raises:
            CloudMaskError: the percentages cannot be read, or the mask cannot be tried so.
        """
        last = self._tried
        if last is not None and (last.percentages, last.trial) == (percentages, trial):
            return last
        if self._kept is None or self._kept[0] != percentages:
            self._kept = (percentages, read_percentages(percentages))
        kept = self._kept[1]
        mask = try_mask(kept, trial)
        path = write_trial(mask, folder() / "trial.tif")
        layer = open_layer(path, title="Trial", colors=class_colors(mask.scheme))
        if last is not None:
            STORE.close(last.layer.token)
            shutil.rmtree(last.layer.path.parent, ignore_errors=True)
        self._tried = Tried(
            percentages=percentages, trial=trial, mask=mask, layer=layer, step=kept.step
        )
        return self._tried
