"""``load_collection``: from items to a lazy cube."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform_bounds

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.api.public_items import item_href
from openeo_cloudmask.backend.cubes.collections import CollectionStore, chosen_bands
from openeo_cloudmask.backend.cubes.read import DateCube, FilesRef, Part, ProductRef, build_cube
from openeo_cloudmask.backend.graph.process import openeo_process
from openeo_cloudmask.backend.jobs import runtime
from openeo_cloudmask.backend.jobs.runtime import InputItem, RunSpec, current_run
from openeo_cloudmask.grid import Bounds, Grid
from openeo_cloudmask.products.crs import parse_crs
from openeo_cloudmask.products.xyz import Region, Tile
from openeo_cloudmask.sensors import SENSORS


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadItem:
    """A scene as its metadata describes it; nothing was opened yet."""

    id: str
    when: np.datetime64
    grid: Grid
    labels: tuple[str, ...]
    ref: ProductRef | FilesRef


@openeo_process()
def load_collection(
    id: str,  # noqa: A002 - the name openEO gives it
    spatial_extent: Any = None,  # noqa: ANN401 - a bounding box, GeoJSON or null
    temporal_extent: Any = None,  # noqa: ANN401
    bands: list[str] | None = None,
    properties: Mapping[str, Callable[..., Any]] | None = None,
) -> xr.DataArray:
    """Return a cube (t, bands, y, x) float32 of a local collection, read when it is computed."""
    run = current_run().spec
    store = CollectionStore(run.collections_dir)
    interval = parse_interval(temporal_extent)
    stored = [item for item in store.items(id) if fits(item, interval, properties)]
    items = [_parse_item(item) for item in stored]
    current_run().inputs.extend(
        InputItem(
            href=None if run.public_url is None else item_href(run.public_url, id, item.id),
            day=str(item.when)[:10],
            platform=given["properties"].get("platform"),
        )
        for item, given in zip(items, stored, strict=True)
    )
    labels = list(dict.fromkeys(label for item in items for label in item.labels))
    wanted = None if bands is None else _canonical(bands, stored, labels)
    return assemble(items, spatial_extent, labels if wanted is None else wanted, run, names=bands)


def assemble(
    items: list[LoadItem],
    spatial_extent: Any,  # noqa: ANN401
    bands: list[str],
    run: RunSpec,
    *,
    names: list[str] | None = None,
) -> xr.DataArray:
    """Return the lazy cube of items, cut to an extent.

    Args:
        items: scenes of one coordinate reference system and resolution.
        spatial_extent: bounding box, GeoJSON, or None.
        bands: bands of the cube as the items call them.
        run: limits what may be loaded.
        names: labels of the bands where the client calls them otherwise.

    Raises:
        ApiError: no data is there, or it is too much, or the grids do not fit each other.
    """
    if not items:
        raise _no_data()
    items, grid = _common_grid(items)
    grid, _ = cut_grid(grid, spatial_extent)
    if run.tile is not None:
        grid = tile_grid(grid, run)
    height, width = grid.shape_yx
    dates: dict[np.datetime64, list[Part]] = {}
    for item in items:
        row, column = (round(value) for value in grid.offset_yx(item.grid))
        rows, columns = item.grid.shape_yx
        if row >= height or column >= width or row + rows <= 0 or column + columns <= 0:
            continue
        planes = tuple(item.labels.index(name) for name in bands if name in item.labels)
        if len(planes) < len(bands):
            missing = [name for name in bands if name not in item.labels]
            raise ApiError(
                "ProcessParameterInvalid", f"item {item.id} lacks the bands {', '.join(missing)}"
            )
        part = Part(ref=item.ref, planes=planes, shape_yx=(rows, columns), top=row, left=column)
        dates.setdefault(item.when, []).append(part)
    if not dates:
        raise _no_data()
    if run.tile is not None:  # a map shows the last date there is
        dates = {max(dates): dates[max(dates)]}
    pixels = height * width * len(bands) * len(dates)
    if run.max_pixels is not None and pixels > run.max_pixels:
        raise ApiError(
            "ProcessGraphComplexity",
            f"the extent has {pixels} values, more than the {run.max_pixels} that a synchronous "
            "request may load; use a batch job, or a smaller extent",
        )
    runtime.log(
        run, "info",
        f"loading {len(dates)} dates of {height} x {width} pixels, bands {', '.join(bands)}",
    )  # fmt: skip
    shape = (len(bands), height, width)
    cubes = [(when, DateCube(parts=tuple(dates[when]), shape=shape)) for when in sorted(dates)]
    cube = build_cube(cubes, names or bands, grid)
    runtime.current_run().sources[cube.data.name] = [source for _, source in cubes]
    return mask_outside(cube, grid, spatial_extent)


def cut_grid(grid: Grid, extent: Any) -> tuple[Grid, tuple[int, int]]:  # noqa: ANN401
    """Return the pixels of ``grid`` that touch an extent, and where they begin in it.

    Raises:
        ApiError: none do, or the grid has no georeference.
    """
    if extent is None:
        return grid, (0, 0)
    if grid.transform is None or grid.crs is None:
        raise ApiError(
            "ProcessParameterInvalid",
            "the data has no georeference, so spatial_extent cannot be given; leave it out (null)",
        )
    # A hair of slack, so that a box that ends on a pixel's edge does not touch the next one.
    touched = grid.touched_by(_bounds_in(extent, grid.crs), slack_px=1e-6)
    if touched is None:
        raise _no_data()
    return grid.crop(*touched), (touched[0].start, touched[1].start)


def tile_grid(grid: Grid, run: RunSpec) -> Grid:
    """Return the part of a grid that a map tile shows, and what models look at around it.

    Raises:
        ApiError: the tile lies elsewhere.
        InputError: it shows too much of the data.
    """
    region = Region.of(grid, Tile.of(run.tile))
    if region is None:
        raise _no_data()
    return grid.crop(*region.widened(run.margin_px, grid.shape_yx))


def mask_outside(cube: xr.DataArray, grid: Grid, extent: Any) -> xr.DataArray:  # noqa: ANN401
    """Return the cube with no data outside of a GeoJSON extent; as it is for boxes."""
    geometries = _geometries(extent)
    if not geometries or grid.transform is None or grid.crs is None:
        return cube
    from rasterio.features import geometry_mask
    from rasterio.warp import transform_geom

    shapes = [transform_geom("EPSG:4326", grid.crs, item) for item in geometries]
    outside = geometry_mask(shapes, grid.shape_yx, grid.transform, all_touched=False)
    return cube.where(xr.DataArray(~outside, dims=("y", "x")))


def parse_interval(extent: Any) -> tuple[datetime | None, datetime | None]:  # noqa: ANN401
    """Return beginning (inclusive) and end (exclusive) of a time range.

    Raises:
        ApiError: it is empty.
    """
    if extent is None:
        return None, None
    root = getattr(extent, "root", extent)
    ends = [_as_datetime(item) for item in root]
    begin, end = ends[0], ends[1]
    if begin is not None and end is not None and end <= begin:
        raise ApiError(
            "TemporalExtentEmpty",
            "the temporal extent is empty: its end, which is exclusive, is not after its beginning",
        )
    return begin, end


def fits(
    item: Mapping[str, Any],
    interval: tuple[datetime | None, datetime | None],
    properties: Mapping[str, Callable[..., Any]] | None,
) -> bool:
    """Return whether an item lies in a time range and meets conditions on its properties."""
    given = item["properties"]
    text = given.get("datetime") or given.get("start_datetime")
    when = datetime.fromisoformat(str(text))
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    begin, end = interval
    if (begin is not None and when < begin) or (end is not None and when >= end):
        return False
    for name, condition in (properties or {}).items():
        if name not in given or not callable(condition):
            return False
        if not bool(condition(named_parameters={"value": copy.deepcopy(given[name])})):
            return False
    return True


def _parse_item(item: Mapping[str, Any]) -> LoadItem:
    properties = item["properties"]
    product = item["assets"]["product"]
    opened = dict(product.get("cloudmask:open") or {})
    if opened.get("bands"):
        opened["bands"] = tuple(opened["bands"])
    return LoadItem(
        id=str(item["id"]),
        when=np.datetime64(str(properties["datetime"]).removesuffix("Z"), "ns"),
        grid=parse_grid(properties),
        labels=tuple(band["name"] for band in properties["cloudmask:bands"]),
        ref=ProductRef(path=product["href"], **opened),
    )


def parse_grid(properties: Mapping[str, Any]) -> Grid:
    """Return the grid that the projection extension's fields describe."""
    shape = tuple(properties["proj:shape"])
    transform = properties.get("proj:transform")
    code = properties.get("proj:code") or properties.get("proj:epsg")
    wkt = properties.get("proj:wkt2")
    crs = parse_crs(wkt or code) if wkt or code else None
    return Grid(
        shape_yx=(int(shape[0]), int(shape[1])),
        transform=None if transform is None else Affine(*transform[:6]),
        crs=crs,
    )


