"""Coordinate reference systems from untrusted text."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rasterio.crs import CRS
from rasterio.errors import CRSError

from openeo_cloudmask.errors import OptionError

_EPSG = re.compile(r"(?:EPSG:|urn:ogc:def:crs:EPSG:[0-9.]*:)?(\d{1,9})", re.IGNORECASE)
_CODE = re.compile(r"[A-Z]{2,10}:\w{1,20}")


def parse_crs(value: object) -> CRS:
    """Return a coordinate reference system that a client, a file or a STAC item names.

    GDAL is handed no text that is neither code nor WKT: it would open the file or the address
    that such a text names.

    Args:
        value: an EPSG code as number or text, another authority's code, WKT, or PROJJSON.

    Raises:
        OptionError: it is no reference system, or an unknown one.
    """
    if isinstance(value, CRS):
        return value
    text = str(value).strip()
    try:
        if code := _EPSG.fullmatch(text):
            return CRS.from_epsg(int(code[1]))
    except (CRSError, ValueError) as err:
        raise _unknown(text) from err
    if not (isinstance(value, Mapping) or "[" in text or _CODE.fullmatch(text)):
        raise _unknown(text)
    import pyproj  # takes as long as reading a scene's metadata, and most name a code

    try:
        return CRS.from_wkt(pyproj.CRS.from_user_input(value).to_wkt())
    except (CRSError, pyproj.exceptions.CRSError, ValueError, TypeError) as err:
        raise _unknown(text) from err


def _unknown(text: str) -> OptionError:
    return OptionError(
        f"the coordinate reference system {text[:80]!r} is not known; expected a code such as "
        "EPSG:32633, or WKT"
    )
