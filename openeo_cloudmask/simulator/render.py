"""From a landscape, clouds and air to what a sensor sees, band by band."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.sensors import Band, BandKind, Sensor, normalise_temperature
from openeo_cloudmask.simulator.clouds import Deck, Optics, depth_steps, layer_optics
from openeo_cloudmask.simulator.light import (
    Air,
    Geometry,
    beam_through,
    cloud_relief,
    gas_above,
    slope_light,
)
from openeo_cloudmask.simulator.noise import blur, fractal_noise, roll
from openeo_cloudmask.simulator.spectra import droplets, ice_crystals
from openeo_cloudmask.simulator.surface import Surface

Floats = NDArray[np.float32]

# Seconds after B02 at which a Sentinel-2 detector sees the same ground in another band (Sentinel-2
# Products Specification Document); the platform moves 7.5 km/s at 786 km height meanwhile.
_S2_DELAY_S = {
    "B02": 0.0, "B08": 0.264, "B03": 0.527, "B10": 0.851, "B04": 1.005, "B05": 1.269, "B11": 1.468,
    "B06": 1.525, "B07": 1.790, "B8A": 2.055, "B12": 2.085, "B01": 2.314, "B09": 2.586,
}  # fmt: skip
_AIR_SCALE_M = 8400
_ANGLE_PER_SECOND = 7.5 / 786


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at, through what, by what."""

    sensor: Sensor
    bands: tuple[Band, ...]
    geometry: Geometry
    air: Air
    surface: Surface
    decks: tuple[Deck, ...]
    """From the lowest to the highest."""
    smoke_depth: Floats
    """(y, x) float32, optical depth of smoke at 550 nm, below all clouds."""
    saturation: float
    """Reflectance beyond which the sensor tells nothing."""


def render(rng: np.random.Generator, view: View) -> tuple[Floats, Floats]:
    """Return the cube as the sensor sees it, and the share of the sun's beam on the ground."""
    optical = [band for band in view.bands if band.kind is BandKind.OPTICAL]
    centres = [band.centre_nm or 0.0 for band in optical]
    size = float(np.exp(rng.uniform(np.log(0.4), np.log(2.2))))
    grain = float(np.exp(rng.uniform(np.log(0.7), np.log(7.0))))
    sun = view.geometry.sun_cosine
    optics = {
        False: layer_optics(droplets(centres, size), sun),
        True: layer_optics(ice_crystals(centres, grain), sun),
    }
    shape = view.surface.kind.shape
    beam, scattered = beam_through(view.decks, optics, view.geometry, (shape[0], shape[1]))
    lit = slope_light(view.surface, view.geometry) * beam
    # Clouds that shade the ground also hide part of its sky.
    open_sky = np.float32(0.27) + np.float32(0.63) * np.clip(beam + scattered, 0, 1)
    layers = [_Layer(view, decks, optics[ice]) for ice, decks in _split(view.decks)]
    planes: dict[str, Floats] = {}
    reach = max(300 / view.geometry.pixel_m, 3)
    corrected = view.sensor.level == "L2A"
    noise = np.float32(rng.uniform(0.0008, 0.0025))
    for index, band in enumerate(optical):
        sky = view.air.diffuse[index]
        light = lit * (1 - sky) + scattered + sky * open_sky
        ground = view.surface.reflectance[index] * light
        around = blur(ground, reach)
        ground += view.air.adjacency[index] * (around - ground)
        gas = np.float32(1) if corrected else view.air.gas[index]
        ground *= gas
        around *= gas
        ground = _smoke(ground, view.smoke_depth, centres[index])
        for layer in layers:
            ground = layer.veil(ground, around, index, band, 1.0 if corrected else None)
        if corrected:
            ground += np.float32(rng.normal(0, 0.004))
        else:
            # Over bright ground light goes to and fro between it and the air.
            again = 1 - view.air.returned[index] * np.minimum(around, 1)
            ground *= view.air.passed[index] / again
            ground += view.air.path[index]
        ground = _resolve(ground, band, view.geometry.pixel_m)
        ground += noise * rng.standard_normal(ground.shape, dtype=np.float32)
        planes[band.name] = np.clip(ground, np.float32(0.0001), np.float32(view.saturation))
    for band in view.bands:
        if band.kind is BandKind.THERMAL:
            planes[band.name] = _thermal(rng, view, band)
    return np.stack([planes[band.name] for band in view.bands]), beam


