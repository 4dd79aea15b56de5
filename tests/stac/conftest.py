"""Fixtures of the STAC tests: a catalog made of the registry, schemas, a server on loopback."""

from __future__ import annotations

import copy
import functools
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openeo_cloudmask.models import MODELS
from openeo_cloudmask.stac.catalog import plan_catalog, walk_catalog, write_catalog
from openeo_cloudmask.stac.schemas import SchemaValidator


@pytest.fixture(scope="session")
def planned() -> dict[str, str]:
    pytest.importorskip("torch")  # the networks' parameters are counted
    return plan_catalog()


@pytest.fixture(scope="session")
def catalog(planned: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("catalog")
    write_catalog(folder, planned)
    return folder


@pytest.fixture(scope="session")
def _items(catalog: Path) -> dict[str, dict[str, Any]]:
    return {
        content["id"]: content
        for _, content in walk_catalog(catalog)
        if content["type"] == "Feature"
    }


@pytest.fixture
def item_of(_items: dict[str, dict[str, Any]]) -> Callable[[str], dict[str, Any]]:
    """Return the item of a model, as JSON that may be edited."""
    assert set(_items) == set(MODELS)
    return lambda model: copy.deepcopy(_items[model])


@pytest.fixture
def validator(shared: Callable[[str], Path]) -> SchemaValidator:
    """Return a validator with the schemas of all extensions; skip where they are not there."""
    return _validator(shared("schemas"))


@functools.cache
def _validator(folder: Path) -> SchemaValidator:
    return SchemaValidator(folder)


@pytest.fixture(scope="session")
def stac_url(catalog: Path) -> Iterator[str]:
    """Serve the catalog's API, mounted at /stac, and return its address."""
    fastapi = pytest.importorskip("fastapi")
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("stac_fastapi.api.app")
    from openeo_cloudmask.stac.api import mount_stac_app

    app = fastapi.FastAPI(redirect_slashes=False)
    mount_stac_app(app, folder=catalog)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    started = threading.Event()
    server.startup, startup = _then(started, server.startup), server.startup  # noqa: F841
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    assert started.wait(timeout=60)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/stac/"
    server.should_exit = True
    thread.join(timeout=20)
    listener.close()


def _then(event: threading.Event, start: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapped(*args: Any, **kwargs: Any) -> None:
        await start(*args, **kwargs)
        event.set()

    return wrapped
