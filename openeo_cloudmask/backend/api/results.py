"""Results of batch jobs as STAC, and the files behind signed links."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from openeo_cloudmask.backend.api.common import StateOf, UserOf
from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.api.security import sign, signature_holds
from openeo_cloudmask.backend.api.state import State
from openeo_cloudmask.backend.jobs.clock import now_s, rfc3339
from openeo_cloudmask.backend.jobs.tables import Job
from openeo_cloudmask.backend.outputs.mask_items import ITEM_TYPE
from openeo_cloudmask.backend.settings import TEMPORARY_DAYS
from openeo_cloudmask.class_schemes import SCHEMES
from openeo_cloudmask.digits import whole_number
from openeo_cloudmask.stac.extension import WARNINGS
from openeo_cloudmask.stac.fields import CLASSIFICATION_URI, FILE_URI, PROJECTION_URI
from openeo_cloudmask.stac.mask_item import pixel_fields

router = APIRouter()
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_DOCUMENT = "results.json"
"""What is signed for the link to the document itself; no result file has that name."""


@router.get("/jobs/{job_id}/results")
def results(job_id: str, request: Request, user: UserOf, state: StateOf) -> JSONResponse:
    """Return the results of a finished job."""
    job = state.jobs.get(user.id, job_id)
    if job.status == "error":
        found = state.jobs.logs(job.id, after=0, level="error", limit=None)
        text = found[-1].message if found else "the job failed"
        code = (found[-1].code if found else None) or "Internal"
        return JSONResponse(
            {"id": job.id, "code": code, "message": text, "links": [], "level": "error"}, 424
        )
    if job.status == "created":
        raise ApiError("JobNotStarted", "the job was not started yet")
    if job.status != "finished":
        raise ApiError("JobNotFinished", f"the job is {job.status}; its results are not there yet")
    _check_alive(job)
    document = _document(job, state, state.base_url(request))
    return JSONResponse(document, headers={"OpenEO-Costs": "0"})


@router.get("/results/{job_id}")
def shared_results(
    job_id: str, request: Request, state: StateOf, expires: str = "", signature: str = ""
) -> JSONResponse:
    """Return the results of a job to whoever has its signed link."""
    job = _open_link(state, job_id, _DOCUMENT, expires, signature)
    return JSONResponse(_document(job, state, state.base_url(request)))


@router.head("/results/{job_id}/{name}", include_in_schema=False)
@router.get("/results/{job_id}/{name}")
def download(
    job_id: str,
    name: str,
    request: Request,
    state: StateOf,
    expires: str = "",
    signature: str = "",
) -> Response:
    """Return a result file to whoever has its signed link."""
    job = _open_link(state, job_id, name, expires, signature)
    found = next((item for item in job.files or [] if item["name"] == name), None)
    if found is None or job.stored_at is None:
        raise ApiError("FileNotFound", f"the file {name!r} does not exist")
    if _is_item(found):
        content = b"".join(state.storage.read(job.stored_at, name, 0, found["size"]))
        base = state.base_url(request)
        item = _signed_item(json.loads(content), name, job, state, base, int(expires))
        return JSONResponse(item, media_type=ITEM_TYPE)
    path = state.storage.local_path(job.stored_at, name)
    if path is not None:
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
            return FileResponse(
                path, media_type=found["type"], filename=name, stat_result=path.stat()
            )
    size = found["size"]
    start, stop = parse_range(request.headers.get("range"), size)
    headers = {
        "Content-Disposition": f"attachment; filename*=utf-8''{quote(name)}",
        "Content-Length": str(stop - start),
        "Content-Type": found["type"],
        "Accept-Ranges": "bytes",
    }
    status = 200 if stop - start == size else 206
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    if request.method == "HEAD":
        return Response(None, status, headers)
    return StreamingResponse(state.storage.read(job.stored_at, name, start, stop), status, headers)


def parse_range(header: str | None, size: int) -> tuple[int, int]:
    """Return the first byte of a ``Range`` and the one after its last; without one, all bytes.

    A header that is not understood, or asks for several ranges, is one that is not there.

    Raises:
        ApiError: the range begins behind the end.
    """
    found = _RANGE.fullmatch(header or "")
    first, last = found.groups() if found else ("", "")
    if (not first and not last) or (first and last and int(last) < int(first)):
        return 0, size
    start = int(first) if first else max(0, size - int(last))
    if start >= size:
        raise ApiError("RangeInvalid", f"the file has {size} bytes; the range begins behind them")
    return start, min(int(last) + 1, size) if first and last else size


def _open_link(state: State, job_id: str, name: str, expires: str, signature: str) -> Job:
    """Return the job a signed link is for.

    Raises:
        ApiError: the link was not made by this server, or its time is over.
    """
    if not signature_holds(state.settings.secret, signature, job_id, name, expires):
        raise ApiError("PermissionsInsufficient", "the link is not signed by this server")
    if (whole_number(expires) or 0) < now_s():
        raise ApiError("ResultLinkExpired", "the link has expired; request the results again")
    job = state.jobs.find(job_id)
    if job is None or job.status != "finished":
        raise ApiError("ResultLinkExpired", "the results are not there any longer")
    _check_alive(job)
    return job


def _check_alive(job: Job) -> None:
    """Raise openEO's error for results that are deleted, whatever the clock says now.

    Raises:
        ApiError: their time is over, or they were deleted when it seemed to be.
    """
    over = job.expires is not None and job.expires < now_s()
    here = [item for item in job.files or () if not item.get("href")]
    if over or (here and job.stored_at is None):
        raise ApiError(
            "ResultLinkExpired",
            f"the results were kept for {TEMPORARY_DAYS} days and are deleted; run the job again",
        )


def _document(job: Job, state: State, base: str) -> dict[str, Any]:
    """Return the results as a STAC collection whose assets are signed links.

    Items are links of it and no assets: clients take a job with one asset for a job with one file
    (``execute_batch("mask.tif")``). Those that were delivered to a bucket are no links that work.
    """
    limit = now_s() + state.settings.link_hours * 3600
    expires = int(job.expires if job.expires is not None else limit)
    files = job.files or []
    boxes = [item["about"]["bbox"] for item in files if item["about"].get("bbox")]
    dates = sorted({d for item in files for d in item["about"].get("dates", [])})
    bbox = boxes[0] if boxes else [-180.0, -90.0, 180.0, 90.0]
    interval = [dates[0], dates[-1]] if dates else [None, None]
    own = {"href": _link(state, base, job.id, _DOCUMENT, expires), "type": "application/json",
           "title": job.title or f"Results of {job.id}"}  # fmt: skip
    links = [{"rel": "canonical", **own}, {"rel": "self", **own}]
    links += [
        {"rel": "item", "href": _link(state, base, job.id, item["name"], expires),
         "type": ITEM_TYPE, "title": item["name"]}
        for item in files if _is_item(item) and not item.get("href")
    ]  # fmt: skip
    document: dict[str, Any] = {
        "stac_version": "1.1.0",
        "stac_extensions": [FILE_URI, PROJECTION_URI, CLASSIFICATION_URI],
        "type": "Collection",
        "id": job.id,
        "description": job.description or f"Results of the batch job {job.id}",
        "license": "other",
        "extent": {"spatial": {"bbox": [bbox]}, "temporal": {"interval": [interval]}},
        "openeo:status": "finished",
        "links": links,
        "assets": {
            item["name"]: _asset(item, item.get("href") or
                                 _link(state, base, job.id, item["name"], expires))
            for item in files if not _is_item(item) or item.get("href")
        },
    }  # fmt: skip
    if job.title:
        document["title"] = job.title
    if doubts := dict.fromkeys(
        text for item in files for text in item["about"].get("warnings", ())
    ):
        document[WARNINGS] = list(doubts)
    document["summaries"] = {"created": [rfc3339(job.finished or job.updated)]}
    if job.stored_at is not None:
        document["expires"] = rfc3339(expires)
    return document


def _is_item(file: dict[str, Any]) -> bool:
    """Return whether a result file is a STAC item; GeoJSON has the same media type."""
    return bool(file["type"] == ITEM_TYPE and "metadata" in file["roles"])


def _signed_item(
    item: dict[str, Any], name: str, job: Job, state: State, base: str, expires: int
) -> dict[str, Any]:
    """Return an item whose assets are signed links, for as long as the link to itself is valid."""
    names = {file["name"] for file in job.files or []}
    for asset in item.get("assets", {}).values():
        file = str(asset.get("href", "")).removeprefix("./")
        if file in names:
            asset["href"] = _link(state, base, job.id, file, expires)
    collection = _link(state, base, job.id, _DOCUMENT, expires)
    item["collection"] = job.id
    item["links"] = [
        *(link for link in item.get("links", []) if link.get("rel") not in ("collection", "self")),
        {"rel": "collection", "href": collection, "type": "application/json"},
        {"rel": "self", "href": _link(state, base, job.id, name, expires), "type": ITEM_TYPE},
    ]
    return item


def _asset(item: dict[str, Any], href: str) -> dict[str, Any]:
    about = item["about"]
    asset: dict[str, Any] = {
        "href": href,
        "type": item["type"],
        "roles": item["roles"],
        "title": item["name"],
    }
    if not _is_item(item):  # which had other links here than where it was delivered
        asset["file:size"] = item["size"]
    mask = about.get("mask") or {}
    if (scheme := SCHEMES.get(str(mask.get("scheme")))) is not None:
        asset |= pixel_fields(scheme, categorise=mask["categorise"])
    if "bands" in about:
        asset["bands"] = [{"name": name} for name in about["bands"]]
    if "shape" in about:
        asset["proj:shape"] = about["shape"]
    if "bbox" in about:
        asset["bbox"] = about["bbox"]
    if "datetime" in about:
        asset["datetime"] = about["datetime"]
    if "warnings" in about:
        asset["description"] = "; ".join(about["warnings"])
    return asset


def _link(state: State, base: str, job_id: str, name: str, expires: int) -> str:
    signature = sign(state.settings.secret, job_id, name, str(expires))
    path = f"/results/{job_id}" if name == _DOCUMENT else f"/results/{job_id}/{quote(name)}"
    return f"{base}{path}?expires={expires}&signature={signature}"
