"""One ALCD scene: its masks, samples, parameters and statistics; shared by reader and writer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import ALCD
from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.grid import Grid

MAP_FILE = "Classification/classification_map.tif"
CONFIDENCE_FILE = "Classification/confidence_enhanced.tif"
CONTOURS_FILE = "Classification/contours.png"
PARAMETERS_FILE = "Classification/used_parameters.json"
STATISTICS_FILE = "Statistics/k_fold_summary.json"
SAMPLE_LAYERS = {
    "no_data": 0,
    "background": 1,
    "low_clouds": 2,
    "high_clouds": 3,
    "clouds_shadows": 4,
    "land": 5,
    "water": 6,
    "snow": 7,
}
"""Shapefiles in ``Samples/`` and the class code of the points in each."""
SHAPEFILE_PARTS = ("shp", "shx", "dbf", "prj")
METRICS = ("accuracy", "f1_score", "precision", "recall", "specificity")
"""Order of the metrics in ``k_fold_summary.json``, as its field ``metrics_names`` states it. (The
plot beside the file names the third recall and the fourth precision, the wrong way round.)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlcdParameters:
    """``used_parameters.json``: which images a reference was made from."""

    tile: str
    location: str
    cloudy_date: str
    cloudy_product_name: str
    clear_date: str
    clear_product_name: str

    def to_json(self) -> str:
        """Return the file's text."""
        return json.dumps(asdict(self), indent=3, sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KFold:
    """``k_fold_summary.json``: how well the classifier found held-out samples."""

    folds: NDArray[np.float64]
    """(fold, metric) float64, 0-1, metrics in the order of ``METRICS``."""

    @property
    def means(self) -> dict[str, float]:
        """Mean over the folds of each metric."""
        return dict(zip(METRICS, self.folds.mean(axis=0).tolist(), strict=True))

    @property
    def stds(self) -> dict[str, float]:
        """Population standard deviation over the folds of each metric."""
        return dict(zip(METRICS, self.folds.std(axis=0).tolist(), strict=True))

    def to_json(self) -> str:
        """Return the file's text."""
        content = {
            "K": int(self.folds.shape[0]),
            "all_metrics": self.folds.tolist(),
            "means": list(self.means.values()),
            "metrics_names": list(METRICS),
            "stds": list(self.stds.values()),
        }
        return json.dumps(content, indent=3, sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """One shapefile of hand-picked samples."""

    layer: str
    code: int
    """Class code of ``ALCD``."""
    crs_wkt: str
    geometries: tuple[Mapping[str, Any], ...]
    """GeoJSON geometries, points as a rule."""

    @property
    def points(self) -> NDArray[np.float64]:
        """(n, 2) float64, x and y of the samples that are points, in the shapefile's CRS."""
        found = [item["coordinates"][:2] for item in self.geometries if item["type"] == "Point"]
        for item in self.geometries:
            if item["type"] == "MultiPoint":
                found += [point[:2] for point in item["coordinates"]]
        return np.asarray(found, np.float64).reshape(-1, 2)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AlcdScene:
    """One reference scene.

    Raises:
        ReferenceDataError: a class code that ALCD does not have, or arrays that do not fit.
    """

    name: str
    """Name of its folder, the product's name."""
    group: str
    """``Reference_dataset`` or ``Hollstein``; empty for a scene outside an archive."""
    labels: NDArray[np.uint8]
    """(y, x) uint8, codes of ``classes.ALCD``: 0 is no-data."""
    confidence: NDArray[np.uint8]
    """(y, x) uint8, 0-255: share of the classifier's votes, smoothed. It is the classifier's
    confidence in itself, and high where it is surely wrong too."""
    grid: Grid
    parameters: AlcdParameters
    statistics: KFold
    samples: tuple[Samples, ...]
    contours: bytes | None = None
    """``contours.png``, or None where the archive has none."""

    def __post_init__(self) -> None:
        """Check codes and shapes."""
        if self.labels.ndim != 2 or self.labels.dtype != np.uint8:
            raise ReferenceDataError(
                f"scene {self.name}: labels are {self.labels.dtype} of shape {self.labels.shape}; "
                "expected (y, x) uint8"
            )
        if strange := sorted(set(np.unique(self.labels).tolist()) - set(ALCD.values)):
            raise ReferenceDataError(
                f"scene {self.name}: {MAP_FILE} holds class {strange[0]}; expected codes 0 to 7"
            )
        shapes = {self.labels.shape, self.confidence.shape, self.grid.shape_yx}
        if len(shapes) != 1:
            raise ReferenceDataError(
                f"scene {self.name}: classification, confidence and grid have shapes "
                f"{self.labels.shape}, {self.confidence.shape} and {self.grid.shape_yx}; "
                "expected one grid"
            )
