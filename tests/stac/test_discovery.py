"""A script that knows only the catalog picks a model and runs it with openEO."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import rasterio
import xarray as xr

from openeo_cloudmask.datacube import mask_datacube
from openeo_cloudmask.options import MaskOptions

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "docs" / "examples" / "pick_a_model.py"
BANDS = ("B01", "B02", "B03", "B05", "B06", "B07", "B8A", "B09", "B11")
WANTED = ["--sensor", "sentinel-2-l2a", "--bands", *BANDS, "--commercial"]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def catalog_url(catalog: Path) -> Iterator[str]:
    """Serve the static catalog as any web server would."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(catalog)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/catalog.json"
    server.shutdown()
    thread.join(timeout=10)
    server.server_close()


@pytest.fixture
def cube() -> xr.DataArray:
    numbers = np.random.default_rng(7)
    return xr.DataArray(
        numbers.uniform(0, 0.6, (1, len(BANDS), 48, 64)).astype(np.float32),
        dims=("t", "bands", "y", "x"),
        coords={
            "t": np.array(["2021-09-08"], "datetime64[ns]"),
            "bands": list(BANDS),
            "y": 5_000_000.0 - 10 * np.arange(48),
            "x": 600_000.0 + 10 * np.arange(64),
        },
    )


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={
            "PYTHONPATH": str(ROOT),
            "PATH": "/usr/bin:/bin",
            "OMP_NUM_THREADS": "1",
            "HOME": os.environ.get("HOME", "/"),
            **environment,
        },
    )


def test_the_script_imports_nothing_of_this_package() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    assert "openeo_cloudmask" not in text


@pytest.mark.slow
def test_the_graph_from_the_catalog_alone_makes_the_mask(
    catalog_url: str, cube: xr.DataArray
) -> None:
    pytest.importorskip("openeo_pg_parser_networkx")
    from openeo_cloudmask.backend import run_local

    answer = _run(catalog_url, *WANTED, "--collection", "SCENE")
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.startswith("hollstein (Apache-2.0)")
    graph = json.loads(answer.stdout)
    mask = run_local(graph, {"SCENE": cube})
    options = MaskOptions(model="hollstein", sensor="sentinel-2-l2a")
    np.testing.assert_array_equal(mask, mask_datacube(cube, options))
    assert len(np.unique(mask)) > 1


@pytest.mark.slow
def test_the_function_from_the_catalog_runs_on_a_file(
    catalog: Path, cube: xr.DataArray, tmp_path: Path
) -> None:
    source, target = tmp_path / "cube.nc", tmp_path / "mask.nc"
    cube.to_netcdf(source)
    answer = _run(
        str(catalog / "catalog.json"), *WANTED, "--cube", str(source), "--out", str(target)
    )
    assert answer.returncode == 0, answer.stderr
    mask = xr.load_dataarray(target)
    options = MaskOptions(model="hollstein", sensor="sentinel-2-l2a")
    np.testing.assert_array_equal(mask, mask_datacube(cube, options))


@pytest.mark.slow
def test_the_back_end_runs_what_its_own_catalog_says(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    pytest.importorskip("fastapi")
    from tests.backend.conftest import PASSWORD, Server, ingest, write_scene

    server = Server(tmp_path / "data")
    server.run("users", "add", "ann")
    ingest(write_scene(tmp_path / "scene.tif", shape_yx=(64, 80)), server.data_dir)
    try:
        server.start("--workers", "1")
        answer = _run(
            f"{server.url}/stac/",
            *("--sensor", "sentinel-2-l1c", "--bands", *BANDS, "B10"),
            *("--backend", server.url, "--collection", "S2", "--user", "ann"),
            *("--out", str(tmp_path / "out")),
            OPENEO_PASSWORD=PASSWORD,
        )
    finally:
        server.stop()
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.startswith("hollstein (Apache-2.0)")
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["job-results.json", "openEO_2024-05-01.tif"]
    results = json.loads((tmp_path / "out" / "job-results.json").read_text(encoding="utf-8"))
    items = [link["href"] for link in results["links"] if link["rel"] == "item"]
    assert [Path(urlsplit(href).path).name for href in items] == ["openEO_2024-05-01.json"]
    with rasterio.open(tmp_path / "out" / "openEO_2024-05-01.tif") as mask:
        assert mask.tags()["MODEL"] == "hollstein"


def test_nothing_fits_what_no_model_takes(catalog: Path) -> None:
    answer = _run(str(catalog / "catalog.json"), "--sensor", "sentinel-2-l2a", "--bands", "B09")
    assert answer.returncode == 1
    assert "no model takes the bands ['B09'] of sentinel-2-l2a" in answer.stderr


def test_snippets_of_the_guide_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = (ROOT / "docs" / "stac.md").read_text(encoding="utf-8")
    snippets = [part.split("```")[0] for part in guide.split("```python\n")[1:]]
    monkeypatch.chdir(ROOT)
    local = [text for text in snippets if "catalog/" in text]
    assert len(local) == 2
    for text in local:
        exec(compile(text, "stac.md", "exec"), {})
    assert "ukis-csmask Apache-2.0" in capsys.readouterr().out
