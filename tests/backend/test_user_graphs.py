"""What users of the openEO client do with ``cloudmask serve``, one graph after the other.

All of them talk to one server; what they get is compared with NumPy on the scenes' own pixels.
"""

from __future__ import annotations

import json
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

openeo = pytest.importorskip("openeo")

import pandas as pd
import rasterio
import requests
import xarray as xr
from openeo.processes import array_concat, array_create, array_interpolate_linear, quantiles, sort
from PIL import Image
from rasterio.warp import transform_bounds

from openeo_cloudmask.backend.cubes.collections import CollectionStore
from openeo_cloudmask.backend.cubes.ingest import ingest_product
from openeo_cloudmask.backend.settings import Settings
from tests.backend.conftest import BANDS, PASSWORD, wait_for, write_scene
from tests.ports import free_port

SHAPE = (60, 50)
DAYS = ("2024-05-01", "2024-05-11", "2024-06-01", "2024-06-21")
FIELDS = {
    "type": "FeatureCollection",
    "features": [
        {"type": "Feature", "properties": {"name": name, "crop": crop},
         "geometry": {"type": "Polygon", "coordinates": [ring]}}
        for name, crop, ring in (
            ("west", "maize", [[600_050, 5_399_600], [600_200, 5_399_600], [600_200, 5_399_900],
                               [600_050, 5_399_900], [600_050, 5_399_600]]),
            ("east", "wheat", [[600_300, 5_399_500], [600_450, 5_399_500], [600_450, 5_399_700],
                               [600_300, 5_399_700], [600_300, 5_399_500]]),
        )
    ],
    "crs": {"type": "name", "properties": {"name": "EPSG:32633"}},
}  # fmt: skip
WEST = (slice(10, 40), slice(5, 20))
"""Rows and columns of the first field."""
EAST = (slice(30, 50), slice(30, 45))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("scenes")
    return {
        day: write_scene(folder / f"s2_{day}.tif", shape_yx=SHAPE, seed=seed)
        for seed, day in enumerate(DAYS)
    }


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, scenes: dict[str, Path]) -> Iterator[str]:
    """Serve in this process, with a worker that is a thread: nothing has to be imported twice."""
    import uvicorn
    from distributed import LocalCluster

    from openeo_cloudmask.backend.app import create_app

    data_dir, port = tmp_path_factory.mktemp("users"), free_port()
    store = CollectionStore(Settings(data_dir=data_dir).prepare().collections_dir)
    for cover, (day, path) in enumerate(scenes.items()):
        ingest_product(
            path, store, collection_id="S2", sensor="sentinel-2-l1c", cloud_cover=cover * 15,
            acquired=datetime.fromisoformat(f"{day}T10:20:00+00:00"),
        )  # fmt: skip
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0",
        silence_logs=logging.ERROR,
    ) as cluster:  # fmt: skip
        settings = Settings(
            data_dir=data_dir, scheduler=cluster.scheduler_address, address=f"127.0.0.1:{port}",
            stac_hosts=("localhost",),
        )  # fmt: skip
        app = create_app(settings)
        app.state.backend.users.add("ann", PASSWORD)
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        wait_for(lambda: server.started, 300)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join(60)


@pytest.fixture(scope="module")
def connection(address: str) -> Any:
    return openeo.connect(address).authenticate_basic("ann", PASSWORD)


@pytest.fixture(scope="module")
def pixels(scenes: dict[str, Path]) -> Any:
    """Return (t, bands, y, x) reflectance, NaN for no data, as the scenes' files have it."""
    found = []
    for path in scenes.values():
        with rasterio.open(path) as dataset:
            found.append(np.where(dataset.read() == 0, np.nan, dataset.read() * 1e-4))
    return xr.DataArray(
        np.stack(found), dims=("t", "bands", "y", "x"),
        coords={"bands": list(BANDS), "t": np.array(DAYS, "datetime64[ns]")},
    )  # fmt: skip


