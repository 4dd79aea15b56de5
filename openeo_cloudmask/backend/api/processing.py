"""Validation, synchronous results and stored processes."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from openeo_cloudmask.backend.api.common import BodyOf, StateOf, UserOf
from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.graph.validate import parse_parameters, parse_process
from openeo_cloudmask.backend.jobs.storage import check_disk
from openeo_cloudmask.backend.jobs.tasks import GraphAnswer

router = APIRouter()
_PROCESS_ID = re.compile(r"[\w\-.~]{1,128}")
_SUMMARY_FIELDS = ("id", "summary", "description", "parameters", "returns", "categories",
                   "deprecated", "experimental")  # fmt: skip


@router.post("/validation")
def validate(body: BodyOf, user: UserOf, state: StateOf) -> dict[str, Any]:
    """Return what is wrong with a process."""
    try:
        errors = state.planner.validate(user.id, body)
    except ApiError as err:
        errors = [err]
    return {"errors": [{"code": error.code, "message": str(error)} for error in errors]}


@router.post("/result")
async def result(body: BodyOf, user: UserOf, state: StateOf) -> Response:
    """Run a process and return its result."""
    process = body.get("process")
    if not isinstance(process, dict):
        raise ApiError("ProcessGraphMissing", "the request holds no process")
    answer, folder = await state.engine.instant.run(user.id, process)
    return await run_in_threadpool(_answer, answer, folder)


def _answer(answer: GraphAnswer, folder: Path) -> Response:
    headers = {"OpenEO-Costs": "0"}
    if not answer.files:
        shutil.rmtree(folder, ignore_errors=True)
        return JSONResponse(answer.value, headers=headers)
    path, media_type = folder / answer.files[0]["name"], answer.files[0]["type"]
    if len(answer.files) > 1:
        path, media_type = _zip(folder, [item["name"] for item in answer.files]), "application/zip"
    cleanup = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    return FileResponse(
        path, media_type=media_type, filename=path.name, headers=headers, background=cleanup
    )


def _zip(folder: Path, names: list[str]) -> Path:
    path = folder / "results.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            archive.write(folder / name, name)
    return path


@router.get("/process_graphs")
def stored_processes(user: UserOf, state: StateOf) -> dict[str, Any]:
    """Return the user's stored processes, without their graphs."""
    found = [
        {key: spec[key] for key in _SUMMARY_FIELDS if key in spec}
        for spec in state.processes.all(user.id)
    ]
    return {"processes": found, "links": []}


@router.get("/process_graphs/{process_graph_id}")
def stored_process(process_graph_id: str, user: UserOf, state: StateOf) -> dict[str, Any]:
    """Return a stored process."""
    found = state.processes.get(user.id, process_graph_id)
    if found is None:
        raise ApiError(
            "ProcessGraphNotFound", f"user-defined process {process_graph_id!r} does not exist"
        )
    return found


@router.put("/process_graphs/{process_graph_id}")
def store_process(
    process_graph_id: str, body: BodyOf, user: UserOf, state: StateOf, request: Request
) -> Response:
    """Store a process."""
    del request
    from openeo_cloudmask.backend.processes.registry import predefined_specs

    if not _PROCESS_ID.fullmatch(process_graph_id):
        raise ApiError("ProcessInvalid", f"{process_graph_id!r} is no id of a process")
    if process_graph_id in predefined_specs() and process_graph_id != "cloud_mask":
        raise ApiError(
            "PredefinedProcessExists", f"there is a predefined process {process_graph_id!r}"
        )
    check_disk(state.settings.data_dir)
    parse_process(body)
    spec = {**body, "id": process_graph_id}
    parse_parameters(process_graph_id, spec)
    state.processes.put(user.id, process_graph_id, spec)
    return Response(status_code=200)


@router.delete("/process_graphs/{process_graph_id}")
def delete_process(process_graph_id: str, user: UserOf, state: StateOf) -> Response:
    """Delete a stored process."""
    state.processes.delete(user.id, process_graph_id)
    return Response(status_code=204)
