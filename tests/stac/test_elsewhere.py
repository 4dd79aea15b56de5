"""Packages of others read a published catalog; stac-model is in test_catalog.py."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from openeo_cloudmask.models import MODELS, get_model
from openeo_cloudmask.models.onnx_detector import packaged_onnx
from openeo_cloudmask.models.weights import sha256_of
from openeo_cloudmask.stac.catalog import plan_catalog, write_catalog

pytestmark = pytest.mark.slow  # imports of four packages

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("mini", "hollstein", "cloudsen12l2a")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    own = ROOT / ".venv" / "stac-readers" / "bin" / "python"
    python = os.environ.get("STAC_READERS_PYTHON") or (str(own) if own.exists() else "")
    if not python:
        pytest.skip("mlstac, openeo-core and rustac are not there (sh tests/stac/make_readers.sh)")
    pytest.importorskip("torch")  # the networks' parameters are counted
    folder, out = tmp_path_factory.mktemp("catalog"), tmp_path_factory.mktemp("out")
    serve = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        write_catalog(folder, plan_catalog({name: MODELS[name] for name in NAMES}, url=url))
        script = ROOT / "tests" / "stac" / "read_elsewhere.py"
        answer = subprocess.run(
            [python, script, folder, url, out], capture_output=True, text=True, check=False
        )
        server.shutdown()
    assert answer.returncode == 0, answer.stderr
    read: dict[str, Any] = json.loads((out / "found.json").read_text())
    return read


def test_mlstac_downloads_a_network_that_onnxruntime_runs(found: dict[str, Any]) -> None:
    read, entry = found["mlstac"], get_model("mini")
    assert read["id"] == "mini"
    assert read["checksum"] == read["said"] == "1220" + sha256_of(packaged_onnx(entry))
    assert read["classes"] == len(entry.scheme.classes)


def test_openeo_core_reads_what_a_model_is(found: dict[str, Any]) -> None:
    assert "name='mini'" in found["openeo-core"]["text"]
    assert "framework='ONNX'" in found["openeo-core"]["text"]


def test_rustac_writes_and_reads_geoparquet(found: dict[str, Any]) -> None:
    assert found["rustac"]["ids"] == sorted(NAMES)
