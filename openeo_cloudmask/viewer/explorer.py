"""Where a mask is wrong: its largest errors as places to go to, and cells of a confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from openeo_cloudmask.classes import NODATA, ClassScheme, MaskClass
from openeo_cloudmask.evaluation.cases import CaseResult, compared_labels
from openeo_cloudmask.evaluation.error_map import ERROR_CLASSES
from openeo_cloudmask.evaluation.evaluate import Evaluation
from openeo_cloudmask.grid import WGS84, Bounds, Grid
from openeo_cloudmask.products.cog import write_cog

SPOTS = 50
"""Errors in a list."""
MARGIN = 1.5
"""A place is shown with so many times its own size around it."""
MIN_SIDE_PX = 20
LIT_COLOR = "F0E442"
_KINDS = {"false-negative": "omission", "false-positive": "commission"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSpot:
    """Wrong pixels that touch each other."""

    kind: str
    """``omission`` or ``commission``."""
    pixels: int
    """Of the reference's grid."""
    area_km2: float | None
    """None without georeference."""
    point: tuple[float, float]
    """Latitude and longitude of a pixel of it, near its middle."""
    bounds: Bounds
    """What to look at: the spot and a margin, degrees."""


def largest_errors(evaluation: Evaluation, count: int = SPOTS) -> tuple[ErrorSpot, ...]:
    """Return the largest omissions and commissions of a mask, the largest first.

    Wrong pixels belong together where they touch, also by a corner.

    Args:
        evaluation: its error map says what is wrong.
        count: how many at most, of both kinds together.
    """
    grid = evaluation.reference.grid
    found: list[tuple[int, str, tuple[slice, slice], np.ndarray]] = []
    for item in ERROR_CLASSES.classes:
        if item.name not in _KINDS:
            continue
        labels, number = ndimage.label(evaluation.errors == item.value, np.ones((3, 3)))
        sizes = np.bincount(labels.ravel(), minlength=number + 1)
        sizes[0] = 0
        boxes = ndimage.find_objects(labels)
        for index in np.argsort(sizes, kind="stable")[::-1][: min(count, number)]:
            box = boxes[index - 1]
            found.append((int(sizes[index]), _KINDS[item.name], box, labels[box] == index))
    found.sort(key=lambda spot: -spot[0])
    return tuple(_describe(grid, *spot) for spot in found[:count])


def _describe(
    grid: Grid, pixels: int, kind: str, box: tuple[slice, slice], inside: np.ndarray
) -> ErrorSpot:
    rows, columns = np.nonzero(inside)
    middle = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()
    at = grid.crop(
        *(slice(part.start + off[middle], part.start + off[middle] + 1)
          for part, off in zip(box, (rows, columns), strict=True))
    )  # fmt: skip
    wide = []
    for part in box:
        side = max(MARGIN * (part.stop - part.start), MIN_SIDE_PX)
        centre = (part.start + part.stop) / 2
        wide.append(slice(round(centre - side), round(centre + side)))
    west, south, east, north = at.bounds_in(WGS84)
    size = grid.pixel_m
    return ErrorSpot(
        kind=kind,
        pixels=pixels,
        area_km2=None if size is None else pixels * size[0] * size[1] / 1e6,
        point=((south + north) / 2, (west + east) / 2),
        bounds=grid.crop(*wide).bounds_in(WGS84),
    )


def write_cells(evaluation: Evaluation, result: CaseResult, folder: Path) -> Path:
    """Return a COG that says of each pixel in which cell of a confusion matrix it counts.

    Its value is that of ``cell_class``; 255 where the pixel is not compared.
    """
    reference, mask, rim = compared_labels(evaluation.pair, result.case)
    side = len(result.confusion.scheme.classes)
    seen = (reference != NODATA) & (mask != NODATA) & ~rim
    cells = np.full(reference.shape, NODATA, np.uint8)
    cells[seen] = reference[seen] * np.uint8(side) + mask[seen]
    name = f"cells-{result.case.view.value}-{'dilated' if result.case.dilate else 'plain'}.tif"
    scheme = ClassScheme(name="cells", title="Cells of a confusion matrix", classes=())
    return write_cog(
        folder / name, [(0, cells[np.newaxis])], grid=evaluation.reference.grid, scheme=scheme
    )


def cell_class(scheme: ClassScheme, row: int, column: int) -> MaskClass:
    """Return the class that stands for one cell: row of the reference, column of the mask."""
    reference, mask = scheme.classes[row].title, scheme.classes[column].title
    return MaskClass(
        value=row * len(scheme.classes) + column,
        name="cell",
        title=f"Reference {reference.lower()}, mask {mask.lower()}",
        color=LIT_COLOR,
    )


def list_cells(result: CaseResult) -> list[tuple[int, int, int]]:
    """Return row, column and pixels of the cells that hold any, the largest errors first."""
    counts = result.confusion.counts
    cells = [(int(at[0]), int(at[1]), int(counts[tuple(at)])) for at in np.argwhere(counts)]
    return sorted(cells, key=lambda cell: (cell[0] == cell[1], -cell[2]))
