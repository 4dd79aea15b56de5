"""From stored values to what detectors take: the only rule of no-data, scale, offset and kelvin.

A pixel is no-data in a band where its value is NaN or infinite, or is declared no-data (by
metadata, by the file, by an array's ``_FillValue``). A pixel is no-data in all bands where

- all bands that are read hold 0, or one of ``FILLS``, in files of integers and of floats alike;
- all optical bands are at or below ``DARKEST``, which no sensor gives;
- all optical bands are what the count 0 becomes by the offset of Sentinel-2 (``OFFSET_ZERO``).

The last three need no declaration. They are counted, and who masks logs the counts. Quality layers
have no part in them: 0 is a class in most of those. Their codes for no-data are those of
``Band.nodata_codes`` and ``nodata_bits``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.sensors.bands import Band, BandKind
from openeo_cloudmask.sensors.radiometry import dn_to_reflectance, normalise_temperature

Floats = NDArray[np.float32]

KELVIN_FROM = 10.0
"""Thermal values above this are kelvin; normalised ones lie in 0-1."""
FILLS = (
    0.0, -999.0, -9999.0, -99999.0, -32768.0, 32767.0, 65535.0, -(2.0**31), 2.0**31, 2.0**32,
    float(np.finfo(np.float32).min), float(np.finfo(np.float32).max),
)  # fmt: skip
"""Values that mark holes by custom, the ends of types among them, compared as float32. 255 is not:
in images of 8 bits it is white."""
DARKEST = -0.2
"""Reflectance. Count 0 of Landsat Collection 2 Level-2 is exactly this by its offset."""
OFFSET_ZERO = -0.1
"""Reflectance of count 0 of Sentinel-2 by the offset of processing baseline 04.00."""
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class BandDecoder:
    """How the stored values of one band become what detectors take."""

    convert: Callable[[Floats], Floats]
    """From stored float32 of any shape, NaN where no-data, to reflectance 0-1, or for other kinds
    to normalised temperature and so on."""
    optical: bool = True
    """Whether the result is reflectance; so it is taken where the band is not known."""
    codes: bool = False
    """Whether the values are those of a quality layer."""


def band_decoder(
    band: Band | None,
    scale: float | None = None,
    offset: float | None = None,
    *,
    own_scale: float = 1.0,
    own_offset: float = 0.0,
) -> BandDecoder:
    """Return how a band is decoded: ``stored * scale + offset``, and kelvin made 0-1.

    Args:
        band: the band, or None where it is not known; it is then taken as optical.
        scale: reflectance per count that a user gives; None takes the file's. It counts for
            optical bands only: it is not used for kelvin or decibels.
        offset: reflectance of count 0, as ``scale``.
        own_scale: what the file says of this band.
        own_offset: what the file says of this band.
    """
    if band is not None and band.kind is BandKind.QUALITY:
        return BandDecoder(convert=partial(_convert_codes, band=band), optical=False, codes=True)
    optical = band is None or band.kind is BandKind.OPTICAL
    return BandDecoder(
        convert=partial(
            _convert,
            scale=own_scale if scale is None or not optical else scale,
            offset=own_offset if offset is None or not optical else offset,
            thermal=band.name if band is not None and band.kind is BandKind.THERMAL else None,
        ),
        optical=optical,
    )


def _convert(stored: Floats, *, scale: float, offset: float, thermal: str | None) -> Floats:
    values = dn_to_reflectance(stored, scale, offset)
    if thermal is not None and (kelvin := values > KELVIN_FROM).any():
        values[kelvin] = normalise_temperature(values[kelvin], thermal)
    return values


def _convert_codes(stored: Floats, *, band: Band) -> Floats:
    seen = np.isfinite(stored)
    if band.nodata_codes:
        seen &= ~np.isin(stored, band.nodata_codes)
    if band.nodata_bits:
        bits = np.where(seen, stored, 0).astype(np.int64)
        seen &= bits & band.nodata_bits == 0
    return np.where(seen, stored, np.float32(np.nan))


class Decoder:
    """Decodes the bands of one scene, part by part, and counts no-data that is not declared."""

    def __init__(self, bands: Iterable[BandDecoder]) -> None:
        self._bands = tuple(bands)
        self.fills: Counter[str] = Counter()
        """Why -> pixels found so far; a pixel that is read twice counts twice."""

    def decode(self, stored: Floats, bands: Sequence[int] | None = None) -> Floats:
        """Return ``stored`` decoded in place.

        Args:
            stored: (band, y, x) float32, NaN where declared no-data.
            bands: which band each plane is; None for all in order.

        Returns:
            (band, y, x) float32, reflectance 0-1 (thermal: normalised brightness temperature),
            NaN where no-data.
        """
        chosen = self._bands if bands is None else [self._bands[number] for number in bands]
        if not stored.size:
            return stored
        nodata = np.zeros(stored.shape[1:], bool)
        images = [plane for plane, band in zip(stored, chosen, strict=True) if not band.codes]
        for reason, found in _stored_fills(images):
            self._count(reason, found, nodata)
        for plane, band in zip(stored, chosen, strict=True):
            plane[:] = band.convert(plane)
        optical = [plane for plane, band in zip(stored, chosen, strict=True) if band.optical]
        for reason, found in _impossible(optical):
            self._count(reason, found, nodata)
        if nodata.any():
            stored[:, nodata] = np.nan
        return stored

    def _count(self, reason: str, found: NDArray[np.bool_], nodata: NDArray[np.bool_]) -> None:
        if count := int((found & ~nodata).sum()):
            self.fills[reason] += count
            nodata |= found


def mark_declared(stored: Floats, values: Iterable[float | None]) -> None:
    """Set what is declared no-data to NaN, in place; each plane by itself."""
    for value in values:
        if value is not None and np.isfinite(value):
            stored[stored == np.float32(value)] = np.nan


def _stored_fills(stored: Sequence[Floats]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for value in FILLS:
        found = _all(stored, partial(np.equal, np.float32(value)))
        if found is not None:
            yield f"{value:.6g} in all bands", found


def _impossible(optical: Sequence[Floats]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    if not optical:
        return
    tests: tuple[tuple[str, Callable[[Floats], NDArray[np.bool_]]], ...] = (
        (f"reflectance of {DARKEST} or less", lambda plane: plane <= DARKEST + _ROUNDING),
        (
            f"count 0 with the offset {OFFSET_ZERO} applied",
            lambda plane: np.abs(plane - OFFSET_ZERO) <= _ROUNDING,
        ),
    )
    for reason, test in tests:
        found = _all(optical, test)
        if found is not None:
            yield reason, found


def _all(
    planes: Sequence[Floats], test: Callable[[Floats], NDArray[np.bool_]]
) -> NDArray[np.bool_] | None:
    """Return where all planes pass; None where no pixel does, mostly after the first plane."""
    found: NDArray[np.bool_] | None = None
    for plane in planes:
        found = test(plane) if found is None else found & test(plane)
        if not found.any():
            return None
    return found
