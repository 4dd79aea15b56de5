"""Time as the back end writes it down, in one place so that tests can move it."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now_s() -> float:
    """Return seconds since 1970, UTC."""
    return time.time()


def rfc3339(seconds: float) -> str:
    """Return a time as the openEO API wants it, e.g. ``2026-01-31T12:00:00Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
