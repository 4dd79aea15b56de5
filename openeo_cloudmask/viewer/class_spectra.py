"""Spectra of the classes: what a mask or a reference calls cloud, and how it looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform as transform_points

from openeo_cloudmask.classes import NODATA, ClassScheme, MaskClass
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.products import Scene
from openeo_cloudmask.sensors import Band, BandKind

SAMPLES_A_SIDE = 8
SAMPLE_PX = 32
QUANTILES = (25.0, 50.0, 75.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSpectrum:
    """How the pixels of one class look."""

    item: MaskClass
    pixels: int
    """Seen in all bands and looked at."""
    bands: tuple[Band, ...]
    quartiles: tuple[tuple[float, float, float], ...]
    """Of each band: lower quartile, median, upper quartile; reflectance 0-1."""


def class_spectra(
    scene: Scene, labels: NDArray[np.uint8], grid: Grid, scheme: ClassScheme
) -> tuple[ClassSpectrum, ...]:
    """Return the spectrum of each class that occurs, from small windows spread over the scene.

    Args:
        scene: open, with a known sensor.
        labels: (y, x) uint8, values of ``scheme``; 255 is no-data.
        grid: of the labels; may be coarser or in another reference system than the scene.
        scheme: the classes.
    """
    if scene.sensor is None or scene.grid.crs is None or grid.crs is None:
        return ()
    found = {label: scene.sensor.find_band(label) for label in scene.band_labels}
    known = {
        label: band
        for label, band in found.items()
        if band is not None and band.kind is BandKind.OPTICAL and band.centre_nm
    }
    names = sorted(known, key=lambda label: known[label].centre_nm or 0.0)
    if not names:
        return ()
    cube, pixels, values = scene.cube(names), [], []
    for rows, columns in _windows(scene.grid.shape_yx):
        part = cube[:, rows, columns].reshape(len(names), -1)
        label = _labels_under(scene.grid, rows, columns, labels, grid)
        seen = np.isfinite(part).all(axis=0) & (label != NODATA)
        pixels.append(part[:, seen])
        values.append(label[seen])
    table, classes = np.concatenate(pixels, axis=1), np.concatenate(values)
    bands = tuple(known[name] for name in names)
    return tuple(
        ClassSpectrum(
            item=item, pixels=int(own.sum()), bands=bands, quartiles=_quartiles(table, own)
        )
        for item in scheme.classes
        if (own := classes == item.value).any()
    )


def spectrum_rows(spectra: tuple[ClassSpectrum, ...]) -> list[Mapping[str, object]]:
    """Return a row for each class and band, for a chart."""
    return [
        {
            "class": f"{item.item.title} ({item.pixels:,} pixels)", "color": f"#{item.item.color}",
            "band": band.name, "wavelength, nm": band.centre_nm,
            "low": low, "reflectance": middle, "high": high,
        }
        for item in spectra
        for band, (low, middle, high) in zip(item.bands, item.quartiles, strict=True)
    ]  # fmt: skip


def _quartiles(
    table: NDArray[np.float32], own: NDArray[np.bool_]
) -> tuple[tuple[float, float, float], ...]:
    edges = np.percentile(table[:, own], QUANTILES, axis=1).T
    return tuple((float(low), float(middle), float(high)) for low, middle, high in edges)


def _windows(shape_yx: tuple[int, int]) -> list[tuple[slice, slice]]:
    starts = [
        np.unique(np.linspace(0, max(length - SAMPLE_PX, 0), SAMPLES_A_SIDE).astype(int))
        for length in shape_yx
    ]
    return [
        (
            slice(int(row), min(int(row) + SAMPLE_PX, shape_yx[0])),
            slice(int(column), min(int(column) + SAMPLE_PX, shape_yx[1])),
        )
        for row in starts[0]
        for column in starts[1]
    ]


def _labels_under(
    scene: Grid, rows: slice, columns: slice, labels: NDArray[np.uint8], grid: Grid
) -> NDArray[np.uint8]:
    """Return (pixel,) uint8: the label under each pixel of a window, 255 without one."""
    across, down = np.meshgrid(
        np.arange(columns.start, columns.stop) + 0.5, np.arange(rows.start, rows.stop) + 0.5
    )
    affine, own = scene.transform, grid.transform
    if affine is None or own is None:
        return np.full(across.size, NODATA, np.uint8)
    xs = affine.a * across + affine.b * down + affine.c
    ys = affine.d * across + affine.e * down + affine.f
    flat_x, flat_y = xs.ravel(), ys.ravel()
    if scene.crs != grid.crs:
        moved = transform_points(scene.crs, grid.crs, flat_x, flat_y)
        flat_x, flat_y = np.asarray(moved[0]), np.asarray(moved[1])
    back = ~own
    column = np.floor(back.a * flat_x + back.b * flat_y + back.c).astype(int)
    row = np.floor(back.d * flat_x + back.e * flat_y + back.f).astype(int)
    height, width = grid.shape_yx
    there = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    out = np.full(row.shape, NODATA, np.uint8)
    out[there] = labels[row[there], column[there]]
    return out
