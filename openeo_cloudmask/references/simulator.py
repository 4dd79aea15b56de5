"""Simulated scenes with their truth: what a sensor would see, and what is really there.

Truth is drawn from physics, not from the picture:

- thick cloud: optical depth of all clouds in the line of sight of ``THICK_DEPTH`` or more;
- thin cloud: from ``THIN_DEPTH`` up to that;
- cloud shadow: no cloud in the line of sight, and clouds let less than ``SHADOW_BEAM`` of the
  sun's direct beam reach the ground;
- clear: the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from openeo_cloudmask.errors import BandError, OptionError
from openeo_cloudmask.references.clouds import (
    DECK_KINDS,
    DECK_WEIGHTS,
    Deck,
    Optics,
    build_deck,
    depth_steps,
    layer_optics,
)
from openeo_cloudmask.references.simulator_light import (
    Air,
    Geometry,
    beam_through,
    build_air,
    cloud_relief,
    gas_above,
    slope_light,
)
from openeo_cloudmask.references.simulator_noise import blur, fractal_noise, roll
from openeo_cloudmask.references.simulator_surface import (
    BIOMES,
    SNOW,
    WATER,
    Surface,
    build_surface,
)
from openeo_cloudmask.references.spectra import droplets, ice_crystals
from openeo_cloudmask.sensors import Band, BandKind, Sensor, get_sensor, normalise_temperature

Floats = NDArray[np.float32]

THIN_DEPTH = 0.3
"""Optical depth from which cloud counts as cloud."""
THICK_DEPTH = 3.0
"""Optical depth from which cloud hides what lies below."""
SHADOW_BEAM = 0.65
"""Share of the direct beam below which ground is in shadow."""

# Seconds after B02 at which a Sentinel-2 detector sees the same ground in another band (Sentinel-2
# Products Specification Document); the platform moves 7.5 km/s at 786 km height meanwhile.
_S2_DELAY_S = {
    "B02": 0.0, "B08": 0.264, "B03": 0.527, "B10": 0.851, "B04": 1.005, "B05": 1.269, "B11": 1.468,
    "B06": 1.525, "B07": 1.790, "B8A": 2.055, "B12": 2.085, "B01": 2.314, "B09": 2.586,
}  # fmt: skip
_ANGLE_PER_SECOND = 7.5 / 786

# Deep and sheet clouds fill whole scenes easily: the larger, the less cover is drawn.
_COVER_SKEW = {"tower": 4.0, "cirrus": 1.6, "altocumulus": 2.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedScene:
    """A scene and its truth on one grid."""

    cube: Floats
    """(band, y, x) float32: reflectance 0-1 (clouds may exceed 1), thermal bands normalised as
    detectors take them; NaN where unseen."""
    band_names: tuple[str, ...]
    sensor: str
    truth: NDArray[np.uint8]
    """(y, x) uint8: 0 clear, 1 thick cloud, 2 thin cloud, 3 cloud shadow; 255 no data."""
    truth_alcd: NDArray[np.uint8]
    """(y, x) uint8, ALCD codes: 0 no data, 2 low cloud, 3 high cloud, 4 shadow, 5 land, 6 water,
    7 snow."""
    optical_depth: Floats
    """(y, x) float32, of all clouds in the line of sight."""
    sun_beam: Floats
    """(y, x) float32, share of the sun's direct beam that clouds let through to the ground."""
    transform: Affine
    crs: str
    sun_zenith_deg: float
    sun_azimuth_deg: float
    metadata: dict[str, Any] = field(default_factory=dict)


