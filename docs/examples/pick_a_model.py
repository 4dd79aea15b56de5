# /// script
# requires-python = ">=3.11"
# dependencies = ["openeo", "pystac", "pystac-client"]
# ///
"""Pick a cloud-mask model from a STAC catalog and run it with openEO, knowing nothing else.

Everything comes from the catalog: which model takes the bands there are, under which licence,
which function runs it, with which context and overlap. Nothing of the package that wrote the
catalog is imported; pystac reads it and the openeo client builds the process graph.

The catalog may be a file, a URL, or a STAC API such as that of ``cloudmask serve``.

    BANDS="--sensor sentinel-2-l1c --bands B02 B03 B04 B08 B11 B12"
    python pick_a_model.py catalog/catalog.json $BANDS                  # print the process graph
    python pick_a_model.py catalog/catalog.json $BANDS --cube scene.nc  # run the function here
    python pick_a_model.py catalog/catalog.json $BANDS --backend https://... --scale 0.0001
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import openeo
import pystac
from openeo.rest.datacube import DataCube


def open_catalog(url: str) -> pystac.Catalog:
    """Return the catalog at a path or URL, static or behind a STAC API."""
    catalog = pystac.Catalog.from_file(url)
    if "conformsTo" not in catalog.extra_fields:
        return catalog
    import pystac_client

    return pystac_client.Client.open(url)


def fitting_models(
    catalog: pystac.Catalog, sensor: str, bands: set[str], *, commercial: bool
) -> Iterator[pystac.Item]:
    """Yield the items of models that take these bands of this sensor."""
    for item in catalog.get_items(recursive=True):
        fields = item.properties
        if commercial and fields["cloudmask:non_commercial"]:
            continue
        for given in fields["cloudmask:inputs"]:
            wanted = [band["name"] for band in given["bands"]]
            sets = [wanted, *given.get("alternatives", [])]
            if given["sensor"] == sensor and any(bands.issuperset(names) for names in sets):
                yield item


def best_score(item: pystac.Item, sensor: str) -> float:
    """Return the model's best measured F1 of cloud on the sensor; 0 where none was measured."""
    return max(
        (
            score["metrics"].get("f1", 0.0)
            for score in item.properties.get("cloudmask:scores", [])
            if score.get("sensor") == sensor and score["style"] == "cloud-noncloud"
        ),
        default=0.0,
    )


def read_udf(item: pystac.Item) -> str:
    """Return the text of the function that the item points to."""
    asset = item.assets[item.properties["cloudmask:openeo"]["udf"]]
    return pystac.StacIO.default().read_text(asset.get_absolute_href() or asset.href)


def build_graph(item: pystac.Item, cube: DataCube, context: dict[str, object]) -> DataCube:
    """Return ``cube`` with the mask as the next step of its process graph."""
    overlap = item.properties["cloudmask:openeo"]["overlap_px"]
    size = max(1024, overlap)
    return cube.apply_neighborhood(
        process=openeo.UDF(read_udf(item), runtime="Python", context={"from_parameter": "context"}),
        size=[{"dimension": axis, "value": size, "unit": "px"} for axis in ("x", "y")]
        + [{"dimension": "t", "value": "P1D"}],
        overlap=[{"dimension": axis, "value": overlap, "unit": "px"} for axis in ("x", "y")],
        context=context,
    )


def run_here(item: pystac.Item, source: Path, target: Path, context: dict[str, object]) -> None:
    """Run the function on a cube in a NetCDF file (dimensions bands, y, x and perhaps t)."""
    import xarray
    from openeo.udf import UdfData, XarrayDataCube, run_udf_code

    cube = xarray.load_dataarray(source)
    data = UdfData(datacube_list=[XarrayDataCube(cube)], user_context=context)
    mask = run_udf_code(read_udf(item), data).get_datacube_list()[0].get_array()
    mask.to_netcdf(target)


def connect(url: str, user: str | None) -> openeo.Connection:
    """Return a connection to the back end, logged in."""
    connection = openeo.connect(url)
    if user:
        return connection.authenticate_basic(user, os.environ["OPENEO_PASSWORD"])
    return connection.authenticate_oidc()


def main() -> None:
    """Read the command line, pick a model, and print or run its process graph."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("catalog", help="path or URL of a catalog.json")
    parser.add_argument("--sensor", required=True)
    parser.add_argument("--bands", nargs="+", required=True)
    parser.add_argument("--commercial", action="store_true", help="only if the licence allows it")
    parser.add_argument("--scale", type=float, default=1.0, help="reflectance of a count")
    parser.add_argument("--collection", default="SENTINEL2_L1C")
    parser.add_argument("--backend", help="URL of an openEO back end to run on")
    parser.add_argument("--cube", type=Path, help="NetCDF file to run on, here")
    parser.add_argument("--out", type=Path, default=Path("mask.nc"), help="file, or folder")
    parser.add_argument("--user", help="local user of the back end; OPENEO_PASSWORD is read")
    options = parser.parse_args()

    catalog = open_catalog(options.catalog)
    found = list(
        fitting_models(catalog, options.sensor, set(options.bands), commercial=options.commercial)
    )
    if not found:
        sys.exit(f"no model takes the bands {options.bands} of {options.sensor}")
    item = max(found, key=lambda each: best_score(each, options.sensor))
    context = {**item.properties["cloudmask:openeo"]["context"], "sensor": options.sensor}
    if options.scale != 1.0:
        context["scale"] = options.scale
    print(f"{item.id} ({item.properties['license']}) of {len(found)} that fit", file=sys.stderr)

    if options.cube:
        run_here(item, options.cube, options.out, context)
        return
    connection = connect(options.backend, options.user) if options.backend else None
    cube = DataCube.load_collection(
        options.collection,
        connection=connection,
        bands=options.bands,
        fetch_metadata=connection is not None,
    )
    masked = build_graph(item, cube, context)
    if connection is None:
        print(json.dumps(masked.flat_graph(), indent=2))
    else:
        job = masked.save_result(format="GTiff").create_job(title=f"Cloud mask by {item.id}")
        job.start_and_wait(print=lambda line: print(line, file=sys.stderr))
        job.get_results().download_files(options.out)


if __name__ == "__main__":
    main()
