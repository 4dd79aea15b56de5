"""Radiometry against numbers worked out by hand from the published formulas."""

import math

import numpy as np
import pytest

from openeo_cloudmask.errors import InputError
from openeo_cloudmask.sensors import (
    brightness_temperature,
    dn_to_reflectance,
    landsat_reflectance,
    normalise_temperature,
)


def test_sentinel_2_with_and_without_offset():
    dn = np.array([1000, 2000, np.nan], np.float32)
    np.testing.assert_allclose(dn_to_reflectance(dn, 1e-4, -0.1), [0, 0.1, np.nan], atol=1e-7)
    np.testing.assert_allclose(dn_to_reflectance(dn, 1e-4, 0.0), [0.1, 0.2, np.nan], atol=1e-7)


def test_landsat_reflectance_is_divided_by_the_sine_of_the_elevation():
    dn = np.array([10000, np.nan], np.float32)
    # 2.0E-5 * 10000 - 0.1 = 0.1; sin(30 degrees) = 0.5.
    np.testing.assert_allclose(landsat_reflectance(dn, 2e-5, -0.1, 30.0), [0.2, np.nan], rtol=1e-6)


@pytest.mark.parametrize("elevation", [0.0, -5.0, 91.0, math.nan])
def test_no_sun_no_reflectance(elevation):
    with pytest.raises(InputError, match="the sun's elevation is"):
        landsat_reflectance(np.ones(1, np.float32), 2e-5, -0.1, elevation)


def test_brightness_temperature_of_landsat_8_band_10():
    # L = 3.342E-4 * 24000 + 0.1 = 8.1208; T = 1321.0789 / ln(774.8853 / 8.1208 + 1) = 289.2 K.
    kelvin = brightness_temperature(
        np.array([24000], np.float32), 3.342e-4, 0.1, 774.8853, 1321.0789
    )
    assert kelvin[0] == pytest.approx(1321.0789 / math.log(774.8853 / 8.1208 + 1), rel=1e-5)
    assert 285 < kelvin[0] < 295


def test_no_radiance_no_temperature():
    kelvin = brightness_temperature(np.array([0, -400], np.float32), 3e-4, 0.0, 774.0, 1321.0)
    assert np.isnan(kelvin).all()


def test_normalised_temperature():
    kelvin = np.array([132, 190.5, 249, 300, 100, np.nan], np.float32)
    np.testing.assert_allclose(
        normalise_temperature(kelvin, "B10"), [0, 0.5, 1, 1, 0, np.nan], atol=1e-6
    )
    np.testing.assert_allclose(
        normalise_temperature(np.array([127, 239], np.float32), "B11"), [0, 1], atol=1e-6
    )
    with pytest.raises(InputError, match="no temperature range is known for band 'B6'"):
        normalise_temperature(kelvin, "B6")
