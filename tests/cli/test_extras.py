"""What needs an extra says which, where none is installed."""

import importlib.util
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from openeo_cloudmask.errors import install_command

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = (
    "torch", "onnx", "onnxscript", "h5netcdf", "h5py", "ukis_csmask", "s2cloudless",
    "lightgbm", "alembic", "distributed", "dask", "fastapi", "uvicorn", "openeo_pg_parser_networkx",
    "streamlit", "leafmap", "s3fs",
)  # fmt: skip

RUN = """
import contextlib, io, json, sys
sys.modules.update(dict.fromkeys(json.loads(sys.argv[1])))  # None there: an import fails
from openeo_cloudmask.cli import main

answers = []
for words in json.loads(sys.argv[2]):
    sys.argv, said, status = words, io.StringIO(), 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            main()
        except SystemExit as end:
            status = end.code
        except Exception as err:
            status = repr(err)
    answers.append((status, said.getvalue()))
print(json.dumps(answers))
"""


def test_a_missing_extra_is_named(tmp_path):
    spec = importlib.util.spec_from_file_location(
        "check_extras", ROOT / "requirements" / "check_extras.py"
    )
    checks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checks)
    from openeo_cloudmask.simulator.products import write_geotiff
    from openeo_cloudmask.simulator.scene import simulate_scene

    write_geotiff(simulate_scene(1, size=96), tmp_path / "scene_324.tif")
    for name in ("empty.onnx", "empty.nc"):
        (tmp_path / name).touch()
    # `demo --serve` starts another process, which would find the libraries.
    refusals = [item for item in checks.REFUSALS if "--serve" not in item[0]]
    given = [json.dumps(LIBRARIES), json.dumps([shlex.split(command) for command, _ in refusals])]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *given],
        cwd=tmp_path, check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    for (command, extra), (status, said) in zip(refusals, answers, strict=True):
        assert status == 2, f"{command}: {status} {said}"
        assert install_command(extra) in said, f"{command}: {said}"
