"""The one obvious call: ``openeo_cloudmask.mask`` takes whatever holds pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.errors import BandError, InputError, OptionError
from openeo_cloudmask.models.mlm import is_item
from openeo_cloudmask.options import MaskOptions, parse_context, takes_options

if TYPE_CHECKING:
    import xarray as xr

    from openeo_cloudmask.inference import Progress
    from openeo_cloudmask.models import ModelEntry

_EXPECTED = (
    "an xarray.DataArray or Dataset, a NumPy or dask array with bands=, the path of a raster or "
    "product, or an openeo.DataCube"
)
_HINTS = {
    "DataTree": ". Of a tree pass the dataset of one group, such as "
    'tree["measurements/reflectance/r10m"].to_dataset()',
    "DatasetReader": ". Of a dataset of rasterio pass the path, dataset.name",
    "list": ". Scenes are masked one by one",
}
"""Type that people pass -> what is said of it."""


@takes_options
def mask(
    data: Any,  # noqa: ANN401 - the kinds the docstring lists
    *,
    bands: Sequence[str] | None = None,
    date: str | None = None,
    progress: Progress | None = None,
    **options: Any,  # noqa: ANN401 - those of MaskOptions, which checks them
) -> Any:  # noqa: ANN401 - of the type that was given
    """Return the cloud mask of ``data``, of the same type.

    Args:
        data: an ``xarray.DataArray`` (dimensions bands, y, x and perhaps t, in any order, as
            openEO, stackstac and rioxarray name them); an ``xarray.Dataset`` with a variable per
            band, as odc-stac loads it; an array (band, y, x) or (t, band, y, x) of NumPy or dask,
            with ``bands``; the path of a product or raster, or its address (https, s3); or an
            ``openeo.DataCube``. Values are
            reflectance 0-1 unless ``scale`` and ``offset`` are given.
        bands: a name for each band in order, where ``data`` has none.
        date: beginning of the date (``2024-05-01``) to take, where ``data`` is the path of a NetCDF
            or Zarr with several.
        progress: called with (done, total) windows, where pixels are computed at once.
        **options: {options} ``model`` may also be the STAC item (file or https address) of a model
            of others; where it does not say enough, ``stac.foreign.adopt_model`` takes answers.

    Returns:
        uint8, 255 is no-data. For a DataArray, another one with the band ``mask`` or a band per
        class; for a Dataset, another one with these as variables; for arrays (y, x) or (t, y, x),
        or with a band per class; for a path a DataArray; for an ``openeo.DataCube`` another one.
        Where the data is over dask, so is the mask, which is then computed when it is needed.

    Raises:
        InputError: ``data`` is of another type, or holds no reflectance.
        BandError: bands are missing, unnamed or named twice.
        OptionError: an option is unknown or its value is not allowed.
    """
    if is_item(str(options.get("model"))):
        from openeo_cloudmask.stac.foreign import adopt_model

        options["model"] = adopt_model(options["model"]).id
    chosen = parse_context(options)
    if isinstance(data, str | Path):
        from openeo_cloudmask.products.addresses import parse_source
        from openeo_cloudmask.products.mask import ReadOptions, mask_scene

        names = None if bands is None else tuple(bands)
        read = ReadOptions(bands=names, date=date, ungeoreferenced=True)
        return mask_scene(parse_source(data), chosen, read=read, progress=progress)
    if date is not None:
        raise OptionError("date is for the path of a file with several; select it in the data")
    if type(data).__module__.partition(".")[0] == "openeo":
        from openeo_cloudmask.openeo.client import apply_options

        if bands is not None:
            raise OptionError("bands is for arrays without names; select bands in the openEO cube")
        return apply_options(data, chosen)
    import xarray as xr

    from openeo_cloudmask.labels import as_cube

    if isinstance(data, xr.DataArray | xr.Dataset):
        found = _mask_cube(as_cube(data, bands), chosen, progress)
        return _split(found) if isinstance(data, xr.Dataset) else found
    if hasattr(data, "shape") and hasattr(data, "dtype"):
        return _mask_plain(data, bands, chosen, progress)
    hint = _HINTS.get(type(data).__name__, "")
    raise InputError(f"data is of type {type(data).__name__}; expected {_EXPECTED}{hint}")


def list_models() -> tuple[ModelEntry, ...]:
    """Return what is known of each model: bands, classes, licence, where its weights are."""
    from openeo_cloudmask.models import MODELS, other_models

    return (*MODELS.values(), *other_models().values())


def _mask_cube(cube: xr.DataArray, options: MaskOptions, progress: Progress | None) -> xr.DataArray:
    if cube.chunks is not None:
        from openeo_cloudmask.lazy import mask_lazily

        return mask_lazily(cube, options)
    from openeo_cloudmask.datacube import mask_datacube

    return mask_datacube(cube, options, progress=progress)


def _split(found: xr.DataArray) -> xr.Dataset:
    from openeo_cloudmask.datacube import find_dimension

    parts = found.to_dataset(dim=find_dimension(found, "bands"))
    for part in parts.data_vars.values():
        part.attrs = dict(found.attrs)
    return parts


def _mask_plain(
    data: Any,  # noqa: ANN401 - NumPy or dask
    bands: Sequence[str] | None,
    options: MaskOptions,
    progress: Progress | None,
) -> Any:  # noqa: ANN401
    import xarray as xr

    if data.ndim not in (3, 4):
        raise InputError(
            f"the array has shape {tuple(data.shape)}; expected (band, y, x) or (t, band, y, x)"
        )
    if bands is None:
        raise BandError(
            "an array without labels needs bands=, a name for each band in order, such as "
            'bands=["B02", "B03", "B04", "B08"]'
        )
    if isinstance(bands, str) or len(bands) != data.shape[-3]:
        last = not isinstance(bands, str) and len(bands) == data.shape[-1]
        hint = ". Bands come first here: numpy.moveaxis(data, -1, -3)" if last else ""
        raise BandError(
            f"bands is {bands!r}; expected {data.shape[-3]} names, one for each band of the array "
            f"of shape {tuple(data.shape)} (band, y, x){hint}"
        )
    dims = ("t", "bands", "y", "x")[-data.ndim :]
    cube = xr.DataArray(data, dims=dims, coords={"bands": list(bands)})
    found = _mask_cube(cube, options, progress)
    return (found.isel(bands=0) if options.categorise else found).data
