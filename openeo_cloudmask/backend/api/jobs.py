"""Batch jobs: create, change, start, stop, watch, delete."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from openeo_cloudmask.backend.api.common import BodyOf, StateOf, UserOf, read_text
from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.api.security import seal
from openeo_cloudmask.backend.api.state import State
from openeo_cloudmask.backend.graph.validate import parse_process
from openeo_cloudmask.backend.jobs.clock import rfc3339
from openeo_cloudmask.backend.jobs.states import LEVELS
from openeo_cloudmask.backend.jobs.storage import PRIVATE_KEYS, check_disk, check_private
from openeo_cloudmask.backend.jobs.tables import MAX_PLAN, Job
from openeo_cloudmask.backend.settings import Settings
from openeo_cloudmask.digits import whole_number

router = APIRouter()
PAGE, MAX_PAGE = 100, 1000
"""Jobs in a list where the client says nothing, and at most."""
MAX_OFFSET = 2**31
_KNOWN_OPTIONS = ("output_storage", "s3")
_STORAGES = ("PRIVATE", "TEMPORARY")
_MASK_BYTES_PER_S = 1e6
"""A mask's pixels per second on one core, roughly; only for the estimate."""


@router.get("/jobs")
def list_jobs(
    request: Request,
    user: UserOf,
    state: StateOf,
    limit: Annotated[int, Query(ge=1)] = PAGE,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET)] = 0,
) -> dict[str, Any]:
    """Return the user's jobs, newest first, a page at a time."""
    limit = min(limit, MAX_PAGE)
    jobs, total = state.jobs.page(user.id, limit=limit, offset=offset)
    links = []
    if offset + limit < total:
        base = state.base_url(request)
        href = f"{base}/jobs?limit={limit}&offset={offset + limit}"
        links.append({"rel": "next", "href": href})
    return {"jobs": [_summarise(job) for job in jobs], "links": links}


@router.post("/jobs")
def create_job(request: Request, body: BodyOf, user: UserOf, state: StateOf) -> Response:
    """Store a job."""
    check_disk(state.settings.data_dir)
    process = parse_process(body.get("process"))
    options, sealed, unknown = _read_options(body, state.settings)
    job = state.jobs.create(
        user.id,
        title=read_text(body, "title"),
        description=read_text(body, "description"),
        process=process,
        plan=_read_plan(body),
        budget=_read_budget(body),
        log_level=_read_level(body),
        options=options,
        sealed=sealed,
    )
    _tell_unknown(state, job.id, unknown)
    location = f"{state.base_url(request)}/jobs/{job.id}"
    return Response(status_code=201, headers={"Location": location, "OpenEO-Identifier": job.id})


@router.get("/jobs/{job_id}")
def get_job(job_id: str, user: UserOf, state: StateOf) -> dict[str, Any]:
    """Return a job with its process."""
    job = state.jobs.get(user.id, job_id)
    details = {**_summarise(job), "process": job.process, "log_level": job.log_level}
    if job.options:
        details["job_options"] = job.options
    return details


@router.patch("/jobs/{job_id}")
def change_job(job_id: str, body: BodyOf, user: UserOf, state: StateOf) -> Response:
    """Change a job."""
    changes: dict[str, Any] = {}
    unknown: list[str] = []
    for name in ("title", "description"):
        if name in body:
            changes[name] = read_text(body, name)
    if "plan" in body:
        changes["plan"] = _read_plan(body)
    if "process" in body:
        changes["process"] = parse_process(body["process"])
    if "budget" in body:
        changes["budget"] = _read_budget(body)
    if "log_level" in body:
        changes["log_level"] = _read_level(body)
    if "job_options" in body or "output_storage" in body:
        changes["options"], changes["sealed"], unknown = _read_options(body, state.settings)
    state.jobs.get(user.id, job_id)
    if not changes and body:
        raise ApiError("NoDataForUpdate", "nothing that can be changed was sent")
    if changes:
        state.jobs.change(user.id, job_id, changes)
        _tell_unknown(state, job_id, unknown)
    return Response(status_code=204)


@router.delete("/jobs/{job_id}")
def delete_job(job_id: str, user: UserOf, state: StateOf) -> Response:
    """Delete a job, its log and its results."""
    state.engine.discard(state.jobs.delete(user.id, job_id))
    return Response(status_code=204)


@router.post("/jobs/{job_id}/results")
def start_job(job_id: str, user: UserOf, state: StateOf) -> Response:
    """Queue a job."""
    job = state.jobs.get(user.id, job_id)
    if job.options.get("output_storage") == "PRIVATE" and job.sealed is None:
        raise ApiError(
            "CredentialsInvalid",
            "the keys of your bucket were used up by the last run; send them again (PATCH)",
        )
    state.engine.submit(job)
    return Response(status_code=202)


