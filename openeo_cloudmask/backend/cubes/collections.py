"""Local collections: STAC items of files that stay where they are."""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.digits import whole_number
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.grid import halves
from openeo_cloudmask.publish import publish_text
from openeo_cloudmask.stac.fields import EO_URI

_ID = re.compile(r"[\w\-.~]{1,128}")
DATACUBE = "https://stac-extensions.github.io/datacube/v2.2.0/schema.json"


@dataclass(frozen=True, slots=True)
class CollectionStore:
    """The collections in a folder: ``<id>/collection.json`` and ``<id>/items/*.json``."""

    folder: Path

    def ids(self) -> list[str]:
        """Return the ids of all collections."""
        found = self.folder.glob("*/collection.json")
        return sorted(path.parent.name for path in found)

    def get(self, collection_id: str) -> dict[str, Any]:
        """Return a collection as STAC.

        Raises:
            ApiError: no collection has that name.
        """
        path = self._folder_of(collection_id) / "collection.json"
        try:
            return copy.deepcopy(dict(_read_json(path)))
        except FileNotFoundError:
            raise ApiError(
                "CollectionNotFound", f"collection {collection_id!r} does not exist"
            ) from None

    def items(self, collection_id: str) -> list[Mapping[str, Any]]:
        """Return the items of a collection, oldest first; everybody's, not to be changed.

        Raises:
            ApiError: there is no such collection.
        """
        self.get(collection_id)
        folder = self._folder_of(collection_id) / "items"
        items = [_read_json(path) for path in sorted(folder.glob("*.json"))]
        return sorted(
            items, key=lambda item: (item["properties"].get("datetime") or "", item["id"])
        )

    def put_item(self, collection_id: str, item: dict[str, Any]) -> None:
        """Store an item, in the place of one of the same id."""
        folder = self._folder_of(collection_id) / "items"
        folder.mkdir(parents=True, exist_ok=True)
        publish_text(folder / f"{_file_name(item['id'])}.json", json.dumps(item, indent=1))

    def put(self, collection: dict[str, Any]) -> None:
        """Store a collection."""
        folder = self._folder_of(collection["id"])
        folder.mkdir(parents=True, exist_ok=True)
        publish_text(folder / "collection.json", json.dumps(collection, indent=1))

    def rebuild(self, collection_id: str, *, title: str | None, licence: str) -> dict[str, Any]:
        """Write the collection anew from its items and return it."""
        folder = self._folder_of(collection_id) / "items"
        items = [_read_json(path) for path in sorted(folder.glob("*.json"))]
        if not items:
            raise OptionError(f"collection {collection_id!r} has no items")
        collection = describe_collection(collection_id, items, title=title, licence=licence)
        self.put(collection)
        return collection

    def _folder_of(self, collection_id: str) -> Path:
        if not _ID.fullmatch(collection_id) or set(collection_id) <= {"."}:
            raise ApiError(
                "CollectionNotFound",
                f"collection {collection_id!r} does not exist; ids are up to 128 letters, digits "
                "and the signs _ - . ~",
            )
        return self.folder / collection_id


def describe_collection(
    collection_id: str, items: Sequence[Mapping[str, Any]], *, title: str | None, licence: str
) -> dict[str, Any]:
    """Return a STAC collection with the ``cube:dimensions`` that openEO clients need."""
    boxes = [part for item in items if item.get("bbox") for part in halves(item["bbox"])]
    bbox = (
        [min(b[0] for b in boxes), min(b[1] for b in boxes),
         max(b[2] for b in boxes), max(b[3] for b in boxes)]
        if boxes else [-180.0, -90.0, 180.0, 90.0]
    )  # fmt: skip
    dates = sorted(date for item in items if (date := item["properties"].get("datetime")))
    interval: list[str | None] = [dates[0], dates[-1]] if dates else [None, None]
    bands = _merge_bands(items)
    summaries: dict[str, Any] = {"bands": bands}
    for key in ("platform", "instruments", "cloudmask:sensor", "gsd"):
        values = sorted({_hashable(v) for item in items if (v := item["properties"].get(key))})
        if values:
            flat = [list(v) if isinstance(v, tuple) else v for v in values]
            summaries[key] = flat[0] if key == "instruments" else flat
    return {
        "stac_version": "1.1.0",
        "stac_extensions": [DATACUBE, EO_URI],
        "type": "Collection",
        "id": collection_id,
        "title": title or collection_id,
        "description": (
            "Values are reflectance 0-1 (thermal bands: normalised brightness temperature 0-1), "
            "with scale and offset applied; no data is NaN."
        ),
        "license": licence,
        "extent": {"spatial": {"bbox": [bbox]}, "temporal": {"interval": [interval]}},
        "cube:dimensions": _dimensions(items, bbox, interval, [band["name"] for band in bands]),
        "summaries": summaries,
        "links": [],
    }


