"""Errors as the openEO API states them: code, HTTP status, message."""

from __future__ import annotations

import logging
import uuid

from starlette.responses import JSONResponse

from openeo_cloudmask.errors import BackendError, CloudMaskError

_log = logging.getLogger(__name__)

STATUS: dict[str, int] = {
    # The codes of the openEO API that this back end uses ...
    "Internal": 500,
    "NotFound": 404,
    "FeatureUnsupported": 501,
    "InfrastructureBusy": 503,
    "InfrastructureMaintenance": 503,
    "UnsupportedApiVersion": 404,
    "RequestTimeout": 408,
    "NoDataForUpdate": 400,
    "PropertyNotEditable": 400,
    "CollectionNotFound": 404,
    "StorageFailure": 500,
    "StorageQuotaExceeded": 400,
    "FileNotFound": 404,
    "FilePathInvalid": 400,
    "ContentTypeInvalid": 400,
    "FileSizeExceeded": 400,
    "FileContentInvalid": 400,
    "ProcessGraphNotFound": 404,
    "ProcessInvalid": 400,
    "ProcessGraphMissing": 400,
    "ProcessGraphInvalid": 400,
    "PredefinedProcessExists": 400,
    "ProcessGraphComplexity": 400,
    "ProcessUnsupported": 400,
    "ProcessParameterUnsupported": 400,
    "ProcessParameterInvalid": 400,
    "ProcessParameterRequired": 400,
    "JobNotFound": 404,
    "ServiceNotFound": 404,
    "ServiceUnsupported": 400,
    "ServiceConfigUnsupported": 400,
    "JobLocked": 400,
    "JobNotFinished": 400,
    "JobNotStarted": 400,
    "ResultLinkExpired": 410,
    "BillingPlanInvalid": 400,
    "AuthenticationRequired": 401,
    "AuthenticationSchemeInvalid": 403,
    "TokenInvalid": 403,
    "CredentialsInvalid": 403,
    "PermissionsInsufficient": 403,
    # ... and ours, where it has none.
    "RequestTooLarge": 413,
    "TooManyRequests": 429,
    "QuotaExceeded": 400,
    "RangeInvalid": 416,
    "MethodNotAllowed": 405,
    "UdfNotAllowed": 403,
    "JobCanceled": 400,
    "OutputInvalid": 507,
}
"""HTTP status of each code; a code that is not here means the input was at fault (400)."""


_RETRY_S = 5
"""How long clients are asked to wait where the server is overloaded."""


class ApiError(BackendError):
    """An error that is answered to the client as it is."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def status(self) -> int:
        """HTTP status of the answer."""
        return STATUS.get(self.code, 400)

    def __reduce__(self) -> tuple[type[ApiError], tuple[str, str]]:
        """Pickle with both arguments: errors travel from worker processes."""
        return (ApiError, (self.code, str(self)))


def error_body(code: str, message: str) -> dict[str, object]:
    """Return an error as the openEO API has it."""
    return {"id": uuid.uuid4().hex, "code": code, "message": message, "links": []}


def error_answer(error: CloudMaskError) -> JSONResponse:
    """Return the answer that an error is; those of the server itself go to its log."""
    status = error.status if isinstance(error, ApiError) else STATUS.get(error.code, 400)
    # A text that a client sent may hold what cannot be sent back.
    text = str(error).encode("utf-8", "replace").decode()
    body = error_body(error.code, text)
    if status >= 500:
        _log.warning("%s: %s %s", body["id"], error.code, text)
    headers = {"Retry-After": str(_RETRY_S)} if status in (429, 503) else None
    return JSONResponse(body, status, headers)


NOT_THE_JOBS_FAULT = frozenset({"InfrastructureBusy", "InfrastructureMaintenance", "JobCanceled"})
"""Codes with which a run ends although its job did nothing wrong: it is to be run again."""
WORKERS_DIED = "WorkersDied"
"""Code of a run whose worker processes died again and again, for whatever reason."""

_CONNECTION_LOST = frozenset(
    {"CommClosedError", "CancelledError", "FutureCancelledError", "FuturesCancelledError"}
)
_FAULTS_OF_THE_PROCESS = (ValueError, TypeError, KeyError, IndexError, ArithmeticError)


def describe_error(error: BaseException) -> tuple[str, str]:  # noqa: PLR0911 - a table of kinds
    """Return the openEO code and message of any exception, without paths or traceback.

    Errors raised on purpose keep their message. What other libraries raise when a process cannot
    work on its data is named; anything else is ``Internal`` and only goes to the server's log.
    """
    if isinstance(error, CloudMaskError):
        return error.code, str(error)
    kind = type(error)
    if kind.__name__ == "KilledWorker":
        return WORKERS_DIED, (
            "worker processes died again and again while working on this; most often that is the "
            "memory limit (--worker-memory): use a smaller extent"
        )
    if _is_lost_connection(error):
        return "InfrastructureBusy", "a worker could not reach the cluster in time"
    if kind.__module__.startswith("openeo_processes_dask"):
        return kind.__name__, str(error) or kind.__name__
    if isinstance(error, MemoryError):
        return "ProcessGraphComplexity", "the process needs more memory than a worker has"
    if isinstance(error, RecursionError):
        return "ProcessGraphInvalid", "the process graph is nested too deeply"
    if isinstance(error, OSError):
        return "StorageFailure", f"reading or writing failed: {error.strerror or kind.__name__}"
    if isinstance(error, NotImplementedError):
        return "FeatureUnsupported", str(error) or "this is not implemented"
    if isinstance(error, _FAULTS_OF_THE_PROCESS):
        text = " ".join(str(error).split())[:300]
        return "ProcessFailed", f"a process could not work on its input: {kind.__name__}: {text}"
    return "Internal", "an unexpected error happened; the server's log has it"


def _is_lost_connection(error: BaseException) -> bool:
    """Return whether dask's processes lost each other; its errors look like those of files."""
    if type(error).__name__ in _CONNECTION_LOST:
        return True
    if isinstance(error, TimeoutError):
        return error.errno is None
    return type(error) is OSError and "Timed out trying to connect" in str(error)
