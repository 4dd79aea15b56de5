"""``save_result``, and what becomes of a graph that saves nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from openeo_cloudmask import datacube
from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.cubes.doubts import date_text, find_doubts
from openeo_cloudmask.backend.graph.process import openeo_process
from openeo_cloudmask.backend.jobs import runtime
from openeo_cloudmask.backend.jobs.compute import compute
from openeo_cloudmask.backend.jobs.runtime import Run, current_run
from openeo_cloudmask.backend.outputs import beside
from openeo_cloudmask.backend.outputs.arrays import (
    check_loadable,
    to_json,
    write_json,
    write_netcdf,
    write_png,
    write_zarr,
)
from openeo_cloudmask.backend.outputs.geotiff import find_mask, mask_tags, write_geotiff
from openeo_cloudmask.backend.outputs.tables import (
    write_csv,
    write_geojson,
    write_parquet,
    write_plain_netcdf,
)
from openeo_cloudmask.backend.processes.blocks import plain_labels
from openeo_cloudmask.backend.processes.dims import (
    find_dimension,
    grid_of,
    is_raster,
    kind_of,
)
from openeo_cloudmask.products.xyz import Region, Tile

_PIXEL = {"type": "number", "subtype": "pixel-value"}

FORMATS: dict[str, dict[str, Any]] = {
    "GTiff": {
        "title": "Cloud optimized GeoTIFF",
        "description": (
            "One file per date in batch jobs; masks with the names, values and colours of classes. "
            "A synchronous request gets one file, with a band for each date and band."
        ),
        "gis_data_types": ["raster"],
        "parameters": beside.OPTIONS,
    },
    "netCDF": {
        "title": "netCDF 4 (CF)",
        "description": "One file with all dates; one variable per band.",
        "gis_data_types": ["raster", "vector", "table"],
        "parameters": {},
    },
    "Zarr": {
        "title": "Zarr, zipped",
        "description": "One zip file with all dates, readable without unpacking.",
        "gis_data_types": ["raster"],
        "parameters": {},
    },
    "PNG": {
        "title": "Picture",
        "description": "One picture per date: a mask in its colours, or one or three bands.",
        "gis_data_types": ["raster"],
        "parameters": {
            "min": {**_PIXEL, "description": "Drawn as 0.", "default": 0},
            "max": {
                **_PIXEL,
                "description": (
                    "Drawn as 255. Without it 1 (reflectance), or 255 where values are larger "
                    "than 2, as after linear_scale_range to 0-255."
                ),
            },
        },
    },
    "CSV": {
        "title": "Table (CSV)",
        "description": "One row for each date and geometry, one column per band.",
        "gis_data_types": ["vector", "table"],
        "parameters": {},
    },
    "Parquet": {
        "title": "Table (Parquet, with geometries GeoParquet)",
        "description": "One row for each date and geometry, one column per band.",
        "gis_data_types": ["vector", "table"],
        "parameters": {},
    },
    "GeoJSON": {
        "title": "GeoJSON",
        "description": "Geometries with the values as properties, named date~band.",
        "gis_data_types": ["vector"],
        "parameters": {},
    },
    "JSON": {
        "title": "JSON",
        "description": "Values, and small cubes as nested lists; no data is null.",
        "gis_data_types": ["raster", "table", "other"],
        "parameters": {},
    },
}
_NAMES = {"cog": "GTiff", "geotiff": "GTiff", "gtif": "GTiff", "nc": "netCDF", "netcdf4": "netCDF",
          "geoparquet": "Parquet"}  # fmt: skip
_TYPES = {
    "GTiff": (".tif", "image/tiff; application=geotiff; profile=cloud-optimized"),
    "netCDF": (".nc", "application/x-netcdf"),
    "Zarr": (".zarr.zip", "application/zip"),
    "PNG": (".png", "image/png"),
    "CSV": (".csv", "text/csv"),
    "Parquet": (".parquet", "application/vnd.apache.parquet"),
    "GeoJSON": (".geojson", "application/geo+json"),
    "JSON": (".json", "application/json"),
}
_TABLES = {"CSV": write_csv, "Parquet": write_parquet, "GeoJSON": write_geojson}
_JSON_BYTES = 64 * 2**20


def find_format(name: str) -> str:
    """Return the format called ``name``, whatever its case.

    Raises:
        ApiError: no format has that name.
    """
    lower = str(name).lower()
    found = {known.lower(): known for known in FORMATS} | _NAMES
    if lower not in found:
        raise ApiError(
            "FormatUnsuitable", f"format {name!r} is not known; known are {', '.join(FORMATS)}"
        )
    return found[lower]


@openeo_process()
def save_result(data: Any, format: str, options: dict[str, Any] | None = None) -> bool:  # noqa: A002, ANN401
    """Write the data to files of the run; returns whether that worked, as openEO has it."""
    write_result(data, find_format(format), dict(options or {}), current_run())
    return True


def write_default(result: Any, run: Run, *, synchronous: bool) -> Any:  # noqa: ANN401
    """Return a value as JSON, or write it where it is a cube or a job's result."""
    if isinstance(result, xr.DataArray) and {"x", "y"} <= set(result.dims):
        dates = result.sizes.get("t", 1)
        write_result(result, "GTiff" if dates == 1 else "netCDF", {}, run)
        return None
    if not synchronous:
        write_result(result, "JSON", {}, run)
        return None
    value = to_json(result)
    # It goes through the memory of the server itself, which has to answer others.
    if (size := len(json.dumps(value))) > _JSON_BYTES:
        raise ApiError(
            "ProcessGraphComplexity",
            f"the result has {size / 2**20:.0f} MB as JSON, at most {_JSON_BYTES >> 20} MB are "
            "answered at once; use a batch job",
        )
    return value


