"""Percentiles of the bands of a window, over its valid pixels only."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray


def band_percentiles(
    bands: NDArray[np.float32],
    valid: NDArray[np.bool_] | None,
    quantiles: Sequence[float],
    *,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Return the percentiles of each band of each window, as ``numpy.quantile`` has them.

    Args:
        bands: (n, band, y, x) float32.
        valid: (n, y, x), True where the pixel counts; None counts all.
        quantiles: Fractions in 0-1.
        threads: Bands that are sorted side by side.

    Returns:
        (n, band, quantile) float32; zeros for a window without a valid pixel.
    """
    pixels = bands.reshape(*bands.shape[:2], -1)
    masks = None if valid is None else valid.reshape(valid.shape[0], -1)
    stats = np.zeros((*bands.shape[:2], len(quantiles)), np.float32)
    fractions = np.asarray(quantiles, np.float64)
    full = [masks is None or bool(mask.all()) for mask in (pixels if masks is None else masks)]

    def fill(window: int, band: int) -> None:
        row = pixels[window, band]
        if masks is not None and not full[window]:
            row = row[masks[window]]
        if row.size:
            stats[window, band] = _percentiles_of_row(row, fractions)

    jobs = [(n, b) for n in range(bands.shape[0]) for b in range(bands.shape[1])]
    if threads == 1:
        for job in jobs:
            fill(*job)
    else:  # a sort lets go of the interpreter lock
        with ThreadPoolExecutor(max_workers=threads) as pool:
            list(pool.map(lambda job: fill(*job), jobs))
    return stats


def _percentiles_of_row(
    row: NDArray[np.float32], fractions: NDArray[np.float64]
) -> NDArray[np.float64]:
    ranks = fractions * (row.size - 1)
    below = np.floor(ranks).astype(np.int64)
    above = np.minimum(below + 1, row.size - 1)
    # NumPy sorts float32 with vector instructions: 13 bands of 512 x 512 pixels take 10 ms, a
    # partition at the ten ranks 37 ms, torch.quantile in a loop 1.2 s (one thread, AVX-512).
    ordered = np.sort(row)
    low, high = ordered[below].astype(np.float64), ordered[above].astype(np.float64)
    return low + (high - low) * (ranks - below)
