"""Interpreted points of Tarrio et al. 2020, and the masks of seven algorithms beside them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.evaluation.points import Points
from openeo_cloudmask.evaluation.reference_format import (
    FOUR,
    ReferenceFormat,
    ReferenceScene,
    code_table,
)

MASK_NAME = re.compile(r"M(10|30)(T\d\d[A-Z]{3}\d{7})(\w+)\.(tif|img)", re.IGNORECASE)
"""``M30T28PDC2016351TMASK``: pixel size, tile, year and day of it, algorithm."""
_TILE = re.compile(r"T?(\d\d[A-Z]{3})")
_DAY = re.compile(r"(20\d\d)(\d{3}|\d{4})")
_NAMES = {
    "clear land": 0,
    "land": 0,
    "clear": 0,
    "clear water": 1,
    "water": 1,
    "cloud shadow": 2,
    "shadow": 2,
    "snow": 3,
    "snow/ice": 3,
    "snow ice": 3,
    "cloud": 4,
}


def _find(path: Path) -> list[ReferenceScene]:
    folder = path if path.is_dir() else path.parent
    files = [path] if path.is_file() and path.suffix.lower() == ".shp" else []
    files = files or (sorted(path.rglob("*.shp")) if path.is_dir() else [])
    if not files:
        return []
    # An ALCD archive has shapefiles too; these points come with masks named in their own way.
    named = any(MASK_NAME.fullmatch(item.name) for item in folder.rglob("M[13]0T*"))
    named = named or "tarrio" in path.name.lower()
    told = [item for item in files if named or "tarrio" in item.name.lower()]
    return [scene for file in told for scene in _read(file)]


def _read(path: Path) -> list[ReferenceScene]:
    names, rows, places, crs = _read_shapefile(path)
    tile = _column(path, names, rows, "a tile such as 28PDC", _tile)
    day = _column(path, names, rows, "a day such as 2016351 or 20161216", _day, but=tile)
    code = _column(path, names, rows, "codes 0 to 4 or names of classes", _code, but=(*tile, *day))
    keys = [f"T{_tile(row[tile[0]])}{_day(row[day[0]])}" for row in rows]
    labels = TARRIO.recode(np.array([_code(row[code[0]]) for row in rows]), str(path))
    scenes = []
    for name in sorted(set(keys)):
        here = np.array([key == name for key in keys])
        points = partial(
            Points,
            name=name,
            labels=labels[here],
            scheme=FOUR,
            x=places[here, 0],
            y=places[here, 1],
            crs=crs,
        )
        scenes.append(ReferenceScene(name=name, reference=points))
    return scenes


def _read_shapefile(path: Path) -> tuple[list[str], list[list[Any]], Any, str]:
    """Return names of the fields, rows, (n, 2) places, and the reference system.

    Raises:
        ReferenceDataError: it cannot be read, holds something else than points, or does not say
            its reference system.
    """
    import shapefile

    projection = path.with_suffix(".prj")
    try:
        crs = projection.read_text(encoding="utf-8")
        with shapefile.Reader(str(path)) as reader:
            names = [field[0] for field in reader.fields[1:]]
            rows = [list(record) for record in reader.records()]
            points = [shape.points for shape in reader.shapes()]
    except (OSError, ValueError, shapefile.ShapefileException) as err:
        raise ReferenceDataError(f"{path} is no readable shapefile: {err}") from err
    if not rows or any(len(item) != 1 for item in points):
        raise ReferenceDataError(f"{path} holds no points, or something else than points")
    return names, rows, np.array([item[0] for item in points], np.float64), crs


def _column(
    path: Path,
    names: list[str],
    rows: list[list[Any]],
    what: str,
    parse: Callable[[Any], Any],
    *,
    but: tuple[int, ...] = (),
) -> tuple[int]:
    """Return the place of the only field whose values are all of a kind.

    The names of the fields were not seen, so none is taken for certain; several that fit are an
    error.
    """
    fitting = [
        place
        for place in range(len(names))
        if place not in but and all(parse(row[place]) is not None for row in rows)
    ]
    if len(fitting) != 1:
        raise ReferenceDataError(
            f"{path}: the fields {', '.join(names)} have {len(fitting)} with {what}"
            f"{' (' + ', '.join(names[p] for p in fitting) + ')' if fitting else ''}; expected "
            "one. Write a copy without the others"
        )
    return (fitting[0],)


def _tile(value: Any) -> str | None:  # noqa: ANN401 - of a field
    match = _TILE.fullmatch(str(value).strip())
    return None if match is None else match[1]


def _day(value: Any) -> str | None:  # noqa: ANN401
    """Return year and day of it."""
    from datetime import UTC, date, datetime

    if isinstance(value, date):
        return f"{value:%Y%j}"
    match = _DAY.fullmatch(str(value).strip().removesuffix(".0").replace("-", ""))
    if match is None:
        return None
    pattern = "%Y%j" if len(match[2]) == 3 else "%Y%m%d"
    try:
        return f"{datetime.strptime(match[0], pattern).replace(tzinfo=UTC):%Y%j}"
    except ValueError:
        return None


def _code(value: Any) -> int | None:  # noqa: ANN401
    text = str(value).strip().lower()
    if text in _NAMES:
        return _NAMES[text]
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number in range(5) else None


TARRIO = ReferenceFormat(
    id="tarrio-2020",
    title="Tarrio et al. 2020",
    kind="points",
    sensor="sentinel-2-l1c",
    scheme=FOUR,
    codes=code_table(
        {
            0: ("clear land", "clear"),
            1: ("clear water", "clear"),
            2: ("cloud shadow", "cloud-shadow"),
            3: ("snow or ice", "clear"),
            4: ("cloud", "thick-cloud"),
        }
    ),
    layout="*.shp of points with a tile, a day and a code, beside masks named such as "
    "M30T28PDC2016351TMASK.tif (or with 'tarrio' in its name or folder); score the masks of one "
    "algorithm, or your own, named by tile and day, with --mask-classes fmask-5-class",
    images=False,
    terms="as its authors state on the page of the data set",
    get="https://zenodo.org/records/5721781",
    record="zenodo:5721781",
    citation="Tarrio, K. et al. (2020): Comparison of cloud detection algorithms for Sentinel-2 "
    "imagery. Science of Remote Sensing 2, 100010.",
    doi="10.5281/zenodo.5721781",
    seen="The page of the data set: algorithms, tiles, codes, names of the masks. Neither a file "
    "nor the names of the shapefile's fields: they are told by what they hold, and several that "
    "fit are an error. Points have no sampling weights here.",
    find=_find,
)
FORMATS = (TARRIO,)
