"""Cloud decks: where cloud is, how thick, how high, and what it does to light.

Optical properties come from the two-stream solution (Bohren, 1987, Am. J. Phys. 55; Coakley and
Chylek, 1975, J. Atmos. Sci. 32) with a path that lengthens with the sun's zenith angle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.simulator.noise import (
    blur,
    cell_noise,
    fractal_noise,
    quantile,
    smoothstep,
)
from openeo_cloudmask.simulator.spectra import Particles

Floats = NDArray[np.float32]

DEPTH_STEPS_PER_OCTAVE = 48
DEPTH_LIMIT = 120.0
"""Optical depths beyond this look the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deck:
    """One layer of cloud."""

    kind: str
    depth: Floats
    """(y, x) float32, optical depth in the visible, 0 in clear sky."""
    base_m: float
    top_m: Floats
    """(y, x) float32, height of the cloud top above the ground, metres."""
    ice: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Optics:
    """What a layer does to light, by band and by step of optical depth."""

    reflected: Floats
    """(band, step) float32."""
    image: Floats
    """(band, step) float32, share that passes without losing the picture of what lies below."""
    veiled: Floats
    """(band, step) float32, share that passes scattered."""
    direct: Floats
    """(step,) float32, share of the sun's beam that passes on its slant path."""


def depth_steps(depth: Floats) -> NDArray[np.uint16]:
    """Return the step of the tables in ``Optics`` that each optical depth falls on."""
    octave = np.log2(np.minimum(depth, DEPTH_LIMIT) * 16 + 1)
    steps: NDArray[np.uint16] = np.rint(octave * DEPTH_STEPS_PER_OCTAVE).astype(np.uint16)
    return steps


def layer_optics(particles: Particles, sun_cosine: float) -> Optics:
    """Return the tables of a layer of ``particles`` under a sun at ``sun_cosine``."""
    count = int(np.ceil(np.log2(DEPTH_LIMIT * 16 + 1) * DEPTH_STEPS_PER_OCTAVE)) + 1
    depth = (2.0 ** (np.arange(count) / DEPTH_STEPS_PER_OCTAVE) - 1) / 16
    absorbed = np.maximum(particles.absorbed.astype(float), 1e-7)[:, np.newaxis]
    scattered = 1 - absorbed
    backward = 1 - scattered * particles.asymmetry
    similarity = np.sqrt(absorbed / backward)
    deepest = (1 - similarity) / (1 + similarity)
    # Light that comes in slantwise meets more cloud: the factor is 1 for diffuse light.
    slant = np.clip((0.577 / sun_cosine) ** 0.6, 0.7, 1.7)
    decay = np.exp(-np.sqrt(3 * absorbed * backward) * depth * slant)
    spread = 1 - deepest**2 * decay**2
    reflected = deepest * (1 - decay**2) / spread
    passed = (1 - deepest**2) * decay / spread
    image = np.exp(-depth * (1 - particles.forward)) * np.ones_like(absorbed)
    image = np.minimum(image, passed)
    direct = np.exp(-depth * (1 - particles.forward) / sun_cosine)
    return Optics(
        reflected=reflected.astype(np.float32),
        image=image.astype(np.float32),
        veiled=(passed - image).astype(np.float32),
        direct=direct.astype(np.float32),
    )


def build_deck(
    kind: str, rng: np.random.Generator, shape: tuple[int, int], pixel_m: float, cover: float
) -> Deck:
    """Return a deck of ``kind``, one of ``DECK_KINDS``, over about ``cover`` of the scene.

    A ``cover`` of 1 is cloud from edge to edge.
    """
    return DECK_KINDS[kind](rng, shape, pixel_m, cover)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _excess(field: Floats, cover: float) -> Floats:
    """Return how far a field rises over the level that ``cover`` of it exceeds, 0-1.

    Edge to edge, even the lowest place lies well above that level.
    """
    level = quantile(field, 1 - cover)
    top = max(quantile(field, 0.998), level + 0.2)
    if cover >= 1:
        level = float(field.min()) - 0.45 * (top - level)
    excess: Floats = np.clip((field - np.float32(level)) / np.float32(top - level), 0, 1.2)
    return excess


