"""The virtual memory that a worker of the Copernicus Data Space needs for the UDF, by trial.

    cloudmask bundle bundle.zip --model ukis-csmask --python-version 3.11
    python benchmarks/udf_memory.py bundle.zip --model ukis-csmask --side 2048

runs two tiles in the twin (``sh tests/cdse/make_twin.sh``) again and again, with the limit that
pyspark would set, and halves the distance between the smallest that was enough and the largest that
was not. It prints both, and what ``job_options`` asks for. Tiles are read from protobuf as that
back end reads it, in Python, which takes a minute and more for 2048 x 2048 pixels of 13 bands.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

from openeo_cloudmask.models import get_model
from openeo_cloudmask.openeo.client import udf_text
from openeo_cloudmask.openeo.jobs import DRIVER_MIB, python_mebibytes, runtime_of

ROOT = Path(__file__).resolve().parents[1]
TWIN = ROOT / "tests" / "cdse"
sys.path.insert(0, str(TWIN))
import tiles  # noqa: E402 - a module of the tests

LARGEST_MIB = 16_384


def run_tiles(
    python: str, folder: Path, limit_mib: int, timeout_s: float | None = None
) -> float | None:
    """Return the peak that the worker had, MiB, or None where the limit was too small.

    Some libraries try again and again to get memory: a worker that has not ended after
    ``timeout_s`` had too little.
    """
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**job, "limit_mebibytes": limit_mib}))
    place = (
        "import importlib.util as i; print(i.find_spec('pyspark').submodule_search_locations[0])"
    )
    spark = subprocess.run([python, "-c", place], capture_output=True, text=True, check=True).stdout
    environment = {
        "PATH": os.environ["PATH"],
        "SPARK_HOME": spark.strip(),
        "OMP_NUM_THREADS": "1",  # as Spark sets it
    }
    try:
        done = subprocess.run(
            [python, str(TWIN / "worker.py"), "job.json"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode == 0:
        return float(json.loads(done.stdout.splitlines()[-1])["peak_mebibytes"])
    if limit_mib >= LARGEST_MIB:
        raise SystemExit(f"the tiles fail without a limit, too:\n{done.stderr[-2000:]}")
    return None


def write_job(folder: Path, given: argparse.Namespace, bands: tuple[str, ...]) -> None:
    """Unpack the bundle, write a tile of noise, and a job of that tile twice."""
    with zipfile.ZipFile(given.bundle) as archive:
        archive.extractall(folder / "cloudmask_deps")
    pixels = np.random.default_rng(0).random((len(bands), given.side, given.side), np.float32)
    (folder / "tile").write_bytes(tiles.encode(pixels / 2))
    context = {"model": given.model, "weights": given.weights}
    tile = {"in": "tile", "out": "answer", "size": given.side}
    tile["extent"] = [0, 0, 10 * given.side, 10 * given.side]  # pixels of 10 m
    job = {"udf": udf_text(), "context": context, "bands": bands, "epsg": 32631}
    job["tiles"] = [tile, tile]  # the second comes when the runtime holds memory of its own
    (folder / "job.json").write_text(json.dumps(job))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", help="what `cloudmask bundle` wrote")
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", help="the option weights that `cloudmask bundle` named")
    parser.add_argument("--runtime", help="the bundle's, for what job_options asks")
    parser.add_argument("--side", type=int, default=2048, help="pixels along a tile's side")
    parser.add_argument("--step", type=int, default=64, help="stop this near, MiB")
    parser.add_argument("--twin", default=str(ROOT / ".venv" / "cdse" / "bin" / "python"))
    given = parser.parse_args()
    entry = get_model(given.model)
    bands = next(iter(entry.inputs.values()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_job(folder, given, bands)
        started = time.monotonic()
        peak = run_tiles(given.twin, folder, LARGEST_MIB)
        patience_s = 30 + 10 * (time.monotonic() - started)
        # Where nothing is refused, the peak is enough; with less, some libraries do with less.
        enough, short = int(peak or LARGEST_MIB) + 1, int((peak or LARGEST_MIB) * 0.8)
        while enough - short > given.step:
            middle = (enough + short) // 2
            if run_tiles(given.twin, folder, middle, patience_s) is None:
                short = middle
            else:
                enough = middle
    weights = None if given.weights is None else Path(given.weights)
    runtime = given.runtime or runtime_of(entry, weights)
    asked = python_mebibytes(runtime, bands=len(bands), side_px=given.side)
    print(
        f"{given.model} by {runtime}, {len(bands)} bands, {given.side} px: {enough} MiB are "
        f"enough, {short} MiB are not; peak without a limit {peak:.0f} MiB; job_options asks for "
        f"{asked} MiB, of which {DRIVER_MIB} MiB are for the driver's own modules"
    )


if __name__ == "__main__":
    main()
