"""A back end of the Copernicus Data Space's kind on one machine; runs in the twin.

``python backend.py REQUEST.json`` evaluates a process graph with openeo-driver: its dry run, its
evaluation, its user-defined processes. Where that comes to ``apply_neighborhood``, the cube is cut
into tiles and the UDF runs in a worker with the limits that the job's options set (`worker.py`).
Other processes on pixels are the JVM's work there and do nothing here.
"""

import functools
import http.server
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import tiles
from openeo.metadata import CollectionMetadata
from openeo.udf.run_code import extract_udf_dependencies, load_module_from_string
from openeo_driver.dummy.dummy_backend import (
    DummyBackendImplementation,
    DummyCatalog,
    DummyDataCube,
)
from openeo_driver.ProcessGraphDeserializer import convert_node, evaluate
from openeo_driver.users import User
from openeo_driver.utils import EvalEnv

API_VERSION = "1.2.0"
DEFAULT_CORES = 2
WORKER = Path(__file__).with_name("worker.py")


class TwinCube(DummyDataCube):
    """A cube with pixels, (t, band, y, x) float32."""

    def __init__(self, metadata, pixels, request) -> None:
        super().__init__(metadata)
        self.pixels, self.request, self.reports = pixels, request, []
        del self.__dict__["apply_neighborhood"]  # a stand-in that hides the method below

    def apply_neighborhood(self, process, *, size, overlap=None, context=None, env):
        """Return the cube of the UDF's answers."""
        sizes = {item["dimension"]: item for item in size}
        around = {item["dimension"]: item for item in overlap or []}
        if any(sizes[axis]["unit"] != "px" or around[axis]["unit"] != "px" for axis in "xy"):
            raise ValueError("sizes in space are pixels")
        if sizes["t"]["value"] != "P1D" or "t" in around:
            raise ValueError("all dates or one day, without overlap in time")
        [node] = process.values()
        arguments = node["arguments"]
        inner = env.push_parameters({"context": context})
        given = convert_node(arguments["context"], env=inner)
        if wanted := extract_udf_dependencies(arguments["udf"]):
            raise ConnectionError(f"pip install {wanted}: no index answers")
        metadata = labelled(self.metadata, arguments["udf"], given)
        edge, rim = sizes["x"]["value"], around["x"]["value"]
        answers = []
        for pixels in self.pixels:
            answer = np.full((len(metadata.band_names), *pixels.shape[1:]), np.nan, np.float32)
            self.reports.append(
                run_date(pixels, answer, (edge, rim), arguments["udf"], given, self.request)
            )
            answers.append(answer)
        result = TwinCube(metadata, np.stack(answers), self.request)
        result.reports = self.reports
        return result


def labelled(metadata, udf: str, context: dict):
    """Return what ``apply_metadata`` makes of ``metadata``, where no bundle is available."""
    if importlib.util.find_spec("openeo_cloudmask"):
        raise ImportError("openeo_cloudmask is installed in the twin, which proves nothing")
    return load_module_from_string(udf)["apply_metadata"](metadata, context)


def run_date(pixels, answer, neighborhood, udf: str, context: dict, request: dict) -> dict:
    """Write the UDF's answers for one date to ``answer``; return what the worker says of itself."""
    from geopyspark.geotrellis.protobufcodecs import multibandtile_decoder

    size, overlap = neighborhood
    west, north, step = request["west"], request["north"], request["step"]
    job = {
        "udf": udf,
        "context": context,
        "bands": request["bands"],
        "epsg": request["epsg"],
        "limit_mebibytes": limit_mebibytes(request["job_options"]),
        "decode": request["decode"],
        "tiles": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        places = []
        for row, column, cells in tiles.cut(pixels, size, overlap):
            path = Path(folder) / f"{row}-{column}"
            path.write_bytes(tiles.encode(cells))
            left, top = west + column * size * step, north - row * size * step
            extent = [left, top - size * step, left + size * step, top]
            answers = f"{path}.answer"
            tile = {"in": str(path), "out": answers, "size": size, "extent": extent, "t": 0}
            job["tiles"].append({**tile, "shape": cells.shape})
            places.append((answers, (row, column, size, overlap)))
        (Path(folder) / "job.json").write_text(json.dumps(job))
        report = run_worker(Path(folder) / "job.json", request["executor"])
        for answers, place in places:
            tiles.paste(answer, multibandtile_decoder(Path(answers).read_bytes()).cells, place)
    return report


def limit_mebibytes(options: dict) -> int:
    """Return what pyspark limits a worker to: its share of ``python-memory``."""
    units = {"k": 1 / 1024, "m": 1, "g": 1024}
    memory = options["python-memory"]
    return int(
        float(memory[:-1]) * units[memory[-1]] / options.get("executor-cores", DEFAULT_CORES)
    )


def run_worker(job: Path, executor: str) -> dict:
    """Run a worker that has nothing of this process but what Spark gives."""
    environment = {"PATH": os.environ["PATH"], "SPARK_HOME": os.environ["SPARK_HOME"]}
    done = subprocess.run(
        [sys.executable, str(WORKER), str(job)],
        cwd=executor,
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the worker ended with {done.returncode}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def unpack_archives(request: dict) -> None:
    """Unpack what the job names into the executor's folder, as ``spark.archives`` does."""
    for archive in request["job_options"].get("udf-dependency-archives", []):
        url, name = archive.split("#")
        with zipfile.ZipFile(request["served"][url]) as bundle:
            bundle.extractall(Path(request["executor"]) / name)


def serve(folder: str) -> http.server.ThreadingHTTPServer:
    """Serve a folder on this machine, for processes by URL."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class TwinCatalog(DummyCatalog):
    """One collection, in memory."""

    def __init__(self, request: dict) -> None:
        super().__init__()
        self.request = request
        dimensions = {
            **{axis: {"type": "spatial", "axis": axis, "extent": [0, 1]} for axis in "xy"},
            "t": {"type": "temporal", "extent": ["2026-06-01", None]},
            "bands": {"type": "bands", "values": request["bands"]},
        }
        self._catalog["TWIN"] = {"id": "TWIN", "cube:dimensions": dimensions}

    def load_collection(self, collection_id, load_params, env):
        """Return the cube of the request, whatever its extent."""
        metadata = CollectionMetadata(metadata=self.get_collection_metadata(collection_id))
        return TwinCube(metadata, np.load(self.request["pixels"]), self.request)


def main() -> None:
    """Evaluate the graph of the request and write the answer."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    unpack_archives(request)
    backend = DummyBackendImplementation()
    backend.catalog = TwinCatalog(request)
    user = User(user_id="twin")
    for process in request.get("stored", []):
        backend.user_defined_processes.save(user.user_id, process["id"], process)
    graph = request["graph"]
    if "by_url" in request:
        server = serve(request["by_url"])
        address = f"http://127.0.0.1:{server.server_address[1]}"
        graph = json.loads(json.dumps(graph).replace("{server}", address))
    env = EvalEnv(
        {
            "backend_implementation": backend,
            "openeo_api_version": API_VERSION,
            "version": API_VERSION,
            "user": user,
            "node_caching": False,
        }
    )
    try:
        result = evaluate(graph, env=env)
    except Exception as err:  # noqa: BLE001 - openeo-driver wraps all, with the whole graph
        while err.__cause__ is not None:
            err = err.__cause__
        sys.exit(f"{type(err).__name__}: {err}")
    np.save(request["answer"], result.pixels)
    print(json.dumps({"bands": result.metadata.band_names, "workers": result.reports}))


if __name__ == "__main__":
    main()
