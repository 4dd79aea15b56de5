from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from openeo_cloudmask.datacube import nodata_values
from openeo_cloudmask.errors import BandError, OptionError, ProductError
from openeo_cloudmask.labels import as_cube
from openeo_cloudmask.products import open_product

pytest.importorskip("h5netcdf", reason="the extra netcdf is not installed")

LABELS = ("B02", "B03", "B04")


def _cube(dates=1, *, ascending=False, height=20, width=30):
    generator = np.random.default_rng(0)
    y = 5300035 - 10.0 * np.arange(height)
    return xr.DataArray(
        generator.random((dates, 3, height, width), np.float32) * 0.5 + 0.01,
        dims=("t", "bands", "y", "x"),
        coords={
            "t": np.array(["2024-05-01", "2024-05-06"], "datetime64[ns]")[:dates],
            "bands": list(LABELS),
            "y": y[::-1] if ascending else y,
            "x": 499985 + 10.0 * np.arange(width),
        },
        name="reflectance",
    )


def _write(data, path):
    data.to_netcdf(path, engine="h5netcdf")
    return path


def test_one_variable_with_bands(tmp_path):
    cube = _cube()
    with open_product(_write(cube, tmp_path / "a.nc")) as scene:
        assert scene.band_labels == LABELS
        assert scene.origin_yx == (-530004, 49998)
        assert scene.acquired.isoformat() == "2024-05-01T00:00:00+00:00"
        read = scene.cube(["B04", "B02"])[:, 3:9, 4:20]
    np.testing.assert_array_equal(read, cube.to_numpy()[0, [2, 0], 3:9, 4:20])


def test_one_variable_a_band_as_openeo_writes_them(tmp_path):
    cube = _cube()
    dataset = cube.to_dataset("bands").assign(
        crs=xr.DataArray(0, attrs={"crs_wkt": 'LOCAL_CS["x"]', "spatial_ref": "EPSG:32632"})
    )
    with open_product(_write(dataset, tmp_path / "a.nc")) as scene:
        assert scene.band_labels == LABELS
        np.testing.assert_array_equal(scene.cube()[:, 0:20, 0:30], cube.to_numpy()[0])


def test_rows_stored_from_the_south_are_turned(tmp_path):
    cube = _cube(ascending=True)
    with open_product(_write(cube, tmp_path / "a.nc")) as scene:
        assert scene.grid.transform.e == -10
        assert scene.origin_yx == (-530004, 49998)
        read = scene.cube()[:, 2:7, 0:30]
    np.testing.assert_array_equal(read, cube.to_numpy()[0, :, ::-1][:, 2:7])


def test_zarr(tmp_path):
    pytest.importorskip("zarr", reason="zarr is not installed")
    cube = _cube()
    cube.to_dataset().to_zarr(tmp_path / "a.zarr", consolidated=False, zarr_format=2)
    with open_product(tmp_path / "a.zarr") as scene:
        np.testing.assert_array_equal(scene.cube()[:, 0:20, 0:30], cube.to_numpy()[0])


def test_integers_scaled_by_the_file_and_fill(tmp_path):
    cube = _cube()
    cube[0, 0, 1, 1] = np.nan
    cube[0, :, 5, 5] = 0
    cube.encoding = {"dtype": "int16", "scale_factor": 1e-4, "_FillValue": -999}
    with open_product(_write(cube, tmp_path / "a.nc")) as scene:
        read = scene.cube()[:, 0:20, 0:30]
    assert np.isnan(read[0, 1, 1])
    assert np.isnan(read[:, 5, 5]).all()
    assert np.isnan(read).sum() == 4
    np.testing.assert_allclose(read[1, 1], cube.to_numpy()[0, 1, 1], atol=1e-4)


@pytest.mark.parametrize(("dtype", "nodata"), [("int16", 0), ("uint16", 65535), ("int16", -999)])
def test_nodata_is_a_stored_number_where_the_file_scales(dtype, nodata, tmp_path):
    about = {"nodata": nodata, "scale_factor": 1e-4, "add_offset": -0.1}
    counts = np.full((3, 20, 30), 2500, dtype)
    counts[0, 1, 1] = nodata
    counts[0, 2, 2] = 1000  # reflectance 0
    cube = _cube()[0].copy(data=counts).assign_attrs(about)
    with open_product(_write(cube.drop_vars("t"), tmp_path / "a.nc")) as scene:
        read = scene.cube()[:, 0:20, 0:30]
    assert np.argwhere(np.isnan(read)).tolist() == [[0, 1, 1]]
    assert read[0, 2, 2] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("split", [False, True])
