"""Random fields that clouds and landscapes are cut from. All are periodic: they may be rolled."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_Field = TypeVar("_Field", bound=NDArray[Any])


@lru_cache(maxsize=8)
def _frequencies(shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return (y, 1) and (1, x/2+1) spatial frequencies, cycles per pixel."""
    rows = np.fft.fftfreq(shape[0]).astype(np.float32)[:, np.newaxis]
    columns = np.fft.rfftfreq(shape[1]).astype(np.float32)[np.newaxis]
    return rows, columns


def fractal_noise(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    outer_px: float,
    beta: float = 3.0,
    inner_px: float = 0.0,
    stretch: float = 1.0,
    angle_rad: float = 0.0,
) -> Floats:
    """Return a Gaussian field with a power spectrum that falls as frequency to the power -beta.

    Args:
        rng: source of randomness.
        shape: (y, x).
        outer_px: size of the largest structures; the spectrum is flat beyond.
        beta: 2 is rough, 3 is cloud-like, 4 is smooth.
        inner_px: structures smaller than this are damped.
        stretch: how much longer structures are along ``angle_rad`` than across.
        angle_rad: direction of the stretch, counted from x towards y.

    Returns:
        (y, x) float32 with mean 0 and variance 1, periodic.
    """
    from scipy import fft

    rows, columns = _frequencies(shape)
    if stretch == 1.0:
        square = rows**2 + columns**2
    else:
        cosine, sine = np.float32(np.cos(angle_rad)), np.float32(np.sin(angle_rad))
        along, across = columns * cosine + rows * sine, rows * cosine - columns * sine
        square = (along * np.float32(stretch)) ** 2 + (across / np.float32(stretch)) ** 2
    floor = np.float32(1.0 / max(outer_px, 1.0)) ** 2
    amplitude = np.exp(np.log(square + floor) * np.float32(-beta / 4.0))
    if inner_px:
        amplitude *= np.exp(square * np.float32(-2.0 * inner_px**2))
    parts = rng.standard_normal((2, *amplitude.shape), dtype=np.float32)
    spectrum = np.empty(amplitude.shape, np.complex64)
    spectrum.real, spectrum.imag = parts[0] * amplitude, parts[1] * amplitude
    spectrum[0, 0] = 0
    field: Floats = fft.irfft2(spectrum, s=shape)
    return field / np.float32(field.std() + 1e-12)


def cell_noise(rng: np.random.Generator, shape: tuple[int, int], size_px: float) -> Floats:
    """Return closed cells of about ``size_px``: high in their middle, low along their borders.

    The difference of the distances to the two nearest of scattered points (Worley, 1996, SIGGRAPH).

    Returns:
        (y, x) float32 with mean 0 and variance 1, periodic.
    """
    from scipy.spatial import cKDTree

    count = int(np.clip(shape[0] * shape[1] / max(size_px, 2.0) ** 2, 4, 20_000))
    tree = cKDTree(rng.uniform(0, 1, (count, 2)) * shape, boxsize=shape)
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    near, _ = tree.query(np.stack([rows.ravel(), columns.ravel()], axis=1), k=2)
    field = (near[:, 1] - near[:, 0]).reshape(shape).astype(np.float32)
    cells: Floats = (field - field.mean()) / np.float32(field.std() + 1e-12)
    return cells


def quantile(field: Floats, share: float) -> float:
    """Return the value below which ``share`` of a field lies, from every third pixel."""
    return float(np.quantile(field[::3, ::3], min(max(share, 0.0), 1.0)))


def smoothstep(field: Floats, low: float, high: float) -> Floats:
    """Return 0 below ``low``, 1 above ``high`` and a smooth rise between them."""
    ramp = np.clip((field - np.float32(low)) / np.float32(max(high - low, 1e-6)), 0, 1)
    rise: Floats = ramp * ramp * (3 - 2 * ramp)
    return rise


def roll(field: _Field, dy: float, dx: float) -> _Field:
    """Return a field moved by whole pixels, what leaves on one side entering on the other."""
    moved: _Field = np.roll(field, (round(dy), round(dx)), axis=(0, 1))  # type: ignore[assignment]
    return moved


def blur(field: Floats, size_px: float) -> Floats:
    """Return a field smoothed by a box of ``size_px`` pixels run twice, periodic.

    The filter's running sums may leave a field by rounding: it is kept between its old bounds.
    """
    from scipy import ndimage

    size = int(np.clip(round(size_px), 1, min(field.shape)))
    once = ndimage.uniform_filter(field, size, mode="wrap")
    twice = ndimage.uniform_filter(once, size, mode="wrap")
    kept: Floats = np.clip(twice, field.min(), field.max())
    return kept
