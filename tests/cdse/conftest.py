"""The twin's Python, scenes, bundles, and a function that runs a graph there."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from openeo_cloudmask.models import get_model

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
GOLDEN = ROOT / "tests" / "data" / "golden"
BUNDLE_URL = "https://example.org/bundle.zip"
STEP_M = 10
WEST, NORTH = 300_000, 5_000_000
L1C = "sentinel-2-l1c"


@pytest.fixture(scope="session")
def twin_python() -> str:
    """Return the interpreter of the twin, or skip."""
    own = ROOT / ".venv" / "cdse"
    made = str(own / "bin" / "python") if (own / "ready").exists() else ""
    python = os.environ.get("CDSE_TWIN_PYTHON") or made
    if not python:
        pytest.skip("the twin of CDSE is not installed (sh tests/cdse/make_twin.sh)")
    return python


@pytest.fixture(scope="session")
def twin_environment(twin_python: str) -> dict[str, str]:
    """Return the environment of the twin's processes; this package is not to be found there."""
    place = (
        "import importlib.util as i; print(i.find_spec('pyspark').submodule_search_locations[0])"
    )
    found = subprocess.run([twin_python, "-c", place], capture_output=True, text=True, check=True)
    return {"PATH": os.environ["PATH"], "SPARK_HOME": found.stdout.strip()}


@dataclass(frozen=True)
class Answer:
    pixels: np.ndarray
    """(t, band, y, x) float32, NaN where no tile has an answer."""
    bands: list[str]
    workers: list[dict[str, Any]]


@pytest.fixture
def run_on_twin(
    twin_python: str, twin_environment: dict[str, str], tmp_path: Path
) -> Callable[..., Answer]:
    """Return a function that evaluates a graph on the twin, over a cube that is there."""

    def run(
        graph: dict[str, Any],
        cube: xr.DataArray,
        job_options: dict[str, Any],
        bundle: Path,
        *,
        decode: str = "protobuf",
        **more: Any,
    ) -> Answer:
        executor = tmp_path / "executor"
        executor.mkdir(exist_ok=True)
        np.save(tmp_path / "pixels.npy", cube.transpose("t", "bands", "y", "x"))
        request = {
            "graph": graph,
            "pixels": str(tmp_path / "pixels.npy"),
            "bands": cube.bands.to_numpy().tolist(),
            "epsg": 32631,
            "west": WEST,
            "north": NORTH,
            "step": STEP_M,
            "job_options": job_options,
            "served": {BUNDLE_URL: str(bundle)},
            "executor": str(executor),
            "decode": decode,
            "answer": str(tmp_path / "answer.npy"),
            **more,
        }
        (tmp_path / "request.json").write_text(json.dumps(request))
        done = subprocess.run(
            [twin_python, "-W", "ignore", str(HERE / "backend.py"), str(tmp_path / "request.json")],
            env=twin_environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-4000:])
        said = json.loads(done.stdout.splitlines()[-1])
        return Answer(np.load(tmp_path / "answer.npy"), **said)

    return run


@pytest.fixture
def make_scene() -> Callable[..., xr.DataArray]:
    """Return a function that makes (t, bands, y, x) float32 counts, reflectance times 10000.

    Two dates with patches as bright as clouds and as dark as shadows; a corner of the second was
    not seen.
    """

    def make(model: str, height: int, width: int, *, dates: int = 2) -> xr.DataArray:
        bands = get_model(model).inputs[L1C]
        rng = np.random.default_rng(7)
        blocks = rng.random((dates, len(bands), -(-height // 20), -(-width // 20)))
        pixels = np.kron(blocks, np.ones((20, 20)))[:, :, :height, :width] * 0.6
        pixels += 0.02 * rng.random(pixels.shape)
        counts = np.round(pixels * 10_000).astype(np.float32)
        counts[dates - 1, :, : height // 3, : width // 4] = np.nan
        days = np.array(["2026-06-01", "2026-06-06"], "datetime64[ns]")[:dates]
        return xr.DataArray(
            counts,
            dims=("t", "bands", "y", "x"),
            coords={
                "t": days,
                "bands": list(bands),
                "y": NORTH - STEP_M * (np.arange(height) + 0.5),
                "x": WEST + STEP_M * (np.arange(width) + 0.5),
            },
        )

    return make


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that exports a model, cloudsen12 with the golden weights."""
    torch = pytest.importorskip("torch")
    from openeo_cloudmask.models import build_network
    from openeo_cloudmask.models.onnx_export import export_onnx

    folder = tmp_path_factory.mktemp("exported")

    def export(model: str) -> Path:
        path = folder / f"{model}.onnx"
        if not path.exists():
            weights = None
            if model == "cloudsen12":
                spec = importlib.util.spec_from_file_location("fill", GOLDEN / "fill.py")
                fill = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(fill)
                network = build_network("unet-mobilenet-v2", {"bands": 13, "classes": 4})
                fill.fill_state_dict(network)
                with np.load(GOLDEN / "unet_mobilenet_v2_13bands.npz") as file:
                    bias = torch.from_numpy(file["head_bias"])
                network.segmentation_head[0].bias.data.copy_(bias)
                weights = folder / "golden.pt"
                torch.save(network.state_dict(), weights)
            export_onnx(model, path, weights=weights)
        return path

    return export


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Return a function that unpacks a bundle."""

    def unpack(bundle: Path) -> Path:
        folder = tmp_path_factory.mktemp("unpacked")
        with zipfile.ZipFile(bundle) as archive:
            archive.extractall(folder)
        return folder

    return unpack