def _canonical(bands: list[str], stored: list[Mapping[str, Any]], labels: list[str]) -> list[str]:
    """Return the items' names of the bands asked for, which may be aliases of the sensor."""
    names: list[str] = []
    sensors = {item["properties"].get("cloudmask:sensor") for item in stored} - {None}
    sensor = SENSORS.get(next(iter(sensors))) if len(sensors) == 1 else None
    for name in bands:
        found = None if sensor is None or name in labels else sensor.find_band(str(name))
        names.append(found.name if found is not None and found.name in labels else str(name))
    return chosen_bands(labels, names) if labels else names


def _common_grid(items: list[LoadItem]) -> tuple[list[LoadItem], Grid]:
    """Return a grid that holds all items.

    Raises:
        ApiError: their reference systems or resolutions differ, or pixels do not lie on pixels.
    """
    first = items[0].grid
    if all(item.grid == first for item in items):
        return items, first
    if first.transform is None or any(item.grid.transform is None for item in items):
        raise ApiError(
            "ProcessParameterInvalid", "items without georeference have to be of one size"
        )
    places = []
    for item in items:
        if not first.fits(item.grid):
            raise ApiError(
                "ProcessParameterInvalid",
                "the items lie on different grids (reference system, resolution or pixel edges); "
                "choose an extent or properties that leave one of them",
            )
        row, column = (round(value) for value in first.offset_yx(item.grid))
        height, width = item.grid.shape_yx
        places.append((row, row + height, column, column + width))
    tops, bottoms, lefts, rights = zip(*places, strict=True)
    rows, columns = slice(min(tops), max(bottoms)), slice(min(lefts), max(rights))
    return items, first.crop(rows, columns)