@pytest.fixture
def s2(connection: Any) -> Any:
    return connection.load_collection("S2", bands=["B04", "B08"])


@contextmanager
def serve_json(document: dict[str, Any]) -> Iterator[str]:
    """Serve a document at a port of its own; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}/process.json"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def read_tif(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read())


def near(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=2e-5, atol=2e-6)


def run_job(cube: Any, folder: Path, **options: Any) -> list[Path]:
    job = cube.create_job(**options)
    job.start_and_wait(print=lambda *_: None, max_poll_interval=0.3, connection_retry_interval=1)
    results = job.get_results()
    return [Path(item) for item in results.download_files(folder, include_stac_metadata=False)]


def test_ndvi_median_composite_after_masking(connection, pixels, tmp_path):
    from openeo_cloudmask import cloud_mask

    bands = connection.load_collection("S2")
    cloudy = cloud_mask(bands, model="hollstein") > 0
    clear = bands.filter_bands(["B04", "B08"]).mask(cloudy)
    composite = clear.ndvi(red="B04", nir="B08").reduce_dimension(reducer="median", dimension="t")
    composite.download(tmp_path / "ndvi.tif")
    mask = cloud_mask(bands, model="hollstein")
    mask.download(tmp_path / "masks.nc")
    masks = xr.open_dataset(tmp_path / "masks.nc", engine="h5netcdf", mask_and_scale=False)["mask"]
    red, nir = (pixels.sel(bands=name).to_numpy() for name in ("B04", "B08"))
    ndvi = np.where(masks.to_numpy() == 0, (nir - red) / (nir + red), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        near(read_tif(tmp_path / "ndvi.tif")[0], np.nanmedian(ndvi, axis=0))
    assert 0 < np.isnan(ndvi).mean() < 1


def test_monthly_composites(s2, pixels, tmp_path):
    monthly = s2.aggregate_temporal_period("month", reducer="median")
    monthly.download(tmp_path / "monthly.nc")
    found = xr.open_dataset(tmp_path / "monthly.nc", engine="h5netcdf")
    assert [str(t)[:10] for t in found["t"].to_numpy()] == ["2024-05-01", "2024-06-01"]
    red = pixels.sel(bands="B04").to_numpy()
    near(found["B04"][0], np.median(red[:2], axis=0))
    near(found["B04"][1], np.median(red[2:], axis=0))


def test_intervals_with_labels(s2, pixels, tmp_path):
    parts = s2.aggregate_temporal(
        intervals=[["2024-05-01", "2024-06-01"], ["2024-05-11", "2024-06-30"],
                   ["2024-01-01", "2024-02-01"]],
        labels=["spring", "both", "none"], reducer="mean",
    )  # fmt: skip
    parts.download(tmp_path / "parts.nc")
    found = xr.open_dataset(tmp_path / "parts.nc", engine="h5netcdf")
    assert list(found["t"].to_numpy()) == ["spring", "both", "none"]
    red = pixels.sel(bands="B04").to_numpy()
    near(found["B04"][0], red[:2].mean(axis=0))
    near(found["B04"][1], red[1:].mean(axis=0))
    assert np.isnan(found["B04"][2]).all()


def test_time_series_of_polygons_as_csv(s2, pixels, tmp_path):
    series = s2.aggregate_spatial(geometries=FIELDS, reducer="mean")
    [path] = run_job(series, tmp_path, out_format="CSV")
    table = pd.read_csv(path)
    assert list(table.columns) == ["feature_index", "date", "name", "crop", "B04", "B08"]
    assert len(table) == 2 * len(DAYS)
    for index, (rows, columns) in enumerate((WEST, EAST)):
        part = table[table.feature_index == index]
        near(part["B04"], pixels.sel(bands="B04").isel(y=rows, x=columns).mean(("y", "x")))
    assert set(table["crop"]) == {"maize", "wheat"}


def test_polygons_as_geojson_with_wgs84_input(connection, s2, pixels, tmp_path):
    from rasterio.warp import transform_geom

    fields = json.loads(json.dumps(FIELDS))
    del fields["crs"]
    for item in fields["features"]:
        item["geometry"] = transform_geom("EPSG:32633", "EPSG:4326", item["geometry"])
    vector = connection.load_geojson(fields, properties=["crop"])
    largest = s2.aggregate_spatial(geometries=vector, reducer="max")
    largest.download(tmp_path / "fields.geojson", format="GeoJSON")
    found = json.loads((tmp_path / "fields.geojson").read_text())
    first = found["features"][0]
    assert first["properties"]["name"] == "west"
    near(first["properties"]["2024-05-01~B08"],
         pixels.sel(bands="B08").isel(t=0, y=WEST[0], x=WEST[1]).max())  # fmt: skip
    near(
        first["geometry"]["coordinates"][0][0],
        fields["features"][0]["geometry"]["coordinates"][0][0],
    )


def test_polygons_as_parquet_netcdf_and_json(s2, pixels, tmp_path):
    geopandas = pytest.importorskip("geopandas")
    series = s2.aggregate_spatial(geometries=FIELDS, reducer="median")
    wanted = pixels.sel(bands="B04").isel(y=EAST[0], x=EAST[1]).median(("y", "x"))
    series.download(tmp_path / "fields.parquet", format="Parquet")
    table = geopandas.read_parquet(tmp_path / "fields.parquet")
    near(table[table.feature_index == 1]["B04"], wanted)
    assert table.crs.to_epsg() == 32633
    assert table.geometry[0].area == 150 * 300
    series.download(tmp_path / "fields.nc", format="netCDF")
    near(xr.open_dataset(tmp_path / "fields.nc", engine="h5netcdf")["B04"][1], wanted)
    answer = series.execute()
    assert answer["dims"][0] == "geometry"
    near(np.array(answer["data"])[1, :, 0], wanted)


def test_counts_beside_the_value(s2):
    counted = s2.aggregate_spatial(geometries=FIELDS, reducer="mean", target_dimension="result")
    answer = counted.execute()
    place = answer["dims"].index("result")
    assert answer["coords"]["result"] == ["value", "total_count", "valid_count"]
    values = np.moveaxis(np.array(answer["data"]), place, -1)
    # The first field begins in the corner of no data of 20 x 30 pixels.
    assert values[0, 0, 0, 1] == 30 * 15
    assert values[0, 0, 0, 2] == 30 * 15 - 10 * 15


def test_merging_two_periods(connection, pixels, tmp_path):
    may = connection.load_collection(
        "S2", temporal_extent=["2024-05-01", "2024-06-01"], bands=["B04"]
    )
    june = connection.load_collection(
        "S2", temporal_extent=["2024-06-01", "2024-07-01"], bands=["B04"]
    )
    june.merge_cubes(may).download(tmp_path / "all.nc")
    found = xr.open_dataset(tmp_path / "all.nc", engine="h5netcdf")["B04"]
    near(found, pixels.sel(bands="B04"))


def test_merging_bands_and_mask(connection, s2, tmp_path):
    from openeo_cloudmask import cloud_mask

    mask = cloud_mask(connection.load_collection("S2"), model="hollstein")
    s2.merge_cubes(mask).download(tmp_path / "both.nc")
    found = xr.open_dataset(tmp_path / "both.nc", engine="h5netcdf")
    assert {"B04", "B08", "mask"} <= set(found.data_vars)
    assert np.isnan(found["mask"][0, :20, :30]).all()
    assert set(np.unique(found["mask"][0, 30:])) <= {0, 1, 2, 3}


def test_merging_overlapping_cubes_by_mean(connection, pixels, tmp_path):
    first, second = (
        connection.load_collection("S2", temporal_extent=[day, None], bands=["B04"])
        for day in ("2024-05-11", "2024-06-01")
    )
    first.merge_cubes(second * 3, overlap_resolver="mean").download(tmp_path / "mean.nc")
    found = xr.open_dataset(tmp_path / "mean.nc", engine="h5netcdf")["B04"]
    red = pixels.sel(bands="B04").to_numpy()
    near(found[0], red[1])
    near(found[1:], red[2:] * 2)


@pytest.mark.parametrize("align", ["upper-left", "lower-right"])
def test_resampling_to_20_m(s2, pixels, tmp_path, align):
    coarse = s2.resample_spatial(resolution=20, method="average", align=align)
    coarse.filter_temporal("2024-06-01", "2024-06-02").download(tmp_path / "coarse.tif")
    found = read_tif(tmp_path / "coarse.tif")
    red = pixels.sel(bands="B04").isel(t=2).to_numpy()
    near(found[0][10:], red.reshape(30, 2, 25, 2).mean(axis=(1, 3))[10:])
    with rasterio.open(tmp_path / "coarse.tif") as dataset:
        assert dataset.transform.a == 20
        assert (dataset.transform.c, dataset.transform.f) == (600_000, 5_400_000)


def test_resampling_to_wgs84_and_onto_another_cube(connection, s2, pixels, tmp_path):
    one = s2.filter_temporal("2024-06-01", "2024-06-02")
    degrees = one.resample_spatial(projection=4326)
    degrees.download(tmp_path / "degrees.tif")
    with rasterio.open(tmp_path / "degrees.tif") as dataset:
        assert dataset.crs.to_epsg() == 4326
        values = dataset.read(1)
    red = pixels.sel(bands="B04").isel(t=2).to_numpy()
    counts = np.rint(values[np.isfinite(values)] * 1e4)
    assert np.isin(counts, np.rint(red * 1e4)).all()
    degrees.resample_cube_spatial(one).download(tmp_path / "back.tif")
    back = read_tif(tmp_path / "back.tif")[0]
    assert back.shape == SHAPE
    assert np.isclose(back[25:-5, 5:-5], red[25:-5, 5:-5]).mean() > 0.5


def _box(crs: str) -> dict[str, Any]:
    west, south, east, north = transform_bounds(
        "EPSG:32633", crs, 600_100, 5_399_500, 600_300, 5_399_700
    )
    return {"west": west, "south": south, "east": east, "north": north, "crs": crs}


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32633"])
def test_boxes_in_other_reference_systems(connection, pixels, tmp_path, crs):
    box = _box(crs)
    period = ["2024-06-01", "2024-06-02"]
    loaded = connection.load_collection("S2", box, period, ["B04"])
    loaded.download(tmp_path / "loaded.tif")
    cut = connection.load_collection("S2", None, period, ["B04"]).filter_bbox(**box)
    cut.download(tmp_path / "cut.tif")
    with rasterio.open(tmp_path / "loaded.tif") as dataset:
        row = round(5_400_000 - dataset.transform.f) // 10
        column = round(dataset.transform.c - 600_000) // 10
        height, width = dataset.shape
    red = pixels.sel(bands="B04").isel(t=2).to_numpy()
    near(read_tif(tmp_path / "loaded.tif")[0], red[row : row + height, column : column + width])
    near(read_tif(tmp_path / "cut.tif"), read_tif(tmp_path / "loaded.tif"))
    assert 20 <= height <= 24


def test_picture_after_linear_scaling(s2, pixels, tmp_path):
    red = s2.filter_bands(["B04"]).filter_temporal("2024-06-01", "2024-06-02")
    red.apply(lambda x: x.linear_scale_range(0, 0.6, 0, 255)).download(tmp_path / "red.png")
    found = np.asarray(Image.open(tmp_path / "red.png")).astype(float)
    wanted = np.clip(pixels.sel(bands="B04").isel(t=2).to_numpy() / 0.6, 0, 1) * 255
    assert np.abs(found[20:] - wanted[20:]).max() <= 1
    red.download(tmp_path / "plain.png")
    plain = np.asarray(Image.open(tmp_path / "plain.png")).astype(float)
    assert np.abs(plain[20:] - wanted[20:] * 0.6).max() <= 1


def test_several_dates_in_a_picture_are_refused(s2, tmp_path):
    with pytest.raises(openeo.rest.OpenEoApiError, match="4 dates and a picture shows one"):
        s2.filter_bands(["B04"]).download(tmp_path / "red.png")


def test_several_dates_in_one_tif(s2, pixels, tmp_path):
    s2.download(tmp_path / "all.tif")
    with rasterio.open(tmp_path / "all.tif") as dataset:
        assert dataset.descriptions[:3] == ("2024-05-01 B04", "2024-05-01 B08", "2024-05-11 B04")
    near(read_tif(tmp_path / "all.tif")[2], pixels.sel(bands="B04").isel(t=1))


def test_zarr(s2, pixels, tmp_path):
    import zipfile

    s2.download(tmp_path / "cube.zip", format="Zarr")
    with zipfile.ZipFile(tmp_path / "cube.zip") as archive:
        archive.extractall(tmp_path / "zarr")
    found = xr.open_zarr(tmp_path / "zarr", consolidated=False)["data"]
    near(found, pixels.sel(bands=["B04", "B08"]))


def test_mean_of_the_scene_as_json_and_csv(s2, pixels, tmp_path):
    means = s2.reduce_spatial(reducer="mean")
    answer = means.execute()
    wanted = pixels.sel(bands=["B04", "B08"]).mean(("y", "x"))
    assert answer["dims"] == ["t", "bands"]
    near(answer["data"], wanted)
    means.download(tmp_path / "means.csv", format="CSV")
    near(pd.read_csv(tmp_path / "means.csv")["B08"], wanted[:, 1])


def _ndvi_process() -> dict[str, Any]:
    """Return a process of a user: NDVI times a factor, which is 1 by default."""
    data, factor, x = ({"from_parameter": name} for name in ("data", "factor", "x"))
    times = {"process_id": "multiply", "arguments": {"x": x, "y": factor}, "result": True}
    return {
        "id": "my_ndvi",
        "parameters": [
            {"name": "data", "description": "Bands.",
             "schema": {"type": "object", "subtype": "datacube"}},
            {"name": "factor", "description": "Factor.", "schema": {"type": "number"},
             "default": 1, "optional": True},
        ],
        "process_graph": {
            "ndvi": {"process_id": "ndvi", "arguments": {"data": data, "nir": "B08", "red": "B04"}},
            "scaled": {
                "process_id": "apply",
                "arguments": {
                    "data": {"from_node": "ndvi"}, "process": {"process_graph": {"times": times}},
                },
                "result": True,
            },
        },
    }  # fmt: skip


def test_stored_process(connection, s2, pixels, tmp_path):
    process = _ndvi_process()
    connection.save_user_defined_process(
        "my_ndvi", process["process_graph"], parameters=process["parameters"]
    )
    s2.process("my_ndvi", data=s2, factor=2).download(tmp_path / "udp.nc")
    red, nir = (pixels.sel(bands=name).to_numpy() for name in ("B04", "B08"))
    found = xr.open_dataset(tmp_path / "udp.nc", engine="h5netcdf")["var"]
    near(found, 2 * (nir - red) / (nir + red))


def test_process_by_its_address(connection, s2, pixels, tmp_path):
    with serve_json(_ndvi_process()) as url:
        s2.process("my_ndvi", data=s2, factor=3, namespace=url).download(tmp_path / "udp.nc")
    red, nir = (pixels.sel(bands=name).to_numpy() for name in ("B04", "B08"))
    found = xr.open_dataset(tmp_path / "udp.nc", engine="h5netcdf")["var"]
    near(found, 3 * (nir - red) / (nir + red))


def test_results_are_found_and_loaded_by_stac_clients(connection, s2, pixels, tmp_path):
    import pystac

    one = s2.filter_temporal("2024-06-01", "2024-06-02")
    job = one.create_job(out_format="GTiff")
    job.start_and_wait(print=lambda *_: None, max_poll_interval=0.3, connection_retry_interval=1)
    metadata = job.get_results().get_metadata()
    canonical = next(link["href"] for link in metadata["links"] if link["rel"] == "canonical")
    # As a client without our token does it: collection, item, asset.
    collection = requests.get(canonical, timeout=30).json()
    [href] = [link["href"] for link in collection["links"] if link["rel"] == "item"]
    item = pystac.Item.from_dict(requests.get(href, timeout=30).json())
    [asset] = item.assets.values()
    (tmp_path / "asset.tif").write_bytes(requests.get(asset.href, timeout=30).content)
    near(read_tif(tmp_path / "asset.tif")[0], pixels.sel(bands="B04").isel(t=2))
    parent = next(link for link in item.links if link.rel == "collection").target
    assert requests.get(parent, timeout=30).json()["id"] == job.job_id
    loaded = connection.load_stac(canonical, bands=["B08"])
    loaded.download(tmp_path / "again.tif")
    near(read_tif(tmp_path / "again.tif")[0], pixels.sel(bands="B08").isel(t=2))


def test_a_job_of_one_file_goes_to_the_path_that_is_named(connection, s2, pixels, tmp_path):
    one = s2.filter_temporal("2024-06-01", "2024-06-02")
    quiet = {"print": lambda *_: None, "max_poll_interval": 0.3, "connection_retry_interval": 1}
    job = one.execute_batch(tmp_path / "bands.tif", **quiet)
    near(read_tif(tmp_path / "bands.tif")[0], pixels.sel(bands="B04").isel(t=2))
    assert list(job.get_results().get_metadata()["assets"]) == ["openEO_2024-06-01.tif"]


def test_clear_scenes_are_found(connection, pixels, tmp_path):
    clear = connection.load_collection("S2", bands=["B04"], max_cloud_cover=20)
    clear.download(tmp_path / "clear.nc")
    found = xr.open_dataset(tmp_path / "clear.nc", engine="h5netcdf")
    assert [str(t)[:10] for t in found["t"].to_numpy()] == ["2024-05-01", "2024-05-11"]


@pytest.mark.slow
def test_many_jobs_by_the_job_manager(connection, tmp_path):
    from openeo.extra.job_management import CsvJobDatabase, MultiBackendJobManager

    manager = MultiBackendJobManager(poll_sleep=1, root_dir=tmp_path)
    manager.add_backend("ours", connection=connection, parallel_jobs=2)

    def start(row, connection, **_):
        cube = connection.load_collection("S2", temporal_extent=[row.day, None], bands=["B04"])
        return cube.reduce_dimension(reducer="max", dimension="t").create_job(out_format="GTiff")

    jobs = CsvJobDatabase(tmp_path / "jobs.csv")
    jobs.initialize_from_df(pd.DataFrame({"day": ["2024-05-11", "2024-06-01"]}))
    manager.run_jobs(start_job=start, job_db=jobs)
    assert list(jobs.read()["status"]) == ["finished", "finished"]
    assert len(list(tmp_path.glob("job_*/*.tif"))) == 2


def test_quantiles_and_sorted_dates(s2, pixels, tmp_path):
    red = pixels.sel(bands="B04").to_numpy()
    steps = s2.filter_bands(["B04"]).apply_dimension(
        process=lambda data: quantiles(data, probabilities=[0.25, 0.5, 0.75]),
        dimension="t", target_dimension="bands",
    )  # fmt: skip
    steps.download(tmp_path / "quantiles.tif")
    near(
        read_tif(tmp_path / "quantiles.tif")[:, 20:],
        np.quantile(red, [0.25, 0.5, 0.75], axis=0)[:, 20:],
    )
    s2.apply_dimension(process=sort, dimension="t").download(tmp_path / "sorted.nc")
    found = xr.open_dataset(tmp_path / "sorted.nc", engine="h5netcdf")
    near(found["B04"], np.sort(red, axis=0))
    assert str(found["t"].to_numpy()[0])[:10] == "2024-05-01"


def test_masked_interpolated_and_monthly(connection, s2, pixels, tmp_path):
    from openeo_cloudmask import cloud_mask

    mask = cloud_mask(connection.load_collection("S2"), model="hollstein")
    whole = s2.mask(mask > 0).apply_dimension(dimension="t", process=array_interpolate_linear)
    whole.aggregate_temporal_period("month", reducer="mean").download(tmp_path / "months.nc")
    found = xr.open_dataset(tmp_path / "months.nc", engine="h5netcdf")
    assert found.sizes["t"] == 2
    mask.download(tmp_path / "masks.nc")
    masks = xr.open_dataset(tmp_path / "masks.nc", engine="h5netcdf", mask_and_scale=False)["mask"]
    seen = pixels.sel(bands="B04").where(masks.to_numpy() == 0)
    filled = seen.interpolate_na("t", method="linear", use_coordinate=True)
    near(found["B04"][0], filled[:2].mean("t"))
    near(found["B04"][1], filled[2:].mean("t"))


def test_labels_of_dates_filtered_and_renamed(s2, pixels, tmp_path):
    from openeo.processes import date_between

    june = s2.filter_labels(
        condition=lambda value: date_between(x=value, min="2024-06-01", max="2024-07-01"),
        dimension="t",
    )
    named = june.rename_labels("t", target=["first", "second"], source=june.dimension_labels("t"))
    named.download(tmp_path / "june.nc")
    found = xr.open_dataset(tmp_path / "june.nc", engine="h5netcdf")
    assert list(found["t"].to_numpy()) == ["first", "second"]
    near(found["B04"], pixels.sel(bands="B04")[2:])


def test_polygons_change_masks_and_cut(s2, pixels, tmp_path):
    one = s2.filter_temporal("2024-06-01", "2024-06-02")
    red = pixels.sel(bands="B04").isel(t=2).to_numpy()
    one.apply_polygon(geometries=FIELDS, process=lambda x: x + 1, mask_value=-1).download(
        tmp_path / "changed.tif"
    )
    found = read_tif(tmp_path / "changed.tif")[0]
    near(found[EAST], red[EAST] + 1)
    assert found[0, 0] == -1
    one.mask_polygon(FIELDS).download(tmp_path / "kept.tif")
    kept = read_tif(tmp_path / "kept.tif")[0]
    near(kept[EAST], red[EAST])
    assert np.isnan(kept[0, 0])
    assert np.isfinite(kept).sum() == 20 * 15 + 20 * 15
    one.filter_spatial(FIELDS).download(tmp_path / "cut.tif")
    near(read_tif(tmp_path / "cut.tif")[0], kept[10:50, 5:45])


def test_kernel_and_band_arithmetic(s2, pixels, tmp_path):
    one = s2.filter_temporal("2024-06-01", "2024-06-02")
    one.apply_kernel(np.ones((3, 3)), factor=1 / 9).download(tmp_path / "smooth.tif")
    red = pixels.sel(bands="B04").isel(t=2).to_numpy()
    near(read_tif(tmp_path / "smooth.tif")[0][40, 20], red[39:42, 19:22].mean())
    more = one.apply_dimension(
        dimension="bands", process=lambda d: array_concat(d, [d["B08"] / d["B04"]])
    )
    more.download(tmp_path / "more.tif")
    nir = pixels.sel(bands="B08").isel(t=2).to_numpy()
    near(read_tif(tmp_path / "more.tif"), [red, nir, nir / red])
    made = one.apply_dimension(
        dimension="bands", process=lambda d: array_create([d["B08"] - d["B04"], d["B04"] * 2, 7])
    )
    made.download(tmp_path / "made.tif")
    near(
        read_tif(tmp_path / "made.tif")[:, 25:], np.stack([nir - red, 2 * red, 0 * red + 7])[:, 25:]
    )
