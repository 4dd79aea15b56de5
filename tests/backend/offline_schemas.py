"""A pytest plugin for the public openEO test suite where there is no network.

The suite checks collections with ``stac-validator``, which downloads JSON schemas. This plugin
answers those downloads from files: ``STAC_SCHEMAS`` names a folder with ``collection.json`` and the
other core schemas of STAC 1.1.0 (pystac ships them) and ``EO_SCHEMA`` the schema of the eo
extension. Schemas that are in neither are taken as ``{}``, which every object fits; their names are
printed, so that nobody takes them for checked.
"""

from __future__ import annotations

import io
import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import requests

_real_get = requests.get
_real_open = urllib.request.urlopen
_missing: set[str] = set()


def _find(url: str) -> dict[str, Any] | None:
    folder = Path(os.environ["STAC_SCHEMAS"])
    name = url.split("#", maxsplit=1)[0].rsplit("/", 1)[-1]
    if "schemas.stacspec.org" in url or "geojson.org" in url:
        found = sorted(folder.rglob(name))
        return json.loads(found[0].read_text()) if found else None
    if "/eo/" in url and "EO_SCHEMA" in os.environ:
        return json.loads(Path(os.environ["EO_SCHEMA"]).read_text())
    return None


class _Answer:
    status_code = 200

    def __init__(self, body: dict[str, Any]) -> None:
        self._body = body
        self.text = json.dumps(body)

    def json(self) -> dict[str, Any]:
        return self._body

    def raise_for_status(self) -> None:
        return


def _get(url: str, *args: Any, **options: Any) -> Any:
    if "schema" not in url or "127.0.0.1" in url:
        return _real_get(url, *args, **options)
    found = _find(url)
    if found is None:
        _missing.add(url)
    return _Answer(found or {})


def _open(request: Any, *args: Any, **options: Any) -> Any:
    url = request if isinstance(request, str) else request.full_url
    found = _find(url)
    if found is None:
        return _real_open(request, *args, **options)
    return io.BytesIO(json.dumps(found).encode())


def pytest_configure() -> None:
    requests.get = _get  # type: ignore[assignment]
    urllib.request.urlopen = _open  # type: ignore[assignment]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for url in sorted(_missing):
        terminalreporter.write_line(f"not checked, no schema available: {url}")
