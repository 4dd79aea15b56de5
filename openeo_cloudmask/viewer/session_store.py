"""The sessions of this process, found again by the cookie of their browser."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from openeo_cloudmask.viewer.session import Session

MAX_SESSIONS = 500
MIN_KEY_LENGTH = 20


class SessionStore:
    """Sessions by the cookie of their browser, so that a reload of the page finds them again."""

    def __init__(self, capacity: int = MAX_SESSIONS) -> None:
        self._capacity = capacity
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: str | None, begin: Callable[[], Session]) -> Session:
        """Return the session of that cookie, or a new one; without a cookie it is not kept."""
        if key is None or len(key) < MIN_KEY_LENGTH:
            return begin()
        with self._lock:
            known = self._sessions.get(key)
            if known is None or known.is_over():
                self._sessions[key] = begin()
            self._sessions.move_to_end(key)
            while len(self._sessions) > self._capacity:
                self._sessions.popitem(last=False)
            return self._sessions[key]


SESSIONS = SessionStore()
"""The sessions of this process; in memory only."""
