"""``load_stac``: items, collections and APIs that are somewhere else."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import numpy as np
import xarray as xr

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.cubes.collections import chosen_bands
from openeo_cloudmask.backend.cubes.outside import Outside
from openeo_cloudmask.backend.cubes.read import BandFile, FilesRef
from openeo_cloudmask.backend.graph.process import openeo_process
from openeo_cloudmask.backend.jobs.runtime import current_run
from openeo_cloudmask.backend.processes.load import (
    LoadItem,
    assemble,
    fits,
    parse_grid,
    parse_interval,
)
from openeo_cloudmask.errors import CloudMaskError
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.products.stack import raster_grid

MAX_ITEMS = 500
MAX_PAGES = 100
MAX_SIDE_PX = 200_000
"""Of a raster; the size that an item states is not trusted until the file is opened."""
_RASTER_SUFFIXES = (".tif", ".tiff", ".jp2")


@openeo_process()
def load_stac(
    url: str,
    spatial_extent: Any = None,  # noqa: ANN401
    temporal_extent: Any = None,  # noqa: ANN401
    bands: list[str] | None = None,
    properties: Mapping[str, Callable[..., Any]] | None = None,
    resolution: float | None = None,
    projection: Any = None,  # noqa: ANN401
    resampling: str | None = None,
) -> xr.DataArray:
    """Return a cube of the items behind ``url``: an item, a static collection, or one of an API.

    Values are ``stored * scale + offset`` where an asset says so; no data is NaN.

    Raises:
        ApiError: nothing usable is there.
    """
    if resolution is not None or projection is not None or resampling is not None:
        raise ApiError(
            "FeatureUnsupported",
            "load_stac keeps the items' own grid; leave resolution, projection and resampling out "
            "and use resample_spatial",
        )
    run = current_run().spec
    interval = parse_interval(temporal_extent)
    reader = Outside(allowed_hosts=run.stac_hosts)
    with _as_stac(url):
        found = [
            (item, where)
            for item, where in find_items(reader, url, interval)
            if fits(item, interval, properties)
        ]
        labels = list(dict.fromkeys(name for item, _ in found for name in _assets(item)))
    if not found:
        raise ApiError("NoDataAvailable", f"no items of {url} fit the extents and properties")
    chosen = chosen_bands(labels, bands)
    with _as_stac(url):
        items = [_load_item(item, where, chosen, reader) for item, where in found]
    return assemble(items, spatial_extent, chosen, run)


@contextmanager
def _as_stac(url: str) -> Iterator[None]:
    """Turn what a document raises that is not as STAC has it into an error; it repeats nothing."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as err:
        if isinstance(err, CloudMaskError):
            raise
        raise _bad(
            f"an item or collection of {url} is not as STAC has it ({type(err).__name__}); check "
            "it with a STAC validator"
        ) from err