def _cumulus(
    rng: np.random.Generator, shape: tuple[int, int], pixel_m: float, cover: float
) -> Deck:
    """Many small heaps with ragged, sharp edges; sometimes in streets."""
    cell_m = _log_uniform(rng, 450, 4000)
    street = float(rng.uniform(1.0, 1.8)) if rng.random() < 0.3 else 1.0
    field = fractal_noise(
        rng,
        shape,
        outer_px=cell_m / pixel_m,
        beta=float(rng.uniform(2.9, 3.9)),
        stretch=street,
        angle_rad=float(rng.uniform(0, np.pi)),
    )
    region = fractal_noise(rng, shape, outer_px=rng.uniform(5e3, 2e4) / pixel_m, beta=3.5)
    field += region * np.float32(rng.uniform(0.0, 0.8))
    excess = _excess(field, cover)
    depth = excess ** np.float32(rng.uniform(0.7, 1.8)) * np.float32(_log_uniform(rng, 8, 70))
    base = _log_uniform(rng, 500, 3000)
    thick = min(_log_uniform(rng, 200, 2000), cell_m)
    # Small heaps stay flat: height follows the cloud around a pixel, not the pixel.
    body = blur(excess, 0.25 * cell_m / pixel_m)
    top = np.float32(base) + np.sqrt(body) * np.float32(thick)
    return Deck(kind="cumulus", depth=depth, base_m=base, top_m=top, ice=False)


def _stratocumulus(
    rng: np.random.Generator, shape: tuple[int, int], pixel_m: float, cover: float
) -> Deck:
    """Rolls and cells that nearly close, with gaps."""
    cell = rng.uniform(800, 5000) / pixel_m
    field = fractal_noise(
        rng,
        shape,
        outer_px=cell,
        beta=float(rng.uniform(3.0, 4.2)),
        stretch=float(rng.uniform(1.0, 1.6)),
        angle_rad=float(rng.uniform(0, np.pi)),
    )
    if rng.random() < 0.6:
        field = np.float32(0.5) * field + np.float32(0.9) * cell_noise(rng, shape, cell)
    field += fractal_noise(rng, shape, outer_px=cell * 6, beta=3.5) * np.float32(0.7)
    edge = smoothstep(_excess(field, cover), 0.0, float(rng.uniform(0.05, 0.35)))
    depth = edge * np.exp(field * np.float32(0.35)) * np.float32(_log_uniform(rng, 4, 30))
    base = _log_uniform(rng, 400, 2500)
    top = np.float32(base + rng.uniform(150, 500)) + field * np.float32(rng.uniform(20, 140))
    return Deck(kind="stratocumulus", depth=depth, base_m=base, top_m=top, ice=False)


def _stratus(
    rng: np.random.Generator, shape: tuple[int, int], pixel_m: float, cover: float
) -> Deck:
    """A broad sheet or fog bank with soft borders."""
    field = fractal_noise(rng, shape, outer_px=rng.uniform(8e3, 3e4) / pixel_m, beta=3.3)
    grain = fractal_noise(rng, shape, outer_px=rng.uniform(5e2, 3e3) / pixel_m, beta=3.0)
    edge = smoothstep(_excess(field + 0.15 * grain, cover), 0.0, float(rng.uniform(0.1, 0.8)))
    depth = edge * np.exp(grain * np.float32(rng.uniform(0.05, 0.3)))
    depth *= np.float32(_log_uniform(rng, 3, 40))
    base = _log_uniform(rng, 80, 2500)
    top = np.float32(base + rng.uniform(150, 600)) + grain * np.float32(25)
    return Deck(kind="stratus", depth=depth, base_m=base, top_m=top, ice=False)


