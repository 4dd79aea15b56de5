"""A scene: pixels that can be read window by window, where they lie, and what took them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import BandError, MissingExtraError
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.sensors import Sensor, resolve_bands

if TYPE_CHECKING:
    import xarray as xr

Floats = NDArray[np.float32]


class PixelSource(Protocol):
    """Where a scene's pixels come from; may be read from several threads."""

    @property
    def fills(self) -> Mapping[str, int]:
        """Why -> pixels read so far that are no-data but not declared so."""

    def read(self, planes: Sequence[int], rows: slice, columns: slice) -> Floats:
        """Return (band, y, x) float32 of the output grid, NaN where no-data."""

    def close(self) -> None:
        """Close the files."""


@runtime_checkable
class Tiled(Protocol):
    """A source that may lie in tiles, so that parts of a row can be read by themselves."""

    def piece_px(self, planes: Sequence[int]) -> int | None:
        """Return the columns to read in one go; None for whole rows."""


@dataclass(frozen=True, kw_only=True)
class SceneCube:
    """Chosen bands of a scene, read when they are indexed: ``cube[:, y0:y1, x0:x1]``."""

    ndim: ClassVar[int] = 3
    dtype: ClassVar[np.dtype[np.float32]] = np.dtype(np.float32)
    source: PixelSource
    planes: tuple[int, ...]
    """Positions of the bands in the source."""
    shape_yx: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(band, y, x)."""
        return (len(self.planes), *self.shape_yx)

    @property
    def fills(self) -> Mapping[str, int]:
        """Why -> pixels read so far that are no-data but not declared so."""
        return self.source.fills

    @cached_property
    def piece_px(self) -> int:
        """Columns to read in one go: whole rows, unless the source is laid out in tiles."""
        piece: int | None = None
        if isinstance(self.source, Tiled):
            piece = self.source.piece_px(self.planes)
        return piece or self.shape_yx[1]

    def __getitem__(self, key: tuple[slice, slice, slice]) -> Floats:
        """Return (band, y, x) float32, reflectance or normalised temperature, NaN where no-data."""
        bands, rows, columns = key
        height, width = self.shape_yx
        return self.source.read(
            self.planes[bands],
            slice(*rows.indices(height)),
            slice(*columns.indices(width)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One acquisition. Close it, or use it in a ``with`` statement: it holds open files."""

    source: PixelSource
    grid: Grid
    band_labels: tuple[str, ...]
    """Names of the planes of ``source``, in order."""
    sensor: Sensor | None = None
    """None where the file does not say what took it."""
    acquired: datetime | None = None
    """UTC."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What the product says of itself: id, baseline, offset, sun elevation in degrees, ..."""
    missing_hint: str = ""
    """Said when a band that is asked for is not there."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(band, y, x)."""
        return (len(self.band_labels), *self.grid.shape_yx)

    @property
    def origin_yx(self) -> tuple[int, int]:
        """Absolute indices of the first row and column."""
        return self.grid.origin_yx

    def cube(
        self, bands: Sequence[str] | None = None, *, sensor: Sensor | None = None
    ) -> SceneCube:
        """Return the pixels of ``bands``, in that order; None takes all there are.

        Args:
            bands: names of bands; aliases of the sensor are understood.
            sensor: gives the aliases where the scene does not know its sensor.

        Raises:
            BandError: a band is missing or is there twice.
        """
        planes = self._find_planes(bands, sensor or self.sensor)
        return SceneCube(source=self.source, planes=planes, shape_yx=self.grid.shape_yx)

    def _find_planes(self, bands: Sequence[str] | None, sensor: Sensor | None) -> tuple[int, ...]:
        if bands is None:
            return tuple(range(len(self.band_labels)))
        try:
            if sensor is not None:
                names = [sensor.band(label).name for label in bands]
                return tuple(resolve_bands(self.band_labels, names, sensor))
            return _find_labels(self.band_labels, bands)
        except BandError as err:
            if self.missing_hint:
                raise BandError(f"{err}. {self.missing_hint}") from None
            raise

    def to_dataarray(
        self, bands: Sequence[str] | None = None, *, chunks_px: int | None = None
    ) -> xr.DataArray:
        """Return the pixels as a datacube with dimensions (t, bands, y, x).

        Args:
            bands: names of bands, in the order wanted; None takes all.
            chunks_px: height and width of lazily read dask chunks; None reads all pixels now.

        Returns:
            float32, reflectance or normalised temperature, NaN where no-data. ``t`` is NaT where
            the acquisition time is unknown; ``x`` and ``y`` are pixel centres, or pixel numbers
            without georeference. The coordinate ``spatial_ref`` holds the CRS.

        Raises:
            BandError: a band is missing or is there twice.
            MissingExtraError: chunks are asked for and dask is not installed.
        """
        import xarray as xr

        cube = self.cube(bands)
        pixels: Any = cube[:, :, :] if chunks_px is None else _lazy(cube, chunks_px)
        when = "NaT"
        if self.acquired is not None:
            when = str(self.acquired.astimezone(UTC).replace(tzinfo=None))
        return xr.DataArray(
            pixels[np.newaxis],
            dims=("t", "bands", "y", "x"),
            coords={
                "t": np.array([when], "datetime64[ns]"),
                "bands": [self.band_labels[plane] for plane in cube.planes],
                **self.grid.coordinates(),
            },
            attrs={key: value for key, value in self.metadata.items() if value is not None},
            name="reflectance",
        )

    def close(self) -> None:
        """Close the files."""
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _find_labels(labels: Sequence[str], wanted: Sequence[str]) -> tuple[int, ...]:
    lower = [label.lower() for label in labels]
    if missing := [name for name in wanted if name.lower() not in lower]:
        raise BandError(f"missing bands {', '.join(missing)}; the data has {', '.join(labels)}")
    return tuple(lower.index(name.lower()) for name in wanted)


def _lazy(cube: SceneCube, chunks_px: int) -> Any:  # noqa: ANN401 - a dask array, if installed
    try:
        import dask.array as da
    except ImportError as err:
        raise MissingExtraError.for_extra("server", "reading a scene in dask chunks") from err
    from_array: Any = da.from_array  # dask has types for some of its functions only
    return from_array(
        cube,
        chunks=(-1, chunks_px, chunks_px),
        name=False,
        asarray=False,
        meta=np.empty((0, 0, 0), np.float32),
    )