def _bounds_in(extent: Any, crs: CRS) -> Bounds:  # noqa: ANN401
    geometries = _geometries(extent)
    if geometries:
        from shapely.geometry import shape
        from shapely.ops import unary_union

        box = unary_union([shape(item) for item in geometries]).bounds
        west, south, east, north = transform_bounds("EPSG:4326", crs, *box)
        return west, south, east, north
    given = extent if isinstance(extent, Mapping) else extent.__dict__
    box = tuple(float(given[key]) for key in ("west", "south", "east", "north"))
    if box[2] < box[0] or box[3] < box[1] or not all(map(math.isfinite, box)):
        raise ApiError(
            "ProcessParameterInvalid",
            "spatial_extent is empty: expected west <= east and south <= north",
        )
    source = parse_crs(given.get("crs") or "EPSG:4326")
    if source == crs:
        return box  # type: ignore[return-value]
    west, south, east, north = transform_bounds(source, crs, *box)
    if not all(map(math.isfinite, (west, south, east, north))):
        raise _no_data()
    return west, south, east, north


def _geometries(extent: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    if not isinstance(extent, Mapping) or "type" not in extent:
        return []
    if extent["type"] == "FeatureCollection":
        return [item["geometry"] for item in extent["features"]]
    return [extent["geometry"] if extent["type"] == "Feature" else dict(extent)]


def _as_datetime(value: Any) -> datetime | None:  # noqa: ANN401
    value = getattr(value, "root", value)
    if value is None:
        return None
    found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _no_data() -> ApiError:
    return ApiError(
        "NoDataAvailable", "there is no data available for the given extents and properties"
    )