def _smoke(ground: Floats, depth: Floats, centre_nm: float) -> Floats:
    """Return the ground below smoke: fine and dark, so it fades towards the infrared."""
    if not depth.any():
        return ground
    here = depth * np.float32((centre_nm / 550.0) ** -1.9)
    seen: Floats = ground * np.exp(-0.5 * here) + np.float32(0.25) * (1 - np.exp(-0.6 * here))
    return seen.astype(np.float32)


def _split(decks: tuple[Deck, ...]) -> list[tuple[bool, tuple[Deck, ...]]]:
    water = tuple(deck for deck in decks if not deck.ice)
    ice = tuple(deck for deck in decks if deck.ice)
    return [(flag, group) for flag, group in ((False, water), (True, ice)) if group]


class _Layer:
    """All decks of one phase, seen from above as one sheet."""

    def __init__(self, view: View, decks: tuple[Deck, ...], optics: Optics) -> None:
        depth: Floats = np.sum([deck.depth for deck in decks], axis=0, dtype=np.float32)
        self._steps = depth_steps(depth)
        shape = (int(depth.shape[0]), int(depth.shape[1]))
        self._relief = cloud_relief(decks, view.geometry, shape)
        self._optics = optics
        weights = [float(deck.depth.mean()) + 1e-6 for deck in decks]
        heights = [(deck.base_m + float(deck.top_m.mean())) / 2 for deck in decks]
        self._height_m = float(np.average(heights, weights=weights))
        self._view = view
        centres = [b.centre_nm or 0.0 for b in view.bands if b.kind is BandKind.OPTICAL]
        self._gas = gas_above(view.air.gas, centres, self._height_m)

    def veil(
        self, ground: Floats, around: Floats, index: int, band: Band, gas: float | None
    ) -> Floats:
        """Return what is seen at one band with this layer over ``ground``."""
        steps, relief = self._steps, self._relief
        if self._view.sensor.instrument == "msi":
            angle = _S2_DELAY_S.get(band.name, 0.0) * _ANGLE_PER_SECOND
            shift = round(angle * self._height_m / self._view.geometry.pixel_m)
            if shift:
                steps, relief = roll(steps, shift, 0), roll(relief, shift, 0)
        tables = self._optics
        seen: Floats = tables.reflected[index][steps] * relief
        seen *= np.float32(self._gas[index] if gas is None else gas)
        if gas is None:
            # Only part of the air lies above the cloud; below, all of it is laid over everything.
            above = np.exp(-self._height_m / _AIR_SCALE_M)
            passed, path = self._view.air.passed[index], self._view.air.path[index]
            hidden = 1 - tables.image[index][steps] - tables.veiled[index][steps]
            seen *= passed ** np.float32(above - 1)
            seen -= hidden * np.float32(path * (1 - above) / passed)
        seen += tables.image[index][steps] * ground
        seen += tables.veiled[index][steps] * around
        return seen


def _resolve(plane: Floats, band: Band, pixel_m: float) -> Floats:
    """Return the plane as coarse as its band is, on the grid of the scene."""
    from scipy import ndimage

    factor = round(band.resolution_m / pixel_m)
    if factor <= 1:
        sharp: Floats = ndimage.gaussian_filter(plane, 0.45, mode="nearest", truncate=3)
        return sharp
    height, width = plane.shape
    rows, columns = -height % factor, -width % factor
    padded = np.pad(plane, ((0, rows), (0, columns)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // factor, factor, -1, factor).mean(axis=(1, 3))
    fine: Floats = np.repeat(np.repeat(blocks, factor, 0), factor, 1)[:height, :width]
    return fine


def _thermal(rng: np.random.Generator, view: View, band: Band) -> Floats:
    """Return normalised brightness temperature: the ground, and decks colder with height."""
    air = float(rng.uniform(255, 305))
    shape = view.surface.kind.shape
    uneven = fractal_noise(rng, (shape[0], shape[1]), outer_px=5000 / view.geometry.pixel_m)
    kelvin = np.float32(air) + view.surface.warmth * np.float32(view.geometry.sun_cosine)
    kelvin = kelvin + np.float32(1.5) * uneven
    for deck in view.decks:
        hidden = 1 - np.exp(-deck.depth / 2)
        top = np.float32(air) - np.float32(0.0065) * deck.top_m
        kelvin = kelvin + hidden * (np.maximum(top, 195) - kelvin)
    kelvin = kelvin.astype(np.float32) + np.float32(0.15) * rng.standard_normal(
        shape, dtype=np.float32
    )
    return normalise_temperature(kelvin, band.name)
