"""Processes of users at addresses: read for one plan, few of them, and within a short time."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.cubes.outside import Outside
from openeo_cloudmask.backend.graph.validate import parse_parameters, parse_process

MAX_ADDRESSES = 20
PATIENCE_S = 15.0
"""For all addresses of a plan together: whoever answers there may be slow on purpose."""
_readers = threading.BoundedSemaphore(8)
"""Threads that may wait for addresses at a time; the others are left for everybody's requests."""


@dataclass(slots=True)
class RemoteProcesses:
    """What one plan reads of addresses; each is read once."""

    allowed_hosts: tuple[str, ...]
    _documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    _left_s: float = PATIENCE_S

    def get(self, process_id: str, url: str) -> dict[str, Any] | None:
        """Return the process at an address: the document itself, or the one of a list.

        Raises:
            ApiError: the address may not be read or is too slow, there are too many, or it holds
                no process graph.
        """
        if url not in self._documents:
            self._documents[url] = self._read(url)
        document = self._documents[url]
        listed = document.get("processes")
        found = [document] if not isinstance(listed, list) else listed
        for spec in found:
            if isinstance(spec, dict) and spec.get("id", process_id) == process_id:
                process = parse_process(spec)
                return process | {"parameters": parse_parameters(process_id, process)}
        return None

    def _read(self, url: str) -> dict[str, Any]:
        if len(self._documents) >= MAX_ADDRESSES:
            raise ApiError(
                "ProcessGraphComplexity", f"processes come from more than {MAX_ADDRESSES} addresses"
            )
        if self._left_s <= 0:
            raise ApiError(
                "ProcessGraphComplexity",
                f"the addresses of processes took longer than {PATIENCE_S:g} s to read",
            )
        if not _readers.acquire(blocking=False):
            raise ApiError(
                "InfrastructureBusy", "the server reads processes for others now; try again soon"
            )
        begin = time.monotonic()
        try:
            reader = Outside(allowed_hosts=self.allowed_hosts, patience_s=self._left_s)
            return reader.read_json(url)
        finally:
            self._left_s -= time.monotonic() - begin
            _readers.release()
