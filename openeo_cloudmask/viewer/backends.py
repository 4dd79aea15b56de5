"""openEO back ends from the viewer: connect, plan a job, follow it. The client does the talking."""

from __future__ import annotations

import datetime as dt
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from openeo_cloudmask.errors import BackendError
from openeo_cloudmask.grid import Bounds, overlap
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import ReadOptions
from openeo_cloudmask.publish import publish_file
from openeo_cloudmask.viewer.public_web import check_public, public_session

if TYPE_CHECKING:
    import openeo
    import requests

OwnScene = tuple[Path, str, str | None, ReadOptions]
"""File, id, sensor and reading of a scene of the embedded back end."""
TIMEOUT_S = 30
CONNECT_S = 5.0
BUSY = (429, 502, 503, 504)
"""Answers of a back end, or of a proxy before it, that is asked again."""
FIRST_DAY = dt.date(1972, 7, 23)
"""The launch of the first Landsat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """What to mask, where and when."""

    collection: str
    west: float
    south: float
    east: float
    north: float
    """Degrees, EPSG:4326."""
    start: str
    end: str
    """Dates, the end not included."""
    bands: tuple[str, ...] | None = None
    max_cloud_cover: int | None = None
    options: MaskOptions = field(default_factory=MaskOptions)
    title: str = "Cloud mask"
    saved: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Options of ``save_result``: what is wanted beside the mask, where the back end offers it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job as the list shows it."""

    id: str
    title: str
    status: str
    created: str
    progress: float | None
    """Percent, where the back end says."""


@contextmanager
def as_backend_error(doing: str) -> Iterator[None]:
    """Turn what the client and the network raise into one error that says what was being done."""
    from openeo.rest import OpenEoClientException, OpenEoRestError
    from requests import RequestException

    try:
        yield
    except (ValueError, KeyError, TypeError) as err:  # no JSON, or no openEO document
        raise BackendError(
            f"{doing}: no openEO back end answers there. Check the address; it is that of "
            "the back end itself, not of a page about it"
        ) from err
    except RequestException as err:
        raise BackendError(
            f"{doing}: the back end does not answer ({type(err).__name__}). Check its address, and "
            "whether it is running (cloudmask serve)"
        ) from err
    except (OpenEoRestError, OpenEoClientException) as err:
        raise BackendError(f"{doing}: {err}") from err


def connect(url: str, *, public: bool = False) -> openeo.Connection:
    """Return a connection to the back end at ``url``.

    Args:
        url: its address.
        public: whether a visitor named it, who may reach nothing but public https addresses.

    Raises:
        BackendError: nothing there speaks openEO, or a visitor may not reach it.
    """
    import openeo

    if public:
        url = url if "//" in url else f"https://{url}"
        check_public(url)
    else:
        _check_listening(url)
    session = public_session() if public else own_session()
    with as_backend_error(f"connecting to {url}"):
        return openeo.connect(url, session=session, default_timeout=TIMEOUT_S, auto_validate=False)


def own_session() -> requests.Session:
    """Return a session that tells at once that a back end is lost.

    The client's own tries again for a quarter of a minute, for each request of a page. A back end
    that answers but is busy is asked again as patiently as by the client.
    """
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    retry = Retry(total=3, connect=1, read=1, backoff_factor=2.5, status_forcelist=BUSY)
    session = requests.Session()
    for prefix in ("https://", "http://"):
        session.mount(prefix, HTTPAdapter(max_retries=retry))
    return session


def _check_listening(url: str) -> None:
    """Make sure that something listens there: the client itself would try again for half a minute.

    Raises:
        BackendError: nothing does, or the address is invalid.
    """
    parts = urlsplit(url if "//" in url else f"https://{url}")
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        port = 0
    if not parts.hostname or not port:
        raise BackendError(f"{url!r} is not an address; expected e.g. http://127.0.0.1:8080")
    if _has_proxy(parts.hostname):
        return
    try:
        socket.create_connection((parts.hostname, port), CONNECT_S).close()
    except OSError as err:
        raise BackendError(
            f"connecting to {url}: the back end does not answer ({type(err).__name__}). Check its "
            "address, and whether it is running (cloudmask serve)"
        ) from err


def _has_proxy(host: str) -> bool:
    return bool(getproxies()) and not proxy_bypass(host)


def log_in(connection: openeo.Connection, user: str, password: str) -> None:
    """Log in with a name and password; the token stays in ``connection``, in memory.

    Raises:
        BackendError: the back end refuses.
    """
    with as_backend_error(f"logging in as {user}"):
        connection.authenticate_basic(user, password)


