"""From stored numbers (DN) to what detectors expect: reflectance and normalised temperature.

Formulas: Sentinel-2 Products Specification Document (offset and quantification value), Landsat 8-9
Data Users Handbook (reflectance, radiance, at-sensor brightness temperature); the range that
normalises temperatures is the one SEnSeIv2 was trained with.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import InputError

Floats = NDArray[np.float32]

THERMAL_RANGE_K: dict[str, tuple[float, float]] = {"B10": (132.0, 249.0), "B11": (127.0, 239.0)}
"""Brightness temperatures, kelvin, that become 0 and 1 for the two TIRS bands."""

SCALES = (
    "For counts pass scale=0.0001 (--scale 0.0001) for Sentinel-2, and offset=-0.1 (--offset -0.1) "
    "from baseline 04.00 on where it is not applied yet; scale=0.0000275 and offset=-0.2 for "
    "Landsat Collection 2 Level-2; scale=0.01 for percent, 0.00392 for 8 bits"
)
"""How counts of common products become reflectance."""


def dn_to_reflectance(dn: Floats, scale: float, offset: float) -> Floats:
    """Return reflectance for ``dn`` as ``dn * scale + offset``.

    For Sentinel-2, ``scale`` is 1 / QUANTIFICATION_VALUE and ``offset`` is ADD_OFFSET /
    QUANTIFICATION_VALUE. DN 0 is no-data there and has to be found before.

    Args:
        dn: any shape, float32, NaN where no-data.
        scale: reflectance a count.
        offset: reflectance of count 0.
    """
    values: Floats = dn * np.float32(scale)
    values += np.float32(offset)  # in place: memory is what this takes
    return values


def landsat_reflectance(dn: Floats, mult: float, add: float, sun_elevation_deg: float) -> Floats:
    """Return top-of-atmosphere reflectance, corrected for the sun's elevation.

    ``(REFLECTANCE_MULT * dn + REFLECTANCE_ADD) / sin(SUN_ELEVATION)``.

    Raises:
        InputError: the sun is at or below the horizon.
    """
    if not 0 < sun_elevation_deg <= 90:
        raise InputError(
            f"the sun's elevation is {sun_elevation_deg} degrees; expected more than 0 and at most "
            "90. A night scene has no reflectance"
        )
    sine = math.sin(math.radians(sun_elevation_deg))
    return dn_to_reflectance(dn, mult / sine, add / sine)


def brightness_temperature(dn: Floats, mult: float, add: float, k1: float, k2: float) -> Floats:
    """Return the at-sensor brightness temperature in kelvin.

    Radiance ``L = RADIANCE_MULT * dn + RADIANCE_ADD``; temperature ``K2 / ln(K1 / L + 1)``.
    NaN where the radiance is not positive.
    """
    radiance = dn * np.float32(mult) + np.float32(add)
    with np.errstate(divide="ignore", invalid="ignore"):
        kelvin = np.float32(k2) / np.log(np.float32(k1) / radiance + np.float32(1))
    return np.where(radiance > 0, kelvin, np.float32(np.nan)).astype(np.float32)


def normalise_temperature(kelvin: Floats, band: str) -> Floats:
    """Return brightness temperature of a TIRS band scaled to 0-1, as SEnSeIv2 takes it.

    Values outside the range are clipped, as the training pipeline clips them.

    Args:
        kelvin: any shape, float32, NaN where no-data.
        band: ``B10`` or ``B11``.

    Raises:
        InputError: the band has no known range.
    """
    if band not in THERMAL_RANGE_K:
        raise InputError(
            f"no temperature range is known for band {band!r}; "
            f"expected one of {', '.join(THERMAL_RANGE_K)}"
        )
    low, high = THERMAL_RANGE_K[band]
    scaled: Floats = np.clip((kelvin - np.float32(low)) / np.float32(high - low), 0.0, 1.0)
    return scaled
