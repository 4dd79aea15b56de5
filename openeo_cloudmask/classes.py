"""Classes of masks: how labels and probabilities get from one scheme to another, and the styles.

The schemes themselves are tables in ``class_schemes``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from openeo_cloudmask.class_schemes import (
    ALCD,
    CLOUD_NONCLOUD,
    FLAGS_SIX,
    FMASK_FIVE,
    FOUR_CLASS,
    HOLLSTEIN_SIX,
    MAPPINGS,
    NODATA,
    NODATA_CLASS,
    SCHEMES,
    SCL,
    SENSEI_SEVEN,
    UKIS_FIVE,
    VALID_INVALID,
    ClassScheme,
    MaskClass,
)
from openeo_cloudmask.errors import OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "ALCD",
    "CLOUD_NONCLOUD",
    "FLAGS_SIX",
    "FMASK_FIVE",
    "FOUR_CLASS",
    "HOLLSTEIN_SIX",
    "MAPPINGS",
    "NODATA",
    "NODATA_CLASS",
    "SCHEMES",
    "SCL",
    "SENSEI_SEVEN",
    "UKIS_FIVE",
    "VALID_INVALID",
    "ClassScheme",
    "MaskClass",
    "OutputStyle",
    "apply_style",
    "kind_values",
    "map_labels",
    "mapping",
    "style_probabilities",
    "style_scheme",
]


class OutputStyle(StrEnum):
    """What a mask shows; the values are those of the hosted SEnSeIv2 processor, plus ``native``."""

    FOUR_CLASS = "4-class"
    CLOUD_NONCLOUD = "cloud-noncloud"
    VALID_INVALID = "valid-invalid"
    NATIVE = "native"


_KIND_NAMES = {
    # Of classes that are cloud the first is the denser: it goes before in a buffer.
    "cloud": (
        *("thick-cloud", "cloud", "cloud-high", "low-cloud", "cloud-medium", "invalid"),
        *("thin-cloud", "high-cloud", "cirrus"),
    ),
    "shadow": ("cloud-shadow", "invalid"),
}


def kind_values(scheme: ClassScheme, kind: str) -> tuple[int, ...]:
    """Return the values of the classes of ``scheme`` that are ``cloud`` or ``shadow``."""
    values = dict(zip(scheme.names, scheme.values, strict=True))
    return tuple(values[name] for name in _KIND_NAMES[kind] if name in values)


def mapping(source: ClassScheme, target: ClassScheme) -> tuple[int, ...]:
    """Return, for each class of ``source`` in order, its value in ``target`` (255: none).

    Raises:
        OptionError: the two schemes cannot be mapped.
    """
    if source.name == target.name:
        return source.values
    try:
        return MAPPINGS[source.name, target.name]
    except KeyError:
        known = sorted(to for start, to in MAPPINGS if start == source.name)
        raise OptionError(
            f"classes {source.name!r} cannot be mapped to {target.name!r}; "
            f"they can be mapped to: {', '.join(known) or 'nothing'}"
        ) from None


def map_labels(
    labels: NDArray[np.uint8], source: ClassScheme, target: ClassScheme
) -> NDArray[np.uint8]:
    """Return class values of ``target`` for class values of ``source``.

    Args:
        labels: any shape, uint8, class values of ``source``; 255 is no-data.
        source: scheme of ``labels``.
        target: scheme of the result.

    Returns:
        Same shape, uint8; 255 where ``labels`` is 255 or the class has no counterpart.

    Raises:
        OptionError: a value is no class of ``source``, or the schemes cannot be mapped.
    """
    table = np.full(256, NODATA, np.uint8)
    known = np.zeros(256, bool)
    known[NODATA] = True
    for value, new in zip(source.values, mapping(source, target), strict=True):
        table[value] = new
        known[value] = True
    present = np.bincount(np.ravel(labels), minlength=256).astype(bool)
    if (strange := np.flatnonzero(present & ~known)).size:
        raise OptionError(
            f"values {strange.tolist()} are no classes of {source.name!r}, "
            f"which has {list(source.values)} and 255 for no data"
        )
    mapped: NDArray[np.uint8] = table[labels]
    return mapped


def style_scheme(style: OutputStyle, native: ClassScheme) -> ClassScheme:
    """Return the classes a mask has in ``style`` when its detector's classes are ``native``."""
    return native if style is OutputStyle.NATIVE else SCHEMES[style.value]


def style_probabilities(
    probabilities: NDArray[np.float32], native: ClassScheme, style: OutputStyle
) -> NDArray[np.float32]:
    """Return the probabilities of the classes of ``style``.

    Args:
        probabilities: (class, y, x) float32, in the order of ``native``, NaN where no-data.
        native: classes of ``probabilities``.
        style: the style wanted.

    Returns:
        (class, y, x) float32, NaN where no-data. They sum to 1 unless a native class has no
        counterpart in the style, as the published SEnSeIv2 post-processing has it.
    """
    target = style_scheme(style, native)
    if target is native:
        return probabilities
    out = np.zeros((len(target.classes), *probabilities.shape[1:]), np.float32)
    for plane, value in zip(probabilities, mapping(native, target), strict=True):
        if value != NODATA:
            out[value] += plane
    return out


def apply_style(
    probabilities: NDArray[np.float32],
    native: ClassScheme,
    style: OutputStyle,
    *,
    categorise: bool,
) -> NDArray[np.uint8]:
    """Return a mask, or percentages, in the style wanted.

    Args:
        probabilities: (class, y, x) float32, in the order of ``native``, NaN where no-data.
        native: classes of ``probabilities``.
        style: the style wanted.
        categorise: True for class values, False for percentages.

    Returns:
        (1, y, x) uint8 class values, or (class, y, x) uint8 percentages 0-100; 255 where no-data.
    """
    styled = style_probabilities(probabilities, native, style)
    nodata = np.isnan(styled[0])
    result: NDArray[np.uint8]
    if categorise:
        values = np.asarray(style_scheme(style, native).values, np.uint8)
        result = values[_largest(styled)][np.newaxis]
    else:
        with np.errstate(invalid="ignore"):  # NaN is overwritten below
            result = np.rint(np.clip(styled, 0.0, 1.0) * 100.0).astype(np.uint8)
    result[:, nodata] = NODATA
    return result


def _largest(planes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (y, x), which of at most 256 planes is largest, the first of equals.

    As ``numpy.argmax``, which takes eight times as long over the first axis.
    """
    best = planes[0].copy()
    found = np.zeros(best.shape, np.uint8)
    for number, plane in enumerate(planes[1:], start=1):
        np.maximum(found, (plane > best) * np.uint8(number), out=found)
        np.maximum(best, plane, out=best)
    return found
