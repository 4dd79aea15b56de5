"""References that are points: which pixels they are, and how masks are scored there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import NODATA, ClassScheme
from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.evaluation.cases import Pair, score_pair
from openeo_cloudmask.evaluation.evaluate import SceneResult, ScoreSettings
from openeo_cloudmask.evaluation.grids import GridMask


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Points:
    """Labelled points of one scene."""

    name: str
    labels: NDArray[np.uint8]
    """(n,) uint8, values of ``scheme``; 255 not labelled."""
    scheme: ClassScheme
    x: NDArray[np.float64]
    """(n,) in ``crs``, or columns of the mask counted from 0 where that is None."""
    y: NDArray[np.float64]
    crs: str | None = None
    pixel_m: float | None = None
    """Of columns and rows: the size of the pixels they count; None takes the mask's."""
    weights: NDArray[np.float64] | None = None
    """(n,) numbers of 0 or more: how much of the ground each point stands for; None: all alike."""

    def __post_init__(self) -> None:
        """Check that there is one of everything per point."""
        sizes = {len(self.labels), len(self.x), len(self.y)}
        if self.weights is not None:
            sizes.add(len(self.weights))
        if len(sizes) != 1 or not len(self.labels):
            raise ReferenceDataError(
                f"the points of {self.name} have {sorted(sizes)} labels, places and weights; "
                "expected one of each per point, and a point or more"
            )
        if self.weights is not None and not (
            np.isfinite(self.weights).all() and (self.weights >= 0).all()
        ):
            raise ReferenceDataError(
                f"the weights of the points of {self.name} go from {self.weights.min()} to "
                f"{self.weights.max()}; expected numbers of 0 or more"
            )


def sample_mask(mask: GridMask, points: Points) -> NDArray[np.uint8]:
    """Return the mask's values at the points, (n,) uint8; 255 where its grid does not reach.

    Raises:
        ReferenceDataError: no point lies on the mask, or the mask has no georeference.
    """
    rows, columns = _places(mask, points)
    height, width = mask.labels.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    if not inside.any():
        raise ReferenceDataError(
            f"none of the {len(points.labels)} points of {points.name} lies on {mask.name}; is it "
            "the mask of another scene?"
        )
    out = np.full(len(points.labels), NODATA, np.uint8)
    out[inside] = mask.labels[rows[inside], columns[inside]]
    return out


def _places(mask: GridMask, points: Points) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the mask's (rows, columns) under the points."""
    if points.crs is None:
        factor = 1.0
        if points.pixel_m is not None and mask.grid.transform is not None:
            factor = points.pixel_m / abs(mask.grid.transform.a)
        rows = np.floor((points.y + 0.5) * factor)
        columns = np.floor((points.x + 0.5) * factor)
        return rows.astype(np.intp), columns.astype(np.intp)
    if mask.grid.crs is None or mask.grid.transform is None:
        raise ReferenceDataError(
            f"{mask.name} has no georeference, and the points of {points.name} are given in "
            f"{points.crs}; expected a mask that says where it lies"
        )
    from rasterio.warp import transform

    xs, ys = transform(points.crs, mask.grid.crs, points.x.tolist(), points.y.tolist())
    inverse = ~mask.grid.transform
    x, y = np.asarray(xs), np.asarray(ys)
    columns = np.floor(inverse.a * x + inverse.b * y + inverse.c)
    rows = np.floor(inverse.d * x + inverse.e * y + inverse.f)
    known = np.isfinite(rows) & np.isfinite(columns)
    rows, columns = np.where(known, rows, -1), np.where(known, columns, -1)
    return rows.astype(np.intp), columns.astype(np.intp)


def score_points(mask: GridMask, points: Points, settings: ScoreSettings) -> SceneResult:
    """Return the results at the points: of the plain cases, and weighted where there are weights.

    A mask's pixel counts as it is: there are no neighbours to dilate or to leave out here, so the
    cases that do so are left out.

    Raises:
        ReferenceDataError: no point lies on the mask, or the points lack the weights asked for.
    """
    pair = Pair(
        reference=points.labels[np.newaxis],
        reference_scheme=points.scheme,
        mask=sample_mask(mask, points)[np.newaxis],
        mask_scheme=mask.scheme,
        weights=None if points.weights is None else points.weights[np.newaxis],
    )
    plain = tuple(case for case in settings.cases if not (case.dilate or case.ignore_rim))
    if points.weights is not None:
        plain = tuple(dict.fromkeys((*plain, *(replace(case, weighted=True) for case in plain))))
    return SceneResult(
        name=points.name,
        mask=mask.name,
        method=f"the mask's pixel under each of {len(points.labels)} points",
        results=score_pair(pair, plain),
    )
