"""Write references in the layout of the ALCD archive, so that every reader of ALCD reads them."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.alcd.types import (
    CONFIDENCE_FILE,
    CONTOURS_FILE,
    MAP_FILE,
    PARAMETERS_FILE,
    SAMPLE_LAYERS,
    STATISTICS_FILE,
    AlcdParameters,
    AlcdScene,
    KFold,
    Samples,
)
from openeo_cloudmask.classes import ALCD
from openeo_cloudmask.errors import OutputError, ReferenceDataError
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.publish import publish_folder

FOLDS = 10
"""Folds of the statistics, as ALCD's own runs have them."""
POSITIVE_CODES = (2, 3, 4)
"""ALCD's binary statistic: low cloud, high cloud and shadow are invalid; 1, 5, 6 and 7 valid."""
_INVALID_CODES = np.isin(np.arange(8), POSITIVE_CODES)


def write_alcd_scene(root: Path, scene: AlcdScene, *, overwrite: bool = False) -> Path:
    """Return the folder ``root/<group>/<name>`` with the scene in it.

    The folder appears when it is complete.

    Raises:
        OutputError: it is there already and may not be overwritten, or cannot be written.
        ReferenceDataError: the scene's grid has no georeference.
    """
    if scene.grid.crs is None or scene.grid.transform is None:
        raise ReferenceDataError(
            f"scene {scene.name}: the grid has no georeference; ALCD's layout needs one"
        )
    return publish_folder(
        root / scene.group / scene.name,
        lambda folder: _write_files(folder, scene),
        overwrite=overwrite,
    )


def make_alcd_scene(
    *,
    name: str,
    labels: NDArray[np.uint8],
    grid: Grid,
    parameters: AlcdParameters,
    group: str = "Reference_dataset",
    confidence: NDArray[np.uint8] | None = None,
    samples: tuple[Samples, ...] | None = None,
    seed: int = 0,
) -> AlcdScene:
    """Return a scene with the parts that follow from its labels filled in.

    Args:
        name: name of the product, without .SAFE.
        labels: (y, x) uint8, codes of ``classes.ALCD``; 0 is no-data.
        grid: where the labels lie.
        parameters: what the reference was made from.
        group: folder of the archive.
        confidence: (y, x) uint8, 0-255; None is certain (255) wherever there is a class.
        samples: hand-picked samples; None draws up to 50 points of each class from the labels.
        seed: of the points drawn and the folds.

    Raises:
        ReferenceDataError: the labels hold a code ALCD does not have, or no class at all.
    """
    if confidence is None:
        confidence = np.where(labels == 0, 0, 255).astype(np.uint8)
    rng = np.random.default_rng(seed)
    empty = AlcdScene(
        name=name,
        group=group,
        labels=labels,
        confidence=confidence,
        grid=grid,
        parameters=parameters,
        statistics=KFold(folds=np.empty((0, 5))),
        samples=(),
    )
    if samples is None:
        samples = draw_samples(labels, grid, rng)
    folds = fold_statistics(labels, grid, samples, rng)
    return replace(empty, samples=samples, statistics=folds, contours=draw_contours(labels))


def draw_samples(
    labels: NDArray[np.uint8], grid: Grid, rng: np.random.Generator, *, per_class: int = 50
) -> tuple[Samples, ...]:
    """Return up to ``per_class`` points of each class, at the centres of random pixels."""
    wkt = "" if grid.crs is None else grid.crs.to_wkt()
    layers = []
    for layer, code in SAMPLE_LAYERS.items():
        rows, columns = np.nonzero(labels == code)
        take = rng.permutation(rows.size)[:per_class]
        points = [
            {
                "type": "Point",
                "coordinates": grid.to_xy(row + 0.5, column + 0.5),
            }
            for row, column in zip(rows[take].tolist(), columns[take].tolist(), strict=True)
            if grid.transform is not None
        ]
        layers.append(Samples(layer=layer, code=code, crs_wkt=wkt, geometries=tuple(points)))
    return tuple(layers)