def test_nodata_of_an_open_file_that_scales(split, tmp_path):
    about = {"nodata": 65535, "scale_factor": 1e-4, "add_offset": -0.1}
    counts = np.full((3, 20, 30), 2500, "uint16")
    counts[0, 1, 1] = 65535
    cube = _cube()[0].drop_vars("t").copy(data=counts).assign_attrs(about)
    data = cube.to_dataset(dim="bands") if split else cube.to_dataset(name="reflectance")
    for variable in data.data_vars.values():
        variable.attrs = about
    _write(data, tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as opened:
        whole = as_cube(opened)
        (value,) = nodata_values(whole)
        pixels = whole.to_numpy().astype(np.float32)
        assert np.argwhere(pixels == np.float32(value)).tolist() == [[0, 1, 1]]


def test_scale_and_names_of_the_user(tmp_path):
    counts = (_cube() * 1e4).astype("int32").drop_vars("bands")
    with open_product(
        _write(counts, tmp_path / "a.nc"), bands=LABELS, scale=1e-4, offset=-0.1
    ) as scene:
        read = scene.cube(["B03"])[:, 0:20, 0:30]
    np.testing.assert_allclose(read, counts.to_numpy()[0, 1:2] * 1e-4 - 0.1, atol=1e-6)
    with pytest.raises(BandError, match="2 band names are given"):
        open_product(tmp_path / "a.nc", bands=("B02", "B03"))


def test_one_of_several_dates(tmp_path):
    cube = _cube(2)
    path = _write(cube, tmp_path / "a.nc")
    with pytest.raises(OptionError, match=r"2 dates: 2024-05-01.*2024-05-06.*--date"):
        open_product(path)
    with open_product(path, date="2024-05-06") as scene:
        np.testing.assert_array_equal(scene.cube()[:, 0:20, 0:30], cube.to_numpy()[1])


def test_dates_without_times_are_chosen_by_number(tmp_path):
    one = _cube().drop_vars("t")
    cube = xr.concat([one + 0.01 * number for number in range(12)], dim="t")
    with open_product(_write(cube, tmp_path / "a.nc"), date="1") as scene:
        read = scene.cube()[:, 0:20, 0:30]
    np.testing.assert_array_equal(read, cube.to_numpy()[1])


def test_without_coordinates_there_is_no_georeference(tmp_path):
    path = _write(_cube().drop_vars(["x", "y"]), tmp_path / "a.nc")
    with open_product(path) as scene:
        assert scene.grid.transform is None


def test_what_is_no_datacube_is_refused(tmp_path):
    text = tmp_path / "a.nc"
    text.write_text("no pixels here")
    with pytest.raises(ProductError, match=r"cannot read .* as NetCDF-4"):
        open_product(text)
    profile = xr.Dataset({"depth": ("z", np.arange(5.0))})
    with pytest.raises(ProductError, match=r"has no bands: expected .*'z': 5"):
        open_product(_write(profile, tmp_path / "b.nc"))


def _link(file: Any, secret: Path) -> None:
    import h5py

    file["B02"] = h5py.ExternalLink(str(secret), "/x")


def _external(file: Any, secret: Path) -> None:
    file.create_dataset("B02", (8, 8), "u1", external=[(str(secret), 0, 64)])


def _virtual(file: Any, secret: Path) -> None:
    import h5py

    layout = h5py.VirtualLayout((8, 8), "u1")
    layout[:] = h5py.VirtualSource(str(secret), "x", (8, 8))
    file.create_group("inner").create_virtual_dataset("B02", layout)


@pytest.mark.parametrize("kind", ["nc", "zarr"])
def test_damaged_chunks_are_told(tmp_path, kind):
    for library in ("h5netcdf", "zarr"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    values = np.random.default_rng(0).random((2, 64, 64)).astype(np.float32)
    cube = xr.DataArray(
        values, dims=("bands", "y", "x"), coords={"bands": ["B02", "B03"]}, name="reflectance"
    )
    path = tmp_path / f"a.{kind}"
    if kind == "zarr":
        cube.to_dataset().to_zarr(path, zarr_format=2, consolidated=False)
        for file in (path / "reflectance").glob("0.*"):
            file.write_bytes(b"no chunk")
    else:
        packed = {"reflectance": {"zlib": True, "complevel": 1}}
        cube.to_netcdf(path, engine="h5netcdf", encoding=packed)
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 4000] = b"U" * 4000
        path.write_bytes(content)
    with (
        open_product(path) as scene,
        pytest.raises(ProductError, match=r"cannot read pixels of .*a\..*may be damaged"),
    ):
        scene.cube()[:, :, :]


@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("shape", "chunks", "message"),
    [((10**12,), (10**6,), r"has 1000000000000 values in .*; expected a coordinate of at most"),
     ((1 << 15, 1 << 15), (1 << 14, 1 << 15), "has chunks of 2048 MB in")],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Consolidated metadata:UserWarning")
def test_a_small_store_that_needs_all_memory_is_refused(
    tmp_path, zarr_format, shape, chunks, message, consolidated
):
    """Chunks that are not there are values too, and coordinates are read whole."""
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=zarr_format)
    group.create_array("x", shape=shape, chunks=chunks, dtype="f4")
    if consolidated:
        zarr.consolidate_metadata(tmp_path / "a.zarr", zarr_format=zarr_format)
        (next((tmp_path / "a.zarr" / "x").iterdir())).unlink()
    with pytest.raises(ProductError, match=message):
        open_product(tmp_path / "a.zarr")


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore:The data type:FutureWarning")
@pytest.mark.filterwarnings("ignore:Consolidated metadata:UserWarning")
def test_bands_named_by_texts_of_one_length(tmp_path, zarr_format):
    """In format 3 the type of such a text is an object."""
    pytest.importorskip("zarr", reason="zarr is not installed")
    cube = xr.DataArray(
        np.full((2, 4, 5), 0.1, np.float32), dims=("bands", "y", "x"),
        coords={"bands": np.array(["B02", "B03"])}, name="reflectance",
    )  # fmt: skip
    cube.to_dataset().to_zarr(tmp_path / "a.zarr", zarr_format=zarr_format)
    with open_product(tmp_path / "a.zarr") as scene:
        assert scene.band_labels == ("B02", "B03")


