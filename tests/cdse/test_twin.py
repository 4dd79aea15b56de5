"""What is sent to the Copernicus Data Space, run on its twin: graphs, job options, bundles.

The twin has that back end's packages in its versions, openeo-driver, geopyspark's reading of tiles
and pyspark's limit of memory; see `backend.py` and `worker.py`. `make_twin.sh` sets it up.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openeo
import pytest
import xarray as xr

from openeo_cloudmask import cloud_mask
from openeo_cloudmask.classes import NODATA
from openeo_cloudmask.datacube import mask_datacube, output_labels
from openeo_cloudmask.inference import Detector
from openeo_cloudmask.models import load_detector
from openeo_cloudmask.openeo.bundle import write_bundle
from openeo_cloudmask.openeo.client import to_uint8
from openeo_cloudmask.openeo.jobs import job_options
from openeo_cloudmask.openeo.udp import build_udp
from openeo_cloudmask.options import MaskOptions

from .conftest import BUNDLE_URL, HERE, L1C, ROOT, Answer

# Each starts the twin in a process of its own.
pytestmark = pytest.mark.slow

SCALE = 0.0001


def collection() -> openeo.DataCube:
    return openeo.DataCube.load_collection("TWIN", connection=None, fetch_metadata=False)


def by_onnx(model: str, **options: Any) -> Detector:
    """Load as the twin does, which has no other runtime: they differ in the last digit."""
    return load_detector(model, **(options | {"runtime": "onnx"}))


def check(
    answer: Answer,
    cube: xr.DataArray,
    options: MaskOptions,
    load: Callable[..., Detector] = load_detector,
) -> None:
    """See that the twin's answer is the mask of the whole cube, bit for bit."""
    whole = mask_datacube(cube, options, load=load)
    assert answer.bands == list(output_labels(options)) == whole.bands.to_numpy().tolist()
    nodata = whole.to_numpy() == NODATA
    assert nodata.any()
    assert not nodata.all()
    if options.categorise:
        assert len(np.unique(whole.to_numpy()[~nodata])) > 1
    np.testing.assert_array_equal(answer.pixels, whole.transpose("t", "bands", "y", "x"))


@pytest.fixture
def tree_bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle.zip", model="hollstein", python_version="3.11").path


def test_tiles_are_encoded_as_geopyspark_does(
    twin_python: str, twin_environment: dict[str, str]
) -> None:
    code = """
import numpy as np, tiles
from geopyspark.geotrellis import Tile
from geopyspark.geotrellis.protobufcodecs import multibandtile_decoder, to_pb_multibandtile
cells = np.random.default_rng(0).random((3, 20, 30), np.float32)
cells[1, 2, 3] = np.nan
ours = tiles.encode(cells)
assert ours == to_pb_multibandtile(Tile(cells, "FLOAT", None)).SerializeToString()
np.testing.assert_array_equal(multibandtile_decoder(ours).cells, cells)
np.testing.assert_array_equal(tiles.decode(ours, cells.shape), cells)
"""
    command = [twin_python, "-W", "ignore", "-c", code]
    environment = {**twin_environment, "PYTHONPATH": str(HERE)}
    subprocess.run(command, env=environment, check=True, timeout=120)


@pytest.mark.parametrize(
    "more", [{}, {"categorise": False, "output_style": "native"}], ids=["classes", "percentages"]
)
def test_decision_tree(
    run_on_twin: Callable[..., Answer],
    make_scene: Callable[..., xr.DataArray],
    tree_bundle: Path,
    more: dict[str, Any],
) -> None:
    cube = make_scene("hollstein", 80, 300)
    mask = cloud_mask(collection(), model="hollstein", sensor=L1C, scale=SCALE, **more)
    options = job_options(BUNDLE_URL, model="hollstein")
    answer = run_on_twin(mask.flat_graph(), cube, options, tree_bundle)
    check(answer, cube, MaskOptions(model="hollstein", sensor=L1C, scale=SCALE, **more))
    for worker in answer.workers:
        assert worker["peak_mebibytes"] < float(options["python-memory"][:-1])


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "by-url"])
def test_user_defined_process(
    run_on_twin: Callable[..., Answer],
    make_scene: Callable[..., xr.DataArray],
    tree_bundle: Path,
    tmp_path: Path,
    stored: bool,  # noqa: FBT001 - a case
) -> None:
    process = build_udp(model="hollstein")
    cube = make_scene("hollstein", 60, 80, dates=1)
    (tmp_path / "process.json").write_text(json.dumps(process))
    where = {"stored": [process]} if stored else {"by_url": str(tmp_path)}
    namespace = None if stored else "{server}/process.json"
    mask = collection().process(
        process["id"], {"data": collection(), "scale": SCALE, "sensor": L1C}, namespace=namespace
    )
    options = job_options(BUNDLE_URL, model="hollstein")
    answer = run_on_twin(mask.flat_graph(), cube, options, tree_bundle, **where)
    check(answer, cube, MaskOptions(model="hollstein", sensor=L1C, scale=SCALE))


def test_what_follows_the_mask(
    run_on_twin: Callable[..., Answer],
    make_scene: Callable[..., xr.DataArray],
    tree_bundle: Path,
) -> None:
    cube = make_scene("hollstein", 40, 50, dates=1)
    options = job_options(BUNDLE_URL, model="hollstein")
    data = collection()
    mask = cloud_mask(data, model="hollstein", scale=SCALE)
    for graph in (data.mask(mask.band("mask") > 0), to_uint8(mask)):
        answer = run_on_twin(graph.flat_graph(), cube, options, tree_bundle)
        assert answer.pixels.shape[2:] == (40, 50)


