"""A mask beside a reference: scores, the error map, and what one pixel is called in each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.alcd.archive import AlcdArchive
from openeo_cloudmask.classes import ALCD, NODATA, ClassScheme, OutputStyle
from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.evaluation.cases import CaseResult, parse_distance, plan_cases
from openeo_cloudmask.evaluation.error_map import write_error_map
from openeo_cloudmask.evaluation.evaluate import (
    Evaluation,
    Reference,
    ScoreSettings,
    evaluate_mask,
    read_reference_raster,
    reference_of_scene,
)
from openeo_cloudmask.evaluation.grids import GridMask, read_mask
from openeo_cloudmask.models.registry import MODELS
from openeo_cloudmask.products import Grid
from openeo_cloudmask.products.cog import write_cog
from openeo_cloudmask.viewer.places import Ring, restrict
from openeo_cloudmask.viewer.probabilities import how_made, values_at
from openeo_cloudmask.viewer.scenes import pixel_at

_ALCD_COLORS = {
    "low-cloud": "E69F00",
    "high-cloud": "56B4E9",
    "cloud-shadow": "332288",
    "land": "009E73",
    "water": "0072B2",
    "snow": "CC79A7",
}


def shown_scheme(scheme: ClassScheme) -> ClassScheme:
    """Return the classes of a reference in the colours that masks have, so that they compare."""
    if scheme.name != ALCD.name:
        return scheme
    classes = tuple(
        replace(item, color=_ALCD_COLORS.get(item.name, item.color)) for item in scheme.classes
    )
    return replace(scheme, classes=classes)


DILATION = "120m"
"""The stated dilation of the second row of scores; an amount of our own, not of a paper."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """One mask against one reference."""

    mask: GridMask
    evaluation: Evaluation
    error_path: Path
    """The error map, a COG on the reference's grid."""
    untold: frozenset[str] = frozenset()
    """Names of classes that the mask's model never gives."""
    inside: bool = False
    """Whether its numbers are those of an area alone."""

    def case(self, view: OutputStyle, *, dilated: bool) -> CaseResult | None:
        """Return the result in ``view``, with or without dilation; None where not computed."""
        for result in self.evaluation.result.results:
            if result.case.view is view and bool(result.case.dilate) == dilated:
                return result
        return None

    def within(self, ring: Ring) -> Comparison:
        """Return the comparison with the numbers of an area alone; the files stay the same.

        Raises:
            ReferenceDataError: nothing can be compared there.
        """
        cases = [result.case for result in self.evaluation.result.results]
        return replace(self, evaluation=restrict(self.evaluation, ring, cases), inside=True)

    def of_trial(self, mask: GridMask, evaluation: Evaluation) -> Comparison:
        """Return the comparison of what is tried with this mask, which has no files."""
        return replace(self, mask=mask, evaluation=evaluation)


def class_at(
    labels: NDArray[np.uint8], scheme: ClassScheme, grid: Grid, longitude: float, latitude: float
) -> str:
    """Return the title of the class at a place, ``no data`` or ``outside``."""
    place = pixel_at(grid, longitude, latitude)
    if place is None:
        return "outside"
    value = int(labels[place])
    titles = {item.value: item.title for item in scheme.classes}
    return titles.get(value, "no data") if value != NODATA else "no data"


def title_at(path: Path, scheme: ClassScheme, longitude: float, latitude: float) -> str:
    """Return what ``class_at`` does of a file, of which one block is read."""
    found = values_at(path, longitude, latitude)
    if found is None:
        return "outside"
    titles = {item.value: item.title for item in scheme.classes}
    return titles.get(found[0], "no data")


def read_reference(path: Path) -> Reference:
    """Return the reference at ``path``: an ALCD scene folder, or a raster of class values.

    Raises:
        ReferenceDataError: it is neither, or incomplete.
    """
    if path.is_dir():
        with AlcdArchive(path) as archive:
            entries = archive.distinct()
            if len(entries) != 1:
                raise ReferenceDataError(
                    f"{path.name} holds {len(entries)} scenes; choose the folder of one"
                )
            return reference_of_scene(archive.read(entries[0]))
    return read_reference_raster(path)


def compare_with_reference(
    mask_path: Path, reference: Reference, folder: Path, *, name: str | None = None
) -> Comparison:
    """Return the comparison of the mask in ``mask_path``, called ``name``, with ``reference``.

    Scores come without and with ``DILATION``, as ``cloudmask score`` gives them. The error map is
    written to ``folder``.

    Raises:
        ReferenceDataError: the two do not overlap or their classes have nothing in common.
        OutputError: the error map cannot be written.
    """
    mask = read_mask(mask_path)
    if name is not None:
        mask = replace(mask, name=name)
    settings = ScoreSettings(cases=plan_cases(dilate=parse_distance(DILATION)))
    evaluation = evaluate_mask(mask, reference, settings)
    path = folder / "errors.tif"  # names of files and references may be as long as they like
    write_error_map(path, evaluation.errors, reference.grid)
    made = how_made(mask_path)
    untold = frozenset(MODELS[made[0]].untold if made else ())
    return Comparison(mask=mask, evaluation=evaluation, error_path=path, untold=untold)


def compare_masks(
    first: Path, second: Path, folder: Path, *, name: str | None = None
) -> Comparison:
    """Return the comparison of two masks of a scene: the second takes the reference's place.

    Raises:
        ReferenceDataError: the two do not overlap or their classes have nothing in common.
    """
    return compare_with_reference(first, read_reference_raster(second), folder, name=name)


def write_reference_map(reference: Reference, folder: Path) -> Path:
    """Return a COG with the reference's classes, for the map."""
    strips = [(0, reference.labels[np.newaxis])]
    return write_cog(folder / "reference.tif", strips, grid=reference.grid, scheme=reference.scheme)


def differing_days(one: str | None, other: str | None) -> bool:
    """Return whether two masks are known to be of different days, so that scores mean nothing."""
    return one is not None and other is not None and one != other
