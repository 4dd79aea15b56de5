"""What the classes of third-party masks mean in ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.errors import CatalogError
from openeo_cloudmask.models.mlm.assumed import MEANINGS, Assumed, ask

_KNOWN: dict[str, tuple[str, ...]] = {
    "clear": (
        "clear", "clear sky", "cloud free", "no cloud", "non cloud", "not cloud", "background",
        "land", "water", "snow", "snow ice", "ice", "surface",
    ),
    "thick-cloud": ("cloud", "thick cloud", "opaque cloud", "low cloud"),
    "thin-cloud": ("thin cloud", "cirrus", "thin cirrus", "semi transparent cloud"),
    "cloud-shadow": ("shadow", "cloud shadow"),
    "none": ("no data", "nodata", "fill", "missing"),
}  # fmt: skip
_SINGULAR = {"clouds": "cloud", "cloudy": "cloud", "shadows": "shadow"}
_MEANING = {name: meaning for meaning, names in _KNOWN.items() for name in names}


def parse_classes(output: Mapping[str, Any], assumed: Assumed, place: str) -> dict[int, int | None]:
    """Return value -> plane of the four classes, None for what is no class.

    Raises:
        CatalogError: the classes are not told, or what one means is not known.
    """
    listed = output.get("classification:classes", output.get("classification_classes"))
    place = f"{place}.classification:classes"
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        raise CatalogError(f"{place} is {listed!r}; expected the classes of the model's answer")
    found: dict[int, int | None] = {}
    for index, item in enumerate(listed):
        value = item.get("value") if isinstance(item, Mapping) else None
        if isinstance(value, bool) or not isinstance(value, int) or value in found:
            raise CatalogError(f"{place}[{index}].value is {value!r}; expected a number of its own")
        found[value] = _mean(item, assumed, f"{place}[{index}]")
    if FOUR_CLASS.index("thick-cloud") not in found.values() and (
        FOUR_CLASS.index("thin-cloud") not in found.values()
    ):
        raise CatalogError(f"{place}: none of them is a cloud; the model masks something else")
    return found


def _mean(item: Mapping[str, Any], assumed: Assumed, place: str) -> int | None:
    name = str(item.get("name") or item.get("title") or item.get("description") or "")
    meaning = assumed.classes.get(name) or assumed.classes.get(str(item["value"]))
    if meaning is None and item.get("nodata") is True:
        meaning = "none"
    meaning = meaning or _MEANING.get(_plain(name))
    if meaning is None:
        raise ask(
            place,
            f"is {name!r} ({item['value']}), and which of {', '.join(MEANINGS)} that is is not "
            "known",
            f"class:{name or item['value']}=clear",
        )
    return None if meaning == "none" else FOUR_CLASS.index(meaning)


def _plain(name: str) -> str:
    """Return a class's name in small letters and single words, clouds and shadows singular."""
    words = re.sub(r"[^a-z]+", " ", name.lower()).split()
    return " ".join(_SINGULAR.get(word, word) for word in words)
