"""Secondary web services: a process graph as tiles of a map, computed while somebody pans."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from openeo_cloudmask.backend.api import security
from openeo_cloudmask.backend.api.common import BodyOf, StateOf, UserOf, read_text
from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.api.state import State
from openeo_cloudmask.backend.graph.planning import TILEABLE, check_tileable
from openeo_cloudmask.backend.graph.validate import parse_process
from openeo_cloudmask.backend.jobs.storage import check_disk
from openeo_cloudmask.backend.jobs.tables import Service
from openeo_cloudmask.backend.outputs.wmts import write_capabilities
from openeo_cloudmask.products.xyz import MAX_SOURCE_PX, MAX_ZOOM, TILE_PX, Tile, empty_tile

router = APIRouter()

TYPE = "XYZ"
_AT_A_TIME = 4
"""Tiles of one user that are computed at a time; those that come meanwhile wait."""
_MOST_WAITING = 64
_CACHED_TILES = 2048
"""About 2 kB each."""
_PURPOSE = "service"
_FIELDS = ("process", "title", "description", "enabled")

SERVICE_TYPES = {
    TYPE: {
        "title": "Tiles of a map (XYZ)",
        "description": (
            f"PNG tiles of {TILE_PX} pixels in Web Mercator, computed when they are asked for. "
            "Each pixel is that of the batch result under its centre. The last date is shown. A "
            f"tile shows {MAX_SOURCE_PX} pixels of the data along a side at most; below that zoom "
            f"it is an error. The process may hold {', '.join(TILEABLE)}."
        ),
        "configuration": {},
        "process_parameters": [],
    }
}


@router.get("/service_types")
def service_types() -> dict[str, Any]:
    """Return the secondary web services there are."""
    return SERVICE_TYPES


@router.get("/services")
def services(user: UserOf, state: StateOf, request: Request) -> dict[str, Any]:
    """Return the user's services, newest first, without their processes."""
    base = state.base_url(request)
    found = [_describe(service, state, base) for service in state.services.all(user.id)]
    return {"services": found, "links": []}


@router.post("/services")
def create_service(body: BodyOf, user: UserOf, state: StateOf, request: Request) -> Response:
    """Create a service."""
    check_disk(state.settings.data_dir)
    if str(body.get("type")).upper() != TYPE:
        raise ApiError("ServiceUnsupported", f"type is {body.get('type')!r}; expected {TYPE!r}")
    if body.get("configuration"):
        raise ApiError("ServiceConfigUnsupported", f"{TYPE} takes no configuration")
    service_id = state.services.add(user.id, **_read_fields(body, user.id, state))
    headers = {
        "Location": f"{state.base_url(request)}/services/{service_id}",
        "OpenEO-Identifier": service_id,
    }
    return Response(status_code=201, headers=headers)


@router.get("/services/{service_id}")
def service(service_id: str, user: UserOf, state: StateOf, request: Request) -> dict[str, Any]:
    """Return one service of the user."""
    found = state.services.get(service_id, user.id)
    return {**_describe(found, state, state.base_url(request)), "process": found.process}


@router.patch("/services/{service_id}")
def change_service(service_id: str, body: BodyOf, user: UserOf, state: StateOf) -> Response:
    """Change a service of the user; its address stays."""
    state.services.get(service_id, user.id)
    fields = _read_fields(body, user.id, state, needed=False)
    state.services.change(service_id, user.id, **fields)
    _TILES.drop(service_id)
    return Response(status_code=204)


@router.delete("/services/{service_id}")
def delete_service(service_id: str, user: UserOf, state: StateOf) -> Response:
    """Delete a service of the user."""
    state.services.delete(service_id, user.id)
    _TILES.drop(service_id)
    return Response(status_code=204)


@router.get("/xyz/{service_id}/{signature}/{z}/{x}/{y}.png")
async def tile(service_id: str, signature: str, z: str, x: str, y: str, state: StateOf) -> Response:
    """Return a tile of a service, to whoever has its signed address."""
    found = await run_in_threadpool(_find_signed, service_id, signature, state)
    place = Tile.parse(z, x, y)
    content = _TILES.get(service_id, place)
    if content is None:
        async with _TILES.turn(found.user_id):
            content = await _compute(found, place, state)
        _TILES.put(service_id, place, content)
    headers = {"Cache-Control": "private, max-age=300"}
    return Response(content, media_type="image/png", headers=headers)