def fold_statistics(
    labels: NDArray[np.uint8], grid: Grid, samples: tuple[Samples, ...], rng: np.random.Generator
) -> KFold:
    """Return how well ``labels`` agree with the samples, fold by fold.

    ALCD trains a classifier without each fold in turn. No classifier is trained here: each fold of
    samples is compared with the map as it is. Samples off the grid or on no-data are left out.

    Raises:
        ReferenceDataError: no sample lies on a pixel with a class.
    """
    truth, found = [], []
    for item in samples:
        for x, y in item.points.tolist():
            row, column = (math.floor(value) for value in grid.to_pixel(x, y))
            inside = 0 <= row < labels.shape[0] and 0 <= column < labels.shape[1]
            if item.code and inside and labels[row, column]:
                truth.append(item.code)
                found.append(int(labels[row, column]))
    if not truth:
        raise ReferenceDataError("no sample lies on a pixel with a class; the labels are empty")
    order = rng.permutation(len(truth))
    real, got = np.asarray(truth, np.uint8)[order], np.asarray(found, np.uint8)[order]
    count = min(FOLDS, len(truth))
    folds = [binary_metrics(real[k::count], got[k::count]) for k in range(count)]
    return KFold(folds=np.asarray(folds, np.float64))


def draw_contours(labels: NDArray[np.uint8]) -> bytes:
    """Return a PNG of the outlines of invalid areas, each in its class's colour, on white."""
    from PIL import Image
    from scipy import ndimage

    colours = np.full((8, 3), 255, np.uint8)
    for item in ALCD.classes:
        colours[item.value] = item.rgba[:3]
    picture = np.full((*labels.shape, 3), 255, np.uint8)
    for code in POSITIVE_CODES:
        inside = labels == code
        picture[inside & ~ndimage.binary_erosion(inside)] = colours[code]
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def binary_metrics(
    truth: NDArray[np.uint8], found: NDArray[np.uint8]
) -> tuple[float, float, float, float, float]:
    """Return the five metrics of valid against invalid in ALCD's order; a share of nothing is 1.

    Args:
        truth: codes of ``ALCD`` as they are.
        found: codes as they were found, one for each of ``truth``.
    """
    real, got = _INVALID_CODES[truth], _INVALID_CODES[found]
    hit, false = int((real & got).sum()), int((~real & got).sum())
    miss, right = int((real & ~got).sum()), int((~real & ~got).sum())
    precision = hit / (hit + false) if hit + false else 1.0
    recall = hit / (hit + miss) if hit + miss else 1.0
    specificity = right / (right + false) if right + false else 1.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return (hit + right) / real.size, f1, precision, recall, specificity


def _write_files(folder: Path, scene: AlcdScene) -> None:
    for name in (MAP_FILE, PARAMETERS_FILE, STATISTICS_FILE):
        (folder / name).parent.mkdir(exist_ok=True)
    _write_raster(folder / MAP_FILE, scene.labels, scene.grid, is_classes=True)
    _write_raster(folder / CONFIDENCE_FILE, scene.confidence, scene.grid, is_classes=False)
    (folder / PARAMETERS_FILE).write_text(scene.parameters.to_json(), encoding="utf-8")
    (folder / STATISTICS_FILE).write_text(scene.statistics.to_json(), encoding="utf-8")
    if scene.contours is not None:
        (folder / CONTOURS_FILE).write_bytes(scene.contours)
    by_layer = {item.layer: item for item in scene.samples}
    (folder / "Samples").mkdir()
    for layer, code in SAMPLE_LAYERS.items():
        _write_samples(folder / "Samples" / layer, by_layer.get(layer), code, scene.grid)


def _write_raster(path: Path, values: NDArray[np.uint8], grid: Grid, *, is_classes: bool) -> None:
    from rasterio.errors import RasterioError

    from openeo_cloudmask.products.drivers import create_raster

    height, width = values.shape
    profile = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": 1,
        "dtype": "uint8",
        "crs": grid.crs,
        "transform": grid.transform,
        "compress": "deflate",
    }
    try:
        with create_raster(path, **profile) as data:
            data.write(values, 1)
            if is_classes:
                data.write_colormap(1, {item.value: item.rgba for item in ALCD.classes})
    except RasterioError as err:
        raise OutputError(f"cannot write {path}: {err}") from err


def _write_samples(base: Path, samples: Samples | None, code: int, grid: Grid) -> None:
    import shapefile

    with shapefile.Writer(str(base), shapeType=shapefile.POINT) as writer:
        writer.field("id", "N", size=10)
        writer.field("class", "N", size=4)
        for number, (x, y) in enumerate([] if samples is None else samples.points.tolist()):
            writer.point(x, y)
            writer.record(number, code)
    wkt = samples.crs_wkt if samples is not None and samples.crs_wkt else grid.crs.to_wkt()  # type: ignore[union-attr]
    base.with_suffix(".prj").write_text(_esri_wkt(wkt), encoding="utf-8")


def _esri_wkt(wkt: str) -> str:
    """Return the dialect that a .prj holds."""
    from rasterio.crs import CRS
    from rasterio.enums import WktVersion

    text: str = CRS.from_wkt(wkt).to_wkt(version=WktVersion.WKT1_ESRI)
    return text
