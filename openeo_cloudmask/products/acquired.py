"""When a raster was taken, as far as its tags say it beyond doubt."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

TAGS = (
    (None, "ACQUIRED"),  # images and masks written here
    ("IMAGERY", "ACQUISITIONDATETIME"),  # GDAL's own name, for providers that tell it
    (None, "SENSING_TIME"),  # HLS
)
"""Domain and name of tags that say when an image was taken, in UTC unless they say another zone.

``TIFFTAG_DATETIME`` does not count: by TIFF's definition it is when the file was made, and most
programs write that into it.
"""
_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?")


def read_acquired(dataset: Any) -> datetime | None:  # noqa: ANN401 - rasterio has no types
    """Return when an open raster was taken, UTC; a day without a time is its first moment.

    None where no tag says it, none can be understood, or they say different days.
    """
    found = []
    for domain, name in TAGS:
        given = {key.upper(): value for key, value in dataset.tags(ns=domain).items()}
        when = _parse(given.get(name, ""))
        if when is not None:
            found.append(when)
    return found[0] if len({when.date() for when in found}) == 1 else None


def _parse(text: str) -> datetime | None:
    if not _TIME.fullmatch(text.strip()):
        return None
    try:
        when = datetime.fromisoformat(text.strip())
        return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # no day of the calendar
        return None
