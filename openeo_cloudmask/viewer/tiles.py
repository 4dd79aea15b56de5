"""Map tiles on the viewer's own port: named layers only, never a path or an address."""

from __future__ import annotations

import importlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.viewer.layers import STORE, Layer, LayerStore

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import BaseRoute

MAX_ZOOM = 24
CACHED_TILES = 4096
"""Rendered tiles kept; about 2 kB each for masks, 80 kB for images."""


def build_routes(vendor: Path, store: LayerStore = STORE) -> list[BaseRoute]:
    """Return the routes ``/tiles/TOKEN/Z/X/Y.png`` and ``/vendor/...``."""
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    # Imported here once: two threads that import it at the same time get it half-made.
    importlib.import_module("rio_tiler.io")

    @lru_cache(maxsize=CACHED_TILES)
    def render(layer: Layer, z: int, x: int, y: int, _modified_ns: int) -> bytes | None:
        return render_tile(layer, z, x, y)

    # A plain function: Starlette runs it on a thread, and GDAL lets go of the lock while reading.
    def tile(request: Request) -> Response:
        values = request.path_params
        layer = store.get(values["token"])
        if layer is None or not 0 <= values["z"] <= MAX_ZOOM or not layer.path.is_file():
            return PlainTextResponse("no such layer", status_code=404)
        modified = layer.path.stat().st_mtime_ns
        content = render(layer, values["z"], values["x"], values["y"], modified)
        if content is None:
            return PlainTextResponse("outside the layer", status_code=404)
        return Response(content, media_type="image/png", headers={"Cache-Control": "private"})

    return [
        Route("/tiles/{token:str}/{z:int}/{x:int}/{y:int}.png", tile, methods=["GET"]),
        Mount("/vendor", StaticFiles(directory=vendor)),
    ]


def render_tile(layer: Layer, z: int, x: int, y: int) -> bytes | None:
    """Return a 256 x 256 PNG of the web map tile, or None where the layer does not reach it.

    Class values are drawn in exactly their colours, at every zoom (nearest neighbour).
    """
    from rio_tiler.errors import TileOutsideBounds
    from rio_tiler.io import Reader

    classes = layer.colors is not None
    sampling: Any = "nearest" if classes else "bilinear"
    try:
        with (
            open_raster(layer.path) as dataset,
            Reader(str(layer.path), dataset=dataset) as reader,
        ):
            image = reader.tile(
                x,
                y,
                z,
                indexes=layer.indexes,
                resampling_method=sampling,
                reproject_method=sampling,
            )
    except TileOutsideBounds:
        return None
    if layer.stretch is not None:
        image.rescale(in_range=layer.stretch)
    # Level 1 packs a little less and takes a third of the time of the default.
    content: bytes = image.render(img_format="PNG", colormap=layer.colors, ZLEVEL=1)
    return content
