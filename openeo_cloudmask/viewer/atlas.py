"""Where references lie on the world map, and what they hold."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openeo_cloudmask.alcd.archive import AlcdArchive
from openeo_cloudmask.classes import NODATA
from openeo_cloudmask.errors import OptionError, ReferenceDataError
from openeo_cloudmask.evaluation.evaluate import Reference

if TYPE_CHECKING:
    import leafmap.foliumap as leafmap

_BANDS = "CDEFGHJKLMNPQRSTUVWX"
_COLUMNS = "ABCDEFGH", "JKLMNPQR", "STUVWXYZ"
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_SQUARE_M = 100_000
_CYCLE_M = 2_000_000


def wrs_centre(path: int, row: int) -> tuple[float, float]:
    """Return the approximate centre of a Landsat scene of WRS-2, latitude and longitude in degrees.

    From the orbit: 233 paths, 248 rows per turn, row 60 at the equator, path 1 crossing it at 64.6
    degrees west; inclination 98.2 degrees, 98.9 minutes per turn. Right to about half a degree.
    """
    along = math.radians((row - 60) * 360 / 248)
    tilt = math.radians(98.2)
    latitude = -math.degrees(math.asin(math.sin(along) * math.sin(tilt)))
    aside = math.degrees(math.atan2(math.cos(tilt) * math.sin(along), math.cos(along)))
    turned = math.degrees(along) * 98.9 / 1440
    longitude = -64.6 - (path - 1) * 360 / 233 + aside - turned
    return latitude, (longitude + 180) % 360 - 180


def tile_centre(tile: str) -> tuple[float, float]:
    """Return latitude and longitude of the middle of a 100 km square, such as ``32TMR``.

    Good for a mark on a world map: Sentinel-2's tiles are 9.8 km wider than the squares.

    Raises:
        OptionError: it is no name of a square.
    """
    from pyproj import Transformer

    try:
        zone, band, column, row = int(tile[:2]), tile[2], tile[3], tile[4]
        letters = _COLUMNS[(zone - 1) % 3]
        x = (letters.index(column) + 1) * _SQUARE_M + _SQUARE_M / 2
        # Rows begin anew with A (odd zones) or F (even zones) at the equator.
        shift = 0 if zone % 2 else 5
        y = (_ROWS.index(row) - shift) % len(_ROWS) * _SQUARE_M + _SQUARE_M / 2
        south = -80 + 8 * _BANDS.index(band)
    except (ValueError, IndexError) as err:
        raise OptionError(f"{tile!r} is no MGRS square; expected such as 32TMR") from err
    northern = band >= "N"
    to_degrees = Transformer.from_crs((32600 if northern else 32700) + zone, 4326, always_xy=True)
    to_metres = Transformer.from_crs(4326, (32600 if northern else 32700) + zone, always_xy=True)
    # The letters repeat every 2000 km: the repeat nearest the latitude band's middle is meant.
    _, middle = to_metres.transform(zone * 6 - 183, south + 4)
    y += round((middle - y) / _CYCLE_M) * _CYCLE_M
    longitude, latitude = to_degrees.transform(x, y)
    return float(latitude), float(longitude)


def world_map(*, basemap: str | None = None) -> leafmap.Map:
    """Return a map of the world: lines of longitude and latitude, tiles only with a base map."""
    import folium

    from openeo_cloudmask.viewer.maps import BASEMAPS, plain_map

    view = plain_map(center=(15.0, 10.0), zoom=1)
    if basemap is not None:
        address, attribution = BASEMAPS[basemap]
        folium.TileLayer(address, attr=attribution, name=basemap).add_to(view)
    line: Any = folium.PolyLine
    style: dict[str, Any] = {"color": "#9aa7b5", "weight": 0.6, "interactive": False}
    for longitude in range(-180, 181, 30):
        line([[-80, longitude], [84, longitude]], **style).add_to(view)
    for latitude in range(-60, 90, 30):
        bold = {**style, "weight": 1.2} if latitude == 0 else style
        line([[latitude, -180], [latitude, 180]], **bold).add_to(view)
    view.fit_bounds([[-45, -130], [65, 150]])
    return view


def find_scenes(path: Path) -> dict[str, Path]:
    """Return name -> folder of the scenes of an archive's folder, each once.

    Raises:
        ReferenceDataError: nothing of that kind is there.
    """
    if not path.is_dir():
        raise ReferenceDataError(
            f"{path} is no folder; expected the ALCD archive, unpacked, or a scene's folder in it"
        )
    with AlcdArchive(path) as archive:
        return {entry.name: path / entry.prefix for entry in archive.distinct()}


def class_shares(reference: Reference) -> list[dict[str, Any]]:
    """Return pixels and share of each class that occurs, in the scheme's order."""
    counts = np.bincount(reference.labels.ravel(), minlength=256)
    seen = int(counts.sum() - counts[NODATA])
    return [
        {
            "class": item.title,
            "pixels": int(counts[item.value]),
            "share": float(counts[item.value]) / seen if seen else math.nan,
        }
        for item in reference.scheme.classes
        if counts[item.value]
    ]
