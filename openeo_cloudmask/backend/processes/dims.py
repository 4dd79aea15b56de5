"""The dimensions of a cube under the names this package uses."""

from __future__ import annotations

import xarray as xr

from openeo_cloudmask.errors import BandError, InputError

ALIASES = {
    "t": ("t", "time", "temporal", "date"),
    "bands": ("bands", "band", "b", "spectral"),
    "y": ("y", "latitude", "lat", "northing"),
    "x": ("x", "longitude", "lon", "easting"),
}


def name_dimensions(data: xr.DataArray) -> xr.DataArray:
    """Return a cube as (t, bands, y, x), or (bands, y, x) where it has no time.

    Raises:
        InputError: x or y is missing, or there are dimensions besides these.
        BandError: there are no bands, or they have no labels.
    """
    if not isinstance(data, xr.DataArray):
        raise InputError(f"the data is of type {type(data).__name__}; expected a raster datacube")
    names = {
        str(dim): key
        for dim in data.dims
        for key, aliases in ALIASES.items()
        if str(dim).lower() in aliases
    }
    strange = [str(dim) for dim in data.dims if str(dim) not in names]
    missing = [key for key in ("y", "x") if key not in names.values()]
    if missing or strange or len(set(names.values())) < len(names):
        raise InputError(
            f"the cube has the dimensions {', '.join(map(str, data.dims)) or '(none)'}; expected "
            "bands, y, x and perhaps t"
        )
    if "bands" not in names.values():
        raise BandError("the cube has no dimension bands; keep it, or add one (add_dimension)")
    changed = {old: new for old, new in names.items() if old != new}
    cube = data.rename(changed) if changed else data
    if "bands" not in cube.coords:
        raise BandError("the bands have no labels; name them (rename_labels)")
    order = [dim for dim in ("t", "bands", "y", "x") if dim in cube.dims]
    return cube if list(cube.dims) == order else cube.transpose(*order)
