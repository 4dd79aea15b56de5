"""The tables of classes: every scheme, and every mapping from one scheme to another.

A scheme lists classes in the order of a detector's probability planes or with the codes of a
provider's mask or of a reference data set. Every mapping is a row of ``MAPPINGS``.
Colours are distinct for people with any common colour vision deficiency (Okabe and Ito, 2008);
codes of others have the colours of their makers, where those have some.
"""

from __future__ import annotations

from dataclasses import dataclass

from openeo_cloudmask.errors import OptionError

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


NODATA_CLASS = MaskClass(value=NODATA, name="no-data", title="No data", color="E1E1E1")
"""How pictures draw what has no class."""


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
    "Cloud/non-cloud",
    (0, "non-cloud", "Non-cloud", _GREEN),
    (1, "cloud", "Cloud", _ORANGE),
)
VALID_INVALID = _scheme(
    "valid-invalid",
    "Valid, or covered by cloud or shadow",
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
SCL = _scheme(
    "scl",
    "Scene classification of Sen2Cor (band SCL of Sentinel-2 Level-2A)",
    (0, "no-data", "No data", "000000"),
    (1, "saturated-or-defective", "Saturated or defective", "FF0000"),
    (2, "dark-area", "Dark area, shadow of terrain", "2F2F2F"),
    (3, "cloud-shadow", "Cloud shadow", "643200"),
    (4, "vegetation", "Vegetation", "00A000"),
    (5, "bare-soil", "Not vegetated", "FFE65A"),
    (6, "water", "Water", "0000FF"),
    (7, "unclassified", "Unclassified", "808080"),
    (8, "cloud-medium", "Cloud, medium probability", "C0C0C0"),
    (9, "cloud-high", "Cloud, high probability", "FFFFFF"),
    (10, "cirrus", "Thin cirrus", "64C8FF"),
    (11, "snow", "Snow or ice", "FF96FF"),
)
FMASK_FIVE = _scheme(
    "fmask-5-class",
    "The codes of Fmask 4 (Qiu et al., 2019)",
    (0, "land", "Clear land", _GREEN),
    (1, "water", "Clear water", _BLUE),
    (2, "cloud-shadow", "Cloud shadow", _INDIGO),
    (3, "snow", "Snow", _PINK),
    (4, "cloud", "Cloud", _ORANGE),
)
FLAGS_SIX = _scheme(
    "flags-6-class",
    "What the bit flags of providers' masks tell, one class per pixel",
    (0, "clear", "Clear", _GREEN),
    (1, "water", "Water", _BLUE),
    (2, "snow", "Snow", _PINK),
    (3, "cirrus", "Cirrus", _SKY),
    (4, "cloud", "Cloud", _ORANGE),
    (5, "cloud-shadow", "Cloud shadow", _INDIGO),
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
        SCL,
        FMASK_FIVE,
        FLAGS_SIX,
    )
}

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
    # Medium probability is cloud, as Sen2Cor's own cloud cover counts it; cirrus is thin cloud.
    # Dark areas and unclassified pixels are clear; defective ones say nothing.
    ("scl", "4-class"): (_DROP, _DROP, 0, 3, 0, 0, 0, 0, 1, 1, 2, 0),
    ("scl", "cloud-noncloud"): (_DROP, _DROP, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0),
    ("scl", "valid-invalid"): (_DROP, _DROP, 0, 1, 0, 0, 0, 0, 1, 1, 1, 0),
    ("fmask-5-class", "4-class"): (0, 0, 3, 0, 1),
    ("fmask-5-class", "cloud-noncloud"): (0, 0, 0, 0, 1),
    ("fmask-5-class", "valid-invalid"): (0, 0, 1, 0, 1),
    ("flags-6-class", "4-class"): (0, 0, 0, 2, 1, 3),
    ("flags-6-class", "cloud-noncloud"): (0, 0, 0, 1, 1, 0),
    ("flags-6-class", "valid-invalid"): (0, 0, 0, 1, 1, 1),
    # Which of the four classes a user's mask has is known; its surface is not. Clear becomes land.
    ("4-class", "alcd"): (5, 2, 3, 4),
}