def simulate_scene(  # noqa: PLR0913 - every argument pins one thing that is drawn otherwise
    seed: int,
    *,
    sensor: str = "sentinel-2-l1c",
    size: int | tuple[int, int] = 512,
    pixel_m: float | None = None,
    bands: Sequence[str] | None = None,
    biome: str | None = None,
    decks: Sequence[str] | None = None,
    cloud_fraction: float | None = None,
    sun_zenith_deg: float | None = None,
    sun_azimuth_deg: float | None = None,
    haze: float | None = None,
    nodata_fraction: float = 0.0,
) -> SimulatedScene:
    """Return a scene that is the same for the same arguments.

    Args:
        seed: what is not given is drawn from it.
        sensor: id of a built-in sensor.
        size: pixels, one number for a square or (y, x).
        pixel_m: pixel size; None takes the sensor's.
        bands: bands wanted, by name; None takes all.
        biome: a key of ``BIOMES``.
        decks: kinds of cloud, keys of ``DECK_KINDS``; empty for a clear sky.
        cloud_fraction: share of the scene the decks cover, 0-1, before thin rims are cut off.
        sun_zenith_deg: 0-85.
        sun_azimuth_deg: clockwise from north.
        haze: aerosol optical depth at 550 nm.
        nodata_fraction: share of the scene beyond the edge of the swath.

    Raises:
        OptionError: an argument is out of range or unknown.
        BandError: the sensor has no such band.
        SensorError: there is no such sensor.
    """
    rng = np.random.default_rng(seed)
    instrument = get_sensor(sensor)
    shape = _check_size(size)
    chosen = _choose_bands(instrument, bands)
    geometry = _draw_geometry(
        rng, pixel_m or instrument.resolution_m, sun_zenith_deg, sun_azimuth_deg
    )
    name = biome if biome is not None else _draw_biome(rng)
    if name not in BIOMES:
        raise OptionError(f"unknown biome {name!r}; expected one of {', '.join(BIOMES)}")
    work = _work_shape(shape)
    layers = _draw_decks(rng, work, geometry.pixel_m, decks, cloud_fraction)
    centres = [band.centre_nm or 0.0 for band in chosen if band.kind is BandKind.OPTICAL]
    surface = build_surface(rng, work, geometry.pixel_m, centres, BIOMES[name])
    depth = float(np.exp(rng.normal(np.log(0.12), 0.7))) if haze is None else haze
    air = build_air(
        centres,
        geometry,
        haze_depth=min(depth, 1.2),
        angstrom=float(rng.uniform(0.8, 1.6)),
        moisture=float(rng.uniform(0.5, 1.6)),
    )
    view = _View(instrument, tuple(chosen), geometry, air, surface, layers)
    cube, beam = _render(rng, view)
    cut = (slice(0, shape[0]), slice(0, shape[1]))
    scene_depth: Floats = np.sum(
        [deck.depth for deck in layers] or [np.zeros(work, np.float32)], axis=0
    )
    truth, alcd = _truth(layers, scene_depth, beam, surface)
    unseen = _unseen(rng, shape, nodata_fraction)
    pixels = np.ascontiguousarray(cube[:, *cut])
    pixels[:, unseen] = np.nan
    truth, alcd = truth[cut].copy(), alcd[cut].copy()
    truth[unseen], alcd[unseen] = 255, 0
    east, north = (
        300_000 + 60 * int(rng.integers(0, 5000)),
        4_000_020 + 60 * int(rng.integers(0, 25_000)),
    )
    return SimulatedScene(
        cube=pixels,
        band_names=tuple(band.name for band in chosen),
        sensor=sensor,
        truth=truth,
        truth_alcd=alcd,
        optical_depth=np.ascontiguousarray(scene_depth[cut]),
        sun_beam=np.ascontiguousarray(beam[cut]),
        transform=Affine(geometry.pixel_m, 0, east, 0, -geometry.pixel_m, north),
        crs="EPSG:32631",
        sun_zenith_deg=geometry.sun_zenith_deg,
        sun_azimuth_deg=geometry.sun_azimuth_deg,
        metadata={
            "seed": seed,
            "biome": name,
            "decks": [deck.kind for deck in layers],
            "haze_depth_550": round(min(depth, 1.2), 3),
            "view_zenith_deg": geometry.view_zenith_deg,
            "thin_depth": THIN_DEPTH,
            "thick_depth": THICK_DEPTH,
        },
    )


@dataclass(frozen=True, slots=True)
class _View:
    sensor: Sensor
    bands: tuple[Band, ...]
    geometry: Geometry
    air: Air
    surface: Surface
    decks: tuple[Deck, ...]


def _check_size(size: int | tuple[int, int]) -> tuple[int, int]:
    shape = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if min(shape) < 8:
        raise OptionError(f"size is {size}; expected at least 8 pixels a side")
    return shape


