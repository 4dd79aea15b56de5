"""Digests of masks and network outputs: two versions of the code agree where these are equal.

    python benchmarks/digests.py > before.json
    ... change something ...
    python benchmarks/digests.py --compare before.json

Simulated scenes are masked in every way the package offers: arrays through the user-defined
function and the datacube, products through ``mask_product``, a process graph through the back end.
Networks of the golden vectors answer for their stored inputs. Digests are those of one machine:
another CPU or library may round the last bit differently.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import rasterio
import xarray as xr

from openeo_cloudmask.datacube import mask_datacube
from openeo_cloudmask.openeo.client import udf_text
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import mask_product
from openeo_cloudmask.simulator.products import write_geotiff, write_product
from openeo_cloudmask.simulator.scene import SimulatedScene, simulate_scene

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "data" / "golden"
SCENES: dict[str, dict[str, Any]] = {
    "sentinel-2": {"seed": 3, "sensor": "sentinel-2-l1c", "nodata_fraction": 0.1},
    "landsat": {"seed": 5, "sensor": "landsat-8-9-l1", "nodata_fraction": 0.1},
}
MODELS = {"sentinel-2": ("hollstein", "mini"), "landsat": ("mini",)}
SIZE_PX = 600


def main() -> int:
    """Print digests, or compare them with those of a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--compare", type=Path, help="digests to compare with")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = dict(all_digests(Path(folder)))
    if arguments.compare is None:
        print(json.dumps(found, indent=1))
        return 0
    expected = json.loads(arguments.compare.read_text(encoding="utf-8"))
    changed = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    for name in changed:
        print(f"differs: {name}")
    print(f"{len(found) - len(set(changed) & set(found))} of {len(expected)} are equal")
    return 1 if changed else 0


