"""A pytest plugin for APEx's own checks: addresses answer without a network.

The published process answers at its own address, as it lies in this tree; all others answer 200.
"""

from __future__ import annotations

from typing import Any

import pytest
import requests

from openeo_cloudmask import assets


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(url: str, **_: Any) -> requests.Response:
        found = requests.Response()
        found.status_code, found.url = 200, url
        if url.endswith("/udf/cloud_mask.json"):
            found._content = assets.path("udf/cloud_mask.json").read_bytes()
        return found

    monkeypatch.setattr(requests, "head", answer)
    monkeypatch.setattr(requests, "get", answer)