@router.delete("/jobs/{job_id}/results")
def stop_job(job_id: str, user: UserOf, state: StateOf) -> Response:
    """Stop a job."""
    state.jobs.get(user.id, job_id)
    state.engine.cancel(job_id)
    return Response(status_code=204)


@router.get("/jobs/{job_id}/estimate")
def estimate(job_id: str, user: UserOf, state: StateOf) -> dict[str, Any]:
    """Return how large the results are at most, and how long it may take."""
    job = state.jobs.get(user.id, job_id)
    size = state.planner.estimate_bytes(job.process)
    if size is None:
        raise ApiError("EstimateComplexity", "the size of the results is not known beforehand")
    seconds = max(1, round(size / _MASK_BYTES_PER_S))
    return {"costs": 0, "size": size, "duration": f"PT{seconds}S"}


@router.get("/jobs/{job_id}/logs")
def logs(
    job_id: str,
    user: UserOf,
    state: StateOf,
    offset: str | None = None,
    limit: Annotated[int | None, Query(ge=1)] = None,
    level: str = "debug",
) -> JSONResponse:
    """Return lines of a job's log."""
    job = state.jobs.get(user.id, job_id)
    if level not in LEVELS:
        raise ApiError("PropertyNotEditable", f"level is {level!r}; expected one of {LEVELS}")
    after = min(whole_number(offset or "") or 0, MAX_OFFSET)
    lowest = LEVELS[min(LEVELS.index(level), LEVELS.index(job.log_level))]
    found = state.jobs.logs(job_id, after=after, level=lowest, limit=limit)
    lines = []
    for entry in found:
        line: dict[str, Any] = {
            "id": str(entry.id), "level": entry.level, "message": entry.message,
            "time": rfc3339(entry.time),
        }  # fmt: skip
        if entry.code:
            line["code"] = entry.code
        lines.append(line)
    return JSONResponse({"level": lowest, "logs": lines, "links": []})


def _summarise(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": job.id,
        "status": job.status,
        "created": rfc3339(job.created),
        "updated": rfc3339(max(job.created, job.updated)),  # the clock may have been put back
        "costs": 0,
    }
    for name in ("title", "description", "plan", "budget"):
        if getattr(job, name) is not None:
            found[name] = getattr(job, name)
    if job.progress is not None and job.status in ("running", "finished"):
        found["progress"] = job.progress
    return found


def _read_options(
    body: dict[str, Any], settings: Settings
) -> tuple[dict[str, Any], str | None, list[str]]:
    """Return the options without secrets, the user's keys, encrypted, and names left out.

    Options that are not known here are neither stored nor answered: they may hold keys.
    """
    options = body.get("job_options") or {}
    if not isinstance(options, dict):
        raise ApiError("ProcessInvalid", "job_options must be an object")
    unknown = sorted(set(map(str, options)) - set(_KNOWN_OPTIONS))
    options = {name: value for name, value in options.items() if name in _KNOWN_OPTIONS}
    keys = options.pop("s3", None)
    storage = options.get("output_storage", body.get("output_storage"))
    if storage is None:
        if keys is not None:
            raise ApiError("ProcessParameterInvalid", "s3 needs output_storage: PRIVATE")
        return options, None, unknown
    if storage not in _STORAGES:
        raise ApiError(
            "ProcessParameterInvalid", f"output_storage must be one of {', '.join(_STORAGES)}"
        )
    options["output_storage"] = storage
    if storage == "TEMPORARY":
        return options, None, unknown
    checked = check_private(keys, settings.private_endpoints)
    options["s3"] = {key: value for key, value in checked.items() if key not in PRIVATE_KEYS}
    return options, seal(settings.secret, dict(checked)), unknown


def _tell_unknown(state: State, job_id: str, names: list[str]) -> None:
    if names:
        shown = ", ".join(name[:40] for name in names[:10])
        state.engine.note(
            job_id, "warning", f"job_options {shown} are not known to this back end and left out"
        )


def _read_plan(body: dict[str, Any]) -> str | None:
    plan = read_text(body, "plan")
    if plan is not None and len(plan) > MAX_PLAN:
        raise ApiError("BillingPlanInvalid", f"plan has more than {MAX_PLAN} characters")
    return plan


def _read_budget(body: dict[str, Any]) -> float | None:
    value = body.get("budget")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e15:
        raise ApiError("BudgetInvalid", "budget must be a number from 0 to 1e15")
    return float(value)


def _read_level(body: dict[str, Any]) -> str:
    value = body.get("log_level") or "info"
    if value not in LEVELS:
        raise ApiError("PropertyNotEditable", f"log_level must be one of {', '.join(LEVELS)}")
    return str(value)