def find_items(
    reader: Outside, url: str, interval: tuple[Any, Any]
) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield (item, its URL) behind a URL.

    Raises:
        ApiError: it is no STAC item or collection.
    """
    document = reader.read_json(url)
    kind = document.get("type")
    if kind == "Feature":
        yield document, url
        return
    if kind == "FeatureCollection":
        yield from ((item, url) for item in document.get("features", []))
        return
    if kind != "Collection":
        raise _bad(f"{url} is no STAC item and no collection; expected one of them")
    api = _links(document, url, "items")
    if api:
        yield from _search(reader, api[0], interval)
        return
    for number, link in enumerate(_links(document, url, "item")):
        if number >= MAX_ITEMS:
            raise _bad(f"the collection has more than {MAX_ITEMS} items; name one of them")
        yield reader.read_json(link), link


def _search(
    reader: Outside, url: str, interval: tuple[Any, Any]
) -> Iterator[tuple[dict[str, Any], str]]:
    ends = ["..", ".."]
    for place, end in enumerate(interval):
        if end is not None:
            ends[place] = end.isoformat().replace("+00:00", "Z")
    query = {"limit": 100} | ({} if ends == ["..", ".."] else {"datetime": "/".join(ends)})
    page: str | None = f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"
    count = 0
    seen: set[str] = set()
    while page is not None:
        if page in seen or len(seen) >= MAX_PAGES:
            raise _bad(f"{url} has pages without an end, or more than {MAX_PAGES} of them")
        seen.add(page)
        document = reader.read_json(page)
        for item in document.get("features", []):
            count += 1
            if count > MAX_ITEMS:
                raise _bad(f"more than {MAX_ITEMS} items fit; narrow the extents")
            yield item, page
        page = next(iter(_links(document, page, "next")), None)


def _links(document: Mapping[str, Any], base: str, rel: str) -> list[str]:
    return [
        urljoin(base, str(link["href"]))
        for link in document.get("links", [])
        if isinstance(link, dict) and link.get("rel") == rel and "href" in link
    ]


def _assets(item: Mapping[str, Any]) -> dict[str, tuple[dict[str, Any], int]]:
    """Return band name -> (asset, number of its band) of an item's raster assets."""
    found: dict[str, tuple[dict[str, Any], int]] = {}
    for key, asset in (item.get("assets") or {}).items():
        kind, href = str(asset.get("type", "")), str(asset.get("href", ""))
        suffix = posixpath.splitext(urlsplit(href).path)[1].lower()
        if not ("tiff" in kind or "jp2" in kind or suffix in _RASTER_SUFFIXES):
            continue
        if set(asset.get("roles") or ["data"]) & {"thumbnail", "overview", "metadata"}:
            continue
        bands = asset.get("eo:bands") or asset.get("bands") or []
        if len(bands) > 1:
            for number, band in enumerate(bands, start=1):
                found.setdefault(str(band.get("name", f"{key}_{number}")), (asset, number))
        else:
            found.setdefault(str(key), (asset, 1))
    return found


def _load_item(item: Mapping[str, Any], where: str, bands: list[str], reader: Outside) -> LoadItem:
    assets = _assets(item)
    if missing := [name for name in bands if name not in assets]:
        raise _bad(f"item {item.get('id')} lacks the bands {', '.join(missing)}")
    opened = [(*assets[name], _asset_grid(item, assets[name][0], where, reader)) for name in bands]
    finest = min((grid for *_, grid in opened), key=lambda g: g.pixel_size)
    files = []
    for asset, number, grid in opened:
        details = (asset.get("raster:bands") or asset.get("bands") or [{}])[
            number - 1
            if len(asset.get("raster:bands") or asset.get("bands") or [{}]) >= number
            else 0
        ]
        step = finest.pixel_size / grid.pixel_size
        files.append(
            BandFile(
                path=urljoin(where, str(asset["href"])),
                index=number,
                scale=float(details.get("scale", details.get("raster:scale", 1.0))),
                offset=float(details.get("offset", details.get("raster:offset", 0.0))),
                nodata=_number(details.get("nodata")),
                step=step,
                shape_yx=grid.shape_yx,
            )
        )
    properties = item["properties"]
    text = str(properties.get("datetime") or properties["start_datetime"])
    return LoadItem(
        id=str(item.get("id")),
        when=np.datetime64(text.replace("Z", "").split("+")[0], "ns"),
        grid=finest,
        labels=tuple(bands),
        ref=FilesRef(files=tuple(files), outside=reader),
    )


def _asset_grid(
    item: Mapping[str, Any], asset: Mapping[str, Any], where: str, reader: Outside
) -> Grid:
    """Return an asset's grid, from its metadata or else from its file."""
    fields = {**item["properties"], **asset}
    if fields.get("proj:shape") and fields.get("proj:transform"):
        grid = parse_grid(fields)
        if not all(0 < side <= MAX_SIDE_PX for side in grid.shape_yx):
            raise _bad(
                f"proj:shape of an asset of item {item.get('id')} is {list(grid.shape_yx)}; "
                f"expected sides of 1 to {MAX_SIDE_PX} pixels"
            )
        return grid
    with reader.open_raster(urljoin(where, str(asset["href"]))) as dataset:
        return raster_grid(dataset)


def _number(value: object) -> float | None:
    if isinstance(value, str) and value.lower() == "nan":
        return None
    return float(value) if isinstance(value, int | float) else None


def _bad(reason: str) -> ApiError:
    return ApiError("ProcessParameterInvalid", f"load_stac: {reason}")