@router.get("/wmts/{service_id}/{signature}/capabilities.xml")
def capabilities(service_id: str, signature: str, state: StateOf, request: Request) -> Response:
    """Return what a WMTS client wants to know of a service, to whoever has its signed address."""
    found = _find_signed(service_id, signature, state)
    about = _describe(found, state, state.base_url(request))
    text = write_capabilities(
        layer=found.id,
        title=found.title or found.id,
        tiles=about["url"],
        own=about["attributes"]["wmts"],
    )
    return Response(text, media_type="application/xml")


def _find_signed(service_id: str, signature: str, state: State) -> Service:
    """Return the service of a signed address.

    Raises:
        ApiError: the address was not made by this server, or the service is off or gone.
    """
    if not security.signature_holds(state.settings.secret, signature, _PURPOSE, service_id):
        raise ApiError("ServiceNotFound", "the address of the service is not valid")
    found = state.services.get(service_id)
    if not found.enabled:
        raise ApiError("ServiceNotFound", "the service is switched off")
    return found


async def _compute(found: Service, place: Tile, state: State) -> bytes:
    try:
        answer, folder = await state.engine.instant.run(
            found.user_id, found.process, tile=(place.z, place.x, place.y)
        )
    except ApiError as err:
        if err.code == "NoDataAvailable":
            return empty_tile()
        raise
    return await run_in_threadpool(_read, folder, [file["name"] for file in answer.files])


def _read(folder: Path, names: list[str]) -> bytes:
    try:
        if len(names) != 1:
            raise ApiError(
                "ProcessGraphInvalid", "the process of a service has to end in one picture"
            )
        return (folder / names[0]).read_bytes()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Tiles:
    """Tiles that were computed, and whose turn it is; only touched by the event loop's thread.

    ``drop`` alone is called from others: it takes out what is there in one step each.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, Tile], bytes] = OrderedDict()
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._waiting: Counter[str] = Counter()

    def get(self, service_id: str, place: Tile) -> bytes | None:
        """Return a tile that is kept."""
        return self._kept.get((service_id, place))

    def put(self, service_id: str, place: Tile, content: bytes) -> None:
        """Keep a tile; the oldest goes."""
        self._kept[service_id, place] = content
        while len(self._kept) > _CACHED_TILES:
            self._kept.popitem(last=False)

    def drop(self, service_id: str) -> None:
        """Forget the tiles of a service."""
        for key in [key for key in list(self._kept) if key[0] == service_id]:
            self._kept.pop(key, None)

    @asynccontextmanager
    async def turn(self, user_id: str) -> AsyncIterator[None]:
        """Wait until few enough of a user's tiles are being computed.

        Raises:
            ApiError: too many wait.
        """
        if self._waiting[user_id] >= _MOST_WAITING:
            raise ApiError(
                "TooManyRequests", f"{_MOST_WAITING} tiles of this owner wait already; try later"
            )
        gate = self._gates.setdefault(user_id, asyncio.Semaphore(_AT_A_TIME))
        self._waiting[user_id] += 1
        try:
            async with gate:
                yield
        finally:
            self._waiting[user_id] -= 1
            if not self._waiting[user_id]:
                del self._waiting[user_id]
                self._gates.pop(user_id, None)


_TILES = _Tiles()


def _read_fields(
    body: dict[str, Any], user_id: str, state: State, *, needed: bool = True
) -> dict[str, Any]:
    """Return the columns that a body gives.

    Raises:
        ApiError: a value is not allowed, or the process is not valid or cannot be tiled.
    """
    found: dict[str, Any] = {name: read_text(body, name) for name in _FIELDS[1:3] if name in body}
    enabled = body.get("enabled", True)
    if not isinstance(enabled, bool):
        raise ApiError("ProcessParameterInvalid", f"enabled is {enabled!r}; expected true or false")
    if needed or "enabled" in body:
        found["enabled"] = enabled
    if needed or "process" in body:
        process = body.get("process")
        if not isinstance(process, dict):
            raise ApiError("ProcessGraphMissing", "the request holds no process")
        errors = state.planner.validate(user_id, process)
        if errors:
            raise errors[0]
        check_tileable(parse_process(process))
        found["process"] = process
    return found


def _describe(found: Service, state: State, base: str) -> dict[str, Any]:
    signature = security.sign(state.settings.secret, _PURPOSE, found.id)
    return {
        "id": found.id,
        "title": found.title,
        "description": found.description,
        "type": TYPE,
        "enabled": found.enabled,
        "created": datetime.fromtimestamp(found.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "url": f"{base}/xyz/{found.id}/{signature}/{{z}}/{{x}}/{{y}}.png",
        "configuration": {},
        "attributes": {
            "maxzoom": MAX_ZOOM,
            "tile_size": TILE_PX,
            "wmts": f"{base}/wmts/{found.id}/{signature}/capabilities.xml",
        },
    }
