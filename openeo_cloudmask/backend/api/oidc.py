"""Users of an OpenID Connect issuer: their tokens are checked with the issuer itself."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Sequence
from typing import Any

from openeo_cloudmask.backend.api.errors import ApiError

PROVIDER_ID = "oidc"
_TIMEOUT_S = 10
_CACHE_S = 60.0
_AT_A_TIME = 8
"""Requests to the issuer; more of them would keep other requests waiting for threads."""


class OidcIssuer:
    """Asks the issuer's userinfo endpoint whose token it is; answers are kept for a minute.

    A token counts only if it was given to one of ``clients``: otherwise any application that the
    user logs in to could act here in the user's name. It has to say so itself, as JSON Web Tokens
    do; what it says is believed because the issuer has accepted that very token.

    Args:
        issuer: its address.
        clients: ids of the applications whose tokens are accepted.
    """

    def __init__(self, issuer: str, clients: Sequence[str]) -> None:
        self.issuer = issuer.rstrip("/")
        self._clients = tuple(clients)
        self._endpoint: str | None = None
        self._seen: dict[str, tuple[float, tuple[str, str] | ApiError]] = {}
        self._lock = threading.Lock()
        self._asking = threading.BoundedSemaphore(_AT_A_TIME)

    def check_token(self, token: str) -> tuple[str, str]:
        """Return (subject, name) of a token's user.

        Raises:
            ApiError: the issuer does not know the token, or cannot be reached.
        """
        digest = hashlib.sha256(token.encode()).hexdigest()
        with self._lock:
            cached = self._seen.get(digest)
        if cached is not None and cached[0] > time.monotonic():
            found = cached[1]
        else:
            found = self._ask(token)
            with self._lock:
                if len(self._seen) > 10_000:
                    self._seen.clear()
                self._seen[digest] = (time.monotonic() + _CACHE_S, found)
        if isinstance(found, ApiError):
            raise ApiError(found.code, str(found))
        return found

    def _ask(self, token: str) -> tuple[str, str] | ApiError:
        """Return subject and name, or why the token is refused; other errors are raised."""
        claims = _claims(token)
        named = {claims.get("azp"), claims.get("client_id"), *_as_list(claims.get("aud"))}
        if not named & set(self._clients):
            return ApiError(
                "TokenInvalid",
                "the token was not given to an application of this server; log in with one of "
                f"the clients {', '.join(self._clients)}",
            )
        if not self._asking.acquire(timeout=_TIMEOUT_S):
            raise ApiError("InfrastructureBusy", "too many logins at a time; try again shortly")
        try:
            info = self._get(self._userinfo_endpoint(), {"Authorization": f"Bearer {token}"})
        except ApiError as err:
            if err.code != "TokenInvalid":
                raise
            return err
        finally:
            self._asking.release()
        subject = info.get("sub")
        if not isinstance(subject, str) or not subject or claims.get("sub", subject) != subject:
            return ApiError("TokenInvalid", "the issuer's answer names no user, or another one")
        return subject, str(info.get("preferred_username") or info.get("name") or subject)

    def describe(self) -> dict[str, Any]:
        """Return the provider as ``GET /credentials/oidc`` lists it."""
        return {
            "id": PROVIDER_ID,
            "issuer": self.issuer,
            "title": "OpenID Connect",
            "scopes": ["openid", "profile"],
        }

    def _userinfo_endpoint(self) -> str:
        if self._endpoint is None:
            found = self._get(f"{self.issuer}/.well-known/openid-configuration", {})
            if str(found.get("issuer", "")).rstrip("/") != self.issuer:
                raise ApiError(
                    "InfrastructureBusy", "the OpenID Connect issuer calls itself something else"
                )
            endpoint = found.get("userinfo_endpoint")
            if not isinstance(endpoint, str):
                raise ApiError("InfrastructureBusy", "the OpenID Connect issuer has no userinfo")
            self._endpoint = endpoint
        return self._endpoint

    def _get(self, url: str, headers: dict[str, str]) -> dict[str, Any]:
        import requests

        try:
            answer = requests.get(url, headers=headers, timeout=_TIMEOUT_S, allow_redirects=False)
        except requests.RequestException as err:
            raise ApiError(
                "InfrastructureBusy", "the OpenID Connect issuer cannot be reached"
            ) from err
        if answer.status_code in (401, 403):
            raise ApiError("TokenInvalid", "the OpenID Connect token is unknown or has expired")
        if answer.status_code != 200:
            raise ApiError("InfrastructureBusy", "the OpenID Connect issuer does not answer")
        try:
            found: dict[str, Any] = answer.json()
        except ValueError as err:
            raise ApiError(
                "InfrastructureBusy", "the OpenID Connect issuer's answer is no JSON"
            ) from err
        return found


def _claims(token: str) -> dict[str, Any]:
    """Return the claims of a JSON Web Token, unchecked; empty where the text is no such token."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _as_list(value: object) -> list[str]:
    found = value if isinstance(value, list) else [value]
    return [item for item in found if isinstance(item, str)]