def test_chunks_in_large_shards_are_read_one_by_one(tmp_path):
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    side = 1 << 15
    group.create_array(
        "B02", shape=(side, side), shards=(side, side), chunks=(256, 256), dtype="f4",
        dimension_names=("y", "x"),
    )  # fmt: skip
    with open_product(tmp_path / "a.zarr") as scene:
        assert scene.grid.shape_yx == (side, side)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_arrays_that_unpickle_are_refused(tmp_path: Path, zarr_format: int) -> None:
    """In place of a compressor or among the filters, in the root or in a group of EOPF."""
    pytest.importorskip("zarr", reason="zarr is not installed")
    store = tmp_path / "a.zarr"
    cube = xr.DataArray(np.ones((4, 5), np.float32), dims=("y", "x"), name="B02")
    cube.to_dataset().to_zarr(store, consolidated=False, zarr_format=zarr_format)
    for root in (store, tmp_path / "b.zarr"):
        if root != store:
            shutil.copytree(store, root / "measurements" / "reflectance" / "r10m")
        file = next(root.rglob("B02")) / (".zarray" if zarr_format == 2 else "zarr.json")
        text = file.read_text()
        if zarr_format == 2:
            content = {**json.loads(text), "filters": [{"id": "vlen-utf8"}, {"id": "pickle"}]}
        else:
            content = {**json.loads(text), "codecs": [{"name": "numcodecs.pickle"}]}
        file.write_text(json.dumps(content))
        with pytest.raises(ProductError, match="asks for Python's pickle"):
            open_product(root)
        file.write_text(text)


def test_groups_that_hold_each_other_end(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "scene.nc", "w") as file:
        within = file
        for _ in range(40):  # 2 ** 40 ways to the last one, and a circle
            following = within.create_group("a")
            within["b"] = following
            within = following
        within["c"] = file["a"]
    with pytest.raises(ProductError, match="has no bands"):
        open_product(tmp_path / "scene.nc")


@pytest.mark.parametrize("point", [_link, _external, _virtual])
def test_values_of_other_files_are_refused(
    point: Callable[[Any, Path], None], tmp_path: Path
) -> None:
    h5py = pytest.importorskip("h5py")
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(64)))
    with h5py.File(tmp_path / "scene.nc", "w") as file:
        point(file, secret)
    with pytest.raises(ProductError, match=r"(takes|holds) .*B02.*of its own values"):
        open_product(tmp_path / "scene.nc")


@pytest.mark.parametrize(
    ("shape", "chunks", "message"),
    [
        ((1 << 33,), (1 << 16,), "has 8589934592 values in /x; expected a coordinate of at most"),
        ((1 << 15, 1 << 15), (1 << 14, 1 << 15), "has chunks of 2048 MB in /x"),
    ],
)
def test_a_small_file_that_needs_all_memory_is_refused(tmp_path, shape, chunks, message):
    """xarray reads coordinates whole, and HDF5 unpacks whole chunks."""
    import h5py

    path = tmp_path / "a.nc"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", shape=shape, chunks=chunks, dtype="f4", compression="gzip")
    assert path.stat().st_size < 10_000
    with pytest.raises(ProductError, match=message):
        open_product(path)