def _nimbostratus(
    rng: np.random.Generator, shape: tuple[int, int], pixel_m: float, cover: float
) -> Deck:
    """A deep rain cloud: a soft, even, very thick sheet, of water or of ice at its top."""
    field = fractal_noise(rng, shape, outer_px=rng.uniform(1e4, 4e4) / pixel_m, beta=3.8)
    soft = fractal_noise(rng, shape, outer_px=rng.uniform(2e3, 1e4) / pixel_m, beta=3.8)
    edge = smoothstep(_excess(field + 0.1 * soft, cover), 0.0, float(rng.uniform(0.1, 0.5)))
    depth = edge * np.exp(soft * np.float32(rng.uniform(0.05, 0.4)))
    depth *= np.float32(_log_uniform(rng, 15, 110))
    base = _log_uniform(rng, 300, 2000)
    top = np.float32(base + rng.uniform(2000, 6000)) + soft * np.float32(rng.uniform(20, 150))
    ice = rng.random() < 0.5
    return Deck(kind="nimbostratus", depth=depth, base_m=base, top_m=top, ice=ice)


def _mist(rng: np.random.Generator, shape: tuple[int, int], pixel_m: float, cover: float) -> Deck:
    """A faint low veil without a border: fog that lifts, haze over forest and water."""
    field = fractal_noise(rng, shape, outer_px=rng.uniform(2e3, 2e4) / pixel_m, beta=3.4)
    depth = smoothstep(_excess(field, cover), 0.0, 1.0) * np.float32(_log_uniform(rng, 0.4, 3))
    base = float(rng.uniform(50, 800))
    top = np.full(shape, base + 200, np.float32)
    return Deck(kind="mist", depth=depth, base_m=base, top_m=top, ice=False)


def _altocumulus(
    rng: np.random.Generator, shape: tuple[int, int], pixel_m: float, cover: float
) -> Deck:
    """Fields of small puffs at middle height, often thin."""
    cells = fractal_noise(
        rng, shape, outer_px=rng.uniform(300, 1500) / pixel_m, beta=3.8, inner_px=1.0
    )
    region = fractal_noise(rng, shape, outer_px=rng.uniform(4e3, 1.5e4) / pixel_m, beta=3.5)
    excess = _excess(region + np.float32(rng.uniform(0.2, 0.6)) * cells, cover)
    depth = excess * np.float32(_log_uniform(rng, 3, 20))
    base = float(rng.uniform(2500, 6000))
    top = np.float32(base + 200) + excess * np.float32(300)
    return Deck(kind="altocumulus", depth=depth, base_m=base, top_m=top, ice=rng.random() < 0.3)


def _cirrus(rng: np.random.Generator, shape: tuple[int, int], pixel_m: float, cover: float) -> Deck:
    """Fibrous, semi-transparent ice cloud, at times with contrails."""
    angle = float(rng.uniform(0, np.pi))
    field = fractal_noise(
        rng,
        shape,
        outer_px=rng.uniform(3e3, 3e4) / pixel_m,
        beta=float(rng.uniform(2.8, 3.6)),
        stretch=float(rng.uniform(1.2, 2.6)),
        angle_rad=angle,
    )
    sharp = np.float32(rng.uniform(1.0, 1.8))
    depth = _excess(field, cover) ** sharp * np.float32(_log_uniform(rng, 0.3, 6))
    if rng.random() < 0.3:
        depth = depth + _contrails(rng, shape, pixel_m)
    base = float(rng.uniform(6000, 12000))
    top = np.full(shape, base + 100, np.float32)
    return Deck(kind="cirrus", depth=depth, base_m=base, top_m=top, ice=True)


