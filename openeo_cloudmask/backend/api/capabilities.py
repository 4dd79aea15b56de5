"""What the server can do: capabilities, formats, runtimes, processes, collections, logging in."""

from __future__ import annotations

import base64
import binascii
import functools
import json
import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as library_version
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from openeo_cloudmask.backend.api.common import StateOf, UserOf
from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.api.public_items import GEOJSON
from openeo_cloudmask.backend.settings import API_VERSION
from openeo_cloudmask.version import __version__

router = APIRouter()

CONFORMANCE = [
    "https://api.openeo.org/1.2.0",
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "https://api.stacspec.org/v1.0.0/ogcapi-features#sort",
    "https://api.stacspec.org/v1.0.0/ogcapi-features#fields",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/item-search#sort",
    "https://api.stacspec.org/v1.0.0/item-search#fields",
    "https://api.stacspec.org/v1.0.0/item-search#filter",
    "http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/filter",
    "http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/features-filter",
    "http://www.opengis.net/spec/cql2/1.0/conf/basic-cql2",
    "http://www.opengis.net/spec/cql2/1.0/conf/cql2-text",
    "http://www.opengis.net/spec/cql2/1.0/conf/cql2-json",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
]
_ENDPOINTS = (
    ("/", "GET"),
    ("/conformance", "GET"),
    ("/api", "GET"),
    ("/collections", "GET"),
    ("/collections/{collection_id}", "GET"),
    ("/collections/{collection_id}/queryables", "GET"),
    ("/collections/{collection_id}/items", "GET"),
    ("/collections/{collection_id}/items/{item_id}", "GET"),
    ("/search", "GET", "POST"),
    ("/queryables", "GET"),
    ("/processes", "GET"),
    ("/file_formats", "GET"),
    ("/udf_runtimes", "GET"),
    ("/service_types", "GET"),
    ("/services", "GET", "POST"),
    ("/services/{service_id}", "GET", "PATCH", "DELETE"),
    ("/credentials/basic", "GET"),
    ("/me", "GET"),
    ("/validation", "POST"),
    ("/result", "POST"),
    ("/process_graphs", "GET"),
    ("/process_graphs/{process_graph_id}", "GET", "PUT", "DELETE"),
    ("/jobs", "GET", "POST"),
    ("/jobs/{job_id}", "GET", "PATCH", "DELETE"),
    ("/jobs/{job_id}/estimate", "GET"),
    ("/jobs/{job_id}/logs", "GET"),
    ("/jobs/{job_id}/results", "GET", "POST", "DELETE"),
)
_OPENAPI = "application/vnd.oai.openapi+json;version=3.1"
QUERYABLES = "http://www.opengis.net/def/rel/ogc/1.0/queryables"
_UDF_LIBRARIES = ("numpy", "xarray", "scipy", "rasterio", "torch", "openeo", "openeo-cloudmask")


@router.get("/")
def capabilities(request: Request, state: StateOf) -> dict[str, Any]:
    """Return what this server is and which endpoints it has."""
    base = state.base_url(request)
    endpoints = [{"path": path, "methods": list(methods)} for path, *methods in _ENDPOINTS]
    if state.oidc is not None:
        endpoints.append({"path": "/credentials/oidc", "methods": ["GET"]})
    return {
        "api_version": API_VERSION,
        "backend_version": __version__,
        "stac_version": "1.1.0",
        "type": "Catalog",
        "id": "openeo-cloudmask",
        "title": "openeo-cloudmask",
        "description": "Cloud and cloud-shadow masks as openEO processes.",
        "production": False,
        "conformsTo": CONFORMANCE,
        "endpoints": endpoints,
        "links": [
            {"rel": "self", "href": f"{base}/", "type": "application/json"},
            {"rel": "root", "href": f"{base}/", "type": "application/json"},
            {"rel": "version-history", "href": f"{base}/.well-known/openeo",
             "type": "application/json"},
            {"rel": "data", "href": f"{base}/collections", "type": "application/json"},
            {"rel": "conformance", "href": f"{base}/conformance", "type": "application/json"},
            {"rel": "service-desc", "href": f"{base}/api", "type": _OPENAPI},
            *(
                {"rel": "search", "href": f"{base}/search", "type": GEOJSON, "method": method}
                for method in ("GET", "POST")
            ),
            {"rel": QUERYABLES, "href": f"{base}/queryables", "type": "application/schema+json"},
            *(
                {"rel": "child", "href": f"{base}/collections/{name}", "type": "application/json"}
                for name in state.collections.ids()
            ),
        ],
    }  # fmt: skip


@router.get("/.well-known/openeo")
def well_known(request: Request, state: StateOf) -> dict[str, Any]:
    """Return which versions of the API are where."""
    url = f"{state.base_url(request)}/"
    return {"versions": [{"url": url, "api_version": API_VERSION, "production": False}]}


@router.get("/conformance")
def conformance() -> dict[str, Any]:
    """Return the specifications that are kept to."""
    return {"conformsTo": CONFORMANCE}


@router.get("/api", include_in_schema=False)
def describe_api(request: Request) -> Response:
    """Return all endpoints as OpenAPI, which the core of STAC wants."""
    return JSONResponse(request.app.openapi(), media_type=_OPENAPI)


