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
from openeo_cloudmask.sensors import Band, BandKind, Sensor, get_sensor
from openeo_cloudmask.simulator.biomes import BIOMES, Biome
from openeo_cloudmask.simulator.clouds import DECK_KINDS, DECK_WEIGHTS, Deck, build_deck
from openeo_cloudmask.simulator.light import Air, Geometry, build_air
from openeo_cloudmask.simulator.noise import fractal_noise, quantile, smoothstep
from openeo_cloudmask.simulator.render import View, render
from openeo_cloudmask.simulator.surface import SNOW, WATER, Surface, build_surface

Floats = NDArray[np.float32]

THIN_DEPTH = 0.3
"""Optical depth from which cloud counts as cloud."""
THICK_DEPTH = 3.0
"""Optical depth from which cloud hides what lies below."""
SHADOW_BEAM = 0.65
"""Share of the direct beam below which ground is in shadow."""

_CLEAR_SHARE, _OVERCAST_SHARE = 0.08, 0.16
"""How often a drawn scene has no cloud at all, and cloud from edge to edge."""
_SMOKE_SHARE, _SATURATED_SHARE = 0.05, 0.08
NEVER_SATURATED = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedScene:
    """A scene and its truth on one grid."""

    cube: Floats
    """(band, y, x) float32: reflectance 0-1 (clouds may exceed 1), thermal bands normalised as
    detectors take them; NaN where no-data."""
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
    smoke_depth: Floats
    """(y, x) float32, optical depth of smoke at 550 nm. Smoke is not cloud: its truth is what lies
    below it."""
    transform: Affine
    crs: str
    sun_zenith_deg: float
    sun_azimuth_deg: float
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def cloud_percent(self) -> float:
        """Share of the pixels that were seen which are cloud, thick or thin, in percent."""
        seen = self.truth != 255
        cloudy = (self.truth == 1) | (self.truth == 2)
        return round(100 * float(cloudy.sum()) / max(int(seen.sum()), 1), 2)


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
    smoke: float | None = None,
    saturation: float | None = None,
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
        cloud_fraction: share of the scene the decks cover, 0-1, before thin rims are cut off; 1 is
            cloud from edge to edge.
        sun_zenith_deg: 0-85.
        sun_azimuth_deg: clockwise from north.
        haze: aerosol optical depth at 550 nm.
        nodata_fraction: share of the scene beyond the edge of the swath.
        smoke: greatest optical depth of smoke at 550 nm, 0 for none.
        saturation: reflectance at which the optical bands saturate.

    Raises:
        OptionError: an argument is out of range or unknown.
        BandError: the sensor has no such band.
        SensorError: there is no such sensor.
    """
    if seed < 0:
        raise OptionError(f"seed is {seed}; expected a whole number from 0 on")
    rng = np.random.default_rng(seed)
    instrument = get_sensor(sensor)
    shape = _check_size(size)
    chosen = _choose_bands(instrument, bands)
    name = biome if biome is not None else _draw_biome(rng)
    if name not in BIOMES:
        raise OptionError(f"unknown biome {name!r}; expected one of {', '.join(BIOMES)}")
    geometry = _draw_geometry(
        rng, BIOMES[name], pixel_m or instrument.resolution_m, sun_zenith_deg, sun_azimuth_deg
    )
    work = _work_shape(shape)
    layers = _draw_decks(rng, work, geometry.pixel_m, decks, cloud_fraction)
    centres = [band.centre_nm or 0.0 for band in chosen if band.kind is BandKind.OPTICAL]
    surface = build_surface(rng, work, geometry.pixel_m, centres, BIOMES[name])
    haze_depth, air = _draw_air(rng, centres, geometry, BIOMES[name], haze)
    smoke_depth = _draw_smoke(rng, work, geometry.pixel_m, smoke)
    limit = _draw_saturation(rng, saturation)
    view = View(instrument, tuple(chosen), geometry, air, surface, layers, smoke_depth, limit)
    cube, beam = render(rng, view)
    depth: Floats = np.sum([deck.depth for deck in layers] or [np.zeros(work, np.float32)], axis=0)
    truth, alcd = _truth(layers, depth, beam, surface)
    seen = ~_holes(rng, shape, nodata_fraction)
    cut = (slice(0, shape[0]), slice(0, shape[1]))
    return SimulatedScene(
        cube=np.where(seen, cube[:, *cut], np.float32(np.nan)),
        band_names=tuple(band.name for band in chosen),
        sensor=sensor,
        truth=np.where(seen, truth[cut], np.uint8(255)),
        truth_alcd=np.where(seen, alcd[cut], np.uint8(0)),
        optical_depth=np.ascontiguousarray(depth[cut]),
        sun_beam=np.ascontiguousarray(beam[cut]),
        smoke_depth=np.ascontiguousarray(smoke_depth[cut]),
        transform=_draw_place(rng, geometry.pixel_m),
        crs="EPSG:32631",
        sun_zenith_deg=geometry.sun_zenith_deg,
        sun_azimuth_deg=geometry.sun_azimuth_deg,
        metadata={
            "seed": seed,
            "biome": name,
            "decks": [deck.kind for deck in layers],
            "haze_depth_550": round(haze_depth, 3),
            "view_zenith_deg": geometry.view_zenith_deg,
            "thin_depth": THIN_DEPTH,
            "thick_depth": THICK_DEPTH,
        },
    )


def _check_size(size: int | tuple[int, int]) -> tuple[int, int]:
    shape = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if min(shape) < 8:
        raise OptionError(f"size is {size}; expected at least 8 pixels per side")
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
    rng: np.random.Generator,
    biome: Biome,
    pixel_m: float,
    zenith: float | None,
    azimuth: float | None,
) -> Geometry:
    """Draw angles as morning orbits meet them, both hemispheres; a share of any azimuth at all."""
    drawn_zenith = float(rng.uniform(*biome.sun_zenith_deg))
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


def _draw_air(
    rng: np.random.Generator,
    centres_nm: Sequence[float],
    geometry: Geometry,
    biome: Biome,
    haze: float | None,
) -> tuple[float, Air]:
    """Return the optical depth of haze at 550 nm, and the air."""
    depth = float(np.exp(rng.normal(np.log(0.12), 0.7))) if haze is None else haze
    depth = min(depth, 1.2)
    air = build_air(
        centres_nm,
        geometry,
        haze_depth=depth,
        angstrom=float(rng.uniform(0.8, 1.6)),
        moisture=float(rng.uniform(*biome.moisture)),
        altitude_m=float(rng.uniform(0, biome.altitude_m)),
    )
    return depth, air


def _draw_smoke(
    rng: np.random.Generator, shape: tuple[int, int], pixel_m: float, peak: float | None
) -> Floats:
    """Return the optical depth of plumes at 550 nm, drawn out along the wind."""
    if peak is not None and peak < 0:
        raise OptionError(f"smoke is {peak}; expected an optical depth of 0 or more")
    if peak is None:
        peak = float(rng.uniform(0.3, 4.0)) if rng.random() < _SMOKE_SHARE else 0.0
    if peak == 0:
        return np.zeros(shape, np.float32)
    field_ = fractal_noise(
        rng,
        shape,
        outer_px=rng.uniform(1.5e3, 1.2e4) / pixel_m,
        beta=3.2,
        stretch=float(rng.uniform(1.2, 3.0)),
        angle_rad=float(rng.uniform(0, np.pi)),
    )
    low = quantile(field_, float(rng.uniform(0.2, 0.8)))
    return smoothstep(field_, low, low + 2.5) * np.float32(peak)


def _draw_saturation(rng: np.random.Generator, level: float | None) -> float:
    if level is not None and level <= 0:
        raise OptionError(f"saturation is {level}; expected a reflectance above 0")
    if level is not None:
        return level
    drawn = float(rng.uniform(0.5, 1.2))
    return drawn if rng.random() < _SATURATED_SHARE else NEVER_SATURATED


def _draw_place(rng: np.random.Generator, pixel_m: float) -> Affine:
    """Return where the scene lies in its UTM zone, on the grid of 60 m."""
    east = 300_000 + 60 * int(rng.integers(0, 5000))
    north = 4_000_020 + 60 * int(rng.integers(0, 25_000))
    return Affine(pixel_m, 0, east, 0, -pixel_m, north)


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
    named = kinds
    if kinds is None:
        count = int(rng.choice((1, 2, 3), p=(0.6, 0.29, 0.11)))
        weights = np.asarray(list(DECK_WEIGHTS.values()))
        drawn = rng.choice(list(DECK_WEIGHTS), count, replace=False, p=weights / weights.sum())
        kinds = [str(kind) for kind in drawn]
    for kind in kinds:
        if kind not in DECK_KINDS:
            raise OptionError(
                f"unknown cloud deck {kind!r}; expected one of {', '.join(DECK_KINDS)}"
            )
    if cover is None:
        cover = _draw_cover(rng, may_be_clear=named is None)
    if cover == 0:
        kinds = []
    decks = []
    for kind in kinds:
        share = 1 - (1 - cover) ** (1 / len(kinds))
        decks.append(build_deck(kind, rng, shape, pixel_m, float(max(share, 0.005))))
    return tuple(sorted(decks, key=lambda deck: deck.base_m))


def _draw_cover(rng: np.random.Generator, *, may_be_clear: bool) -> float:
    draw = rng.random()
    if draw < _OVERCAST_SHARE:
        return 1.0
    if may_be_clear and draw > 1 - _CLEAR_SHARE:
        return 0.0
    return float(rng.uniform(0.005, 1))


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


def _holes(rng: np.random.Generator, shape: tuple[int, int], share: float) -> NDArray[np.bool_]:
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
