"""From a labelled datacube to a labelled mask: what the user-defined function does.

The cube's dimensions may come in any order; ``t`` may be absent. Windows are anchored at the
absolute pixel indices that the coordinates give, so that chunks of one cube get seamless masks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from openeo_cloudmask.classes import NODATA, style_scheme
from openeo_cloudmask.errors import BandError, InputError
from openeo_cloudmask.grid import parse_axis
from openeo_cloudmask.inference import Detector, Progress
from openeo_cloudmask.masking import MASK_LABEL, Masker
from openeo_cloudmask.models import ModelInput, get_model, load_detector
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.sensors import Decoder, band_decoder, mark_declared

_log = logging.getLogger(__name__)

DIMENSIONS = {
    "t": ("t", "time", "temporal", "date"),
    "bands": ("bands", "band", "b", "spectral", "channel", "channels"),
    "y": ("y", "latitude", "lat", "northing"),
    "x": ("x", "longitude", "lon", "easting"),
}
DEGREES_BELOW = 0.1
"""Coordinates whose step is smaller are degrees, not metres."""
_NODATA_ATTRIBUTES = ("_FillValue", "missing_value", "nodata", "nodatavals")


def mask_datacube(
    cube: xr.DataArray,
    options: MaskOptions,
    *,
    load: Callable[..., Detector] = load_detector,
    neighborhood: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> xr.DataArray:
    """Return the mask of ``cube``.

    Args:
        cube: dimensions ``bands``, ``y``, ``x`` and perhaps ``t`` in any order; bands labelled with
            names that the sensor knows, extra ones ignored. NumPy or dask, any real type.
            ``value * options.scale + options.offset`` is reflectance 0-1; thermal bands hold
            kelvin or normalised brightness temperature and are not scaled. No-data follows
            ``sensors.decode``; declared are the array's attributes ``_FillValue``,
            ``missing_value`` and ``nodata``.
        options: what to run and how to write it down.
        load: how to get the detector.
        neighborhood: size and overlap, pixels, where ``cube`` is one of the neighbourhoods of
            openEO's ``apply_neighborhood``. What lies in the overlap is dropped by the caller, so
            it is not computed and is no-data here; along an axis that is not as long as size and
            twice the overlap, all is computed.
        progress: called with (done, total) windows.

    Returns:
        uint8, the same dimensions and coordinates in the same order, except bands: ``mask``, or
        one percentage (0-100) per class when ``options.categorise`` is false. No data is 255.

    Raises:
        InputError: a dimension is missing, the cube is empty, or it does not hold reflectance.
        BandError: bands are missing, unlabelled or given twice.
        CloudMaskError: the model cannot be loaded.
    """
    named = name_dimensions(cube)
    labels = [str(label) for label in named["bands"].to_numpy()]
    masker = Masker.open(options, labels, load=load)
    places = masker.places(labels)
    scenes = list(named) if "t" in named.dims else [named]
    if not scenes:
        raise InputError("the cube has no time step; expected at least one")
    shape_yx = named.sizes["y"], named.sizes["x"]
    wanted = [_inner(length, neighborhood) for length in shape_yx]
    pixel_m = pixel_size_m(named)
    if neighborhood is not None:
        _tell_narrow(masker, neighborhood[1], masker.cleaning(pixel_m).margin_px)
    masks = []
    for index, scene in enumerate(scenes):
        reader = CubeReader(scene[places].variable, masker.inputs, options, nodata_values(cube))
        inner = masker.mask(
            reader,
            origin_yx=(pixel_origin(named, "y"), pixel_origin(named, "x")),
            rows=wanted[0],
            columns=wanted[1],
            pixel_m=pixel_m,
            progress=_part_of(progress, index, len(scenes)),
        )
        mask = np.full((len(inner), *shape_yx), NODATA, np.uint8)
        mask[:, slice(*wanted[0]), slice(*wanted[1])] = inner
        masks.append(mask)
    for warning in masker.warnings():
        _log.warning("%s", warning)
    return label_mask(np.stack(masks) if "t" in named.dims else masks[0], cube, masker)


def label_mask(
    data: Any,  # noqa: ANN401
    cube: xr.DataArray,
    masker: Masker,
    labels: Sequence[str] | None = None,
) -> xr.DataArray:
    """Return (t, bands, y, x) or (bands, y, x) ``data`` with the dimensions and labels of ``cube``.

    Args:
        data: the mask, NumPy or dask.
        cube: what was masked.
        masker: what masked it.
        labels: of its bands; None for those of a mask.
    """
    names = find_dimensions(cube)
    order = [names[key] for key in DIMENSIONS if key in names]
    coords = {key: value for key, value in cube.coords.items() if names["bands"] not in value.dims}
    result = xr.DataArray(
        data,
        dims=order,
        coords={**coords, names["bands"]: list(labels or masker.labels)},
        name="cloud_mask",
    )
    result.attrs = masker.attributes()
    return result.transpose(*cube.dims)


def output_labels(options: MaskOptions) -> tuple[str, ...]:
    """Return the band labels of the mask: ``mask``, or the names of the classes.

    Raises:
        UnknownModelError: the model is not in the registry.
    """
    if options.categorise:
        return (MASK_LABEL,)
    return style_scheme(options.output_style, get_model(options.model).scheme).names


def pixel_origin(cube: xr.DataArray, dim: str) -> int:
    """Return the absolute index of the first pixel along ``dim``; 0 where it is not known."""
    axis = parse_axis(cube.coords[dim].to_numpy()) if dim in cube.coords else None
    return 0 if axis is None else axis.origin


def pixel_size_m(named: xr.DataArray) -> tuple[float, float] | None:
    """Return height and width of a pixel, metres; None without coordinates, or in degrees.

    Args:
        named: what ``name_dimensions`` gave. Steps below a tenth are degrees: no sensor's pixels
            are so small.
    """
    axes = [parse_axis(named.coords[dim]) if dim in named.coords else None for dim in ("y", "x")]
    sizes = [0.0 if axis is None else abs(axis.step) for axis in axes]
    return (sizes[0], sizes[1]) if min(sizes) >= DEGREES_BELOW else None


def _tell_narrow(masker: Masker, overlap_px: int, margin_px: int) -> None:
    window = masker.detector.window
    needed = margin_px + (0 if window.pixelwise else window.size_px - 1)
    if margin_px and overlap_px < needed:
        _log.warning(
            "buffer and min_area look %d pixels around, for which this model's neighbourhoods need "
            "an overlap of %d pixels; they have %d, so where they meet the mask may differ from "
            "that of the whole scene",
            margin_px,
            needed,
            overlap_px,
        )


class CubeReader:
    """Reads and decodes the bands of one date, part by part."""

    def __init__(
        self,
        array: Any,  # noqa: ANN401 - NumPy, dask or an xarray variable
        inputs: ModelInput,
        options: MaskOptions,
        nodata: Sequence[float] = (),
    ) -> None:
        """Wrap ``array``, (band, y, x) of any real type, whose bands are those of ``inputs``."""
        self._array, self._nodata = array, nodata
        self._decoder = Decoder(
            band_decoder(inputs.sensor.band(name), options.scale, options.offset)
            for name in inputs.band_names
        )
        self.shape: tuple[int, int, int] = array.shape

    @property
    def fills(self) -> Mapping[str, int]:
        """Why -> pixels read so far that are no-data but not declared so."""
        return self._decoder.fills

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[np.float32]:
        """Return (band, y, x) float32, NaN where no-data."""
        part = self._array[key]
        # A task that waits for other tasks of its own cluster might wait forever.
        stored = np.asarray(
            part.compute(scheduler="synchronous") if hasattr(part, "compute") else part
        )
        if stored.dtype.kind not in "fiub":
            raise InputError(
                f"the cube holds values of type {stored.dtype}; expected numbers (reflectance)"
            )
        pixels = stored.astype(np.float32)
        mark_declared(pixels, self._nodata)
        return self._decoder.decode(pixels, range(*key[0].indices(self.shape[0])))


def _inner(length: int, neighborhood: tuple[int, int] | None) -> tuple[int, int]:
    """Return the first pixel wanted along an axis and the one past the last."""
    if neighborhood is None:
        return 0, length
    size, overlap = neighborhood
    return (overlap, overlap + size) if length == size + 2 * overlap else (0, length)


def _part_of(progress: Progress | None, index: int, parts: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total: progress(index * total + done, parts * total)


def find_dimensions(cube: xr.DataArray) -> dict[str, str]:
    """Return our names of dimensions (t, bands, y, x) -> the cube's.

    Raises:
        InputError: bands, y or x is missing, or there are dimensions besides these.
    """
    if not isinstance(cube, xr.DataArray):
        raise InputError(f"the cube is a {type(cube).__name__}; expected an xarray.DataArray")
    found = {key: dim for key in DIMENSIONS if (dim := find_dimension(cube, key)) is not None}
    missing = [key for key in ("bands", "y", "x") if key not in found]
    if missing or len(found) != len(cube.dims):
        raise InputError(
            f"the cube has dimensions {', '.join(map(str, cube.dims)) or '(none)'}; expected "
            "bands, y, x and perhaps t, in any order, and no others"
        )
    return found


def find_dimension(cube: xr.DataArray, key: str) -> str | None:
    """Return what the cube calls its dimension ``t``, ``bands``, ``y`` or ``x``, if it has it."""
    names = DIMENSIONS[key]
    return next((str(dim) for dim in cube.dims if str(dim).lower() in names), None)


def name_dimensions(cube: xr.DataArray) -> xr.DataArray:
    """Return the cube as (t, bands, y, x), or (bands, y, x) where it has no time.

    Raises:
        InputError: bands, y or x is missing, or there are dimensions besides these.
        BandError: the bands have no labels.
    """
    names = find_dimensions(cube)
    if names["bands"] not in cube.coords:
        raise BandError(
            f"the dimension {names['bands']!r} has no labels, so bands cannot be distinguished; "
            "expected band names such as B02 (in openEO: rename_labels)"
        )
    changed = {dim: key for key, dim in names.items() if dim != key}
    hidden = [key for key in changed.values() if key in cube.coords]  # such as 2-D x beside lon
    named = cube.drop_vars(hidden).rename(changed) if changed else cube
    return named.transpose(*(key for key in DIMENSIONS if key in names))


def nodata_values(cube: xr.DataArray) -> tuple[float, ...]:
    """Return the values that the cube's attributes declare no-data.

    They are of what is stored: of a file that xarray has decoded, they are decoded alike.
    """
    given = (value for key in _NODATA_ATTRIBUTES for value in np.ravel(cube.attrs.get(key, ())))
    numbers = (float(value) for value in given if isinstance(value, int | float | np.number))
    values = np.asarray(tuple(dict.fromkeys(value for value in numbers if np.isfinite(value))))
    scale, offset = (cube.encoding.get(key) for key in ("scale_factor", "add_offset"))
    if cube.dtype.kind == "f" and (scale is not None or offset is not None):
        values = values.astype(cube.dtype)  # each step in that type, as xarray takes it
        values *= 1 if scale is None else scale
        values += 0 if offset is None else offset
    return tuple(values.tolist())