def _dimensions(
    items: Sequence[Mapping[str, Any]],
    bbox: list[float],
    interval: list[str | None],
    bands: list[str],
) -> dict[str, Any]:
    properties = [item["properties"] for item in items]
    codes = {epsg_code(p) for p in properties} - {None}
    code = next(iter(codes)) if len(codes) == 1 else 4326
    extents = {"x": [bbox[0], bbox[2]], "y": [bbox[1], bbox[3]]}
    spatial: dict[str, Any] = {}
    boxes = [p["proj:bbox"] for p in properties if p.get("proj:bbox")]
    if len(codes) == 1 and boxes:
        extents["x"] = [min(b[0] for b in boxes), max(b[2] for b in boxes)]
        extents["y"] = [min(b[1] for b in boxes), max(b[3] for b in boxes)]
    steps = {abs(p["proj:transform"][0]) for p in properties if p.get("proj:transform")}
    for axis in ("x", "y"):
        spatial[axis] = {
            "type": "spatial", "axis": axis, "extent": extents[axis], "reference_system": code,
        }  # fmt: skip
        if len(codes) == 1 and len(steps) == 1:
            spatial[axis]["step"] = next(iter(steps))
    return {
        **spatial,
        "t": {"type": "temporal", "extent": interval},
        "bands": {"type": "bands", "values": bands},
    }


def epsg_code(properties: Mapping[str, Any]) -> int | None:
    """Return the EPSG code of an item's ``proj:code``; None where it has none."""
    authority, _, code = str(properties.get("proj:code") or "").partition(":")
    return whole_number(code) if authority == "EPSG" else None


def _merge_bands(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for item in items:
        for band in item["properties"].get("cloudmask:bands", []):
            found.setdefault(band["name"], band)
    return list(found.values())


def _hashable(value: Any) -> Any:  # noqa: ANN401
    return tuple(value) if isinstance(value, list) else value


def _file_name(item_id: str) -> str:
    return re.sub(r"[^\w\-.]", "_", item_id)[:200]


_cache: dict[tuple[str, int, int], Mapping[str, Any]] = {}
_cache_lock = threading.Lock()


def _read_json(path: Path) -> Mapping[str, Any]:
    """Return a JSON file's content, everybody's; read once while the file is the same."""
    state = path.stat()
    key = (str(path), state.st_mtime_ns, state.st_size)
    with _cache_lock:
        found = _cache.get(key)
    if found is None:
        found = json.loads(path.read_text(encoding="utf-8"))
        with _cache_lock:
            if len(_cache) > 10_000:
                _cache.clear()
            _cache[key] = found
    return found


def chosen_bands(available: Iterable[str], wanted: Iterable[str] | None) -> list[str]:
    """Return the bands asked for, all where none are.

    Raises:
        ApiError: a band is not there.
    """
    have = list(available)
    names = list(wanted) if wanted is not None else have
    if missing := [name for name in names if name not in have]:
        raise ApiError(
            "ProcessParameterInvalid",
            f"bands {', '.join(map(str, missing))} are not in the collection; "
            f"it has {', '.join(have)}",
        )
    return names
