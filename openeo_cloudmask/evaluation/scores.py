"""Confusion matrices and the numbers drawn from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import NODATA, ClassScheme
from openeo_cloudmask.errors import OptionError, ReferenceDataError

POSITIVE = {
    "4-class": ("thick-cloud", "thin-cloud"),
    "cloud-noncloud": ("cloud",),
    "valid-invalid": ("invalid",),
}
"""For each scheme that masks are compared in, the classes whose share of the scene is its cover."""

SUMMARY = (
    "balanced_accuracy",
    "overall_accuracy",
    "kappa",
    "mean_f1",
    "mean_iou",
    "cover_reference",
    "cover_mask",
    "cover_error",
)
"""Numbers of a whole comparison."""
PER_CLASS = ("precision", "recall", "f1", "f2", "iou", "specificity", "balanced_accuracy")
"""Numbers of one class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """How well one class is found; NaN where a number is not defined."""

    name: str
    title: str
    support: float
    """Pixels (or summed weights) of the class in the reference."""
    precision: float
    """Share of the mask's pixels of this class that are right; the user's accuracy."""
    recall: float
    """Share of the reference's pixels of this class that are found; the producer's accuracy."""
    f1: float
    f2: float
    """As F1, with recall weighted twice as much as precision."""
    iou: float
    """Intersection over union."""
    specificity: float
    """Share of the other pixels of the reference that the mask does not put in this class."""
    balanced_accuracy: float
    """Mean of recall and specificity: this class against all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The numbers of one confusion matrix; NaN where a number is not defined."""

    scheme: str
    compared: float
    """Pixels (or summed weights) in the matrix."""
    balanced_accuracy: float
    """Mean recall of the classes that occur in the reference."""
    overall_accuracy: float
    kappa: float
    """Cohen's kappa."""
    mean_f1: float
    """Mean over the classes that occur in the reference or the mask."""
    mean_iou: float
    cover_reference: float
    """Share of cloud (of invalid pixels, in valid/invalid) in the reference, 0-1."""
    cover_mask: float
    cover_error: float
    """Cover in the mask minus cover in the reference."""
    classes: tuple[ClassScore, ...]

    def of(self, name: str) -> ClassScore:
        """Return the numbers of the class called ``name``.

        Raises:
            OptionError: no class has that name.
        """
        for item in self.classes:
            if item.name == name:
                return item
        names = ", ".join(item.name for item in self.classes)
        raise OptionError(f"no class {name!r} in {self.scheme!r}; it has {names}")

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON values; null where a number is not defined."""
        out: dict[str, Any] = {
            item.name: json_number(getattr(self, item.name))
            for item in fields(self)
            if item.name != "classes"
        }
        out["classes"] = [
            {item.name: json_number(getattr(score, item.name)) for item in fields(score)}
            for score in self.classes
        ]
        return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Confusion:
    """How often each class of the reference got each class of the mask."""

    scheme: ClassScheme
    counts: NDArray[np.float64]
    """(reference class, mask class) float64, pixels or summed weights, in the scheme's order."""

    def __post_init__(self) -> None:
        """Check the shape."""
        size = len(self.scheme.classes)
        if self.counts.shape != (size, size):
            raise OptionError(
                f"a confusion matrix of {self.scheme.name!r} has shape {self.counts.shape}; "
                f"expected {(size, size)}"
            )

    def __add__(self, other: Confusion) -> Confusion:
        """Return the matrix of both sets of pixels."""
        if other.scheme.name != self.scheme.name:
            raise OptionError(
                f"matrices of {self.scheme.name!r} and {other.scheme.name!r} cannot be added"
            )
        return Confusion(scheme=self.scheme, counts=self.counts + other.counts)

    def scores(self) -> Scores:
        """Return the numbers of this matrix."""
        values = measure(self.counts, self.scheme)
        classes = tuple(
            ClassScore(
                name=item.name,
                title=item.title,
                support=float(self.counts[index].sum()),
                **{key: float(values[f"{item.name}.{key}"]) for key in PER_CLASS},
            )
            for index, item in enumerate(self.scheme.classes)
        )
        return Scores(
            scheme=self.scheme.name,
            compared=float(self.counts.sum()),
            classes=classes,
            **{key: float(values[key]) for key in SUMMARY},
        )


