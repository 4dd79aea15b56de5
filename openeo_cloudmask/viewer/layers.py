"""Rasters that a session shows on its map, known to the tile routes by unguessable names."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openeo_cloudmask.classes import ClassScheme
from openeo_cloudmask.errors import OptionError, ProductError
from openeo_cloudmask.grid import WGS84, Bounds
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.products.stack import raster_grid

MAX_LAYERS = 2000
"""Layers a server keeps open to its sessions; the oldest go first."""

Rgba = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One raster as it is drawn."""

    token: str
    """Name in the tile address: 128 random bits, so that only the session that opened it knows."""
    path: Path
    title: str
    indexes: tuple[int, ...]
    """Bands (1-based): three for an image, one for classes."""
    count: int
    """Bands of the file."""
    side_m: float
    """Side of a pixel on the ground, about, in metres."""
    overviews: tuple[int, ...]
    """By how much each overview of the file is coarser."""
    bounds: Bounds
    """West, south, east, north, degrees (EPSG:4326)."""
    colors: Mapping[int, Rgba] | None = field(default=None, hash=False)
    """Class value -> colour; None for an image."""
    stretch: tuple[tuple[float, float], ...] | None = None
    """Values drawn black and white, for each band of an image."""

    @property
    def tile_url(self) -> str:
        """Address of the tiles, relative to the server's root."""
        return f"/tiles/{self.token}/{{z}}/{{x}}/{{y}}.png"


class LayerStore:
    """Thread-safe store of the layers that all sessions have opened."""

    def __init__(self, capacity: int = MAX_LAYERS) -> None:
        self._capacity = capacity
        self._layers: OrderedDict[str, Layer] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, layer: Layer) -> Layer:
        """Keep ``layer``, dropping the one unused for longest when there are too many."""
        with self._lock:
            self._layers[layer.token] = layer
            while len(self._layers) > self._capacity:
                self._layers.popitem(last=False)
        return layer

    def get(self, token: str) -> Layer | None:
        """Return the layer of that name, or None."""
        with self._lock:
            layer = self._layers.get(token)
            if layer is not None:
                self._layers.move_to_end(token)
            return layer

    def close(self, token: str) -> None:
        """Forget a layer; its tiles answer 404 from now on."""
        with self._lock:
            self._layers.pop(token, None)


STORE = LayerStore()
"""The store of this process: pages add to it, the tile routes read it."""


def class_colors(scheme: ClassScheme, *, hidden: tuple[int, ...] = ()) -> dict[int, Rgba]:
    """Return class value -> colour, transparent where ``hidden``; no-data is not in it."""
    return {
        item.value: (0, 0, 0, 0) if item.value in hidden else item.rgba for item in scheme.classes
    }


def open_layer(
    path: Path,
    *,
    title: str,
    indexes: tuple[int, ...] = (1,),
    colors: Mapping[int, Rgba] | None = None,
    stretch: tuple[tuple[float, float], ...] | None = None,
    store: LayerStore = STORE,
) -> Layer:
    """Return a layer of the raster ``path``, from now on served under its token.

    Raises:
        ProductError: the raster cannot be read or has no georeference.
        OptionError: a band is asked for that it does not have.
    """
    about = _read_about(path, indexes)
    return store.add(
        Layer(
            token=secrets.token_urlsafe(16),
            path=path,
            title=title,
            indexes=indexes,
            **about,
            colors=colors,
            stretch=stretch,
        )
    )


def read_bounds(path: Path, indexes: tuple[int, ...] = (1,)) -> Bounds:
    """Return west, south, east and north of a raster in degrees.

    Raises:
        ProductError: the raster cannot be read or has no georeference.
        OptionError: it does not have the bands ``indexes``.
    """
    bounds: Bounds = _read_about(path, indexes)["bounds"]
    return bounds


def _read_about(path: Path, indexes: tuple[int, ...]) -> dict[str, Any]:
    import rasterio

    try:
        with open_raster(path) as source:
            if source.crs is None:
                raise ProductError(
                    f"{path.name} has no coordinate reference system, so it has no place on a map; "
                    "give it one (gdal_edit.py -a_srs) or look at it in the table of scores"
                )
            if wrong := [index for index in indexes if not 1 <= index <= source.count]:
                raise OptionError(
                    f"{path.name} has {source.count} bands; asked for band {wrong[0]}"
                )
            grid = raster_grid(source)
            return {
                "count": int(source.count),
                "overviews": tuple(source.overviews(1)),
                "side_m": grid.resolution_m or 1.0,
                "bounds": grid.bounds_in(WGS84),
            }
    except rasterio.errors.RasterioError as err:
        raise ProductError(f"{path.name} cannot be read as a raster: {err}") from err
