"""Landsat's metadata file: MTL as text, JSON or XML."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from openeo_cloudmask.errors import ProductError
from openeo_cloudmask.products.xml import parse_xml

ROOT = "LANDSAT_METADATA_FILE"
_OLD_ROOT = "L1_METADATA_FILE"
"""Of Collection 1 and of products before there were collections."""
_RENAMED = {
    "RADIOMETRIC_RESCALING": "LEVEL1_RADIOMETRIC_RESCALING",
    "TIRS_THERMAL_CONSTANTS": "LEVEL1_THERMAL_CONSTANTS",
    "THERMAL_CONSTANTS": "LEVEL1_THERMAL_CONSTANTS",
    "IMAGE_ATTRIBUTES": "IMAGE_ATTRIBUTES",
    "METADATA_FILE_INFO": "PRODUCT_CONTENTS",
    "PRODUCT_METADATA": "PRODUCT_CONTENTS",
}
"""Group of an old file -> that of Collection 2."""
_OF_THE_IMAGE = ("SPACECRAFT_ID", "SENSOR_ID", "DATE_ACQUIRED", "SCENE_CENTER_TIME")
"""Keys of the old group of the product that are of the image's in Collection 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mtl:
    """The content of an MTL file, in the groups of Collection 2: group -> key -> text."""

    name: str
    groups: Mapping[str, Mapping[str, str]]

    def text(self, group: str, key: str) -> str:
        """Return a value as text.

        Raises:
            ProductError: it is missing.
        """
        value = self.groups.get(group, {}).get(key)
        if value is None:
            raise ProductError(
                f"{self.name} has no {key} in the group {group}; expected the complete MTL file of "
                "a Level-1 product"
            )
        return value

    def number(self, group: str, key: str, *, most: float = math.inf) -> float:
        """Return a value as a number of a size up to ``most``.

        Raises:
            ProductError: it is missing, no number, or too large.
        """
        text = self.text(group, key)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and abs(value) <= most):
            limit = "" if most == math.inf else f" of at most {most:g}"
            raise ProductError(f"{self.name}: {key} is {text!r}; expected a number{limit}")
        return value

    def positive(self, group: str, key: str, *, most: float) -> float:
        """Return a value as a number above 0 and at most ``most``.

        Raises:
            ProductError: it is missing, or something else.
        """
        value = self.number(group, key, most=most)
        if value <= 0:
            raise ProductError(f"{self.name}: {key} is {value:g}; expected more than 0")
        return value


def parse_mtl(content: bytes, name: str) -> Mtl:
    """Return the content of an MTL file.

    Args:
        content: the file.
        name: its name, whose suffix tells text, JSON and XML apart.

    Raises:
        ProductError: it cannot be read, or is of something else.
    """
    suffix = name.rsplit(".", 1)[-1].lower()
    try:
        if suffix == "json":
            top, groups = _parse_json(content)
        elif suffix == "xml":
            root = parse_xml(content, name)
            top = root.tag
            groups = {
                group.tag: {item.tag: (item.text or "").strip() for item in group} for group in root
            }
        else:
            top, groups = _parse_text(content.decode("utf-8"))
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError) as err:
        if isinstance(err, ProductError):
            raise
        raise ProductError(f"{name} cannot be read as Landsat metadata: {err!r}") from err
    if top == _OLD_ROOT:
        groups = _as_collection_2(groups)
    elif top != ROOT:
        raise ProductError(
            f"{name} begins with {top!r}; expected {ROOT!r} (Collection 2) or {_OLD_ROOT!r}"
        )
    return Mtl(name=name, groups=groups)


def _as_collection_2(groups: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Return the groups of an older file under the names of Collection 2."""
    out: dict[str, dict[str, str]] = {}
    for group, items in groups.items():
        out.setdefault(_RENAMED.get(group, group), {}).update(items)
    contents = out.setdefault("PRODUCT_CONTENTS", {})
    image = out.setdefault("IMAGE_ATTRIBUTES", {})
    image |= {key: contents[key] for key in _OF_THE_IMAGE if key in contents}
    contents.setdefault("PROCESSING_LEVEL", contents.get("DATA_TYPE", ""))
    if scene := contents.get("LANDSAT_SCENE_ID"):
        contents.setdefault("LANDSAT_PRODUCT_ID", scene)
    return out


def _parse_json(content: bytes) -> tuple[str, dict[str, dict[str, str]]]:
    outer = json.loads(content)
    top = next(iter(outer), "")
    groups = {
        group: {key: str(value) for key, value in items.items()}
        for group, items in outer[top].items()
    }
    return top, groups


def _parse_text(content: str) -> tuple[str, dict[str, dict[str, str]]]:
    open_groups: list[str] = []
    groups: dict[str, dict[str, str]] = {}
    top = ""
    for line in content.splitlines():
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            continue
        if key == "GROUP":
            top = top or value
            open_groups.append(value)
        elif key == "END_GROUP":
            if not open_groups or open_groups.pop() != value:
                raise ProductError(f"the group {value} ends where it is not open")
        elif open_groups:
            groups.setdefault(open_groups[-1], {})[key] = value.strip('"')
    if open_groups:
        raise ProductError(
            f"the Landsat metadata end inside the group {open_groups[-1]}; the file is cut off"
        )
    return top, groups
