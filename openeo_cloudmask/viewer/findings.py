"""What is computed of the scenes, masks and references that are open: each once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.evaluation.cases import Case, CaseResult
from openeo_cloudmask.evaluation.error_map import ERROR_CLASSES
from openeo_cloudmask.evaluation.grids import read_mask
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.products.stack import raster_grid
from openeo_cloudmask.viewer.bench import Bench, Labels, Tried
from openeo_cloudmask.viewer.comparison import (
    Comparison,
    compare_masks,
    compare_with_reference,
    shown_scheme,
)
from openeo_cloudmask.viewer.entries import MaskEntry, ReferenceEntry, SceneEntry
from openeo_cloudmask.viewer.explorer import write_cells
from openeo_cloudmask.viewer.layers import Layer, class_colors, open_layer
from openeo_cloudmask.viewer.live import LiveMask, fast_live
from openeo_cloudmask.viewer.probabilities import PixelSourceFile, Probabilities
from openeo_cloudmask.viewer.scenes import open_scene

if TYPE_CHECKING:
    from openeo_cloudmask.viewer.class_spectra import ClassSpectrum
    from openeo_cloudmask.viewer.trial import Trial


@dataclass(slots=True, kw_only=True)
class Findings:
    """Comparisons, trials, spectra, probabilities and live masks of one session."""

    masks: Mapping[str, MaskEntry]
    """Title -> mask, those that are open: the session's own."""
    references: Mapping[str, ReferenceEntry]
    subfolder: Callable[[str], Path]
    """Makes a folder for a purpose."""
    comparisons: dict[tuple[str, str], Comparison] = field(default_factory=dict)
    """(Title of the mask, title of what it was compared with) -> result."""
    bench: Bench = field(default_factory=Bench)
    """What is tried and looked up while masks are judged."""
    _cell_layers: dict[tuple[str, str, Case], Layer] = field(default_factory=dict)
    _error_layers: dict[tuple[str, str], Layer] = field(default_factory=dict)
    _live: dict[str, dict[str, LiveMask]] = field(default_factory=dict)

    def compare(self, mask: str, reference: str) -> Comparison:
        """Return the comparison of a mask with a reference, or with another mask; made once.

        Raises:
            ReferenceDataError: the two do not overlap, or their classes have nothing in common.
        """
        key = (mask, reference)
        if key not in self.comparisons:
            folder = self.subfolder("errors")
            path = self.masks[mask].path
            if reference in self.references:
                known = self.references[reference].reference
                self.comparisons[key] = compare_with_reference(path, known, folder, name=mask)
            else:
                other = self.masks[reference].path
                self.comparisons[key] = compare_masks(path, other, folder, name=mask)
        return self.comparisons[key]

    def try_mask(self, title: str, trial: Trial) -> Tried:
        """Return a mask with other thresholds and a buffer, from the percentages beside it.

        Raises:
            CloudMaskError: it has none, or cannot be tried so.
        """
        path = self.masks[title].percentages
        if path is None:
            raise OptionError(f"{title} has no percentages beside it, so nothing can be tried")
        return self.bench.try_mask(path, trial, lambda: self.subfolder("trial"))

    def spectra(
        self, scene: SceneEntry, kind: str, title: str, comparison: Comparison | None
    ) -> tuple[ClassSpectrum, ...]:
        """Return spectra of the classes of a mask, a reference or the errors of a mask; read once.

        Args:
            scene: whose pixels.
            kind: ``mask``, ``reference`` or ``errors``.
            title: of the mask or reference.
            comparison: of the mask, for ``errors``.

        Raises:
            CloudMaskError: the scene or the mask cannot be read.
        """

        def labels() -> Labels:
            if kind == "errors" and comparison is not None:
                evaluation = comparison.evaluation
                return evaluation.errors, evaluation.reference.grid, ERROR_CLASSES
            if kind == "reference":
                known = self.references[title].reference
                return known.labels, known.grid, shown_scheme(known.scheme)
            mask = read_mask(self.masks[title].path)
            return mask.labels, mask.grid, mask.scheme

        key = (scene.title, kind, title, comparison)
        sensor = scene.sensor_id
        return self.bench.spectra(
            key, lambda: open_scene(scene.path, sensor=sensor, read=scene.read), labels
        )

    def mask_grid(self, title: str) -> Grid:
        """Return the grid of a mask."""
        with open_raster(self.masks[title].path) as source:
            return raster_grid(source)

    def error_layer(self, mask: str, reference: str) -> Layer:
        """Return the error map of a comparison, in colours that all eyes tell apart."""
        key = (mask, reference)
        if key not in self._error_layers:
            path = self.compare(mask, reference).error_path
            self._error_layers[key] = open_layer(
                path, title=f"Errors of {mask}", colors=class_colors(ERROR_CLASSES)
            )
        return self._error_layers[key]

    def cells_layer(self, mask: str, reference: str, result: CaseResult) -> Layer:
        """Return the layer that says of each pixel in which cell of a confusion matrix it is."""
        key = (mask, reference, result.case)
        if key not in self._cell_layers:
            evaluation = self.compare(mask, reference).evaluation
            path = write_cells(evaluation, result, self.subfolder("cells"))
            self._cell_layers[key] = open_layer(path, title="Cell", colors={})
        return self._cell_layers[key]

    def ask_probabilities(
        self, scene: SceneEntry, made: tuple[str, int], longitude: float, latitude: float
    ) -> Future[Probabilities]:
        """Return what will hold the probabilities of a pixel by a model with a stride."""
        source = PixelSourceFile(path=scene.path, sensor=scene.sensor_id, read=scene.read)
        return self.bench.ask_probabilities(source, made, (longitude, latitude))

    def live_masks(self, scene: SceneEntry) -> dict[str, LiveMask]:
        """Return model -> live mask of a scene, of the fast models that can mask it.

        Raises:
            CloudMaskError: the scene cannot be read any longer.
        """
        if scene.is_colors:
            return {}
        if scene.title not in self._live:
            self._live[scene.title] = fast_live(scene.path, sensor=scene.sensor_id, read=scene.read)
        return self._live[scene.title]
