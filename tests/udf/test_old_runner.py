"""The same file through openeo_udf 1.0.0rc3, the package that openeo.udf came from.

It needs ``pkg_resources``, so a Python environment of its own: ``tests/udf/make_old_runner.sh``
makes one in ``.venv/openeo-udf``, or ``OPENEO_UDF_PYTHON`` names the interpreter of another.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from openeo_cloudmask import assets
from openeo_cloudmask.datacube import mask_datacube
from openeo_cloudmask.options import MaskOptions

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import json, sys
import numpy
import xarray
from openeo_udf.api.datacube import DataCube
from openeo_udf.api.run_code import run_user_code
from openeo_udf.api.udf_data import UdfData
given = json.loads(sys.stdin.read())
cube = DataCube.from_dict(given["cube"])
cube.set_array(cube.get_array().astype("float32"))
data = UdfData(datacube_list=[cube])
data.user_context = given["context"]
result = run_user_code(open(given["udf"]).read(), data).get_datacube_list()[0]
assert type(result) is DataCube
print("RESULT" + json.dumps(result.to_dict()))
"""


@pytest.fixture
def old_python() -> str:
    """Return an interpreter that has openeo_udf, or skip."""
    own = ROOT / ".venv" / "openeo-udf" / "bin" / "python"
    python = os.environ.get("OPENEO_UDF_PYTHON") or (str(own) if own.exists() else "")
    if not python:
        pytest.skip("openeo_udf 1.0.0rc3 is not installed (sh tests/udf/make_old_runner.sh)")
    return python


@pytest.mark.parametrize("context", [{}, {"categorise": False, "output_style": "valid-invalid"}])
def test_old_runner_gives_the_same_mask(
    make_cube: Callable[..., xr.DataArray], old_python: str, context: dict[str, object]
) -> None:
    cube = make_cube(12, 14)
    stored = {
        "id": "scene",
        "data": cube.to_numpy().tolist(),
        "dimensions": [
            {"name": str(axis), "coordinates": cube[axis].to_numpy().tolist()} for axis in cube.dims
        ],
    }
    given = {
        "cube": stored,
        "context": {"model": "hollstein", **context},
        "udf": str(assets.path("udf/cloud_mask.py")),
    }
    done = subprocess.run(
        [old_python, "-W", "ignore", "-c", SCRIPT],
        input=json.dumps(given),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    answer = json.loads(line.removeprefix("RESULT"))
    expected = mask_datacube(cube, MaskOptions(model="hollstein", **context))  # type: ignore[arg-type]
    np.testing.assert_array_equal(answer["data"], expected)
    [bands] = [item for item in answer["dimensions"] if item["name"] == "bands"]
    assert bands["coordinates"] == expected.bands.to_numpy().tolist()
