"""The ways one mask is compared with one reference: classes, dilation, ignored rim, weights."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import (
    NODATA,
    SCHEMES,
    ClassScheme,
    OutputStyle,
    map_labels,
    mapping,
)
from openeo_cloudmask.errors import OptionError, ReferenceDataError
from openeo_cloudmask.evaluation.scores import Confusion, count_confusion, json_number

VIEWS = (OutputStyle.VALID_INVALID, OutputStyle.CLOUD_NONCLOUD, OutputStyle.FOUR_CLASS)
"""Classes that masks are compared in; valid/invalid first, as ALCD's authors rank processors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """A length on the reference's grid, in its pixels or in metres."""

    value: float = 0.0
    unit: str = "px"

    def __post_init__(self) -> None:
        """Check value and unit."""
        if self.unit not in ("px", "m"):
            raise OptionError(f"unit {self.unit!r} of a distance; expected 'px' or 'm'")
        if not (math.isfinite(self.value) and self.value >= 0):
            raise OptionError(f"distance {self.value!r}; expected 0 or more")

    def __bool__(self) -> bool:
        """Return whether the distance is more than 0."""
        return self.value > 0

    def __str__(self) -> str:
        """Return the distance as it is written on the command line."""
        return f"{self.value:g} {self.unit}"

    def pixels(self, resolution_m: float | None) -> float:
        """Return the distance in pixels of ``resolution_m`` metres.

        Raises:
            OptionError: the distance is in metres and the size of a pixel is not known.
        """
        if self.unit == "px" or not self.value:
            return self.value
        if resolution_m is None:
            raise OptionError(
                f"distance {self} needs the size of a pixel, and the reference has no "
                "georeference; give it in pixels, such as 2px"
            )
        return self.value / resolution_m


def parse_distance(text: str) -> Distance:
    """Return the distance written as ``2``, ``2px`` or ``120m``.

    Raises:
        OptionError: the text is something else.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(px|m|)\s*", text)
    if match is None:
        raise OptionError(f"distance {text!r}; expected pixels or metres, such as 2px or 120m")
    return Distance(value=float(match[1]), unit=match[2] or "px")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way of comparing a mask with a reference."""

    view: OutputStyle
    dilate: Distance = Distance()
    """The mask's cloud (and shadow, where the view has it) grows by this over clear pixels."""
    ignore_rim: Distance = Distance()
    """Pixels this near to another class of the reference are not compared."""
    weighted: bool = False
    """True: each pixel counts as much as the reference's confidence in it, 0-1."""

    @property
    def name(self) -> str:
        """Its name in tables and files, such as ``valid-invalid, dilated 2 px``."""
        parts = [self.view.value]
        if self.dilate:
            parts.append(f"dilated {self.dilate}")
        if self.ignore_rim:
            parts.append(f"without rim of {self.ignore_rim}")
        if self.weighted:
            parts.append("weighted by the reference")
        return ", ".join(parts)


def plan_cases(
    *,
    views: tuple[OutputStyle, ...] = VIEWS,
    dilate: Distance | None = None,
    ignore_rim: Distance | None = None,
    weighted: bool = False,
) -> tuple[Case, ...]:
    """Return every view as it is, and with what is asked for: dilation, rim, both, and weights."""
    none = Distance()
    grown = [none] + ([dilate] if dilate else [])
    rims = [none] + ([ignore_rim] if ignore_rim else [])
    cases: list[Case] = []
    for view in views:
        cases += [Case(view=view, dilate=size, ignore_rim=rim) for rim in rims for size in grown]
        if weighted:
            cases.append(Case(view=view, weighted=True))
    return tuple(cases)