def all_digests(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what was computed, and the digest of it."""
    yield from golden_digests()
    for name, arguments in SCENES.items():
        scene = simulate_scene(size=SIZE_PX, **arguments)
        for model in MODELS[name]:
            yield from array_digests(name, scene, model)
            yield from product_digests(name, scene, model, folder)
    yield from backend_digests(folder)


def golden_digests() -> Iterator[tuple[str, str]]:
    """Yield the outputs of the networks on the golden inputs."""
    import torch

    from openeo_cloudmask.models import build_network

    fill = _import(GOLDEN / "fill.py")
    for path in sorted(GOLDEN.glob("s*.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        with np.load(path.with_suffix(".npz")) as file:
            seed, shape = int(file["seed"]), tuple(file["shape"])
        kind = "sensei-deeplab" if "deeplab" in config else "sensei-segformer"
        network = build_network(kind if "sensei" in config else "segformer", config)
        fill.fill_state_dict(network)
        cube = torch.from_numpy(fill.reflectance(seed, shape))[None]
        more = (config["descriptors"],) if "descriptors" in config else ()
        with torch.inference_mode():
            yield f"golden {path.stem}", digest(network.eval()(cube, *more).numpy())
    for bands in (4, 13):
        with np.load(GOLDEN / f"unet_mobilenet_v2_{bands}bands.npz") as file:
            seed, shape = int(file["seed"]), tuple(file["shape"])
        network = build_network("unet-mobilenet-v2", {"bands": bands, "classes": 4})
        fill.fill_state_dict(network)
        cube = torch.from_numpy(fill.reflectance(seed, shape))[None]
        with torch.inference_mode():
            yield f"golden unet {bands} bands", digest(network.eval()(cube).numpy())


def array_digests(name: str, scene: SimulatedScene, model: str) -> Iterator[tuple[str, str]]:
    """Yield masks of a datacube: by the function, by the UDF, as reflectance and as counts."""
    from openeo.udf import UdfData, XarrayDataCube, run_udf_code

    context = {"model": model, "sensor": scene.sensor}
    cube = to_cube(scene)
    counts = xr.where(np.isnan(cube), 0, np.rint(cube * 10000)).astype("uint16")
    yield f"datacube {name} {model}", digest(mask_datacube(cube, MaskOptions(**context)))
    options = MaskOptions(**context, categorise=False, output_style="valid-invalid", scale=1e-4)
    thermal = [band for band in ("B10", "B11") if scene.sensor.startswith("landsat")]
    optical = [band for band in scene.band_names if band not in thermal]
    yield f"counts {name} {model}", digest(mask_datacube(counts.sel(bands=optical), options))
    data = UdfData(datacube_list=[XarrayDataCube(cube)], user_context=context)
    [answer] = run_udf_code(udf_text(), data).get_datacube_list() or []
    yield f"udf {name} {model}", digest(answer.get_array())


def product_digests(
    name: str, scene: SimulatedScene, model: str, folder: Path
) -> Iterator[tuple[str, str]]:
    """Yield masks of the scene as a GeoTIFF, a product of its sensor, and a NetCDF."""
    place = folder / f"{name}-{model}"
    place.mkdir()
    netcdf = place / "scene.nc"
    to_cube(scene).to_dataset(name="reflectance").to_netcdf(netcdf, engine="h5netcdf")
    inputs = {
        "geotiff": write_geotiff(scene, place / "scene.tif"),
        "product": write_product(scene, place),
        "netcdf": netcdf,
    }
    from openeo_cloudmask.products import ReadOptions

    for form, path in inputs.items():
        for categorise in (True, False):
            options = MaskOptions(
                model=model,
                sensor=None if form == "product" else scene.sensor,
                categorise=categorise,
                output_style="4-class" if categorise else "cloud-noncloud",
            )
            target = place / f"{form}-{categorise}.tif"
            mask_product(path, target, options, read=ReadOptions(ungeoreferenced=True))
            with rasterio.open(target) as dataset:
                what = "mask" if categorise else "percentages"
                yield f"{form} {name} {model} {what}", digest(dataset.read())


def backend_digests(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield masks that the back end's process graph makes, without a server."""
    from openeo_cloudmask.backend.cubes.collections import CollectionStore
    from openeo_cloudmask.backend.cubes.ingest import ingest_product
    from openeo_cloudmask.backend.jobs.runtime import RunSpec
    from openeo_cloudmask.backend.jobs.tasks import GraphRequest, run_graph
    from openeo_cloudmask.backend.settings import Settings

    scene = simulate_scene(size=SIZE_PX, **SCENES["sentinel-2"])
    path = write_geotiff(scene, folder / "backend.tif")
    settings = Settings(data_dir=folder / "data").prepare()
    store = CollectionStore(settings.collections_dir)
    when = datetime(2024, 5, 1, tzinfo=UTC)
    ingest_product(path, store, collection_id="S2", sensor=scene.sensor, acquired=when)
    for number, options in enumerate(
        (
            {"model": "hollstein"},
            {"model": "mini"},
            {"model": "hollstein", "scale": 2.0, "categorise": False},
        )
    ):
        run = RunSpec(
            job_id="digest",
            output_dir=folder / f"out{number}",
            collections_dir=settings.collections_dir,
            weights_dir=folder,
        )
        graph = _graph(options)
        answer = run_graph(GraphRequest(run=run, graph=graph, library={}, synchronous=True))
        if answer.error is not None:
            raise SystemExit(f"the graph failed: {answer.error}")
        with rasterio.open(run.output_dir / answer.files[0]["name"]) as dataset:
            yield f"back end {json.dumps(options)}", digest(dataset.read())


def to_cube(scene: SimulatedScene) -> xr.DataArray:
    """Return the scene as (bands, y, x) with coordinates of pixel centres."""
    _, height, width = scene.cube.shape
    affine = scene.transform
    return xr.DataArray(
        scene.cube,
        dims=("bands", "y", "x"),
        coords={
            "bands": list(scene.band_names),
            "y": affine.f + affine.e * (np.arange(height) + 0.5),
            "x": affine.c + affine.a * (np.arange(width) + 0.5),
        },
    )


def digest(values: Any) -> str:  # noqa: ANN401 - an array of NumPy or xarray
    """Return the SHA-256 of type, shape and values, shortened."""
    array = np.ascontiguousarray(values)
    head = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()[:16]


def _graph(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "load": {
            "process_id": "load_collection",
            "arguments": {"id": "S2", "spatial_extent": None, "temporal_extent": None},
        },
        "mask": {
            "process_id": "cloud_mask",
            "arguments": {"data": {"from_node": "load"}, **options},
        },
        "save": {
            "process_id": "save_result",
            "arguments": {"data": {"from_node": "mask"}, "format": "GTiff"},
            "result": True,
        },
    }


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
