"""Files that travel with the package: the UDF, the process, the catalog, the viewer's pages."""

from __future__ import annotations

from pathlib import Path

from openeo_cloudmask.errors import InputError

_PACKAGE = Path(__file__).resolve().parent


def path(name: str) -> Path:
    """Return the file or folder ``name``, e.g. ``udf/cloud_mask.py``.

    In a wheel these lie in ``openeo_cloudmask/_assets``, in a checkout beside the package.

    Raises:
        InputError: there is no such file or folder.
    """
    places = (_PACKAGE / "_assets", _PACKAGE.parent)
    for place in places:
        found = place / name
        if found.exists():
            return found
    raise InputError(
        f"the package's file {name!r} is in none of {', '.join(map(str, places))}; "
        "install openeo-cloudmask from a wheel or run it from a whole checkout"
    )