@dataclass(frozen=True, slots=True, kw_only=True)
class Excluded:
    """Pixels of the reference's grid that were not compared, each counted once, and the rest."""

    reference_nodata: int
    mask_nodata: int
    """Seen in the reference and not in the mask."""
    rim: int
    compared: int

    def __add__(self, other: Excluded) -> Excluded:
        """Return the sums."""
        return Excluded(
            reference_nodata=self.reference_nodata + other.reference_nodata,
            mask_nodata=self.mask_nodata + other.mask_nodata,
            rim=self.rim + other.rim,
            compared=self.compared + other.compared,
        )

    def to_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return {
            "reference_nodata": self.reference_nodata,
            "mask_nodata": self.mask_nodata,
            "rim": self.rim,
            "compared": self.compared,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What one comparison gave."""

    case: Case
    confusion: Confusion
    excluded: Excluded

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "case": self.case.name,
            "view": self.case.view.value,
            "dilate": str(self.case.dilate),
            "ignore_rim": str(self.case.ignore_rim),
            "weighted": self.case.weighted,
            "pixels": self.excluded.to_dict(),
            "confusion": [[json_number(v) for v in row] for row in self.confusion.counts.tolist()],
            "scores": self.confusion.scores().to_dict(),
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pair:
    """A reference and a mask on one grid, ready to be compared."""

    reference: NDArray[np.uint8]
    """(y, x) uint8, values of ``reference_scheme``; 255 is no-data."""
    reference_scheme: ClassScheme
    mask: NDArray[np.uint8]
    """(y, x) uint8, values of ``mask_scheme``; 255 is no-data."""
    mask_scheme: ClassScheme
    confidence: NDArray[np.uint8] | None = None
    """(y, x) uint8, 0-255: the reference's confidence in itself."""
    weights: NDArray[np.float64] | None = None
    """(y, x), numbers of 0 or more, in place of the confidence: sampling weights of points."""
    resolution_m: float | None = None
    """Size of a pixel; None where the grid has no georeference."""
    views: dict[OutputStyle, NDArray[np.uint8]] | None = None
    """The mask in each view where that was decided from class fractions, else None."""

    def labels(self, view: OutputStyle) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return reference and mask in the classes of ``view``."""
        scheme = SCHEMES[view.value]
        reference = map_labels(self.reference, self.reference_scheme, scheme)
        if self.views is not None and view in self.views:
            return reference, self.views[view]
        return reference, map_labels(self.mask, self.mask_scheme, scheme)


def score_pair(pair: Pair, cases: tuple[Case, ...]) -> tuple[CaseResult, ...]:
    """Return the results of all cases that the classes of mask and reference allow.

    Raises:
        ReferenceDataError: no case is possible, the shapes differ, or weights are asked for and
            the reference has no confidence.
        OptionError: a distance in metres and a grid without georeference.
    """
    if pair.reference.shape != pair.mask.shape:
        raise ReferenceDataError(
            f"the mask has shape {pair.mask.shape}, the reference {pair.reference.shape}; "
            "expected one grid. Bring the mask to the reference's grid first"
        )
    schemes = (pair.reference_scheme, pair.mask_scheme)
    views = [view for view in VIEWS if all(has_view(scheme, view) for scheme in schemes)]
    results = tuple(_score(pair, case) for case in cases if case.view in views)
    if not results:
        raise ReferenceDataError(
            f"a mask of {pair.mask_scheme.name!r} and a reference of "
            f"{pair.reference_scheme.name!r} have none of the views asked for in common "
            f"({', '.join(sorted({case.view.value for case in cases}))})"
        )
    return results


def dilate_labels(labels: NDArray[np.uint8], radius_px: float) -> NDArray[np.uint8]:
    """Return ``labels`` with what is not class 0 grown over class 0.

    Args:
        labels: (y, x) uint8; 0 is clear, valid or non-cloud, 255 no-data.
        radius_px: radius of the disk, pixels.

    Returns:
        (y, x) uint8: pixels of class 0 within the radius take the class of the nearest other
        pixel; no-data neither grows nor shrinks.
    """
    from scipy import ndimage

    spreading = (labels != 0) & (labels != NODATA)
    if radius_px <= 0 or not spreading.any():
        return labels
    distance, nearest = ndimage.distance_transform_edt(~spreading, return_indices=True)
    grown: NDArray[np.uint8] = np.where(
        (labels == 0) & (distance <= radius_px), labels[tuple(nearest)], labels
    )
    return grown


def class_rim(labels: NDArray[np.uint8], radius_px: float) -> NDArray[np.bool_]:
    """Return where another class lies within ``radius_px``.

    Args:
        labels: (y, x) uint8; 255 is no-data and counts as no class.
        radius_px: distance between pixel centres; 1 takes the pixels that touch another class.

    Returns:
        (y, x) bool.
    """
    from scipy import ndimage

    rim = np.zeros(labels.shape, bool)
    if radius_px <= 0:
        return rim
    seen = labels != NODATA
    for value in np.unique(labels[seen]):
        here = labels == value
        if (other := seen & ~here).any():
            rim |= here & (ndimage.distance_transform_edt(~other) <= radius_px)
    return rim


def compared_labels(
    pair: Pair, case: Case
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
    """Return reference and mask in the case's classes, and which pixels its rim leaves out."""
    reference, mask = pair.labels(case.view)
    mask = dilate_labels(mask, case.dilate.pixels(pair.resolution_m))
    return reference, mask, class_rim(reference, case.ignore_rim.pixels(pair.resolution_m))


def _score(pair: Pair, case: Case) -> CaseResult:
    reference, mask, rim = compared_labels(pair, case)
    weights = None
    if case.weighted:
        weights = _weights(pair)
    unknown, nodata = reference == NODATA, mask == NODATA
    rim &= ~unknown & ~nodata
    compared = ~(unknown | nodata | rim)
    confusion = count_confusion(
        np.where(rim, np.uint8(NODATA), reference), mask, SCHEMES[case.view.value], weights=weights
    )
    excluded = Excluded(
        reference_nodata=int(unknown.sum()),
        mask_nodata=int((nodata & ~unknown).sum()),
        rim=int(rim.sum()),
        compared=int(compared.sum()),
    )
    return CaseResult(case=case, confusion=confusion, excluded=excluded)


def _weights(pair: Pair) -> NDArray[np.float64]:
    if pair.weights is not None:
        return pair.weights
    if pair.confidence is None:
        raise ReferenceDataError(
            "the reference has no confidence to weight by; leave the weights out"
        )
    return pair.confidence.astype(np.float64) / 255.0


def has_view(scheme: ClassScheme, view: OutputStyle) -> bool:
    """Return whether masks of ``scheme`` can be shown in ``view``."""
    try:
        mapping(scheme, SCHEMES[view.value])
    except OptionError:
        return False
    return True


def iterate_numbers(confusion: Confusion) -> Iterator[tuple[str, str, float]]:
    """Yield ``(class name or "", name of the number, number)``, a row of the CSV each."""
    scores = confusion.scores().to_dict()
    for name, value in scores.items():
        if name not in ("classes", "scheme"):
            yield "", name, math.nan if value is None else value
    for item in scores["classes"]:
        for name, value in item.items():
            if name not in ("name", "title"):
                yield item["name"], name, math.nan if value is None else value
