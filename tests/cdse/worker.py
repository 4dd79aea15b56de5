"""One Python worker of a Spark executor, as openeo-geopyspark-driver uses it; runs in the twin.

``python worker.py JOB.json`` in the executor's folder. The job names the UDF, its context, the
limit that pyspark sets, and tiles as the JVM sends them: protobuf of (band, y, x) float32. Tiles go
through one process, as pyspark uses its workers again. The answers are tiles of the same kind.

Not the driver's: tasks do not come through a socket, tiles are cut in Python, and the driver's own
modules, which take 130 MB more of addresses, are not loaded. With ``decode: numpy`` tiles are read
at once; the protobuf of that back end is in Python and takes a minute and more for a large tile.
"""

import json
import socket
import sys
from pathlib import Path

import tiles


def limit_memory(mebibytes: int) -> None:
    """Set the limit of addresses with pyspark's own function."""
    from pyspark.worker_util import setup_memory_limits

    setup_memory_limits(mebibytes)


def import_drivers_packages() -> None:
    """Load what the driver's functions have loaded before a UDF is called."""
    import fiona  # noqa: F401
    import geopandas  # noqa: F401
    import geopyspark  # noqa: F401
    import openeo_driver.ProcessGraphDeserializer  # noqa: F401
    import pyspark  # noqa: F401
    import rasterio  # noqa: F401
    import scipy.ndimage  # noqa: F401
    import xarray  # noqa: F401


def apply_tile(proto: bytes, tile: dict, job: dict) -> bytes:
    """Return the answer of the UDF for one tile."""
    import xarray as xr
    from geopyspark.geotrellis import Tile
    from geopyspark.geotrellis.protobufcodecs import multibandtile_decoder, to_pb_multibandtile
    from openeo.udf import UdfData, XarrayDataCube, run_udf_code

    if job.get("decode", "protobuf") == "protobuf":
        cells = multibandtile_decoder(proto).cells
    else:
        cells = tiles.decode(proto, tile["shape"])
    cube = xr.DataArray(
        cells,
        dims=("bands", "y", "x"),
        coords={"bands": job["bands"], **coordinates(tile, cells.shape)},
        name="openEODataChunk",
        attrs={"t": tile["t"]} if "t" in tile else {},
    )
    data = UdfData(
        proj={"EPSG": job["epsg"]},
        datacube_list=[XarrayDataCube(cube)],
        user_context=job["context"],
    )
    [answer] = run_udf_code(code=job["udf"], data=data).get_datacube_list()
    return to_pb_multibandtile(Tile(answer.array.to_numpy(), "FLOAT", None)).SerializeToString()


def coordinates(tile: dict, shape: tuple) -> dict:
    """Return x and y of the pixels' centres, float32, y downwards, with the overlap around."""
    import numpy as np

    west, south, east, north = tile["extent"]  # of the tile without overlap
    step_x, step_y = (east - west) / tile["size"], (north - south) / tile["size"]
    around_x, around_y = (shape[2] - tile["size"]) / 2, (shape[1] - tile["size"]) / 2
    first_x, last_x = west + step_x * (0.5 - around_x), east - step_x * (0.5 - around_x)
    first_y, last_y = north - step_y * (0.5 - around_y), south + step_y * (0.5 - around_y)
    return {
        "x": np.linspace(first_x, last_x, shape[2], dtype=np.float32),
        "y": np.linspace(first_y, last_y, shape[1], dtype=np.float32),
    }


def refuse(*_: object) -> None:
    """Stand in for ``socket.connect``: workers reach no other machine."""
    raise ConnectionError("workers of the twin have no network")


def peak_mebibytes() -> float:
    """Return the most addresses that this process has had."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    [line] = [line for line in status.splitlines() if line.startswith("VmPeak")]
    return int(line.split()[1]) / 1024


def main() -> None:
    """Run the job."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    socket.socket.connect = refuse
    limit_memory(job["limit_mebibytes"])
    import_drivers_packages()
    for tile in job["tiles"]:
        answer = apply_tile(Path(tile["in"]).read_bytes(), tile, job)
        Path(tile["out"]).write_bytes(answer)
    print(json.dumps({"peak_mebibytes": peak_mebibytes()}))


if __name__ == "__main__":
    main()
