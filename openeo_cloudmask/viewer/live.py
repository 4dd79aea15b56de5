"""Masks computed while somebody pans: the tiles in view, by a fast model, the bits of the batch."""

from __future__ import annotations

import asyncio
import io
import math
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import NODATA, ClassScheme
from openeo_cloudmask.errors import BandError, CloudMaskError, InputError, SensorError
from openeo_cloudmask.grid import WGS84, Bounds
from openeo_cloudmask.masking import Masker
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import ReadOptions, Scene
from openeo_cloudmask.products.xyz import MAX_SOURCE_PX, Tile, mask_tile
from openeo_cloudmask.viewer.local import plain_text
from openeo_cloudmask.viewer.scenes import open_scene
from openeo_cloudmask.viewer.tiles import EQUATOR_M

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

FAST_MODELS = ("mini", "hollstein")
"""Models whose tiles come while one waits, on a CPU."""
MAX_LAYERS = 500
OPEN_LAYERS = 4
"""Scenes and models held open at a time."""
CACHED_TILES = 2048
"""About 2 kB each."""
AT_A_TIME = 2
"""Tiles computed at a time, of all sessions; those that nobody waits for any longer are not."""

Classes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveMask:
    """A mask that is computed where it is looked at."""

    token: str
    """Name in the tile address; unguessable."""
    path: Path
    sensor: str
    options: MaskOptions
    scheme: ClassScheme
    bounds: Bounds
    """West, south, east, north, degrees."""
    min_zoom: int
    """Of the first zoom whose tiles show no more of the data than may be computed."""
    read: ReadOptions | None = None

    @property
    def tile_url(self) -> str:
        """Address of the tiles, relative to the server's root."""
        return f"/live/{self.token}/{{z}}/{{x}}/{{y}}.png"


class _Open:
    """A scene and the model for it, used by one thread at a time."""

    def __init__(self, live: LiveMask) -> None:
        self.scene: Scene = open_scene(live.path, sensor=live.sensor, read=live.read)
        self.masker = Masker.open(live.options, self.scene.band_labels, sensor=self.scene.sensor)
        inputs = self.masker.inputs
        self.cube = self.scene.cube(inputs.band_names, sensor=inputs.sensor)
        self.lock = threading.Lock()

    def compute(self, tile: Tile) -> Classes | None:
        found = mask_tile(self.cube, self.masker, self.scene.grid, tile)
        return None if found is None else found[0]


class LiveStore:
    """Thread-safe store of the live masks of all sessions, of open scenes and of tiles."""

    def __init__(self) -> None:
        self._masks: OrderedDict[str, LiveMask] = OrderedDict()
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._tiles: OrderedDict[tuple[str, Tile], bytes | None] = OrderedDict()
        self._lock = threading.Lock()
        self._opening = threading.Lock()

    def add(self, live: LiveMask) -> LiveMask:
        """Keep a live mask; the one unused for longest goes when there are too many."""
        with self._lock:
            self._masks[live.token] = live
            while len(self._masks) > MAX_LAYERS:
                self._masks.popitem(last=False)
        return live

    def get(self, token: str) -> LiveMask | None:
        """Return the live mask of that name."""
        with self._lock:
            live = self._masks.get(token)
            if live is not None:
                self._masks.move_to_end(token)
            return live

    def kept(self, live: LiveMask, tile: Tile) -> tuple[bytes | None] | None:
        """Return what is kept of a tile, in a tuple; None where nothing is."""
        with self._lock:
            key = (live.token, tile)
            if key not in self._tiles:
                return None
            self._tiles.move_to_end(key)
            return (self._tiles[key],)

    def render(self, live: LiveMask, tile: Tile) -> bytes | None:
        """Return a PNG of class values and alpha; None where the scene has no data.

        Raises:
            CloudMaskError: the scene or the model cannot be read, or the tile shows too much.
        """
        with self._opened(live) as opened:
            values = opened.compute(tile)
        content = None if values is None else encode_values(values)
        with self._lock:
            self._tiles[live.token, tile] = content
            while len(self._tiles) > CACHED_TILES:
                self._tiles.popitem(last=False)
        return content

    @contextmanager
    def _opened(self, live: LiveMask) -> Iterator[_Open]:
        # A lock of its own: the event loop must not wait for a product to be opened.
        with self._opening:
            if live.token not in self._open:
                self._open[live.token] = _Open(live)
            self._open.move_to_end(live.token)
            while len(self._open) > OPEN_LAYERS:
                oldest = self._open.popitem(last=False)[1]
                with oldest.lock:  # GDAL must not lose a file that a slow tile is reading
                    oldest.scene.close()
            opened = self._open[live.token]
            opened.lock.acquire()  # before others may close it
        try:
            yield opened
        finally:
            opened.lock.release()


