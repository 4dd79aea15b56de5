"""Marks as a GeoJSON file, so that work on a reference can go on another day."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openeo_cloudmask.alcd.marks import Mark
from openeo_cloudmask.classes import ALCD
from openeo_cloudmask.errors import OptionError, ReferenceDataError
from openeo_cloudmask.grid import Grid

MAX_MARKS = 10_000
MAX_BYTES = 32 * 2**20
"""Of a file, which is parsed whole; 10 000 strokes of a brush have a third of it."""
_SCENE, _CRS, _PIXEL = "cloudmask:scene", "cloudmask:crs", "cloudmask:pixel_m"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The marks on a scene."""

    scene: str
    """Its name."""
    pixel_m: float
    """Side of the reference's pixels."""
    marks: tuple[Mark, ...]


def write_marks(work: Work, grid: Grid) -> str:
    """Return the text of a file that holds ``work``.

    Coordinates are those of the grid's reference system, which the file names; so they are exact.

    Raises:
        ReferenceDataError: the grid has no reference system.
    """
    if grid.crs is None:
        raise ReferenceDataError("the scene has no reference system, so marks on it have no place")
    features = [
        {
            "type": "Feature",
            "geometry": _geometry(mark),
            "properties": {
                "code": mark.code,
                "class": ALCD.classes[mark.code].name,
                "radius_m": mark.radius_m,
            },
        }
        for mark in work.marks
    ]
    content = {
        "type": "FeatureCollection",
        _SCENE: work.scene,
        _CRS: grid.crs.to_string(),
        _PIXEL: work.pixel_m,
        "features": features,
    }
    return json.dumps(content, indent=1)


def _geometry(mark: Mark) -> dict[str, Any]:
    points = [list(point) for point in mark.points]
    if mark.area:
        return {"type": "Polygon", "coordinates": [[*points, points[0]]]}
    if len(points) == 1:
        return {"type": "Point", "coordinates": points[0]}
    return {"type": "LineString", "coordinates": points}


def read_marks(text: str | bytes, grid: Grid) -> Work:
    """Return the work that a file holds.

    Args:
        text: of the file.
        grid: of the scene that is open.

    Raises:
        ReferenceDataError: it is no such file or too large, or its marks were made in another
            reference system.
    """
    if len(text) > MAX_BYTES:
        raise ReferenceDataError(
            f"the file has {len(text) / 2**20:.0f} MB; expected marks, of at most "
            f"{MAX_BYTES // 2**20} MB"
        )
    try:
        content = json.loads(text)
        crs, features = str(content[_CRS]), content["features"]
        work = Work(
            scene=str(content[_SCENE]),
            pixel_m=float(content[_PIXEL]),
            marks=tuple(_read_mark(item) for item in _few(features)),
        )
    except OptionError as err:
        raise ReferenceDataError(f"the file of marks cannot be used: {err}") from err
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as err:
        raise ReferenceDataError(
            f"the file holds no marks ({err!r}); expected one that 'Save the marks' wrote"
        ) from err
    own = None if grid.crs is None else grid.crs.to_string()
    if crs != own:
        raise ReferenceDataError(
            f"the marks were made in {crs}, the scene lies in {own}; open the scene they are of"
        )
    return work


def _few(features: Sequence[Any]) -> Sequence[Any]:
    if not isinstance(features, list) or len(features) > MAX_MARKS:
        raise ValueError(f"features are no list of at most {MAX_MARKS}")
    return features


def _read_mark(item: Mapping[str, Any]) -> Mark:
    shape, about = item["geometry"], item["properties"]
    kind, given = shape["type"], shape["coordinates"]
    points = {"Point": [given], "Polygon": given[0]}.get(kind, given)
    found = tuple((float(x), float(y)) for x, y in points)
    area = kind == "Polygon"
    return Mark(
        code=int(about["code"]),
        points=found[:-1] if area and found[0] == found[-1] else found,
        area=area,
        radius_m=float(about["radius_m"]),
    )