def log_in_oidc(
    connection: openeo.Connection,
    show: Callable[[str], None],
    *,
    client: str | None = None,
    provider: str | None = None,
    public: bool = False,
) -> None:
    """Log in through OpenID Connect's device flow; returns when the user has agreed.

    Args:
        connection: the back end.
        show: called once, with the text that tells where to go and which code to type.
        client: id of the client at the provider; None takes the one that the back end names.
        provider: id of the identity provider; None takes the back end's first.
        public: whether a visitor named the back end, as for ``connect``.

    Raises:
        BackendError: the back end or the provider refuses, or the back end names no client.
    """
    told = False

    def show_once(text: str) -> None:
        # The client draws its progress bar through the same function, over the text.
        nonlocal told
        if not told:
            show(text)
        told = True

    own = "" if client else ", without a client id of your own"
    with as_backend_error(f"logging in with OpenID Connect{own}"):
        through: dict[str, Any] = {}
        if public:
            for item in connection.get("/credentials/oidc").json().get("providers", ()):
                check_public(str(item.get("issuer")))
            through["requests_session"] = public_session()
        connection.authenticate_oidc_device(
            client_id=client, provider_id=provider, store_refresh_token=False, display=show_once,
            **through,
        )  # fmt: skip


def list_collections(connection: openeo.Connection) -> dict[str, str]:
    """Return id -> title of the back end's collections; titles that are not alone have the id."""
    with as_backend_error("listing the collections"):
        found = {
            item["id"]: item.get("title") or item["id"] for item in connection.list_collections()
        }
    times = Counter(found.values())
    return {key: title if times[title] == 1 else f"{title} ({key})" for key, title in found.items()}


def describe_collection(connection: openeo.Connection, collection: str) -> dict[str, Any]:
    """Return the STAC collection, with its extent and ``cube:dimensions``."""
    with as_backend_error(f"reading about {collection}"):
        return dict(connection.describe_collection(collection))


def temporal_extent(connection: openeo.Connection, collection: str) -> tuple[dt.date, dt.date]:
    """Return the first and last day of a collection; today where it has no end, or a later one."""
    about = describe_collection(connection, collection)
    start, end = about["extent"]["temporal"]["interval"][0]
    today = dt.datetime.now(dt.UTC).date()
    first = dt.date.fromisoformat(start[:10]) if start else today - dt.timedelta(days=30)
    last = dt.date.fromisoformat(end[:10]) if end else today
    return first, max(first, min(last, today))


def date_limits(first: dt.date, last: dt.date) -> tuple[dt.date, dt.date]:
    """Return the first and last day that may be asked for: the whole of a collection, and today.

    An archive may go on after the end that its description states.
    """
    today = dt.datetime.now(dt.UTC).date()
    return min(first, FIRST_DAY), max(last, today) + dt.timedelta(days=1)


def build_graph(connection: openeo.Connection | None, plan: JobPlan) -> dict[str, Any]:
    """Return the flat process graph that makes the mask: load, mask, save."""
    import openeo

    from openeo_cloudmask.openeo.client import apply_options

    arguments: dict[str, Any] = {
        "spatial_extent": {
            "west": plan.west,
            "south": plan.south,
            "east": plan.east,
            "north": plan.north,
        },
        "temporal_extent": [plan.start, plan.end],
        "bands": list(plan.bands) if plan.bands else None,
        "max_cloud_cover": plan.max_cloud_cover,
    }
    if connection is None:
        cube = openeo.DataCube.load_collection(
            plan.collection, connection=None, fetch_metadata=False, **arguments
        )
    else:
        with as_backend_error(f"reading about {plan.collection}"):
            cube = connection.load_collection(plan.collection, **arguments)
    saved: Any = apply_options(cube, plan.options).save_result("GTiff", options=dict(plan.saved))
    return dict(saved.flat_graph())


def python_code(url: str, plan: JobPlan) -> str:
    """Return a program that submits the same job."""
    context = plan.options.to_context()
    arguments = "".join(f"    {key}={value!r},\n" for key, value in context.items())
    bands = "" if plan.bands is None else f"    bands={list(plan.bands)!r},\n"
    saved = f", options={dict(plan.saved)!r}" if plan.saved else ""
    cover = "" if plan.max_cloud_cover is None else f"    max_cloud_cover={plan.max_cloud_cover},\n"
    return (
        "import openeo\n"
        "from openeo_cloudmask import cloud_mask\n\n"
        f"connection = openeo.connect({url!r})\n"
        "connection.authenticate_oidc()  # or authenticate_basic(user, password)\n"
        "cube = connection.load_collection(\n"
        f"    {plan.collection!r},\n"
        f"    spatial_extent={{'west': {plan.west}, 'south': {plan.south}, "
        f"'east': {plan.east}, 'north': {plan.north}}},\n"
        f"    temporal_extent=[{plan.start!r}, {plan.end!r}],\n"
        f"{bands}{cover})\n"
        f"mask = cloud_mask(\n    cube,\n{arguments})\n"
        f"job = mask.save_result('GTiff'{saved}).create_job(title={plan.title!r})\n"
        "job.start_and_wait()\n"
        "job.get_results().download_files('results')\n"
    )


