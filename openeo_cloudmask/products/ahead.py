"""Reading the next pixels while the detector looks at these."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from openeo_cloudmask.products.scene import Floats, SceneCube


class ReadAhead:
    """A cube that is read from top to bottom, one piece of a step of rows ahead in a thread.

    Decoding JPEG 2000 takes longer than a GPU takes to mask what is decoded. Costs the memory of
    one step more. Use it in a ``with`` statement, inside that of the scene.
    """

    def __init__(self, cube: SceneCube, step_px: int) -> None:
        """Wrap ``cube``; after rows up to r, those from r to r + ``step_px`` are read ahead."""
        self._cube = cube
        self._step = step_px
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._place = slice(0, 0), slice(0, 0)
        self._next: Future[Floats] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(band, y, x)."""
        return self._cube.shape

    @property
    def fills(self) -> Mapping[str, int]:
        """Why -> pixels read so far that are no-data but not declared so."""
        return self._cube.fills

    @property
    def piece_px(self) -> int:
        """Columns that are read in one go."""
        return self._cube.piece_px

    def __getitem__(self, key: tuple[slice, slice, slice]) -> Floats:
        """Return (band, y, x) float32, NaN where no-data."""
        _, height, width = self.shape
        rows, columns = slice(*key[1].indices(height)), slice(*key[2].indices(width))
        if key[0] != slice(None):
            return self._cube[key]
        if self._next is not None and self._place == (rows, columns):
            pixels = self._next.result()
        else:
            pixels = self._cube[key]
        left = columns.stop
        if left >= width:
            rows, left = slice(rows.stop, min(rows.stop + self._step, height), 1), 0
        self._place = rows, slice(left, min(left + self.piece_px, width), 1)
        self._next = None
        if rows.start < height:
            self._next = self._pool.submit(self._cube.__getitem__, (slice(None), *self._place))
        return pixels

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
