"""Logging in with a password: off the event loop, and slower for who guesses."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from openeo_cloudmask.backend.api.accounts import UserStore
from openeo_cloudmask.backend.api.errors import ApiError

_AT_A_TIME = 2
"""A password's hash takes 64 MiB while it is checked."""
_MAX_WAITING = 64
_MAX_NAME = 128
_MAX_PAIR = 8
"""Attempts for one name from one address that may wait at a time."""
_FORGET_S = 3600.0
_MAX_KEYS = 100_000


@dataclass(frozen=True, slots=True)
class Backoff:
    """Failures that are free, and the longest wait that the ones after them lead to."""

    free: int
    longest_s: float


_BACKOFFS = {
    "name and address": Backoff(5, 300.0),
    "address": Backoff(20, 300.0),
    # Short: whoever guesses a name from everywhere must not keep its owner out for long.
    "name": Backoff(50, 10.0),
}


@dataclass(slots=True)
class _Failures:
    count: int = 0
    until: float = 0.0


class LoginGate:
    """Checks passwords, a few at a time; all methods are called by the event loop's thread.

    Args:
        users: who may log in.
        now: returns seconds of a clock that never goes back.
    """

    def __init__(self, users: UserStore, now: Callable[[], float] = time.monotonic) -> None:
        self._users = users
        self._now = now
        self._pool = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="logins")
        self._failures: dict[tuple[str, ...], _Failures] = {}
        self._waiting: Counter[tuple[str, str]] = Counter()

    async def log_in(self, name: str, password: str, address: str) -> str:
        """Return a new bearer token.

        Raises:
            ApiError: name or password are wrong, or there were too many attempts.
        """
        if len(name) > _MAX_NAME or not name.isprintable():
            raise ApiError("CredentialsInvalid", "user name or password are not correct")
        pair = (name, address)
        keys: dict[str, tuple[str, ...]] = {
            "name and address": pair, "address": ("", address), "name": (name,)
        }  # fmt: skip
        self._check(keys.values(), pair)
        self._waiting[pair] += 1
        try:
            loop = asyncio.get_running_loop()
            token = await loop.run_in_executor(self._pool, self._users.log_in, name, password)
        except ApiError as err:
            if err.code == "CredentialsInvalid":
                for kind, key in keys.items():
                    self._note_failure(key, _BACKOFFS[kind])
            raise
        finally:
            self._waiting[pair] -= 1
            if not self._waiting[pair]:
                del self._waiting[pair]
        self._failures.pop(pair, None)
        self._failures.pop((name,), None)
        return token

    def _check(self, keys: Iterable[tuple[str, ...]], pair: tuple[str, str]) -> None:
        now = self._now()
        waits = [self._failures[key].until - now for key in keys if key in self._failures]
        wait_s = max(waits, default=0.0)
        if wait_s > 0:
            raise ApiError(
                "TooManyRequests",
                f"too many wrong passwords; try again in {math.ceil(wait_s)} s",
            )
        if self._waiting[pair] >= _MAX_PAIR or self._waiting.total() >= _MAX_WAITING:
            raise ApiError("TooManyRequests", "too many logins at a time; try again shortly")

    def _note_failure(self, key: tuple[str, ...], backoff: Backoff) -> None:
        now = self._now()
        if len(self._failures) >= _MAX_KEYS:
            self._failures = {k: f for k, f in self._failures.items() if f.until > now}
        found = self._failures.setdefault(key, _Failures())
        if now - found.until > _FORGET_S and found.until:
            found.count = 0
        found.count += 1
        over = found.count - backoff.free
        found.until = now + (min(2.0 ** min(over, 20), backoff.longest_s) if over > 0 else 0.0)
