"""Light on its way: sun, air, clouds, ground and back to the sensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.simulator.clouds import Deck, Optics, depth_steps
from openeo_cloudmask.simulator.noise import blur, roll
from openeo_cloudmask.simulator.spectra import aerosol_depth, gas_transmission, rayleigh_depth
from openeo_cloudmask.simulator.surface import WATER, Surface

Floats = NDArray[np.float32]

_OZONE_BELOW_NM = 690
"""At shorter wavelengths ozone is what absorbs; at longer ones mostly water vapour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Where sun and sensor stand, and the size of a pixel."""

    sun_zenith_deg: float
    sun_azimuth_deg: float
    """Clockwise from north."""
    view_zenith_deg: float
    view_azimuth_deg: float
    pixel_m: float

    @property
    def sun_cosine(self) -> float:
        """Cosine of the sun's zenith angle."""
        return float(np.cos(np.radians(self.sun_zenith_deg)))

    @property
    def sun_yx(self) -> tuple[float, float]:
        """Direction towards the sun in the image, y down and x right, of length 1."""
        angle = np.radians(self.sun_azimuth_deg)
        return -float(np.cos(angle)), float(np.sin(angle))

    def shadow_shift_px(self, height_m: float) -> tuple[float, float]:
        """Return (dy, dx) from where a cloud at ``height_m`` is seen to where its shadow falls."""
        sun = np.tan(np.radians(self.sun_zenith_deg))
        view = np.tan(np.radians(self.view_zenith_deg))
        angle = np.radians(self.view_azimuth_deg)
        dy = -sun * self.sun_yx[0] - view * np.cos(angle)
        dx = -sun * self.sun_yx[1] + view * np.sin(angle)
        return float(dy * height_m / self.pixel_m), float(dx * height_m / self.pixel_m)


@dataclass(frozen=True, slots=True, kw_only=True)
class Air:
    """What the cloudless atmosphere does at each band; all (band,) float32."""

    path: Floats
    """Reflectance of the air itself."""
    passed: Floats
    """Two-way transmission of molecules and haze."""
    gas: Floats
    """Two-way transmission of gases down to the ground."""
    returned: Floats
    """Share of the light going up that the air sends down again."""
    diffuse: Floats
    """Share of the light on open ground that comes from the sky, not the sun."""
    adjacency: Floats
    """Share of the signal that comes from the neighbourhood."""


def build_air(
    centres_nm: Sequence[float],
    geometry: Geometry,
    *,
    haze_depth: float,
    angstrom: float,
    moisture: float,
    altitude_m: float = 0.0,
) -> Air:
    """Return the air over a scene; single scattering with a small allowance for more."""
    rayleigh = rayleigh_depth(centres_nm) * np.float32(np.exp(-altitude_m / 8400))
    haze = aerosol_depth(centres_nm, haze_depth, angstrom)
    sun = np.float32(geometry.sun_cosine)
    view = np.float32(np.cos(np.radians(geometry.view_zenith_deg)))
    molecules = rayleigh * np.float32(0.75) * (1 + sun**2) / (4 * sun * view)
    dust = haze * np.float32(0.24) / (4 * sun * view)
    paths = 1 / sun + 1 / view
    # Ozone does not vary with the water vapour.
    amount = np.where(np.asarray(centres_nm) < _OZONE_BELOW_NM, 1.0, moisture)
    gas = gas_transmission(centres_nm) ** (amount * paths / 2.0)
    return Air(
        path=(molecules * np.float32(1.15) + dust).astype(np.float32),
        passed=np.exp(-(0.4 * rayleigh + 0.12 * haze) * paths).astype(np.float32),
        gas=gas_above(gas.astype(np.float32), centres_nm, altitude_m),
        returned=np.clip(0.75 * rayleigh + 0.1 * haze, 0, 0.3).astype(np.float32),
        diffuse=(1 - np.exp(-(0.55 * rayleigh + 0.5 * haze) / sun)).astype(np.float32),
        adjacency=np.clip(0.9 * rayleigh + 0.3 * haze + 0.02, 0, 0.35).astype(np.float32),
    )


def gas_above(gas: Floats, centres_nm: Sequence[float], height_m: float) -> Floats:
    """Return (band,) float32, two-way transmission of the gases above ``height_m``.

    Water vapour thins out with a scale height of about 2 km. In the saturated band at 1375 nm
    the little that is left aloft still counts, so it opens later. Ozone lies above all clouds.
    """
    kilometres = height_m / 1000.0
    centres = np.asarray(centres_nm)
    saturated = (centres > 1330) & (centres < 1420)
    ozone = centres < _OZONE_BELOW_NM
    aloft = float(np.exp(-((kilometres / 5.2) ** 2))), float(np.exp(-kilometres / 2.0))
    left: Floats = np.where(ozone, 1, np.where(saturated, *aloft)).astype(np.float32)
    passed: Floats = gas**left
    return passed