def write_result(data: Any, kind: str, options: dict[str, Any], run: Run) -> None:  # noqa: ANN401
    """Write ``data`` in the format ``kind`` and note the files in ``run``.

    Where a tile of a map is wanted, it is a picture of what the tile shows.
    """
    if run.spec.tile is not None:
        scene = show_tile(_as_raster(data, "PNG"), Tile.of(run.spec.tile))
        _write(run, "tile", "PNG", partial(write_png, scene=scene, options=options), {})
        return
    if kind == "JSON":
        if hasattr(data, "nbytes"):
            check_loadable(data, _JSON_BYTES)
        _write(run, "openEO", kind, lambda path: write_json(path, data), {})
        return
    if isinstance(data, xr.DataArray) and (kind in _TABLES or not is_raster(data)):
        _write_table(data, kind, run)
        return
    cube = _as_raster(data, kind)
    whole = _describe(cube)
    if kind in ("netCDF", "Zarr"):
        write = write_netcdf if kind == "netCDF" else write_zarr
        _write(run, "openEO", kind, lambda path: write(path, cube), whole)
        return
    _write_dates(cube, kind, options, run, whole)


def _write_dates(
    cube: xr.DataArray, kind: str, options: dict[str, Any], run: Run, whole: dict[str, Any]
) -> None:
    """Write a GeoTIFF or picture for each date, and what is wanted beside masks."""
    extras = beside.parse_beside(options, cube, run) if kind == "GTiff" else None
    if run.spec.synchronous and cube.sizes.get("t", 1) > 1:
        cube = _dates_as_bands(cube, kind)
    for date in range(cube.sizes.get("t", 1)):
        scene = cube.isel(t=date) if "t" in cube.dims else cube
        when, label = date_text(scene), _file_label(scene)
        name = f"openEO_{label}" if label else "openEO"
        about = whole | ({"datetime": when} if when else {})
        if kind == "PNG":
            _write(run, name, kind, partial(write_png, scene=scene, options=options), about)
        else:
            mask = find_mask(scene)
            about |= {"mask": mask} if mask else {}
            warnings = partial(
                find_doubts, run.spec,
                model=mask["model"] if mask else None, times=[when] if when else [],
            )  # fmt: skip
            write = partial(write_geotiff, scene=scene, when=when, find_warnings=warnings)
            if extras is None or mask is None:
                _write(run, name, kind, write, about)
                continue
            tags = mask_tags(mask, when)
            path = _write(run, name, kind, extras.keeping(write, date, tags), about)
            for made, role in extras.finish(path, date, when):
                _note(run, made, _TYPES[kind][1], role, {"beside": path.name})


def show_tile(cube: xr.DataArray, tile: Tile) -> xr.DataArray:
    """Return (bands, 256, 256): the pixels of a cube's last date under those of a map tile.

    Raises:
        ApiError: the tile lies elsewhere.
    """
    scene = cube.isel(t=-1) if "t" in cube.dims else cube
    region = Region.of(grid_of(scene), tile)
    if region is None:
        raise ApiError("NoDataAvailable", "the tile shows none of the data")
    values = np.asarray(compute(scene[:, region.rows, region.columns]).data)
    fill = 255 if values.dtype == np.uint8 else np.nan
    return xr.DataArray(
        region.pick(values, fill),
        dims=("bands", "y", "x"),
        coords={"bands": scene["bands"].to_numpy()},
        attrs=dict(cube.attrs),
    )


