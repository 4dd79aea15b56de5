"""Class schemes, the mappings between them, and the output styles.

A scheme lists classes in the order of a detector's probability planes or with the codes of a
reference data set. Every mapping from one scheme to another is a row of ``MAPPINGS``.
Colours are told apart by people with any common colour vision deficiency (Okabe and Ito, 2008).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from openeo_cloudmask.errors import OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

NODATA = 255
"""Value of pixels that were not seen or could not be computed, in masks and percentages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskClass:
    """One class: its value in a mask, its name and how it is drawn."""

    value: int
    name: str
    """Lower case words joined by ``-``; a STAC ``classification:classes`` name."""
    title: str
    color: str
    """``RRGGBB``, without ``#``, as the STAC classification extension wants it."""

    @property
    def rgba(self) -> tuple[int, int, int, int]:
        """Red, green, blue and alpha, 0-255."""
        red, green, blue = bytes.fromhex(self.color)
        return red, green, blue, 255


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScheme:
    """A set of classes that belong together."""

    name: str
    title: str
    classes: tuple[MaskClass, ...]

    @property
    def values(self) -> tuple[int, ...]:
        """Class values in order."""
        return tuple(item.value for item in self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in order."""
        return tuple(item.name for item in self.classes)

    def index(self, name: str) -> int:
        """Return the position of the class called ``name``.

        Raises:
            OptionError: no class has that name.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise OptionError(
                f"scheme {self.name!r} has no class {name!r}; it has {', '.join(self.names)}"
            ) from None


class OutputStyle(StrEnum):
    """What a mask shows; the values are those of the hosted SEnSeIv2 processor, plus ``native``."""

    FOUR_CLASS = "4-class"
    CLOUD_NONCLOUD = "cloud-noncloud"
    VALID_INVALID = "valid-invalid"
    NATIVE = "native"


_GREEN, _ORANGE, _SKY, _INDIGO, _VERMILION = "009E73", "E69F00", "56B4E9", "332288", "D55E00"
_BLUE, _GREY, _PINK, _YELLOW = "0072B2", "BBBBBB", "CC79A7", "F0E442"


def _scheme(name: str, title: str, *rows: tuple[int, str, str, str]) -> ClassScheme:
    classes = tuple(
        MaskClass(value=value, name=key, title=label, color=color)
        for value, key, label, color in rows
    )
    return ClassScheme(name=name, title=title, classes=classes)


FOUR_CLASS = _scheme(
    "4-class",
    "Clear, thick cloud, thin cloud, cloud shadow",
    (0, "clear", "Clear", _GREEN),
    (1, "thick-cloud", "Thick cloud", _ORANGE),
    (2, "thin-cloud", "Thin cloud", _SKY),
    (3, "cloud-shadow", "Cloud shadow", _INDIGO),
)
CLOUD_NONCLOUD = _scheme(
    "cloud-noncloud",
    "Cloud or not",
    (0, "non-cloud", "Non-cloud", _GREEN),
    (1, "cloud", "Cloud", _ORANGE),
)
VALID_INVALID = _scheme(
    "valid-invalid",
    "Valid, or spoilt by cloud or shadow",
    (0, "valid", "Valid", _GREEN),
    (1, "invalid", "Invalid", _VERMILION),
)
SENSEI_SEVEN = _scheme(
    "sensei-7-class",
    "The seven classes of SEnSeIv2's ambiguous models",
    (0, "land", "Land", _GREEN),
    (1, "water", "Water", _BLUE),
    (2, "snow", "Snow", _PINK),
    (3, "thin-cloud", "Thin cloud", _SKY),
    (4, "thick-cloud", "Thick cloud", _ORANGE),
    (5, "cloud-shadow", "Cloud shadow", _INDIGO),
    (6, "no-data", "No data", _GREY),
)
HOLLSTEIN_SIX = _scheme(
    "hollstein-6-class",
    "The six classes of Hollstein et al. (2016)",
    (0, "clear", "Clear", _GREEN),
    (1, "water", "Water", _BLUE),
    (2, "snow", "Snow", _PINK),
    (3, "cirrus", "Cirrus", _SKY),
    (4, "cloud", "Cloud", _ORANGE),
    (5, "cloud-shadow", "Cloud shadow", _INDIGO),
)
UKIS_FIVE = _scheme(
    "ukis-5-class",
    "The five classes of ukis-csmask",
    (0, "cloud-shadow", "Cloud shadow", _INDIGO),
    (1, "water", "Water", _BLUE),
    (2, "snow", "Snow", _PINK),
    (3, "land", "Land", _GREEN),
    (4, "cloud", "Cloud", _ORANGE),
)
ALCD = _scheme(
    "alcd",
    "The codes of the ALCD reference masks (Baetens et al., 2019)",
    (0, "no-data", "No data", "C3FF2A"),
    (1, "background", "Background (not used)", "BB533A"),
    (2, "low-cloud", "Low cloud", "D2D2D2"),
    (3, "high-cloud", "High cloud", "FF7BB8"),
    (4, "cloud-shadow", "Cloud shadow", "0A0A0A"),
    (5, "land", "Land", "009738"),
    (6, "water", "Water", "008ED0"),
    (7, "snow", "Snow", "4D4D4D"),
)

SCHEMES: dict[str, ClassScheme] = {
    scheme.name: scheme
    for scheme in (
        FOUR_CLASS,
        CLOUD_NONCLOUD,
        VALID_INVALID,
        SENSEI_SEVEN,
        HOLLSTEIN_SIX,
        UKIS_FIVE,
        ALCD,
    )
}

_KIND_NAMES = {
    # Of classes that are cloud the first is the denser: it goes before in a buffer.
    "cloud": (
        *("thick-cloud", "cloud", "low-cloud", "invalid", "thin-cloud", "high-cloud", "cirrus"),
    ),
    "shadow": ("cloud-shadow", "invalid"),
}


def kind_values(scheme: ClassScheme, kind: str) -> tuple[int, ...]:
    """Return the values of the classes of ``scheme`` that are ``cloud`` or ``shadow``."""
    values = dict(zip(scheme.names, scheme.values, strict=True))
    return tuple(values[name] for name in _KIND_NAMES[kind] if name in values)


_DROP = NODATA

MAPPINGS: dict[tuple[str, str], tuple[int, ...]] = {
    # (from, to): for each class of `from`, in order, its class in `to`; 255 where it has none.
    ("4-class", "cloud-noncloud"): (0, 1, 1, 0),
    ("4-class", "valid-invalid"): (0, 1, 1, 1),
    # The published post-processing drops "no data" from the four classes without rescaling the
    # others, and counts it as the complement of cloud and of invalid in the binary styles.
    ("sensei-7-class", "4-class"): (0, 0, 0, 2, 1, 3, _DROP),
    ("sensei-7-class", "cloud-noncloud"): (0, 0, 0, 1, 1, 0, 0),
    ("sensei-7-class", "valid-invalid"): (0, 0, 0, 1, 1, 1, 0),
    ("hollstein-6-class", "4-class"): (0, 0, 0, 2, 1, 3),
    ("hollstein-6-class", "cloud-noncloud"): (0, 0, 0, 1, 1, 0),
    ("hollstein-6-class", "valid-invalid"): (0, 0, 0, 1, 1, 1),
    ("ukis-5-class", "4-class"): (3, 0, 0, 0, 1),
    ("ukis-5-class", "cloud-noncloud"): (0, 0, 0, 0, 1),
    ("ukis-5-class", "valid-invalid"): (1, 0, 0, 0, 1),
    # ALCD's own binary statistic: 0 is ignored; 2, 3 and 4 are invalid; 1, 5, 6, 7 are valid.
    ("alcd", "4-class"): (_DROP, 0, 1, 2, 3, 0, 0, 0),
    ("alcd", "cloud-noncloud"): (_DROP, 0, 1, 1, 0, 0, 0, 0),
    ("alcd", "valid-invalid"): (_DROP, 0, 1, 1, 1, 0, 0, 0),
    # Which of the four classes a user's mask has is known; its surface is not. Clear becomes land.
    ("4-class", "alcd"): (5, 2, 3, 4),
}


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
        probabilities: (class, y, x) float32, in the order of ``native``, NaN where unseen.
        native: classes of ``probabilities``.
        style: the style wanted.

    Returns:
        (class, y, x) float32, NaN where unseen. They sum to 1 unless a native class has no
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
        probabilities: (class, y, x) float32, in the order of ``native``, NaN where unseen.
        native: classes of ``probabilities``.
        style: the style wanted.
        categorise: True for class values, False for percentages.

    Returns:
        (1, y, x) uint8 class values, or (class, y, x) uint8 percentages 0-100; 255 where unseen.
    """
    styled = style_probabilities(probabilities, native, style)
    unseen = np.isnan(styled[0])
    result: NDArray[np.uint8]
    if categorise:
        values = np.asarray(style_scheme(style, native).values, np.uint8)
        result = values[np.argmax(styled, axis=0)][np.newaxis]
    else:
        with np.errstate(invalid="ignore"):  # NaN is overwritten below
            result = np.rint(np.clip(styled, 0.0, 1.0) * 100.0).astype(np.uint8)
    result[:, unseen] = NODATA
    return result
