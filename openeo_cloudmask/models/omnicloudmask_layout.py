"""Whole scenes by OmniCloudMask with its authors' layout of windows, in bounded memory.

The package omnicloudmask cuts a scene into patches from its first pixel on, moves those that end in
no-data inwards, sums their weighted logits over the whole scene and takes the highest. Here the
sums lie in a file on disk, and only a batch of patches is in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import NODATA
from openeo_cloudmask.errors import InputError
from openeo_cloudmask.inference import Cube

if TYPE_CHECKING:
    from torch import nn

PATCH_PX, OVERLAP_PX = 1000, 300
SMALLEST_PX = 32
CLASSES = 4
_MUCH_NODATA = 0.3
_ROWS = 256

Logits = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(patch, band, y, x) with 0 where nothing was seen -> (patch, class, y, x)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patches:
    """Side of the patches and their overlap, pixels."""

    size_px: int
    overlap_px: int


def mask_scene(
    cube: Cube,
    logits: Logits,
    *,
    patch_px: int = PATCH_PX,
    overlap_px: int = OVERLAP_PX,
    batch: int = 1,
) -> NDArray[np.uint8]:
    """Return (y, x) uint8, 0 clear, 1 thick cloud, 2 thin cloud, 3 shadow; 255 is no-data.

    Args:
        cube: (band, y, x), red, green and near infrared; NaN or 0 where nothing was seen.
        logits: the networks.
        patch_px: side of the patches; smaller scenes take smaller ones.
        overlap_px: of neighbouring patches.
        batch: patches per call of ``logits``. It changes nothing else: each is normalised by
            itself, and they are summed in their order.

    Raises:
        InputError: the scene is smaller than 32 pixels.
    """
    _, height, width = cube.shape
    seen, share = _survey(cube)
    patches = fit_patches((height, width), share, patch_px, overlap_px)
    weights = ramp(patches)
    mask = np.full((height, width), NODATA, np.uint8)
    with tempfile.TemporaryFile() as file:
        shape = (height, CLASSES, width)
        sums: NDArray[np.float32] = np.memmap(file, np.float32, "w+", shape=shape)
        for places in _batches(_places(seen, patches), batch):
            parts = [tuple(slice(at, at + patches.size_px) for at in place) for place in places]
            pixels = [np.asarray(cube[:, rows, columns], np.float32) for rows, columns in parts]
            answers = logits(np.nan_to_num(np.stack(pixels), nan=0.0))
            for (rows, columns), answer in zip(parts, answers, strict=True):
                sums[rows, :, columns] += (answer * weights).transpose(1, 0, 2)
        for row in range(0, height, _ROWS):
            part = slice(row, row + _ROWS)
            mask[part] = np.where(seen[part], sums[part].argmax(axis=1), NODATA)
        del sums
    return mask


def network_logits(network: nn.Module) -> Logits:
    """Return what a torch network gives for patches, which go through it side by side."""
    import torch

    from openeo_cloudmask.models.threads import for_each

    device = next(network.parameters()).device

    def logits(patches: NDArray[np.float32]) -> NDArray[np.float32]:
        out = np.empty((len(patches), CLASSES, *patches.shape[2:]), np.float32)

        def run(index: int) -> None:
            with torch.inference_mode():
                patch = torch.from_numpy(patches[index : index + 1]).to(device)
                out[index] = network(patch)[0].cpu().numpy()

        for_each(run, len(patches))
        return out

    return logits


def _places(seen: NDArray[np.bool_], patches: Patches) -> Iterator[tuple[int, int]]:
    """Yield first row and column of each patch that shows something, once."""
    done: set[tuple[int, int]] = set()
    for top, left in corners((seen.shape[0], seen.shape[1]), patches):
        place = move(seen, top, left, patches.size_px)
        if place is not None and place not in done:
            done.add(place)
            yield place


def _batches(places: Iterator[tuple[int, int]], size: int) -> Iterator[tuple[tuple[int, int], ...]]:
    while group := tuple(islice(places, size)):
        yield group


def _survey(cube: Cube) -> tuple[NDArray[np.bool_], float]:
    """Return (y, x) where any band was seen, and the share of values that were not."""
    _, height, width = cube.shape
    seen = np.empty((height, width), bool)
    missing = 0
    for row in range(0, height, _ROWS):
        part = np.nan_to_num(np.asarray(cube[:, row : min(row + _ROWS, height), :]), nan=0.0)
        seen[row : row + _ROWS] = (part != 0).any(axis=0)
        missing += int((part == 0).sum())
    return seen, missing / (cube.shape[0] * height * width)


def fit_patches(
    shape_yx: tuple[int, int], missing: float, patch_px: int, overlap_px: int
) -> Patches:
    """Return the patches of a scene: smaller where it is small, or has much no-data.

    Raises:
        InputError: it is too small, or the overlap leaves nothing of a patch.
    """
    shortest = min(shape_yx)
    if shortest < SMALLEST_PX:
        raise InputError(
            f"the scene has {shape_yx[0]} x {shape_yx[1]} pixels; expected {SMALLEST_PX} at least"
        )
    limits = [shortest]
    if missing > _MUCH_NODATA and patch_px > shortest / 2:
        limits.insert(0, shortest // 2)
    for limit in limits:
        if limit < shortest or patch_px > limit:
            patch_px = max(limit, SMALLEST_PX)
            overlap_px = min(overlap_px, patch_px // 2)
    if overlap_px >= patch_px:
        raise InputError(f"the overlap {overlap_px} px leaves nothing of {patch_px} px")
    return Patches(size_px=patch_px, overlap_px=overlap_px)


def corners(shape_yx: tuple[int, int], patches: Patches) -> Iterator[tuple[int, int]]:
    """Yield first row and column of each patch, row by row; the last ones end at the edge."""
    step = patches.size_px - patches.overlap_px
    rows, columns = (
        [min(at, length - patches.size_px) for at in range(0, length, step)] for length in shape_yx
    )
    yield from ((row, column) for row in rows for column in columns)


def move(seen: NDArray[np.bool_], top: int, left: int, size: int) -> tuple[int, int] | None:
    """Return where a patch lies that leaves out no-data at its edges; None where all of it is.

    First it goes down, or else up, while its edge row holds nothing; then to the right, or left.
    """
    if not seen[top : top + size, left : left + size].any():
        return None
    height, width = seen.shape
    top = _slide(top, height - size, lambda at: not seen[at, left : left + size].any(), size)
    left = _slide(left, width - size, lambda at: not seen[top : top + size, at].any(), size)
    return top, left


def _slide(start: int, last: int, empty: Callable[[int], bool], size: int) -> int:
    at = start
    while at < last and empty(at):
        at += 1
    if at == start:
        while at > 0 and empty(at + size - 1):
            at -= 1
    return at


def ramp(patches: Patches) -> NDArray[np.float32]:
    """Return (size, size) float32, what a patch's pixels count: less and less in the overlap."""
    size = patches.size_px
    overlap = min(patches.overlap_px, size // 2)
    if overlap == 0:
        return np.ones((size, size), np.float32)
    line = np.full(size, overlap, np.float32)
    line[:overlap] = np.arange(1, overlap + 1)
    line[-overlap:] = np.arange(overlap, 0, -1)
    line /= overlap
    return np.outer(line, line).astype(np.float32)