def _contrails(rng: np.random.Generator, shape: tuple[int, int], pixel_m: float) -> Floats:
    rows = np.arange(shape[0], dtype=np.float32)[:, np.newaxis]
    columns = np.arange(shape[1], dtype=np.float32)[np.newaxis]
    total = np.zeros(shape, np.float32)
    for _ in range(int(rng.integers(1, 5))):
        angle = rng.uniform(0, np.pi)
        centre = rng.uniform(0, 1, 2) * shape
        across = (rows - centre[0]) * np.cos(angle) - (columns - centre[1]) * np.sin(angle)
        width = max(rng.uniform(60, 600) / pixel_m, 0.8)
        line = np.exp(-((across / np.float32(width)) ** 2)).astype(np.float32)
        total += line * np.float32(rng.uniform(0.2, 1.2))
    ragged = fractal_noise(rng, shape, outer_px=2000 / pixel_m, beta=3.0)
    faded: Floats = total * np.clip(1 + np.float32(0.4) * ragged, 0, 2)
    return faded


def _tower(rng: np.random.Generator, shape: tuple[int, int], pixel_m: float, cover: float) -> Deck:
    """Deep convection: large, very bright, cold, with long shadows."""
    cell_m = float(rng.uniform(4e3, 1.5e4))
    field = fractal_noise(rng, shape, outer_px=cell_m / pixel_m, beta=float(rng.uniform(3.1, 3.8)))
    excess = _excess(field, cover)
    depth = np.sqrt(excess) * np.float32(_log_uniform(rng, 40, 120))
    base = float(rng.uniform(800, 2000))
    thick = min(float(rng.uniform(2000, 9000)), 0.8 * cell_m)
    body = blur(excess, 0.15 * cell_m / pixel_m)
    top = np.float32(base) + np.sqrt(body) * np.float32(thick)
    return Deck(kind="tower", depth=depth, base_m=base, top_m=top, ice=thick > 6000)


def _anvil(rng: np.random.Generator, shape: tuple[int, int], pixel_m: float, cover: float) -> Deck:
    """The ice top of deep convection: wide, thick, with domes and ripples."""
    field = fractal_noise(rng, shape, outer_px=rng.uniform(8e3, 3e4) / pixel_m, beta=3.6)
    fine = fractal_noise(
        rng,
        shape,
        outer_px=rng.uniform(600, 4000) / pixel_m,
        beta=float(rng.uniform(2.8, 3.8)),
        stretch=float(rng.uniform(1.0, 1.8)),
        angle_rad=float(rng.uniform(0, np.pi)),
    )
    edge = smoothstep(_excess(field + 0.2 * fine, cover), 0.0, float(rng.uniform(0.1, 0.6)))
    depth = edge * np.exp(fine * np.float32(rng.uniform(0.1, 0.4)))
    depth *= np.float32(_log_uniform(rng, 10, 110))
    base = float(rng.uniform(5000, 9000))
    domes = fine * np.float32(rng.uniform(20, 200))
    top = np.float32(base + rng.uniform(1000, 5000)) + domes
    return Deck(kind="anvil", depth=depth, base_m=base, top_m=top, ice=True)


DECK_KINDS: dict[str, Callable[[np.random.Generator, tuple[int, int], float, float], Deck]] = {
    "cumulus": _cumulus,
    "stratocumulus": _stratocumulus,
    "stratus": _stratus,
    "altocumulus": _altocumulus,
    "cirrus": _cirrus,
    "tower": _tower,
    "nimbostratus": _nimbostratus,
    "anvil": _anvil,
    "mist": _mist,
}

DECK_WEIGHTS: dict[str, float] = {
    "cumulus": 0.31,
    "stratocumulus": 0.13,
    "stratus": 0.10,
    "altocumulus": 0.09,
    "cirrus": 0.14,
    "tower": 0.06,
    "nimbostratus": 0.05,
    "anvil": 0.07,
    "mist": 0.05,
}
"""How often each kind is drawn where the caller names none."""
