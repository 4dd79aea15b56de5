"""``ndvi`` and ``create_data_cube``."""

from __future__ import annotations

import numpy as np
import xarray as xr

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.graph.process import openeo_process
from openeo_cloudmask.backend.processes.blocks import made_attributes, plain_labels
from openeo_cloudmask.backend.processes.dims import find_dimension
from openeo_cloudmask.sensors import SENSORS

_COMMON = {"nir": ("nir", "nir08"), "red": ("red",)}


@openeo_process()
def ndvi(
    data: xr.DataArray, nir: str = "nir", red: str = "red", target_band: str | None = None
) -> xr.DataArray:
    """Return (nir - red) / (nir + red), in place of the bands or as one more band.

    Bands are found by their labels, or by their common names ``nir`` and ``red``.
    """
    dimension = find_dimension(data, "bands")
    labels = [str(label) for label in plain_labels(data, dimension)]
    high, low = (_band(data, dimension, labels, name, code) for name, code in
                 ((nir, "NirBandAmbiguous"), (red, "RedBandAmbiguous")))  # fmt: skip
    index = ((high - low) / (high + low)).astype(np.float32)
    if target_band is None:
        index.attrs = made_attributes(data, index.dtype)
        return index
    if target_band in labels:
        raise ApiError("BandExists", f"the cube has a band {target_band!r} already")
    wide = index.expand_dims({dimension: [target_band]})
    whole = xr.concat(
        [data.astype(np.float32), wide], dimension, coords="minimal", compat="override",
        join="override",
    )  # fmt: skip
    whole.attrs = made_attributes(data, whole.dtype)
    return whole.transpose(*data.dims)


def _band(
    data: xr.DataArray, dimension: str, labels: list[str], name: str, code: str
) -> xr.DataArray:
    found = labels.index(name) if name in labels else _by_common_name(labels, name)
    if found is None:
        raise ApiError(code, f"the band {name!r} is not there; name one of {', '.join(labels)}")
    return data.isel({dimension: found}, drop=True).astype(np.float32)


def _by_common_name(labels: list[str], name: str) -> int | None:
    """Return the place of the only band that a sensor whose bands these are calls ``name``."""
    wanted = _COMMON.get(name, (name,))
    for sensor in SENSORS.values():
        bands = [sensor.find_band(label) for label in labels]
        if any(band is None for band in bands):
            continue
        for common in wanted:
            places = [at for at, band in enumerate(bands) if band and band.common_name == common]
            if places:
                return places[0]
    return None


@openeo_process()
def create_data_cube() -> xr.DataArray:
    """Return a cube without dimensions, to which dimensions are added."""
    return xr.DataArray(np.float32(np.nan), attrs={"nodata": float("nan")})