def slope_light(surface: Surface, geometry: Geometry) -> Floats:
    """Return (y, x) float32, sunlight on sloping ground relative to level ground."""
    slope_y, slope_x = surface.slope_yx
    sun_y, sun_x = geometry.sun_yx
    tangent = np.float32(np.tan(np.radians(geometry.sun_zenith_deg)))
    facing = 1 - tangent * (slope_x * np.float32(sun_x) + slope_y * np.float32(sun_y))
    light: Floats = np.clip(facing / np.sqrt(1 + slope_x**2 + slope_y**2), 0.0, 2.2)
    light[surface.kind == WATER] = 1.0
    return light * _house_light(surface.building_m, geometry)


def _house_light(building_m: Floats, geometry: Geometry) -> Floats:
    """Return (y, x) float32, 0 where a building stands between the ground and the sun, else 1."""
    light = np.ones(building_m.shape, np.float32)
    tallest = float(building_m.max())
    length = float(np.hypot(*geometry.shadow_shift_px(tallest)))
    for step in range(1, min(int(np.ceil(length)), 40) + 1):
        level_m = tallest * step / np.ceil(length)
        hides = roll(building_m, *geometry.shadow_shift_px(level_m)) > building_m + level_m
        light[hides] = 0
    return light


def beam_through(
    decks: Sequence[Deck], optics: dict[bool, Optics], geometry: Geometry, shape: tuple[int, int]
) -> tuple[Floats, Floats]:
    """Return the sun's beam on the ground, and the scattered light that clouds let through.

    Returns:
        Two (y, x) float32, both 1 or less: the share of the direct beam, and the share of the
        beam that arrives scattered.
    """
    beam = np.ones(shape, np.float32)
    scattered = np.zeros(shape, np.float32)
    for deck in decks:
        tables = optics[deck.ice]
        shade = _shade_depth(deck, geometry)
        steps = depth_steps(shade)
        direct = tables.direct[steps]
        lost = 1 - tables.reflected[0][steps] - direct
        spread = 0.8 * deck.base_m / geometry.pixel_m
        size = min(max(spread, 1.0), min(shape) / 2)
        scattered = scattered * direct + blur(np.maximum(lost, 0) * beam, size)
        beam *= direct
    return blur(beam, 3), scattered


def _shade_depth(deck: Deck, geometry: Geometry) -> Floats:
    """Return the optical depth the sun's beam meets: the deck thrown on the ground.

    A tall cloud throws its shadow from base to top: the columns that reach a level are moved as
    that level moves, and smeared up to the next one.
    """
    cloudy = deck.depth > 0
    if not cloudy.any():
        return deck.depth
    summit = max(float(np.quantile(deck.top_m[cloudy][::7], 0.98)), deck.base_m)
    reach = float(np.hypot(*geometry.shadow_shift_px(summit - deck.base_m)))
    count = int(np.clip(np.ceil(reach / 8), 1, 5))
    step_m = (summit - deck.base_m) / count
    shade = np.zeros(deck.depth.shape, np.float32)
    for number in range(count):
        level = deck.base_m + number * step_m
        column = np.where(deck.top_m >= level, deck.depth, np.float32(0))
        column = roll(column, *geometry.shadow_shift_px(level))
        np.maximum(shade, _smear(column, geometry.shadow_shift_px(step_m)), out=shade)
    return shade


def _smear(field: Floats, shift_yx: tuple[float, float]) -> Floats:
    """Return the largest value met on the way back along ``shift_yx``, by doubling steps."""
    length = float(np.hypot(*shift_yx))
    if length < 1:
        return field
    reached = 1.0
    while reached < length:
        part = min(reached, length - reached) / length
        field = np.maximum(field, roll(field, shift_yx[0] * part, shift_yx[1] * part))
        reached *= 2
    return field


def cloud_relief(decks: Sequence[Deck], geometry: Geometry, shape: tuple[int, int]) -> Floats:
    """Return (y, x) float32 around 1: sunlit and shaded flanks of clouds."""
    from scipy import ndimage

    light = np.ones(shape, np.float32)
    sun_y, sun_x = geometry.sun_yx
    tangent = np.tan(np.radians(geometry.sun_zenith_deg))
    for deck in decks:
        if deck.kind in ("cirrus", "altocumulus"):
            continue
        top = np.where(deck.depth > 0, deck.top_m, np.float32(deck.base_m)).astype(np.float32)
        top = ndimage.uniform_filter(top, max(3, round(120 / geometry.pixel_m)), mode="wrap")
        rise_y = (np.roll(top, -1, 0) - np.roll(top, 1, 0)) / np.float32(2 * geometry.pixel_m)
        rise_x = (np.roll(top, -1, 1) - np.roll(top, 1, 1)) / np.float32(2 * geometry.pixel_m)
        facing = rise_x * np.float32(sun_x) + rise_y * np.float32(sun_y)
        facing *= np.float32(-0.55 * tangent)
        light *= np.clip(1 + np.tanh(facing) * np.float32(0.5), 0.4, 1.35)
    return light