@router.get("/file_formats")
def file_formats() -> dict[str, Any]:
    """Return the formats of ``save_result``."""
    from openeo_cloudmask.backend.processes.results import FORMATS

    return {"input": {}, "output": FORMATS}


@router.get("/udf_runtimes")
def udf_runtimes() -> dict[str, Any]:
    """Return where user-defined functions run."""
    version = platform.python_version()
    libraries = {}
    for name in _UDF_LIBRARIES:
        try:
            libraries[name] = {"version": library_version(name)}
        except PackageNotFoundError:
            continue
    return {
        "Python": {
            "title": "Python",
            "description": (
                "Runs the function of openeo-cloudmask; any other one only where the server was "
                "started to allow it."
            ),
            "type": "language",
            "default": version,
            "versions": {version: {"libraries": libraries}},
        }
    }


@functools.cache
def _processes_body() -> bytes:
    from openeo_cloudmask.backend.processes.registry import predefined_specs

    return json.dumps({"processes": list(predefined_specs().values()), "links": []}).encode()


@router.get("/processes")
def processes(
    category: str | None = None,
    q: str | None = None,
    experimental: bool | None = None,  # noqa: FBT001 - a query parameter
) -> Response:
    """Return the predefined processes: all of them, or those that fit, always on one page.

    ``limit`` is not heeded, which openEO allows: the JavaScript client, and the Web Editor with it,
    asks for 50 processes and takes those for all there are.

    Args:
        category: one of those in the descriptions.
        q: words that are all in a process's id, summary or description.
        experimental: whether they are.
    """
    if (category, q, experimental) == (None, None, None):
        return Response(_processes_body(), media_type="application/json")
    found = [spec for spec in _specs() if _fits(spec, category, q, experimental)]
    return JSONResponse({"processes": found, "links": []})


def _specs() -> list[dict[str, Any]]:
    from openeo_cloudmask.backend.processes.registry import predefined_specs

    return list(predefined_specs().values())


def _fits(
    spec: dict[str, Any],
    category: str | None,
    q: str | None,
    experimental: bool | None,  # noqa: FBT001 - a query parameter
) -> bool:
    if category is not None and category not in spec.get("categories", ()):
        return False
    if experimental is not None and bool(spec.get("experimental")) != experimental:
        return False
    texts = (spec["id"], spec.get("summary", ""), spec.get("description", ""))
    text = " ".join(texts).lower()
    return all(word in text for word in (q or "").lower().split())


@router.get("/collections")
def collections(request: Request, state: StateOf) -> dict[str, Any]:
    """Return all collections."""
    base = state.base_url(request)
    found = [_with_links(state.collections.get(name), base) for name in state.collections.ids()]
    return {
        "collections": found,
        "links": [
            {"rel": "self", "href": f"{base}/collections", "type": "application/json"},
            {"rel": "root", "href": f"{base}/", "type": "application/json"},
        ],
    }


@router.get("/collections/{collection_id}")
def collection(collection_id: str, request: Request, state: StateOf) -> dict[str, Any]:
    """Return one collection."""
    return _with_links(state.collections.get(collection_id), state.base_url(request))


@router.get("/credentials/basic")
async def log_in(request: Request, state: StateOf) -> dict[str, str]:
    """Return a bearer token for a user name and password."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if not value:
        raise ApiError("AuthenticationRequired", "send user name and password (HTTP Basic)")
    if scheme.lower() != "basic":
        raise ApiError("AuthenticationSchemeInvalid", "expected HTTP Basic")
    try:
        name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise ApiError("CredentialsInvalid", "the credentials are not HTTP Basic") from None
    address = request.client.host if request.client else ""
    return {"access_token": await state.logins.log_in(name, password, address)}


@router.get("/credentials/oidc")
def oidc(state: StateOf) -> dict[str, Any]:
    """Return the OpenID Connect issuer."""
    if state.oidc is None:
        raise ApiError("FeatureUnsupported", "OpenID Connect is not set up on this server")
    return {"providers": [state.oidc.describe()]}


@router.get("/me")
def me(user: UserOf) -> dict[str, Any]:
    """Return who is logged in."""
    return {"user_id": user.id, "name": user.name, "links": []}


@router.get("/health")
def health(state: StateOf) -> JSONResponse:
    """Return whether the server, its database and its workers are up."""
    with state.database.reading() as session:
        session.connection().exec_driver_sql("SELECT 1")
    found = state.engine.health()
    return JSONResponse(found, 503 if found["status"] == "down" else 200)


def _with_links(found: dict[str, Any], base: str) -> dict[str, Any]:
    kept = [
        link for link in found.get("links", []) if link.get("rel") not in ("self", "root", "parent")
    ]
    own = f"{base}/collections/{found['id']}"
    found["links"] = [
        {"rel": "self", "href": own, "type": "application/json"},
        {"rel": "root", "href": f"{base}/", "type": "application/json"},
        {"rel": "parent", "href": f"{base}/", "type": "application/json"},
        {"rel": "items", "href": f"{own}/items", "type": GEOJSON},
        {"rel": QUERYABLES, "href": f"{own}/queryables", "type": "application/schema+json"},
        *kept,
    ]
    return found
