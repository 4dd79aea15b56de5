"""Users of an OpenID Connect issuer: their tokens are checked with the issuer itself."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.jobs.clock import now_s

PROVIDER_ID = "oidc"
_TIMEOUT_S = 10
_CACHE_S = 60.0


class OidcIssuer:
    """Asks the issuer's userinfo endpoint whose token it is; answers are kept for a minute."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer.rstrip("/")
        self._endpoint: str | None = None
        self._seen: dict[str, tuple[float, str, str]] = {}
        self._lock = threading.Lock()

    def check_token(self, token: str) -> tuple[str, str]:
        """Return (subject, name) of a token's user.

        Raises:
            ApiError: the issuer does not know the token, or cannot be reached.
        """
        digest = hashlib.sha256(token.encode()).hexdigest()
        with self._lock:
            cached = self._seen.get(digest)
        if cached is not None and cached[0] > now_s():
            return cached[1], cached[2]
        info = self._get(self._userinfo_endpoint(), {"Authorization": f"Bearer {token}"})
        subject = info.get("sub")
        if not isinstance(subject, str) or not subject:
            raise ApiError("TokenInvalid", "the issuer's answer names no user")
        name = str(info.get("preferred_username") or info.get("name") or subject)
        with self._lock:
            if len(self._seen) > 10_000:
                self._seen.clear()
            self._seen[digest] = (now_s() + _CACHE_S, subject, name)
        return subject, name

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
