"""Landscapes: a map of materials, their spectra, relief, and what is water or snow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.simulator.biomes import Biome
from openeo_cloudmask.simulator.noise import fractal_noise, quantile, smoothstep
from openeo_cloudmask.simulator.spectra import band_spectra

Floats = NDArray[np.float32]
Labels = NDArray[np.int16]

LAND, WATER, SNOW = 0, 1, 2


_TOWN = (
    "asphalt-old", "asphalt-new", "concrete", "roof-tile", "roof-gravel", "roof-metal",
    "roof-white", "grass-green", "deciduous-summer", "soil-brown",
)  # fmt: skip
_TOWN_SHARES = (0.22, 0.07, 0.15, 0.14, 0.12, 0.05, 0.04, 0.1, 0.08, 0.03)
_ROUGHNESS = {  # standard deviation of the logarithm of brightness from pixel to pixel, at 10 m
    "conifer": 0.22, "deciduous": 0.16, "forest": 0.18, "water": 0.02, "snow": 0.02, "crop": 0.06,
    "soil": 0.06, "sand": 0.07, "salt": 0.05, "granite": 0.15, "basalt": 0.12, "limestone": 0.12,
    "shrub": 0.12, "roof": 0.1, "asphalt": 0.1, "concrete": 0.12, "ice": 0.06,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """A landscape lit evenly from above."""

    reflectance: Floats
    """(band, y, x) float32, 0-1."""
    kind: NDArray[np.uint8]
    """(y, x) uint8: 0 land, 1 water, 2 snow or ice."""
    slope_yx: tuple[Floats, Floats]
    """Rise towards larger y and x, metres per metre."""
    warmth: Floats
    """(y, x) float32, how much warmer than the air the ground is, kelvin."""
    building_m: Floats
    """(y, x) float32, height of buildings, metres."""


@dataclass(slots=True)
class _Palette:
    """The materials of one scene: each call of ``add`` makes a variant of a table row."""

    rng: np.random.Generator
    centres_nm: Sequence[float]
    rows: list[Floats] = field(default_factory=list)
    rough: list[float] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)

    def add(self, name: str, *, spread: float = 0.14, mix: str | None = None) -> int:
        base = band_spectra([name], self.centres_nm)[0]
        if mix is not None and mix != name:
            share = np.float32(self.rng.beta(0.7, 2.0))
            base = (1 - share) * base + share * band_spectra([mix], self.centres_nm)[0]
        kind = _kind_of(name)
        if kind == SNOW:
            spread *= 0.25
        tilt = (np.asarray(self.centres_nm) / 800.0) ** self.rng.normal(0, 0.12)
        factor = np.exp(self.rng.normal(0, spread)) * np.clip(tilt, 0.6, 1.6)
        self.rows.append(np.clip(base * factor, 0, 1).astype(np.float32))
        stem = next((key for key in _ROUGHNESS if name.startswith(key)), "crop")
        self.rough.append(_ROUGHNESS[stem])
        self.kind.append(kind)
        return len(self.rows) - 1


def _kind_of(name: str) -> int:
    if name.startswith(("water", "paddy")):
        return WATER
    return SNOW if name.startswith(("snow", "ice")) else LAND


def build_surface(
    rng: np.random.Generator,
    shape: tuple[int, int],
    pixel_m: float,
    centres_nm: Sequence[float],
    biome: Biome,
) -> Surface:
    """Return a landscape of ``biome``; every wavelength is that of an optical band."""
    palette = _Palette(rng, centres_nm)
    height = _relief(rng, shape, pixel_m, biome)
    slope_y = np.gradient(height, axis=0) / np.float32(pixel_m)
    slope_x = np.gradient(height, axis=1) / np.float32(pixel_m)
    cover = _natural(rng, shape, pixel_m, biome, palette)
    other = _natural(rng, shape, pixel_m, biome, palette)
    _lay_fields(rng, pixel_m, biome, palette, cover, other)
    _lay_woods(rng, pixel_m, biome, palette, cover, other)
    building = _lay_town(rng, pixel_m, biome, palette, cover, other)
    _lay_water(rng, pixel_m, biome, palette, cover, other, height)
    _lay_snow(rng, pixel_m, biome, palette, cover, other, height)
    table = np.asarray(palette.rows, np.float32)
    blend = fractal_noise(rng, shape, outer_px=1500 / pixel_m, beta=2.6)
    share = smoothstep(blend, -1.0, 2.5) * np.float32(rng.uniform(0.2, 0.8))
    cube: Floats = np.ascontiguousarray(table.T)[:, cover]
    second = np.ascontiguousarray(table.T)[:, other]
    cube += share * (second - cube)
    cube *= _texture(rng, shape, pixel_m, np.asarray(palette.rough, np.float32)[cover])
    kind = np.asarray(palette.kind, np.uint8)[cover]
    warmth = np.where(kind == LAND, 12.0, np.where(kind == WATER, 0.0, -8.0)).astype(np.float32)
    if rng.random() < biome.glint:
        cube += np.where(kind == WATER, _glint(rng, shape, pixel_m), np.float32(0))
    np.clip(cube, 0, 1.1, out=cube)
    return Surface(
        reflectance=cube,
        kind=kind,
        slope_yx=(slope_y, slope_x),
        warmth=warmth,
        building_m=np.where(kind == LAND, building, np.float32(0)),
    )


def _glint(rng: np.random.Generator, shape: tuple[int, int], pixel_m: float) -> Floats:
    """Return the sun mirrored in waves: white, brighter to one side, streaked by wind and swell."""
    slow = fractal_noise(rng, shape, outer_px=2e4 / pixel_m, beta=4.0)
    waves = fractal_noise(
        rng,
        shape,
        outer_px=rng.uniform(60, 600) / pixel_m,
        beta=float(rng.uniform(1.5, 3.0)),
        stretch=float(rng.uniform(1.0, 2.5)),
        angle_rad=float(rng.uniform(0, np.pi)),
    )
    level = np.exp(rng.uniform(np.log(0.01), np.log(0.2)))
    strength = slow * np.float32(0.5) + waves * np.float32(rng.uniform(0.05, 0.4))
    return np.minimum(np.float32(level) * np.exp(strength), np.float32(0.4))


def _relief(
    rng: np.random.Generator, shape: tuple[int, int], pixel_m: float, biome: Biome
) -> Floats:
    outer = rng.uniform(3e3, 1.2e4) / pixel_m
    field_ = fractal_noise(
        rng, shape, outer_px=outer, beta=float(rng.uniform(3.4, 4.2)), inner_px=1
    )
    return field_ * np.float32(biome.relief_m * rng.uniform(0.1, 0.45))


def _texture(
    rng: np.random.Generator, shape: tuple[int, int], pixel_m: float, rough: Floats
) -> Floats:
    """Return factors around 1; larger pixels average part of the fine grain away."""
    fine = fractal_noise(rng, shape, outer_px=300 / pixel_m, beta=float(rng.uniform(1.2, 2.2)))
    coarse = fractal_noise(rng, shape, outer_px=4000 / pixel_m, beta=2.8)
    fade = np.float32(min(1.0, (20.0 / pixel_m) ** 0.5))
    factor: Floats = np.exp(rough * (fine * fade + np.float32(0.7) * coarse))
    return factor


def _natural(
    rng: np.random.Generator,
    shape: tuple[int, int],
    pixel_m: float,
    biome: Biome,
    palette: _Palette,
) -> Labels:
    """Return a mosaic of natural covers with fractal borders."""
    count = min(int(rng.integers(1, 5)), len(biome.natural))
    names = list(rng.choice(biome.natural, count, replace=False))
    field_ = fractal_noise(
        rng, shape, outer_px=rng.uniform(1e3, 1e4) / pixel_m, beta=float(rng.uniform(2.2, 3.6))
    )
    cuts = np.sort(rng.uniform(0.1, 0.9, count - 1))
    levels = [quantile(field_, cut) for cut in cuts]
    places = np.asarray([palette.add(name, mix=str(rng.choice(names))) for name in names], np.int16)
    return places[np.digitize(field_, levels)]


def _lay_fields(
    rng: np.random.Generator,
    pixel_m: float,
    biome: Biome,
    palette: _Palette,
    cover: Labels,
    other: Labels,
) -> None:
    """Replace part of the map by parcels; each field has its own crop, roads run between them."""
    share = biome.fields * rng.uniform(0.2, 1.05)
    if not biome.crops or share < 0.03:
        return
    parcel, edge = _parcels(rng, cover.shape, pixel_m)
    crops = rng.choice(biome.crops, size=int(rng.integers(2, 7)))
    kinds = [palette.add(str(rng.choice(crops)), mix=str(rng.choice(crops))) for _ in range(90)]
    region = fractal_noise(rng, cover.shape, outer_px=8000 / pixel_m, beta=3.2)
    inside = region > quantile(region, 1 - share)
    drawn = np.asarray(kinds, np.int16)[rng.integers(0, len(kinds), int(parcel.max()) + 1)]
    pair = np.asarray(kinds, np.int16)[rng.integers(0, len(kinds), int(parcel.max()) + 1)]
    same = rng.random(len(drawn)) < 0.75
    cover[inside] = drawn[parcel[inside]]
    other[inside] = np.where(same, drawn, pair)[parcel[inside]]
    road = palette.add(str(rng.choice(("asphalt-old", "concrete", "soil-light", "grass-green"))))
    lanes = inside & (edge < rng.uniform(0.2, 1.0) * max(10.0 / pixel_m, 0.35))
    cover[lanes] = road
    other[lanes] = road


def _parcels(
    rng: np.random.Generator, shape: tuple[int, int], pixel_m: float
) -> tuple[NDArray[np.int32], Floats]:
    """Return parcel numbers and the distance, in pixels, to the border of strips of parcels."""
    rows = np.arange(shape[0], dtype=np.float32)[:, np.newaxis]
    columns = np.arange(shape[1], dtype=np.float32)[np.newaxis]
    angle = float(rng.normal(0, 0.05) if rng.random() < 0.5 else rng.uniform(0, np.pi))
    bend = fractal_noise(rng, shape, outer_px=6000 / pixel_m, beta=4.0) * np.float32(
        rng.choice((0.0, 60.0, 250.0)) / pixel_m
    )
    along = columns * np.float32(np.cos(angle)) + rows * np.float32(np.sin(angle)) + bend
    across = rows * np.float32(np.cos(angle)) - columns * np.float32(np.sin(angle)) + bend
    width = max(np.exp(rng.uniform(np.log(60), np.log(900))) / pixel_m, 2.0)
    length = width * rng.uniform(1.0, 3.0)
    reach = float(np.hypot(*shape)) + 600 / pixel_m + 2 * length
    edges = np.cumsum(rng.uniform(0.4, 1.6, int(2.2 * reach / width) + 3) * width) - reach
    strip = np.searchsorted(edges.astype(np.float32), across.ravel()).astype(np.int32)
    count = int(2.4 * reach / length) + 3
    cuts = np.cumsum(rng.uniform(0.3, 1.7, (len(edges) + 1, count)) * length, axis=1) - reach
    step = np.float32(3 * reach)
    line = (np.minimum(cuts, reach) + np.arange(len(edges) + 1)[:, np.newaxis] * step).ravel()
    place = along.ravel() + strip * step
    parcel = np.searchsorted(line, place.astype(np.float64)).astype(np.int32).reshape(shape)
    near = np.abs(across.ravel() - edges[np.minimum(strip, len(edges) - 1)])
    near = np.minimum(near, np.abs(across.ravel() - edges[np.maximum(strip - 1, 0)]))
    return parcel, near.reshape(shape).astype(np.float32)


def _lay_woods(
    rng: np.random.Generator,
    pixel_m: float,
    biome: Biome,
    palette: _Palette,
    cover: Labels,
    other: Labels,
) -> None:
    share = biome.wood * rng.uniform(0, 1.0)
    if not biome.woods or share < 0.02:
        return
    field_ = fractal_noise(
        rng,
        cover.shape,
        outer_px=rng.uniform(500, 6000) / pixel_m,
        beta=float(rng.uniform(2.4, 3.4)),
    )
    inside = field_ > quantile(field_, 1 - share)
    cover[inside] = palette.add(str(rng.choice(biome.woods)), mix=str(rng.choice(biome.woods)))
    other[inside] = palette.add(str(rng.choice(biome.woods)))


def _lay_town(
    rng: np.random.Generator,
    pixel_m: float,
    biome: Biome,
    palette: _Palette,
    cover: Labels,
    other: Labels,
) -> Floats:
    """Scatter houses, streets and halls over built-up areas, and some roofs elsewhere.

    Returns:
        (y, x) float32, height of the buildings, metres.
    """
    building = np.zeros(cover.shape, np.float32)
    share = biome.town * rng.uniform(0, 1.0)
    if share < 0.004:
        return building
    field_ = fractal_noise(rng, cover.shape, outer_px=rng.uniform(800, 6000) / pixel_m, beta=2.8)
    inside = field_ > quantile(field_, 1 - share)
    places = np.asarray(
        [palette.add(name, spread=0.25) for name in _TOWN for _ in range(3)], np.int16
    )
    shares = np.repeat(np.asarray(_TOWN_SHARES) / 3, 3)
    for block_m, target in ((rng.uniform(15, 60), cover), (rng.uniform(10, 30), other)):
        size = max(round(block_m / pixel_m), 1)
        grid = (cover.shape[0] // size + 1, cover.shape[1] // size + 1)
        draw = rng.choice(places, grid, p=shares / shares.sum())
        built = np.repeat(np.repeat(draw, size, 0), size, 1)[: cover.shape[0], : cover.shape[1]]
        target[inside] = built[inside]
    tall = np.float32(np.exp(rng.uniform(np.log(4), np.log(60))))
    roofs = np.isin(cover, places[np.repeat([name.startswith("roof") for name in _TOWN], 3)])
    heights = rng.gamma(2.0, 0.5, len(palette.rows)).astype(np.float32) * tall
    building = np.where(inside & roofs, heights[cover], building)
    for _ in range(int(rng.integers(0, 2 + int(60 * share)))):
        halls = (
            max(round(rng.uniform(20, 200) / pixel_m), 1),
            max(round(rng.uniform(20, 150) / pixel_m), 1),
        )
        y, x = int(rng.integers(0, cover.shape[0])), int(rng.integers(0, cover.shape[1]))
        roof = palette.add(
            str(rng.choice(("roof-white", "roof-metal", "concrete", "greenhouse"))), spread=0.2
        )
        cover[y : y + halls[0], x : x + halls[1]] = roof
        other[y : y + halls[0], x : x + halls[1]] = roof
        building[y : y + halls[0], x : x + halls[1]] = rng.uniform(5, 15)
    return building


def _lay_water(
    rng: np.random.Generator,
    pixel_m: float,
    biome: Biome,
    palette: _Palette,
    cover: Labels,
    other: Labels,
    height: Floats,
) -> None:
    """Fill hollows with lakes, let a river wind, and open the sea beyond a coast."""
    shape = cover.shape
    wet = np.zeros(shape, bool)
    share = biome.lakes * rng.uniform(0, 1.2)
    if share > 0.003:
        field_ = fractal_noise(rng, shape, outer_px=rng.uniform(400, 5000) / pixel_m, beta=3.2)
        field_ -= height / np.float32(height.std() + 1e-6) * np.float32(0.5)
        wet |= field_ > quantile(field_, 1 - share)
    if biome.lakes and rng.random() < 0.35:
        course = fractal_noise(rng, shape, outer_px=rng.uniform(6e3, 2e4) / pixel_m, beta=3.8)
        slope = np.hypot(np.gradient(course, axis=0), np.gradient(course, axis=1)) + 1e-4
        half = np.exp(rng.uniform(np.log(8), np.log(300))) / pixel_m
        wet |= np.abs(course) < slope * np.float32(half)
    if rng.random() < biome.sea:
        coast = fractal_noise(rng, shape, outer_px=rng.uniform(1e4, 4e4) / pixel_m, beta=3.3)
        wet |= coast > quantile(coast, 1 - rng.uniform(0.15, 0.98))
    cover[wet] = palette.add(str(rng.choice(biome.water)), mix=str(rng.choice(biome.water)))
    other[wet] = palette.add(str(rng.choice(biome.water)))


def _lay_snow(
    rng: np.random.Generator,
    pixel_m: float,
    biome: Biome,
    palette: _Palette,
    cover: Labels,
    other: Labels,
    height: Floats,
) -> None:
    """Cover what lies high with snow, thinner and broken near the snow line."""
    if rng.random() >= biome.snow:
        return
    grades = ("snow-fine", "snow-medium", "snow-old", "snow-dirty")
    field_ = height / np.float32(height.std() + 1e-6)
    field_ = field_ + np.float32(0.35) * fractal_noise(
        rng, cover.shape, outer_px=900 / pixel_m, beta=2.4
    )
    line = quantile(field_, 1 - rng.uniform(0.1, 1.0))
    inside = field_ > line
    cover[inside] = palette.add(str(rng.choice(grades)))
    deep = field_ > line + np.float32(rng.uniform(0.2, 1.0))
    other[inside & deep] = palette.add(str(rng.choice(grades)))
