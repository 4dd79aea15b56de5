"""Coordinate reference systems from untrusted text."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rasterio.crs import CRS
from rasterio.errors import CRSError

from openeo_cloudmask.errors import OptionError

_EPSG = re.compile(r"(?:EPSG:|urn:ogc:def:crs:EPSG:[0-9.]*:)?(\d{1,9})", re.IGNORECASE)
_CODE = re.compile(r"[A-Z]{2,10}:\w{1,20}")
_WKT = re.compile(r"[A-Z]+[A-Z0-9_]*\s*\[", re.IGNORECASE)
_FILES = re.compile(
    r'(?:\b(?:PARAMETERFILE|EXTENSION)\s*[\[(]\s*"[^"]*"\s*,\s*"|\bPROJ CRS string:)'
    r'(?:[^"/\\]|"")*(?:[/\\]|\binit=)',
    re.IGNORECASE,
)
"""Parts of WKT by which PROJ opens a file wherever it lies; grids are named without a folder."""
_MOST_WKT = 2**16
"""Characters of WKT; that of known systems has a few thousand."""


def parse_crs(value: object) -> CRS:
    """Return a coordinate reference system that a client, a file or a STAC item names.

    GDAL and PROJ are handed no text that is neither code nor WKT, nor WKT that names a file with
    its folder: they would open the file or the address that such a text names.

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
    wkt = isinstance(value, str) and _WKT.match(text) and not _suspicious(text)
    if not (isinstance(value, Mapping) or wkt or _CODE.fullmatch(text)):
        raise _unknown(text)
    import pyproj  # takes as long as reading a scene's metadata, and most name a code

    try:
        found = pyproj.CRS.from_user_input(value).to_wkt()
        if _suspicious(found):
            raise _unknown(text)
        return CRS.from_wkt(found)
    except (CRSError, pyproj.exceptions.CRSError, ValueError, TypeError) as err:
        raise _unknown(text) from err


def names_files(crs: CRS | None) -> bool:
    """Return whether PROJ would open files that a reference system names, wherever they lie."""
    return crs is not None and _suspicious(crs.wkt)


def _suspicious(wkt: str) -> bool:
    return len(wkt) > _MOST_WKT or _FILES.search(wkt) is not None


def _unknown(text: str) -> OptionError:
    return OptionError(
        f"the coordinate reference system {text[:80]!r} is not known; expected a code such as "
        "EPSG:32633, or WKT"
    )