def count_confusion(
    reference: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    scheme: ClassScheme,
    *,
    weights: NDArray[Any] | None = None,
) -> Confusion:
    """Return the confusion matrix of two label arrays.

    Args:
        reference: any shape, uint8, class values of ``scheme``; 255 is no-data.
        mask: same shape and meaning.
        scheme: classes of both.
        weights: same shape, numbers of 0 or more, or None to count each pixel once.

    Returns:
        The matrix over the pixels that are 255 in neither.

    Raises:
        ReferenceDataError: the shapes differ, or a value is no class of ``scheme``.
    """
    shapes = {reference.shape, mask.shape} | ({weights.shape} if weights is not None else set())
    if len(shapes) != 1:
        raise ReferenceDataError(
            f"reference, mask and weights have shapes {sorted(shapes)}; expected equal shapes. "
            "Bring the mask to the reference's grid first"
        )
    size = len(scheme.classes)
    index = np.full(256, size, np.intp)  # `size` is the place of no-data
    index[list(scheme.values)] = np.arange(size)
    for name, labels in (("reference", reference), ("mask", mask)):
        _check_labels(name, labels, scheme)
    joint = index[np.ravel(reference)] * (size + 1) + index[np.ravel(mask)]
    flat = None if weights is None else np.ravel(weights).astype(np.float64)
    counts = np.bincount(joint, weights=flat, minlength=(size + 1) ** 2)
    matrix = counts.reshape(size + 1, size + 1)[:size, :size].astype(np.float64)
    return Confusion(scheme=scheme, counts=matrix)


def measure(counts: NDArray[np.float64], scheme: ClassScheme) -> dict[str, NDArray[np.float64]]:
    """Return every number of one or many confusion matrices.

    Args:
        counts: (..., reference class, mask class) float64.
        scheme: classes, in the order of the last two dimensions.

    Returns:
        For each name in ``SUMMARY``, and ``"<class>.<name>"`` for each in ``PER_CLASS``, an array
        (...) float64; NaN where a number is not defined (such as the precision of a class that
        the mask does not have).
    """
    total = counts.sum(axis=(-2, -1))
    hit = np.diagonal(counts, axis1=-2, axis2=-1)
    support, chosen = counts.sum(axis=-1), counts.sum(axis=-2)
    rest = total[..., np.newaxis] - support
    recall, specificity = _divide(hit, support), _divide(rest - (chosen - hit), rest)
    per_class = {
        "precision": _divide(hit, chosen),
        "recall": recall,
        "f1": _divide(2.0 * hit, support + chosen),
        "f2": _divide(5.0 * hit, 4.0 * support + chosen),
        "iou": _divide(hit, support + chosen - hit),
        "specificity": specificity,
        "balanced_accuracy": (recall + specificity) / 2.0,
    }
    agreement = _divide(hit.sum(axis=-1), total)
    chance = _divide((support * chosen).sum(axis=-1), total * total)
    cloudy = [item.name in POSITIVE.get(scheme.name, ()) for item in scheme.classes]
    cover_reference = _divide(support[..., cloudy].sum(axis=-1), total)
    cover_mask = _divide(chosen[..., cloudy].sum(axis=-1), total)
    out = {
        "balanced_accuracy": _mean_defined(recall),
        "overall_accuracy": agreement,
        "kappa": _divide(agreement - chance, 1.0 - chance),
        "mean_f1": _mean_defined(per_class["f1"]),
        "mean_iou": _mean_defined(per_class["iou"]),
        "cover_reference": cover_reference,
        "cover_mask": cover_mask,
        "cover_error": cover_mask - cover_reference,
    }
    for position, item in enumerate(scheme.classes):
        for key, values in per_class.items():
            out[f"{item.name}.{key}"] = values[..., position]
    return out


def json_number(value: float | str) -> float | int | str | None:
    """Return ``value`` as JSON can hold it: None for NaN and the infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _divide(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> NDArray[np.float64]:
    out = np.full(np.broadcast_shapes(np.shape(top), np.shape(bottom)), np.nan)
    np.divide(top, bottom, out=out, where=np.asarray(bottom) != 0)
    return out


def _mean_defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(values)
    return _divide(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1).astype(float))


def _check_labels(name: str, labels: NDArray[np.uint8], scheme: ClassScheme) -> None:
    if labels.dtype != np.uint8:
        raise ReferenceDataError(f"the {name} is of type {labels.dtype}; expected uint8 classes")
    present = set(np.flatnonzero(np.bincount(np.ravel(labels), minlength=256)).tolist())
    if strange := sorted(present - set(scheme.values) - {NODATA}):
        raise ReferenceDataError(
            f"the {name} holds {strange}, which are no classes of {scheme.name!r}; it has "
            f"{list(scheme.values)} and 255 for no data"
        )