def _write(
    run: Run, stem: str, kind: str, write: Callable[[Path], None], about: dict[str, Any]
) -> Path:
    suffix, media_type = _TYPES[kind]
    taken = {item["name"] for item in run.files}
    name, number = f"{stem}{suffix}", 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}{suffix}"
    run.spec.output_dir.mkdir(parents=True, exist_ok=True)
    path = run.spec.output_dir / name
    write(path)
    _note(run, path, media_type, "data", about)
    return path


def _note(run: Run, path: Path, media_type: str, role: str, about: dict[str, Any]) -> None:
    size = path.stat().st_size
    run.files.append(
        {"name": path.name, "type": media_type, "size": size, "roles": [role], "about": about}
    )
    runtime.log(run.spec, "info", f"wrote {path.name} ({size} bytes)")


def _write_table(data: xr.DataArray, kind: str, run: Run) -> None:
    """Write a cube without x and y.

    Raises:
        ApiError: the format is for rasters.
    """
    writers = _TABLES | {"netCDF": write_plain_netcdf}
    if kind not in writers:
        raise ApiError(
            "FormatUnsuitable",
            f"{kind} is for rasters; the cube has the dimensions "
            f"{', '.join(map(str, data.dims)) or '(none)'}. Save it as {', '.join(writers)}, JSON",
        )
    about = {"bands": _band_labels(data)} if any(
        kind_of(data, str(dim)) == "bands" for dim in data.dims
    ) else {}  # fmt: skip
    _write(run, "openEO", kind, lambda path: writers[kind](path, data), about)


def _band_labels(data: xr.DataArray) -> list[str]:
    return [str(label) for label in plain_labels(data, find_dimension(data, "bands"))]


def _as_raster(data: Any, kind: str) -> xr.DataArray:  # noqa: ANN401
    """Return a cube with the dimensions bands, y, x and perhaps t; without bands one, ``var``."""
    if not isinstance(data, xr.DataArray):
        raise ApiError(
            "FormatUnsuitable",
            f"a value of type {type(data).__name__} cannot be saved as {kind}; save it as JSON",
        )
    if datacube.find_dimension(data, "bands") is None:
        data = data.drop_vars("bands", errors="ignore").expand_dims(bands=["var"])
    elif "bands" in data.dims and "bands" not in data.coords:
        data = data.assign_coords(bands=[str(number) for number in range(data.sizes["bands"])])
    return datacube.name_dimensions(data)


def _dates_as_bands(cube: xr.DataArray, kind: str) -> xr.DataArray:
    """Return one scene with a band for each date and band, named such as ``2024-05-01 B04``.

    Raises:
        ApiError: a picture of several dates is asked for.
    """
    if kind == "PNG":
        raise ApiError(
            "FormatUnsuitable",
            f"the cube has {cube.sizes['t']} dates and a picture shows one; choose or reduce the "
            "dates (filter_temporal, reduce_dimension), or run a batch job for a picture of each",
        )
    names = [
        f"{_file_label(cube.isel(t=date))} {label}"
        for date in range(cube.sizes["t"])
        for label in cube["bands"].to_numpy()
    ]
    scenes = [cube.isel(t=date, drop=True) for date in range(cube.sizes["t"])]
    whole = xr.concat(scenes, "bands", coords="minimal", compat="override", join="override")
    whole.attrs = dict(cube.attrs)
    return whole.assign_coords(bands=names)


def _describe(cube: xr.DataArray) -> dict[str, Any]:
    about: dict[str, Any] = {"bands": [str(label) for label in cube["bands"].to_numpy()]}
    bounds = grid_of(cube).bounds_wgs84 if is_raster(cube) else None
    if bounds is not None:
        about["bbox"] = [float(value) for value in bounds]
    about["shape"] = [cube.sizes["y"], cube.sizes["x"]]
    if "t" in cube.coords:
        scenes = [cube.isel(t=at) for at in range(cube.sizes["t"])] if "t" in cube.dims else [cube]
        about["dates"] = [date for scene in scenes if (date := date_text(scene))]
    return about


def _file_label(scene: xr.DataArray) -> str | None:
    """Return a scene's day, or its label where that is no date, fit for the name of a file."""
    if "t" not in scene.coords or scene["t"].ndim:
        return None
    when = date_text(scene)
    return when[:10] if when else re.sub(r"[^\w.-]", "_", str(scene["t"].item()))[:60]
