"""Map tiles on the viewer's own port: named layers only, never a path or an address."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.warp import Resampling, reproject, transform_bounds
from rasterio.windows import Window

from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.products.stack import raster_grid
from openeo_cloudmask.products.xyz import HALF_M, TILE_PX, WEB_MERCATOR, Tile
from openeo_cloudmask.viewer.layers import STORE, Layer, LayerStore

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import BaseRoute

CHANNELS = 3
EQUATOR_M = 2 * HALF_M
RIM_PX = 2
"""Pixels read around those a tile needs, for its edges to be blended as its middle."""
CACHED_TILES = 4096
"""Rendered tiles kept; about 2 kB each for masks, 80 kB for images."""


def build_routes(vendor: Path, store: LayerStore = STORE) -> list[BaseRoute]:
    """Return the routes ``/tiles/TOKEN/Z/X/Y.png`` and ``/vendor/...``."""
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    @lru_cache(maxsize=CACHED_TILES)
    def render(layer: Layer, place: Tile, draw: Draw, _modified_ns: int) -> bytes | None:
        return render_tile(layer, place, draw=draw)

    # A plain function: Starlette runs it on a thread, and GDAL lets go of the lock while reading.
    def tile(request: Request) -> Response:
        values = request.path_params
        layer = store.get(values["token"])
        if layer is None or not layer.path.is_file():
            return PlainTextResponse("no such layer", status_code=404)
        try:
            place = Tile.parse(values["z"], values["x"], values["y"])
        except OptionError as err:
            return PlainTextResponse(str(err), status_code=400)
        draw = read_draw(request.query_params, layer)
        if draw is None:
            return PlainTextResponse(
                "expected bands=R,G,B of an image or raw=1 of classes", status_code=400
            )
        modified = layer.path.stat().st_mtime_ns
        content = render(layer, place, draw, modified)
        if content is None:
            return PlainTextResponse("outside the layer", status_code=404)
        return Response(content, media_type="image/png", headers={"Cache-Control": "private"})

    return [
        Route("/tiles/{token:str}/{z:str}/{x:str}/{y:str}.png", tile, methods=["GET"]),
        Mount("/vendor", StaticFiles(directory=vendor)),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """How a tile is drawn."""

    bands: tuple[int, ...] | None = None
    """Bands (1-based) for red, green and blue; None: those of the layer."""
    raw: bool = False
    """Class values as grey values instead of their colours."""


def read_draw(query: Mapping[str, str], layer: Layer) -> Draw | None:
    """Return what the query of a tile's address asks for, or None where it makes no sense."""
    bands: tuple[int, ...] | None = None
    if "bands" in query:
        parts = query["bands"].split(",")
        if len(parts) != CHANNELS or not all(re.fullmatch(r"[1-9]\d{0,2}", p) for p in parts):
            return None
        bands = tuple(map(int, parts))
        if layer.colors is not None or max(bands) > layer.count:
            return None
    raw = query.get("raw", "0")
    if raw not in ("0", "1") or (raw == "1" and layer.colors is None):
        return None
    return Draw(bands=bands, raw=raw == "1")


PLAIN = Draw()


def choose_overview(layer: Layer, z: int) -> tuple[int | None, float]:
    """Return which overview a tile of zoom ``z`` is made of, and how much coarser it is still."""
    middle = (layer.bounds[1] + layer.bounds[3]) / 2
    side_m = EQUATOR_M / (TILE_PX << z) * math.cos(math.radians(middle))
    wanted = side_m / layer.side_m
    fit = [place for place, factor in enumerate(layer.overviews) if factor <= wanted]
    overview = max(fit, default=None)
    return overview, wanted / (1 if overview is None else layer.overviews[overview])


def render_tile(layer: Layer, place: Tile, *, draw: Draw = PLAIN) -> bytes | None:
    """Return a 256 x 256 PNG of the web map tile, or None where the layer does not reach it.

    Class values are drawn in exactly their colours, at every zoom (nearest neighbour).
    """
    west, _, east, north = place.bounds
    side = east - west
    overview, rest = choose_overview(layer, place.z)
    # Pixels are blended where a few make one of the tile; of more, every so manieth is picked.
    sampling = Resampling.nearest if layer.colors is not None else Resampling.bilinear
    indexes = list(draw.bands or layer.indexes)
    with open_raster(layer.path, overview=overview) as source:
        bounds = transform_bounds(WEB_MERCATOR, source.crs, *place.bounds)
        touched = raster_grid(source).touched_by(bounds, slack_px=-RIM_PX)
        if touched is None:
            return None
        window = Window.from_slices(*touched)
        shape = [max(round(size / max(rest / 2, 1)), 1) for size in (window.height, window.width)]
        values = source.read(indexes, window=window, out_shape=(len(indexes), *shape))
        # Of the bands that are drawn alone: the mask of the file would read all of them.
        seen = source.read_masks(indexes, window=window, out_shape=values.shape).max(axis=0)
        transform = source.window_transform(window) @ Affine.scale(
            window.width / shape[1], window.height / shape[0]
        )
        where: dict[str, Any] = {
            "src_crs": source.crs,
            "src_transform": transform,
            "dst_crs": WEB_MERCATOR,
            "dst_transform": Affine(side / TILE_PX, 0, west, 0, -side / TILE_PX, north),
        }
    drawn = np.zeros((len(indexes), TILE_PX, TILE_PX), values.dtype)
    alpha = np.zeros((TILE_PX, TILE_PX), np.uint8)
    empty = {} if layer.colors is not None else {"src_nodata": 0, "dst_nodata": 0}
    reproject(values, drawn, resampling=sampling, **empty, **where)
    reproject(seen, alpha, resampling=Resampling.nearest, **where)
    return _encode(layer, drawn, alpha, raw=draw.raw)


def _encode(layer: Layer, values: NDArray[Any], alpha: NDArray[np.uint8], *, raw: bool) -> bytes:
    """Return a PNG of (band, y, x) values: colours of classes, grey values, or an image."""
    from PIL import Image

    if layer.colors is not None and not raw:
        table = np.zeros((256, 4), np.uint8)
        table[list(layer.colors)] = list(layer.colors.values())
        pixels = table[values[0]]
        pixels[alpha == 0] = 0
    else:
        bright = values
        if layer.stretch is not None:
            low, high = np.asarray(layer.stretch, np.float32).T[:, :, np.newaxis, np.newaxis]
            bright = np.clip(255 * (values - low) / (high - low), 0, 255)
        pixels = np.stack([*bright.astype(np.uint8), alpha], axis=-1)
    kept = io.BytesIO()
    # Level 1 packs a little less and takes a third of the time of the default.
    Image.fromarray(pixels).save(kept, "PNG", compress_level=1)
    return kept.getvalue()