def submit(connection: openeo.Connection, plan: JobPlan) -> str:
    """Create and start a batch job and return its id.

    Raises:
        BackendError: the back end refuses the graph or the job.
    """
    graph = build_graph(connection, plan)
    with as_backend_error("submitting the job"):
        job = connection.create_job(graph, title=plan.title)
        job.start()
        return str(job.job_id)


def offered_beside(connection: openeo.Connection) -> frozenset[str]:
    """Return what the back end can save beside a mask: ``percentages``, ``image``, or nothing."""
    with as_backend_error("asking for the file formats"):
        formats = connection.list_file_formats().get("output", {})
    known = formats.get("GTiff", {}).get("parameters", {})
    return frozenset({"percentages", "image"} & set(known))


def estimate(connection: openeo.Connection, plan: JobPlan) -> Mapping[str, Any] | None:
    """Return what the back end expects the job to cost, or None where it gives no estimates."""
    graph = build_graph(connection, plan)
    if not connection.capabilities().supports_endpoint("/jobs/{job_id}/estimate"):
        return None
    with as_backend_error("asking for an estimate"):
        job = connection.create_job(graph, title=plan.title)
        try:
            return dict(job.estimate())
        finally:
            job.delete()


def list_jobs(connection: openeo.Connection) -> list[JobRow]:
    """Return the user's jobs, newest first."""
    with as_backend_error("listing the jobs"):
        found = connection.list_jobs()
    rows = [
        JobRow(
            id=job["id"],
            title=job.get("title") or job["id"],
            status=job["status"],
            created=job.get("created", ""),
            progress=job.get("progress"),
        )
        for job in found
    ]
    return sorted(rows, key=lambda row: row.created, reverse=True)


def read_logs(connection: openeo.Connection, job_id: str) -> list[tuple[str, str]]:
    """Return (level, message) of a job's log."""
    with as_backend_error("reading the log"):
        entries = connection.job(job_id).logs()
        # Workers send their lines by several ways; the sort is stable where times are the same.
        ordered = sorted(entries, key=lambda entry: str(entry.get("time") or ""))
        return [(entry["level"], entry["message"]) for entry in ordered]


def cancel_job(connection: openeo.Connection, job_id: str) -> None:
    """Stop a job."""
    with as_backend_error("canceling the job"):
        connection.job(job_id).stop()


def delete_job(connection: openeo.Connection, job_id: str) -> None:
    """Delete a job and its results."""
    with as_backend_error("deleting the job"):
        connection.job(job_id).delete()


def find_scene(backend_data: Path, bounds: Bounds, day: str | None) -> OwnScene | None:
    """Return file, id, sensor and reading of the embedded back end's scene of a mask, or None.

    Args:
        backend_data: the back end's folder.
        bounds: west, south, east and north of the mask, degrees.
        day: ``2024-05-01``, or None where the mask does not say it.
    """
    from openeo_cloudmask.backend.cubes.collections import CollectionStore
    from openeo_cloudmask.backend.settings import Settings

    store = CollectionStore(Settings(data_dir=backend_data).collections_dir)
    for collection in store.ids():
        for item in store.items(collection):
            box = item.get("bbox")
            when = (item["properties"].get("datetime") or "")[:10]
            if box is None or day != when or not overlap(box, bounds):
                continue
            asset = item["assets"]["product"]
            how = asset.get("cloudmask:open", {})
            read = ReadOptions(
                bands=tuple(how["bands"]) if how.get("bands") else None,
                scale=how.get("scale"), offset=how.get("offset"), date=how.get("date"),
            )  # fmt: skip
            sensor = how.get("sensor") or item["properties"].get("cloudmask:sensor")
            return Path(asset["href"]), str(item["id"]), sensor, read
    return None


def register_scene(path: Path, backend_data: Path, *, sensor: str | None = None) -> str:
    """Make a scene known to the embedded back end and return its collection.

    Its file is copied to the back end's own folder, because sessions end and their files go.

    Raises:
        ProductError: the scene cannot be read.
    """
    import os
    import shutil

    from openeo_cloudmask.backend.cubes.collections import CollectionStore
    from openeo_cloudmask.backend.cubes.ingest import ingest_product
    from openeo_cloudmask.backend.settings import Settings

    folder = backend_data / "scenes"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / path.name
    with publish_file(target) as part:
        try:
            os.link(path, part)  # free where both lie on one disk
        except OSError:
            shutil.copyfile(path, part)
    store = CollectionStore(Settings(data_dir=backend_data).prepare().collections_dir)
    collection, _ = ingest_product(target, store, sensor=sensor)
    return collection