def test_the_limit_is_a_limit(
    run_on_twin: Callable[..., Answer],
    make_scene: Callable[..., xr.DataArray],
    tree_bundle: Path,
) -> None:
    graph = cloud_mask(collection(), model="hollstein", scale=SCALE).flat_graph()
    cube = make_scene("hollstein", 40, 50, dates=1)
    options = job_options(BUNDLE_URL, model="hollstein")
    narrow = {**options, "python-memory": "300m"}
    with pytest.raises(RuntimeError, match="the worker ended"):
        run_on_twin(graph, cube, narrow, tree_bundle)


def test_a_header_with_dependencies_would_stop_the_job(
    run_on_twin: Callable[..., Answer],
    make_scene: Callable[..., xr.DataArray],
    tree_bundle: Path,
) -> None:
    graph = cloud_mask(collection(), model="hollstein", scale=SCALE).flat_graph()
    [run] = graph["applyneighborhood1"]["arguments"]["process"]["process_graph"].values()
    header = '# /// script\n# dependencies = ["openeo-cloudmask"]\n'
    run["arguments"]["udf"] = run["arguments"]["udf"].replace("# /// script\n", header)
    cube = make_scene("hollstein", 40, 50, dates=1)
    with pytest.raises(RuntimeError, match="no index answers"):
        run_on_twin(graph, cube, job_options(BUNDLE_URL, model="hollstein"), tree_bundle)


def test_the_udf_needs_numpy_and_xarray_alone(
    twin_python: str,
    twin_environment: dict[str, str],
    tree_bundle: Path,
    unpacked: Callable[[Path], Path],
) -> None:
    code = """
import sys
for name in ("rasterio", "scipy", "pyproj", "torch", "openeo", "pystac", "requests", "yaml"):
    sys.modules[name] = None  # importing it fails
import numpy as np, xarray as xr
assert (xr.__version__, np.__version__[:2]) == ("2024.7.0", "2.")
from openeo_cloudmask.datacube import mask_datacube
from openeo_cloudmask.options import MaskOptions
bands = ["B01", "B02", "B03", "B05", "B06", "B07", "B8A", "B09", "B10", "B11"]
values = np.random.default_rng(0).random((10, 8, 9), np.float32)
cube = xr.DataArray(values, dims=("bands", "y", "x"), coords={"bands": bands})
assert mask_datacube(cube, MaskOptions(model="hollstein")).shape == (1, 8, 9)
"""
    environment = {**twin_environment, "PYTHONPATH": str(unpacked(tree_bundle))}
    subprocess.run([twin_python, "-c", code], env=environment, check=True, timeout=120)


@pytest.mark.slow
def test_the_job_as_the_docs_write_it(
    run_on_twin: Callable[..., Answer], make_scene: Callable[..., xr.DataArray], tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "openeo.md").read_text(encoding="utf-8")
    command = "$ cloudmask bundle bundle.zip --python-version 3.11\n"
    step = 'mask = cloud_mask(cube, sensor="sentinel-2-l1c", scale=0.0001)\n'
    assert command in page
    assert step in page
    assert 'options = job_options("https://example.org/bundle.zip")\n' in page
    bundle = write_bundle(tmp_path / "bundle.zip", python_version="3.11")
    assert bundle.size_bytes < 100e6
    cube = make_scene("mini", 120, 200, dates=1)
    names: dict[str, Any] = {
        "cloud_mask": partial(cloud_mask, precision="fp32"), "cube": collection(),
    }  # fmt: skip
    exec(step, names)
    options = job_options(BUNDLE_URL)
    answer = run_on_twin(names["mask"].flat_graph(), cube, options, bundle.path)
    same = MaskOptions(model="mini", precision="fp32", sensor=L1C, scale=SCALE)
    check(answer, cube, same, by_onnx)
    [worker] = answer.workers
    assert worker["peak_mebibytes"] < float(options["python-memory"][:-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "side", "decode"),
    [
        ("cloudsen12", (120, 1060), "numpy"),
        ("ukis-csmask", (120, 1060), "numpy"),
    ],
)
def test_networks_by_onnx(
    run_on_twin: Callable[..., Answer],
    make_scene: Callable[..., xr.DataArray],
    exported: Callable[[str], Path],
    tmp_path: Path,
    model: str,
    side: tuple[int, int],
    decode: str,
) -> None:
    weights = None if model == "ukis-csmask" else exported(model)
    bundle = write_bundle(
        tmp_path / "bundle.zip", model=model, weights=weights, python_version="3.11"
    )
    cube = make_scene(model, *side, dates=1)
    more = {"model": model, "sensor": L1C, "scale": SCALE}
    mask = cloud_mask(collection(), weights=bundle.weights, **more)
    options = job_options(BUNDLE_URL, model=model, runtime=bundle.runtime)
    answer = run_on_twin(mask.flat_graph(), cube, options, bundle.path, decode=decode)
    same = MaskOptions(weights=weights and str(weights), **more)
    check(answer, cube, same, by_onnx if weights else load_detector)
    [worker] = answer.workers
    assert worker["peak_mebibytes"] < float(options["python-memory"][:-1])
    if model != "ukis-csmask":  # its package brings four networks, 145 MB
        assert bundle.size_bytes < 100e6
