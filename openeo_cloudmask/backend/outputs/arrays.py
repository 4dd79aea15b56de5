"""netCDF, Zarr, PNG and JSON."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from openeo_cloudmask.backend.cubes.masking import MASK_ATTRIBUTE
from openeo_cloudmask.backend.jobs.compute import compute
from openeo_cloudmask.backend.outputs.strips import read_strips
from openeo_cloudmask.classes import SCHEMES
from openeo_cloudmask.errors import InputError
from openeo_cloudmask.publish import publish_file, publish_text

_REFLECTANCE_MAX = 2.0
"""Values beyond are no reflectance: a picture takes them for numbers from 0 to 255."""
_EPOCH = "seconds since 1970-01-01"


def write_netcdf(path: Path, cube: xr.DataArray) -> None:
    """Write a cube (t?, bands, y, x) as netCDF 4, a variable per band, CF time and grid mapping."""
    import h5netcdf

    with publish_file(path) as part, h5netcdf.File(part, "w") as file:
        dims = [str(dim) for dim in cube.dims if dim != "bands"]
        file.dimensions = {dim: cube.sizes[dim] for dim in dims}
        _write_coordinates(file, cube, dims)
        dtype = np.dtype("uint8") if cube.dtype == bool else cube.dtype
        labels = [str(label) for label in cube["bands"].to_numpy()]
        for label in labels:
            chunks = tuple(1 if dim == "t" else min(512, cube.sizes[dim]) for dim in dims)
            variable = file.create_variable(
                label, tuple(dims), dtype, chunks=chunks, compression="gzip",
                compression_opts=1, fillvalue=_fill(cube, dtype),
            )  # fmt: skip
            if "spatial_ref" in cube.coords:
                variable.attrs["grid_mapping"] = "crs"
        for date in range(cube.sizes.get("t", 1)):
            scene = cube.isel(t=date) if "t" in cube.dims else cube
            for row, values in read_strips(scene):
                rows = slice(row, row + values.shape[1])
                place = (date, rows, slice(None)) if "t" in dims else (rows, slice(None))
                for label, plane in zip(labels, values, strict=True):
                    file.variables[label][place] = plane.astype(dtype)


def _write_coordinates(file: Any, cube: xr.DataArray, dims: list[str]) -> None:  # noqa: ANN401
    import h5py

    for dim in dims:
        if dim not in cube.coords:
            continue
        values = cube[dim].to_numpy()
        if values.dtype.kind == "M":
            seconds = values.astype("datetime64[ms]").astype(np.int64) / 1000
            variable = file.create_variable(dim, (dim,), "f8", data=seconds)
            variable.attrs["units"] = _EPOCH
            variable.attrs["standard_name"] = "time"
        elif values.dtype.kind in "OUS":
            texts = np.array([str(value) for value in values], dtype=object)
            file.create_variable(dim, (dim,), h5py.string_dtype(), data=texts)
        elif values.dtype.kind in "fiu":
            variable = file.create_variable(dim, (dim,), values.dtype, data=values)
            if dim in ("x", "y"):
                variable.attrs["standard_name"] = f"projection_{dim}_coordinate"
                variable.attrs["units"] = "m"
    if "spatial_ref" in cube.coords:
        crs = file.create_variable("crs", (), "i4", data=np.int32(0))
        for key, value in cube.coords["spatial_ref"].attrs.items():
            crs.attrs[key] = value
    file.attrs["Conventions"] = "CF-1.8"


def _fill(cube: xr.DataArray, dtype: np.dtype[Any]) -> Any:  # noqa: ANN401
    nodata = cube.attrs.get("nodata")
    if dtype.kind == "f":
        return dtype.type(np.nan if nodata is None else nodata)
    if isinstance(nodata, int | float) and math.isfinite(nodata):
        return dtype.type(int(nodata))
    return None


def write_zarr(path: Path, cube: xr.DataArray) -> None:
    """Write a cube as a zipped Zarr store (``.zarr.zip``), readable without unpacking."""
    import zarr

    with publish_file(path) as part:
        store = part.with_name("cube.zarr")
        plain = cube.copy(data=np.broadcast_to(np.zeros((), cube.dtype), cube.shape))
        plain.attrs = {key: value for key, value in cube.attrs.items() if _is_plain(value)}
        template = plain.rename("data").chunk(
            {dim: (1 if dim in ("t", "bands") else 512) for dim in cube.dims}
        )
        template.to_dataset().to_zarr(store, compute=False, consolidated=False, zarr_format=2)
        target: Any = zarr.open_group(str(store), mode="r+")["data"]
        for date in range(cube.sizes.get("t", 1)):
            scene = cube.isel(t=date) if "t" in cube.dims else cube
            for row, values in read_strips(scene):
                rows = slice(row, row + values.shape[1])
                target[(date, slice(None), rows) if "t" in cube.dims else (slice(None), rows)] = (
                    values
                )
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(store.rglob("*")):
                if file.is_file():
                    archive.write(file, str(file.relative_to(store)))


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | bool)


def write_png(path: Path, scene: xr.DataArray, options: dict[str, Any]) -> None:
    """Write a scene (bands, y, x) as a picture: a mask in its colours, else 1 or 3 bands.

    Values are stretched from ``options`` min and max to 0-255; without them from 0 and 1, or 255
    where values are larger than 2.

    Raises:
        InputError: the number of bands is neither 1 nor 3.
    """
    from PIL import Image

    values = np.concatenate([strip for _, strip in read_strips(scene)], axis=1)
    mask = scene.attrs.get(MASK_ATTRIBUTE)
    if mask is not None and mask["categorise"] and values.shape[0] == 1:
        image = Image.fromarray(values[0].astype(np.uint8))
        palette = np.zeros((256, 3), np.uint8)
        for item in SCHEMES[mask["scheme"]].classes:
            palette[item.value] = item.rgba[:3]
        image = image.convert("P") if image.mode != "L" else image
        image.putpalette(palette.tobytes())
        more = {"transparency": 255}
    else:
        if values.shape[0] not in (1, 3):
            raise InputError(
                f"a PNG has 1 or 3 bands; the cube has {values.shape[0]}. Choose with filter_bands"
            )
        low, high = float(options.get("min") or 0), options.get("max")
        if high is None:
            high = 255.0 if np.nanmax(values, initial=0) > _REFLECTANCE_MAX else 1.0
        if not high > low:
            raise InputError(f"PNG options min {low} and max {high}: expected min < max")
        scaled = (np.nan_to_num(values.astype(np.float32), nan=low) - low) / (high - low)
        bytes_yxb = np.moveaxis(np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8), 0, -1)
        image = Image.fromarray(bytes_yxb[..., 0] if values.shape[0] == 1 else bytes_yxb)
        more = {}
    with publish_file(path) as part:
        image.save(part, "PNG", **more)


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401
    """Write any value as JSON."""
    publish_text(path, json.dumps(to_json(value), allow_nan=False))


def to_json(value: Any) -> Any:  # noqa: ANN401, C901, PLR0911 - a table of types
    """Return a value as JSON has it: no-data, NaN and infinities are null, cubes nested lists."""
    if isinstance(value, xr.DataArray):
        value = compute(value)
        if value.ndim == 0:
            return to_json(value.to_numpy())
        return {
            "dims": [str(dim) for dim in value.dims],
            "coords": {
                str(dim): to_json(value[dim].to_numpy())
                for dim in value.dims
                if dim in value.coords
            },
            "data": to_json(value.to_numpy()),
        }
    value = compute(value)
    if isinstance(value, np.ma.MaskedArray):
        value = np.ma.filled(value.astype(object), None)
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "M":
            return [str(item) for item in value] if value.ndim else str(value)
        return to_json(value.tolist())
    if isinstance(value, np.generic):
        return str(value) if isinstance(value, np.datetime64) else to_json(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)


def check_loadable(array: NDArray[Any] | xr.DataArray, limit: int) -> None:
    """Make sure that an array may be loaded as a whole.

    Raises:
        InputError: it is too large.
    """
    if array.nbytes > limit:
        raise InputError(f"the result has {array.nbytes} bytes; JSON takes at most {limit}")
