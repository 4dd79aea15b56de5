"""A small OpenID Connect issuer on loopback, for tests: client credentials and userinfo.

Run it as ``python tests/backend/oidc_issuer.py PORT``; every client id and secret is accepted.
"""

from __future__ import annotations

import json
import secrets
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs


class _Handler(BaseHTTPRequestHandler):
    tokens: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        if self.path.startswith("/.well-known/openid-configuration"):
            base = f"http://{self.headers['Host']}"
            self._answer(
                {
                    "issuer": base,
                    "token_endpoint": f"{base}/token",
                    "userinfo_endpoint": f"{base}/userinfo",
                    "authorization_endpoint": f"{base}/authorize",
                    "grant_types_supported": ["client_credentials"],
                    "scopes_supported": ["openid", "profile"],
                }
            )
        elif self.path == "/userinfo":
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if token in self.tokens:
                self._answer({"sub": self.tokens[token], "name": self.tokens[token]})
            else:
                self._answer({"error": "invalid_token"}, 401)
        else:
            self._answer({}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        form = {key: values[0] for key, values in parse_qs(body).items()}
        token = secrets.token_urlsafe(16)
        self.tokens[token] = form.get("client_id", "somebody")
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
    return ThreadingHTTPServer(("127.0.0.1", port), _Handler)


if __name__ == "__main__":
    make_server(int(sys.argv[1])).serve_forever()
