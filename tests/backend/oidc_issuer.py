"""A small OpenID Connect issuer on loopback, for tests: client credentials, device flow, userinfo.

Run it as ``python tests/backend/oidc_issuer.py PORT``; every client id and secret is accepted. In
the device flow, whoever opens the page with the code lets the device act as ``DEVICE_USER``.
"""

from __future__ import annotations

import base64
import json
import secrets
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
DEVICE_USER = "dora"


def make_token(user: str, client: str) -> str:
    """Return a token with the form of a JSON Web Token; its signature is anything."""
    parts = ({"alg": "none"}, {"sub": user, "azp": client})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return ".".join(part.rstrip("=") for part in (*encoded, secrets.token_urlsafe(16)))


class _Handler(BaseHTTPRequestHandler):
    tokens: ClassVar[dict[str, str]] = {}
    devices: ClassVar[dict[str, bool]] = {}
    """Code of a device -> whether its user has allowed it; the user types the same code."""

    def do_GET(self) -> None:
        if self.path.startswith("/.well-known/openid-configuration"):
            base = f"http://{self.headers['Host']}"
            self._answer(
                {
                    "issuer": self.server.calls_itself or base,  # type: ignore[attr-defined]
                    "token_endpoint": f"{base}/token",
                    "userinfo_endpoint": f"{base}/userinfo",
                    "authorization_endpoint": f"{base}/authorize",
                    "device_authorization_endpoint": f"{base}/device-code",
                    "grant_types_supported": ["client_credentials", DEVICE_GRANT],
                    "scopes_supported": ["openid", "profile"],
                }
            )
        elif self.path == "/userinfo":
            self.server.asked += 1  # type: ignore[attr-defined]
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if token in self.tokens:
                self._answer({"sub": self.tokens[token], "name": self.tokens[token]})
            else:
                self._answer({"error": "invalid_token"}, 401)
        elif self.path.startswith("/device?"):
            code = parse_qs(urlsplit(self.path).query)["user_code"][0]
            known = code in self.devices
            self.devices.update({code: True} if known else {})
            self._answer({}, 200 if known else 404)
        else:
            self._answer({}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        form = {key: values[0] for key, values in parse_qs(body).items()}
        if self.path == "/device-code":
            self._begin_device(form)
        elif form.get("grant_type") == DEVICE_GRANT and not self.devices.get(form["device_code"]):
            self._answer({"error": "authorization_pending"}, 400)
        elif form.get("grant_type") == DEVICE_GRANT:
            del self.devices[form["device_code"]]
            self._give_token(DEVICE_USER, form.get("client_id", ""))
        else:
            self._give_token(form.get("client_id", "somebody"), form.get("client_id", ""))

    def _begin_device(self, form: dict[str, str]) -> None:
        if not form.get("client_id"):
            self._answer({"error": "invalid_client"}, 401)
            return
        code = secrets.token_hex(4)
        self.devices[code] = False
        page = f"http://{self.headers['Host']}/device"
        self._answer(
            {
                "device_code": code,
                "user_code": code,
                "verification_uri": page,
                "verification_uri_complete": f"{page}?user_code={code}",
                "expires_in": 300,
                "interval": 1,
            }
        )

    def _give_token(self, user: str, client: str) -> None:
        token = make_token(user, client)
        self.tokens[token] = user
        self._answer({"access_token": token, "token_type": "Bearer", "expires_in": 3600})

    def _answer(self, body: dict[str, object], status: int = 200) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        return


def make_server(port: int = 0) -> ThreadingHTTPServer:
    """Return a server that is not serving yet."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    server.calls_itself = None  # type: ignore[attr-defined]
    server.asked = 0  # type: ignore[attr-defined]
    return server


if __name__ == "__main__":
    make_server(int(sys.argv[1])).serve_forever()
