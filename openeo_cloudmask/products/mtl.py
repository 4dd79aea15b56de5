"""Landsat's metadata file: MTL as text, JSON or XML."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from openeo_cloudmask.errors import ProductError
from openeo_cloudmask.products.xml import parse_xml

ROOT = "LANDSAT_METADATA_FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mtl:
    """The content of an MTL file of Collection 2: group -> key -> text."""

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
                "a Collection 2 Level-1 product"
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
        ProductError: it cannot be read, or is not of Collection 2.
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
    except (ValueError, AttributeError) as err:
        if isinstance(err, ProductError):
            raise
        raise ProductError(f"{name} cannot be read as Landsat metadata: {err}") from err
    if top != ROOT:
        raise ProductError(
            f"{name} begins with {top!r}; expected {ROOT!r}, as in products of Collection 2"
        )
    return Mtl(name=name, groups=groups)


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
