"""Band descriptors as vectors: what SEnSeI gets about each band besides its pixels.

A descriptor is a dictionary with ``band_type`` and, for optical and thermal bands,
``min_wavelength`` and ``max_wavelength`` in nanometres. Two styles exist: ``SEnSeIv2`` (a
sinusoidal encoding of both wavelengths and flags for the kind of band) and ``SEnSeIv1`` (the
logarithms of three wavelengths).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from openeo_cloudmask.errors import OptionError, SensorError
from openeo_cloudmask.sensors import Band, BandKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

OPTICAL = "TOA Reflectance"
THERMAL = "TOA Normalised Brightness Temperature"
FILL = "fill"

#: Spellings in use; the two styles of the published code do not agree on one.
_THERMAL_NAMES = (THERMAL, "TOA Normalized Brightness Temperature")
#: Wavelengths of the older style count from here (nm); below it the logarithm has no value.
_V1_ORIGIN_NM = 300.0
_V1_SIZE = 3
#: Positions of the flags behind the two encoded wavelengths.
_FLAG_OPTICAL, _FLAG_SAR, _FLAG_DEM, _FLAG_THERMAL = range(4)


def descriptor_size(config: Mapping[str, Any]) -> int:
    """Return the length of a descriptor vector of the style in ``config``.

    Raises:
        OptionError: The style is unknown or its sizes do not fit.
    """
    style = config.get("style")
    if style == "SEnSeIv1":
        return _V1_SIZE
    if style != "SEnSeIv2":
        raise OptionError(
            f"descriptor style {style!r} is unknown; expected 'SEnSeIv2' or 'SEnSeIv1'"
        )
    encoding, size = config.get("N_embeddings"), config.get("final_size")
    if not isinstance(encoding, int) or not isinstance(size, int) or encoding < 1:
        raise OptionError(
            "descriptors of style 'SEnSeIv2' need the whole numbers 'N_embeddings' and "
            f"'final_size'; got {encoding!r} and {size!r}"
        )
    if size < 2 * encoding + 5:
        raise OptionError(
            f"descriptors.final_size is {size}; two encodings of {encoding} values and five flags "
            f"need at least {2 * encoding + 5}"
        )
    return size


def descriptor_vectors(
    descriptors: Sequence[Mapping[str, Any]], config: Mapping[str, Any]
) -> NDArray[np.float32]:
    """Return the descriptor vectors of ``descriptors``, one row per band.

    Args:
        descriptors: One dictionary per band, in the order of the bands.
        config: The ``descriptors`` part of a SEnSeI configuration.

    Returns:
        (band, size) float32; 74 values for the published style ``SEnSeIv2``, 3 for ``SEnSeIv1``.

    Raises:
        SensorError: A descriptor has no or impossible wavelengths, or an unknown band type.
        OptionError: The style in ``config`` is unknown.
    """
    size = descriptor_size(config)
    vectors = np.zeros((len(descriptors), size), np.float32)
    for index, descriptor in enumerate(descriptors):
        if config["style"] == "SEnSeIv1":
            vectors[index] = _vector_v1(descriptor, index)
        else:
            vectors[index] = _vector_v2(descriptor, index, config["N_embeddings"], size)
    return vectors


def encode_wavelength(wavelength_nm: float, size: int) -> NDArray[np.float64]:
    """Return ``wavelength_nm`` as ``size`` sines (even places) and cosines (odd places)."""
    angles = wavelength_nm / np.power(10000.0, 2.0 * np.arange(size) / size)
    return np.where(np.arange(size) % 2 == 0, np.sin(angles), np.cos(angles))


def _vector_v2(
    descriptor: Mapping[str, Any], index: int, encoding: int, size: int
) -> NDArray[np.float64]:
    vector = np.zeros(size)
    flags = 2 * encoding
    kind = _band_type(descriptor, index)
    if kind == OPTICAL or kind in _THERMAL_NAMES:
        low_nm, high_nm = _wavelengths(descriptor, index)
        vector[:encoding] = encode_wavelength(low_nm, encoding)
        vector[encoding:flags] = encode_wavelength(high_nm, encoding)
        vector[flags + _FLAG_OPTICAL] = 1
        vector[flags + _FLAG_THERMAL] = kind in _THERMAL_NAMES
        vector[-1] = bool(descriptor.get("multitemporal", False))
    elif "SAR" in kind:
        vector[flags + _FLAG_SAR] = 1
        if "VV" in kind:
            vector[:encoding] = 1
        elif "VH" in kind:
            vector[encoding:flags] = 1
        elif "Angle" in kind:
            vector[:flags] = 1
    elif "DEM" in kind:
        vector[flags + _FLAG_DEM] = 1
    elif kind != FILL:
        raise _unknown_type(kind, index)
    return vector


def _vector_v1(descriptor: Mapping[str, Any], index: int) -> NDArray[np.float64]:
    kind = _band_type(descriptor, index)
    if kind == FILL:
        return np.zeros(_V1_SIZE)
    if kind != OPTICAL and kind not in _THERMAL_NAMES:
        raise _unknown_type(kind, index)
    low_nm, high_nm = _wavelengths(descriptor, index)
    if low_nm <= _V1_ORIGIN_NM:
        raise SensorError(
            f"descriptor {index} starts at {low_nm} nm; style 'SEnSeIv1' needs wavelengths above "
            f"{_V1_ORIGIN_NM:.0f} nm"
        )
    centre_nm = low_nm + (high_nm - low_nm) / 2
    return np.array([math.log(nm - _V1_ORIGIN_NM) - 2 for nm in (low_nm, centre_nm, high_nm)])


def _band_type(descriptor: Mapping[str, Any], index: int) -> str:
    kind = descriptor.get("band_type")
    if not isinstance(kind, str):
        raise SensorError(
            f"descriptor {index} has no 'band_type'; expected for instance {OPTICAL!r}"
        )
    return kind


def _wavelengths(descriptor: Mapping[str, Any], index: int) -> tuple[float, float]:
    values = []
    for key in ("min_wavelength", "max_wavelength"):
        value = descriptor.get(key)
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float, np.number))
            or not math.isfinite(value)
            or value <= 0
        ):
            raise SensorError(
                f"descriptor {index} ({descriptor.get('band_type')!r}) has {key} = {value!r}; "
                "optical and thermal bands need min_wavelength and max_wavelength in nanometres"
            )
        values.append(float(value))
    low_nm, high_nm = values
    if low_nm > high_nm:
        raise SensorError(
            f"descriptor {index} runs from {low_nm} to {high_nm} nm; min_wavelength must not be "
            "above max_wavelength"
        )
    return low_nm, high_nm


def _unknown_type(kind: str, index: int) -> SensorError:
    return SensorError(
        f"descriptor {index} has the band_type {kind!r}; expected {OPTICAL!r}, {THERMAL!r}, "
        "'SAR VV', 'SAR VH', 'SAR Angle', 'DEM' or 'fill'"
    )


_BAND_TYPES = {
    BandKind.OPTICAL: OPTICAL,
    BandKind.THERMAL: THERMAL,
    BandKind.SAR_VV: "SAR VV",
    BandKind.SAR_VH: "SAR VH",
    BandKind.SAR_ANGLE: "SAR Angle",
    BandKind.DEM: "DEM",
}


def band_descriptor(band: Band) -> dict[str, Any]:
    """Return the descriptor of a sensor's band."""
    descriptor: dict[str, Any] = {"band_type": _BAND_TYPES[band.kind]}
    if band.min_nm is not None and band.max_nm is not None:
        descriptor |= {"min_wavelength": band.min_nm, "max_wavelength": band.max_nm}
    return descriptor
