"""Geometries of process graphs: GeoJSON, and vector cubes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from rasterio.crs import CRS

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.graph.process import openeo_process
from openeo_cloudmask.backend.processes.dims import GEOMETRY
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.products.crs import parse_crs

PROPERTIES = "feature_properties"
"""Attribute of vector cubes: the properties of each feature."""
MAX_GEOMETRIES = 10_000
_WGS84 = 4326


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometries:
    """Shapes with the properties of their features."""

    shapes: tuple[Any, ...]
    """shapely geometries."""
    properties: tuple[dict[str, Any], ...]
    crs: CRS

    def in_crs(self, crs: CRS) -> tuple[Any, ...]:
        """Return the shapes in another reference system."""
        if crs == self.crs:
            return self.shapes
        import pyproj
        import shapely

        change = pyproj.Transformer.from_crs(self.crs.to_wkt(), crs.to_wkt(), always_xy=True)

        def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.column_stack(change.transform(points[:, 0], points[:, 1]))

        return tuple(shapely.transform(list(self.shapes), move))


def parse_geometries(value: Any) -> Geometries:  # noqa: ANN401
    """Return the geometries of GeoJSON or of a vector cube.

    Raises:
        ApiError: it is neither, or there are too many.
    """
    if isinstance(value, xr.DataArray):
        if GEOMETRY not in value.dims:
            raise _bad("a cube without a dimension 'geometry'")
        shapes = tuple(value[GEOMETRY].to_numpy().tolist())
        known = value.attrs.get(PROPERTIES) or [{} for _ in shapes]
        return Geometries(
            shapes=shapes, properties=tuple(known), crs=parse_crs(value.attrs.get("crs", _WGS84))
        )
    if not isinstance(value, Mapping) or "type" not in value:
        raise _bad(f"{type(value).__name__}")
    features = _features(value)
    if len(features) > MAX_GEOMETRIES:
        raise _bad(f"{len(features)} geometries; at most {MAX_GEOMETRIES} are taken")
    if not all(isinstance(item, Mapping) for item in features):
        raise _bad("a feature that is no object")
    name: Any = value
    for key in ("crs", "properties", "name"):
        name = name.get(key) if isinstance(name, Mapping) else None
    return Geometries(
        shapes=tuple(_shape(item.get("geometry")) for item in features),
        properties=tuple(
            dict(item.get("properties") or {})
            | ({"id": item["id"]} if "id" in item else {})
            for item in features
        ),
        crs=parse_crs(_crs_name(name)),
    )  # fmt: skip


def _crs_name(name: object) -> int | str:
    """Return the reference system of GeoJSON: WGS 84, longitude first, unless it says another."""
    if name is None or str(name).upper().endswith("CRS84"):
        return _WGS84
    return str(name).replace("urn:ogc:def:crs:EPSG::", "EPSG:")


def _features(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if value["type"] == "FeatureCollection":
        return list(value.get("features") or [])
    if value["type"] == "Feature":
        return [value]
    if value["type"] == "GeometryCollection":
        return [{"geometry": item} for item in value.get("geometries") or []]
    return [{"geometry": value}]


def _shape(geometry: Any) -> Any:  # noqa: ANN401
    from shapely import GEOSException
    from shapely.geometry import Polygon, shape

    if geometry is None:
        return Polygon()
    try:
        return shape(geometry)
    except (GEOSException, ValueError, TypeError, AttributeError, KeyError, IndexError) as err:
        raise _bad(f"a geometry that cannot be read ({type(err).__name__})") from err


VECTOR = {"type": "object", "subtype": "datacube", "dimensions": [{"type": "geometry"}]}
GEOJSON = {"type": "object", "subtype": "geojson"}
_LOAD_GEOJSON = {
    "id": "load_geojson",
    "summary": "GeoJSON as a vector data cube",
    "description": (
        "Makes a vector data cube of GeoJSON. Coordinates are longitude and latitude (WGS 84) "
        "unless a member `crs` names another reference system. The features' properties are "
        "kept beside the cube, and come back as columns in CSV, Parquet and GeoJSON."
    ),
    "categories": ["import", "vector"],
    "parameters": [
        {"name": "data", "description": "The GeoJSON.", "schema": GEOJSON},
        {
            "name": "properties",
            "description": (
                "Names of properties that become values of the cube, along a dimension "
                "`properties`; a feature that lacks one has no data there."
            ),
            "schema": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
            "default": [],
            "optional": True,
        },
    ],
    "returns": {"description": "A vector data cube.", "schema": VECTOR},
    "links": [],
}


@openeo_process(describe=lambda _: _LOAD_GEOJSON)
def load_geojson(data: Mapping[str, Any], properties: list[str] | None = None) -> xr.DataArray:
    """Return GeoJSON as a vector cube (geometry, properties); without properties, (geometry)."""
    found = parse_geometries(data)
    shapes = np.empty(len(found.shapes), object)
    shapes[:] = found.shapes
    names = list(properties or [])
    attrs = {"crs": found.crs.to_wkt(), PROPERTIES: list(found.properties)}
    if not names:
        return xr.DataArray(
            np.full(len(shapes), np.nan), dims=(GEOMETRY,), coords={GEOMETRY: shapes}, attrs=attrs
        )
    rows = [[item.get(name) for name in names] for item in found.properties]
    values = np.empty((len(rows), len(names)), object)
    for place, row in enumerate(rows):
        values[place] = row
    if all(isinstance(item, int | float | None) for row in rows for item in row):
        values = values.astype(float)
    return xr.DataArray(
        values, dims=(GEOMETRY, "properties"), coords={GEOMETRY: shapes, "properties": names},
        attrs=attrs,
    )  # fmt: skip


def pixels_of(shape: Any, grid: Grid) -> tuple[NDArray[np.intp], NDArray[np.intp]]:  # noqa: ANN401
    """Return rows and columns of the pixels of a shape in the grid's reference system.

    Of polygons those whose centre lies inside, of points the nearest one, of lines those that
    they touch. A polygon that holds no centre gets the pixel its inner point lies in.
    """
    from rasterio.features import rasterize

    # What lies on a pixel's edge touches both sides of it.
    window = None if shape.is_empty else grid.touched_by(shape.bounds, slack_px=-1e-6)
    if window is None or grid.transform is None:
        return np.empty(0, int), np.empty(0, int)
    part = grid.crop(*window)
    if shape.geom_type in ("Point", "MultiPoint"):
        points = getattr(shape, "geoms", [shape])
        places = [grid.to_pixel(point.x, point.y) for point in points]
        inside = {
            (int(row), int(column)) for row, column in places
            if 0 <= row < grid.shape_yx[0] and 0 <= column < grid.shape_yx[1]
        }  # fmt: skip
        found = np.array(sorted(inside), int).reshape(-1, 2)
        return found[:, 0], found[:, 1]
    lines = "Line" in shape.geom_type
    drawn = rasterize(
        [(shape, 1)], out_shape=part.shape_yx, all_touched=lines, dtype="uint8",
        transform=part.transform,
    )  # fmt: skip
    rows, columns = np.nonzero(drawn)
    if not rows.size and not lines:
        return pixels_of(shape.representative_point(), grid)
    return rows + window[0].start, columns + window[1].start


def _bad(given: str) -> ApiError:
    return ApiError(
        "ProcessParameterInvalid",
        f"geometries: {given} was given; expected GeoJSON or a vector cube",
    )