STORE = LiveStore()
"""The store of this process."""


def open_live(
    path: Path,
    options: MaskOptions,
    *,
    sensor: str,
    read: ReadOptions | None = None,
    store: LiveStore = STORE,
) -> LiveMask:
    """Return a live mask of a scene, from now on served under its token; nothing is computed yet.

    Raises:
        CloudMaskError: the scene cannot be read, or the model cannot mask it.
    """
    with open_scene(path, sensor=sensor, read=read) as scene:
        masker = Masker.open(options, scene.band_labels, sensor=scene.sensor)
        side_m = scene.grid.resolution_m
        if scene.grid.crs is None or side_m is None:
            raise InputError(f"{path.name} has no georeference, so it has no tiles of a map")
        bounds = scene.grid.bounds_in(WGS84)
    return store.add(
        LiveMask(
            token=secrets.token_urlsafe(16),
            path=path,
            sensor=sensor,
            options=options,
            scheme=masker.scheme,
            bounds=bounds,
            min_zoom=_min_zoom(side_m, bounds),
            read=read,
        )
    )


def fast_live(
    path: Path, *, sensor: str, read: ReadOptions | None = None, store: LiveStore = STORE
) -> dict[str, LiveMask]:
    """Return model -> live mask, of the fast models that can mask a scene.

    Raises:
        CloudMaskError: the scene cannot be read.
    """
    found = {}
    for model in FAST_MODELS:
        try:
            found[model] = open_live(
                path, MaskOptions(model=model), sensor=sensor, read=read, store=store
            )
        except (BandError, SensorError):
            continue  # it is not for this sensor, or lacks bands
    return found


def _min_zoom(side_m: float, bounds: Bounds) -> int:
    """Return the first zoom whose tiles show at most ``MAX_SOURCE_PX`` pixels along a side."""
    latitude = max(abs(bounds[1]), abs(bounds[3]))
    ground_m = EQUATOR_M * math.cos(math.radians(latitude))
    # A tile lies askew on the data's grid: it touches a few more pixels than its side.
    most_m = 0.9 * MAX_SOURCE_PX * side_m
    return max(math.ceil(math.log2(max(ground_m, 1.0) / most_m)), 0)


def encode_values(values: Classes) -> bytes:
    """Return a PNG of (y, x) class values as grey, transparent where no-data."""
    from PIL import Image

    alpha = np.where(values == NODATA, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(np.stack([values, alpha], axis=-1)).save(out, "PNG", compress_level=1)
    return out.getvalue()


def live_routes(store: LiveStore = STORE) -> list[BaseRoute]:
    """Return the route ``/live/TOKEN/Z/X/Y.png``."""
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    gate = asyncio.Semaphore(AT_A_TIME)

    async def tile(request: Request) -> Response:
        values = request.path_params
        live = store.get(values["token"])
        if live is None or not live.path.exists():
            return PlainTextResponse("no such layer", status_code=404)
        try:
            place = Tile.parse(values["z"], values["x"], values["y"])
            kept = store.kept(live, place)
            if kept is None:
                async with gate:
                    if await request.is_disconnected():
                        return Response(status_code=499)
                    kept = (await run_in_threadpool(store.render, live, place),)
        except CloudMaskError as err:
            return PlainTextResponse(plain_text(err), status_code=400)
        if kept[0] is None:
            return PlainTextResponse("outside the scene", status_code=404)
        headers = {"Cache-Control": "private, max-age=300"}
        return Response(kept[0], media_type="image/png", headers=headers)

    return [Route("/live/{token:str}/{z:str}/{x:str}/{y:str}.png", tile, methods=["GET"])]