def _work_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return a shape not smaller, of even numbers that Fourier transforms are fast for."""
    from scipy import fft

    return tuple(int(fft.next_fast_len(n + n % 2, real=True)) for n in shape)  # type: ignore[return-value]


def _choose_bands(sensor: Sensor, names: Sequence[str] | None) -> list[Band]:
    if names is not None and not names:
        raise BandError("bands is empty; name at least one band, or leave it out for all")
    chosen = [sensor.band(name) for name in (sensor.band_names if names is None else names)]
    if not any(band.kind is BandKind.OPTICAL for band in chosen):
        raise BandError("only thermal bands were asked for; name at least one optical band too")
    return chosen


def _draw_geometry(
    rng: np.random.Generator, pixel_m: float, zenith: float | None, azimuth: float | None
) -> Geometry:
    """Draw angles as morning orbits meet them, both hemispheres; a share of any azimuth at all."""
    drawn_zenith = float(np.clip(rng.normal(42, 15), 12, 76))
    morning = rng.uniform(120, 170) if rng.random() < 0.7 else rng.uniform(25, 110)
    drawn_azimuth = float(morning if rng.random() < 0.7 else rng.uniform(0, 360))
    sun = drawn_zenith if zenith is None else float(zenith)
    if not 0 <= sun <= 85:
        raise OptionError(f"sun_zenith_deg is {sun}; expected 0 to 85")
    return Geometry(
        sun_zenith_deg=sun,
        sun_azimuth_deg=drawn_azimuth if azimuth is None else float(azimuth),
        view_zenith_deg=float(rng.uniform(0, 11)),
        view_azimuth_deg=float(rng.choice((104.0, 284.0)) + rng.normal(0, 5)),
        pixel_m=pixel_m,
    )


def _draw_biome(rng: np.random.Generator) -> str:
    weights = np.asarray([biome.weight for biome in BIOMES.values()])
    return str(rng.choice(list(BIOMES), p=weights / weights.sum()))


def _draw_decks(
    rng: np.random.Generator,
    shape: tuple[int, int],
    pixel_m: float,
    kinds: Sequence[str] | None,
    cover: float | None,
) -> tuple[Deck, ...]:
    """Return the decks from the lowest to the highest."""
    if cover is not None and not 0 <= cover <= 1:
        raise OptionError(f"cloud_fraction is {cover}; expected 0 to 1")
    if kinds is None:
        count = int(rng.choice((0, 1, 2, 3), p=(0.08, 0.55, 0.27, 0.1)))
        count = max(count, 1) if cover else count
        weights = np.asarray(list(DECK_WEIGHTS.values()))
        drawn = rng.choice(list(DECK_WEIGHTS), count, replace=False, p=weights / weights.sum())
        kinds = [str(kind) for kind in drawn]
    for kind in kinds:
        if kind not in DECK_KINDS:
            raise OptionError(
                f"unknown cloud deck {kind!r}; expected one of {', '.join(DECK_KINDS)}"
            )
    if cover == 0:
        kinds = []
    decks = []
    for kind in kinds:
        share = (
            rng.beta(1.0, _COVER_SKEW.get(kind, 2.2))
            if cover is None
            else 1 - (1 - cover) ** (1 / len(kinds))
        )
        decks.append(build_deck(kind, rng, shape, pixel_m, float(np.clip(share, 0.005, 0.999))))
    return tuple(sorted(decks, key=lambda deck: deck.base_m))


def _render(rng: np.random.Generator, view: _View) -> tuple[Floats, Floats]:
    """Return the cube as the sensor sees it, and the share of the sun's beam on the ground."""
    optical = [band for band in view.bands if band.kind is BandKind.OPTICAL]
    centres = [band.centre_nm or 0.0 for band in optical]
    size = float(rng.uniform(0.6, 1.8))
    sun = view.geometry.sun_cosine
    optics = {
        False: layer_optics(droplets(centres, size), sun),
        True: layer_optics(ice_crystals(centres, float(rng.uniform(0.6, 1.6))), sun),
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
        for layer in layers:
            ground = layer.veil(ground, around, index, band, 1.0 if corrected else None)
        if corrected:
            ground += np.float32(rng.normal(0, 0.004))
        else:
            ground *= view.air.passed[index]
            ground += view.air.path[index]
        ground = _resolve(ground, band, view.geometry.pixel_m)
        ground += noise * rng.standard_normal(ground.shape, dtype=np.float32)
        planes[band.name] = np.maximum(ground, np.float32(0.0001))
    for band in view.bands:
        if band.kind is BandKind.THERMAL:
            planes[band.name] = _thermal(rng, view, band)
    return np.stack([planes[band.name] for band in view.bands]), beam


def _split(decks: tuple[Deck, ...]) -> list[tuple[bool, tuple[Deck, ...]]]:
    water = tuple(deck for deck in decks if not deck.ice)
    ice = tuple(deck for deck in decks if deck.ice)
    return [(flag, group) for flag, group in ((False, water), (True, ice)) if group]


class _Layer:
    """All decks of one phase, seen from above as one sheet."""

    def __init__(self, view: _View, decks: tuple[Deck, ...], optics: Optics) -> None:
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


def _thermal(rng: np.random.Generator, view: _View, band: Band) -> Floats:
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


def _truth(
    decks: tuple[Deck, ...], depth: Floats, beam: Floats, surface: Surface
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    cloud = depth >= THIN_DEPTH
    shadow = ~cloud & (beam < SHADOW_BEAM)
    truth = np.zeros(depth.shape, np.uint8)
    truth[cloud] = 2
    truth[depth >= THICK_DEPTH] = 1
    truth[shadow] = 3
    alcd = np.full(depth.shape, 5, np.uint8)
    alcd[surface.kind == WATER] = 6
    alcd[surface.kind == SNOW] = 7
    alcd[shadow] = 4
    low = np.zeros(depth.shape, np.float32)
    for deck in decks:
        if not deck.ice:
            low += deck.depth
    alcd[cloud] = 3
    alcd[cloud & (low >= THIN_DEPTH)] = 2
    return truth, alcd


def _unseen(rng: np.random.Generator, shape: tuple[int, int], share: float) -> NDArray[np.bool_]:
    """Return the pixels beyond the slanted edge of a swath."""
    if not 0 <= share < 1:
        raise OptionError(f"nodata_fraction is {share}; expected 0 up to, not including, 1")
    if share == 0:
        return np.zeros(shape, bool)
    rows = np.arange(shape[0])[:, np.newaxis] / shape[0]
    columns = np.arange(shape[1])[np.newaxis] / shape[1]
    across = columns + rows * 0.25 * rng.choice((-1, 1))
    if rng.random() < 0.5:
        across = -across
    return np.asarray(across < np.quantile(across, share))
