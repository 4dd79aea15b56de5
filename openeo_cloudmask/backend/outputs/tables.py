"""CSV, Parquet and GeoJSON: cubes without x and y as rows, bands as columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from openeo_cloudmask.backend.jobs.compute import compute
from openeo_cloudmask.backend.processes.blocks import plain_labels
from openeo_cloudmask.backend.processes.dims import GEOMETRY, is_raster, kind_of
from openeo_cloudmask.backend.processes.geometries import PROPERTIES, parse_geometries
from openeo_cloudmask.errors import InputError
from openeo_cloudmask.publish import publish_file, publish_text

MAX_ROWS = 5_000_000
_FEATURE = "feature_index"


def make_table(cube: xr.DataArray) -> Any:  # noqa: ANN401 - pandas has no types here
    """Return a data frame: one row for each label of the dimensions besides bands.

    Columns are the dimensions (``date`` for time, ``feature_index`` for geometries, from 0), the
    properties of the features, and one for each band; without bands, ``value``.

    Raises:
        InputError: the cube has pixels, or too many rows.
    """
    import pandas as pd

    if is_raster(cube):
        raise InputError(
            "the cube has x and y, which a table does not take; reduce them first "
            "(aggregate_spatial, reduce_spatial), or save a raster format"
        )
    columns_dim = next((str(d) for d in cube.dims if kind_of(cube, str(d)) == "bands"), None)
    columns_dim = columns_dim or ("properties" if "properties" in cube.dims else None)
    rows = [str(dim) for dim in cube.dims if dim != columns_dim]
    moved = cube.transpose(*rows, *([columns_dim] if columns_dim else []))
    if moved.size > MAX_ROWS:
        raise InputError(f"the table has {moved.size} values; at most {MAX_ROWS} are written")
    values = np.asarray(compute(moved.data))
    names = [str(item) for item in plain_labels(cube, columns_dim)] if columns_dim else ["value"]
    index = [_row_labels(cube, dim) for dim in rows]
    grid = np.meshgrid(*(np.arange(len(item)) for item in index), indexing="ij") if rows else []
    frame = pd.DataFrame(
        {_column(cube, dim): [labels[at] for at in places.ravel()]
         for dim, labels, places in zip(rows, index, grid, strict=True)}
    )  # fmt: skip
    if GEOMETRY in rows and not set(names) & {"properties"}:
        frame = _with_properties(frame, cube, taken={*frame.columns, *names})
    body = values.reshape(-1, len(names))
    return pd.concat([frame, pd.DataFrame(body, columns=names)], axis=1)


def _with_properties(frame: Any, cube: xr.DataArray, taken: set[str]) -> Any:  # noqa: ANN401
    known: list[dict[str, Any]] = cube.attrs.get(PROPERTIES) or []
    names = dict.fromkeys(name for item in known for name in item if name not in taken)
    for name in names:
        frame[name] = [known[at].get(name) for at in frame[_FEATURE]]
    return frame


def _row_labels(cube: xr.DataArray, dim: str) -> list[Any]:
    return list(range(cube.sizes[dim])) if dim == GEOMETRY else plain_labels(cube, dim)


def _column(cube: xr.DataArray, dim: str) -> str:
    if dim == GEOMETRY:
        return _FEATURE
    return "date" if kind_of(cube, dim) == "temporal" else dim


def write_csv(path: Path, cube: xr.DataArray) -> None:
    """Write a table as CSV; no data is an empty field."""
    frame = make_table(cube)
    publish_text(path, frame.to_csv(index=False))


def write_parquet(path: Path, cube: xr.DataArray) -> None:
    """Write a table as Parquet; with geometries as GeoParquet."""
    frame = make_table(cube)
    if GEOMETRY in cube.dims:
        import geopandas

        found = parse_geometries(cube)
        shapes = [found.shapes[at] for at in frame[_FEATURE]]
        frame = geopandas.GeoDataFrame(frame, geometry=shapes, crs=found.crs.to_wkt())
    with publish_file(path) as part:
        frame.to_parquet(part, index=False)


def write_geojson(path: Path, cube: xr.DataArray) -> None:
    """Write a vector cube as a FeatureCollection in WGS 84.

    A feature's properties are its own and its values: ``B04``, with a time ``2024-05-01~B04``.

    Raises:
        InputError: the cube has no geometries.
    """
    from openeo_cloudmask.backend.outputs.arrays import to_json
    from openeo_cloudmask.products.crs import parse_crs

    if GEOMETRY not in cube.dims:
        raise InputError("the cube has no geometries, which GeoJSON needs (aggregate_spatial)")
    from shapely.geometry import mapping

    found = parse_geometries(cube)
    frame = make_table(cube)
    keys = [c for c in frame.columns if c not in (_FEATURE, "date")]
    own = {name for item in found.properties for name in item}
    known = {at: dict(item) for at, item in enumerate(found.properties)}
    for row in frame.to_dict("records"):
        date = str(row.get("date", ""))[:10]
        for key in keys:
            if key not in own:
                known[row[_FEATURE]][f"{date}~{key}" if date else key] = to_json(row[key])
    features = [
        {"type": "Feature", "geometry": mapping(shape) if not shape.is_empty else None,
         "properties": known[at]}
        for at, shape in enumerate(found.in_crs(parse_crs(4326)))
    ]  # fmt: skip
    text = json.dumps({"type": "FeatureCollection", "features": features}, allow_nan=False)
    publish_text(path, text)


def write_plain_netcdf(path: Path, cube: xr.DataArray) -> None:
    """Write a cube without x and y as netCDF; geometries as WKT, one variable per band."""
    loaded = cube.copy(data=np.asarray(compute(cube.data)))
    if GEOMETRY in loaded.dims:
        found = parse_geometries(loaded)
        points = [s.centroid if not s.is_empty else None for s in found.shapes]
        loaded = loaded.assign_coords(
            {GEOMETRY: np.arange(len(points))}
            | {
                "geometry_wkt": (GEOMETRY, np.array([s.wkt for s in found.shapes], object)),
                "geometry_x": (GEOMETRY, [p.x if p else np.nan for p in points]),
                "geometry_y": (GEOMETRY, [p.y if p else np.nan for p in points]),
            }
        )
    bands = next((str(d) for d in cube.dims if kind_of(cube, str(d)) == "bands"), None)
    attrs = {"crs": cube.attrs["crs"]} if "crs" in cube.attrs else {}
    loaded.attrs = {}
    dataset = loaded.to_dataset(dim=bands) if bands else loaded.to_dataset(name="var")
    dataset = dataset.rename({name: str(name) for name in dataset.data_vars})
    dataset.attrs = attrs | {"Conventions": "CF-1.8"}
    with publish_file(path) as part:
        dataset.to_netcdf(part, engine="h5netcdf")
