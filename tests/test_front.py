"""The one call: whatever holds pixels in, the like of it out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import openeo_cloudmask as cm
from openeo_cloudmask.datacube import mask_datacube
from openeo_cloudmask.errors import BandError, InputError, OptionError
from openeo_cloudmask.models import get_model
from openeo_cloudmask.sensors import SENSORS
from openeo_cloudmask.simulator.products import write_geotiff

S2 = SENSORS["sentinel-2-l1c"].band_names
HOLLSTEIN: dict[str, Any] = {"model": "hollstein", "sensor": "sentinel-2-l1c"}
DEFAULT: dict[str, Any] = {"sensor": "sentinel-2-l1c"}


@pytest.fixture
def cube() -> xr.DataArray:
    scene = cm.simulate(3, size=90, nodata_fraction=0.1)
    height, width = scene.truth.shape
    return xr.DataArray(
        scene.cube,
        dims=("bands", "y", "x"),
        coords={
            "bands": list(scene.band_names),
            "y": 5_000_000 - 10.0 * (np.arange(height) + 0.5),
            "x": 600_000 + 10.0 * (np.arange(width) + 0.5),
        },
    )


@pytest.fixture
def expected(cube: xr.DataArray) -> NDArray[np.uint8]:
    values: NDArray[np.uint8] = mask_datacube(cube, cm.MaskOptions(**HOLLSTEIN)).to_numpy()[0]
    assert len(np.unique(values)) > 2
    return values


def _counted(cube: xr.DataArray) -> xr.DataArray:
    """As rioxarray.open_rasterio: bands counted from 1, names in long_name."""
    counted = cube.rename(bands="band").assign_coords(band=np.arange(1, cube.sizes["bands"] + 1))
    return counted.assign_attrs(long_name=tuple(cube["bands"].to_numpy()))


def _odc(cube: xr.DataArray) -> xr.Dataset:
    """As odc-stac: a variable per band, time first."""
    return cube.expand_dims(time=np.array(["2024-05-01"], "M8[ns]")).to_dataset(dim="bands")


def _band_variables(cube: xr.DataArray) -> xr.Dataset:
    """As rioxarray.open_rasterio(band_as_variable=True)."""
    return xr.Dataset(
        {
            f"band_{n}": cube.isel(bands=n - 1, drop=True).assign_attrs(long_name=str(label))
            for n, label in enumerate(cube["bands"].to_numpy(), start=1)
        }
    )


SHAPES: dict[str, Callable[[xr.DataArray], xr.DataArray | xr.Dataset]] = {
    "openEO": lambda cube: cube,
    "rioxarray": _counted,
    "rioxarray, a variable per band": _band_variables,
    "engine rasterio": lambda cube: _counted(cube).to_dataset(name="band_data"),
    "odc-stac": _odc,
    "to_dataarray": lambda cube: cube.rename(bands="variable"),
    "stackstac": lambda cube: cube.rename(bands="band").expand_dims("time"),
    "latitude and longitude": lambda cube: cube.rename(y="latitude", x="longitude"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_other_readers_give_the_same_mask(
    cube: xr.DataArray, expected: NDArray[np.uint8], shape: str
) -> None:
    found = cm.mask(SHAPES[shape](cube), **HOLLSTEIN)
    values = found["mask"] if isinstance(found, xr.Dataset) else found
    np.testing.assert_array_equal(np.squeeze(values.to_numpy()), expected)


def test_arrays_give_arrays(cube: xr.DataArray, expected: NDArray[np.uint8]) -> None:
    found = cm.mask(cube.to_numpy(), bands=S2, **HOLLSTEIN)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, expected)
    dates = np.stack([cube.to_numpy()] * 2)
    assert cm.mask(dates, bands=S2, **HOLLSTEIN).shape == (2, 90, 90)
    assert cm.mask(dates, bands=S2, categorise=False, **HOLLSTEIN).shape == (2, 4, 90, 90)


def test_a_path_gives_an_array_with_its_grid(tmp_path: Path) -> None:
    scene = cm.simulate(3, size=90, nodata_fraction=0.1)
    found = cm.mask(write_geotiff(scene, tmp_path / "scene.tif"), **HOLLSTEIN)
    np.testing.assert_array_equal(
        found.to_numpy()[0], cm.mask(scene.cube, bands=scene.band_names, **HOLLSTEIN)
    )
    assert float(found["x"][0]) == scene.transform.c + scene.transform.a / 2
    assert "crs_wkt" in found["spatial_ref"].attrs


@pytest.mark.slow
@pytest.mark.parametrize("options", [HOLLSTEIN, DEFAULT])
def test_lazy_masks_are_the_eager_ones_bit_for_bit(options: dict[str, Any]) -> None:
    pytest.importorskip("dask")
    scene = cm.simulate(5, size=(800, 60))
    cube = xr.DataArray(
        scene.cube, dims=("bands", "y", "x"), coords={"bands": list(scene.band_names)}
    )
    eager = cm.mask(cube, **options)
    lazy = cm.mask(cube.chunk(y=90, x=70, bands=4), **options)
    assert lazy.chunks is not None
    xr.testing.assert_identical(lazy.compute(scheduler="synchronous"), eager)
    from openeo_cloudmask.lazy import mask_lazily

    strips = mask_lazily(cube, cm.MaskOptions(**options), strips=2)
    assert len(strips.chunks[1]) > 1
    xr.testing.assert_identical(strips.compute(scheduler="synchronous"), eager)


def test_attributes_say_what_it_is_and_survive_files(cube: xr.DataArray, tmp_path: Path) -> None:
    found = cm.mask(cube, **HOLLSTEIN)
    assert found.name == "cloud_mask"
    assert found.attrs["flag_values"].tolist() == [0, 1, 2, 3]
    assert found.attrs["flag_meanings"] == "clear thick-cloud thin-cloud cloud-shadow"
    assert found.attrs["flag_colors"].startswith("#009E73 #")
    assert found.attrs["model"] == "hollstein"
    assert found.attrs["software"] == f"openeo-cloudmask {cm.__version__}"
    pytest.importorskip("h5netcdf")
    found.to_netcdf(tmp_path / "mask.nc", engine="h5netcdf")
    with xr.open_dataarray(tmp_path / "mask.nc", engine="h5netcdf") as read:
        np.testing.assert_array_equal(read, found)
        assert read.dtype == np.uint8
        for key in ("flag_meanings", "flag_colors", "model", "bands", "nodata"):
            assert read.attrs[key] == found.attrs[key]


def test_attributes_survive_zarr(cube: xr.DataArray, tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    found = cm.mask(cube, **HOLLSTEIN)
    found.to_zarr(tmp_path / "mask.zarr", consolidated=False, zarr_format=2)
    read = xr.open_dataarray(
        tmp_path / "mask.zarr", engine="zarr", consolidated=False, zarr_format=2
    )
    np.testing.assert_array_equal(read, found)
    assert list(read.attrs["flag_values"]) == [0, 1, 2, 3]
    assert read.attrs["model"] == "hollstein"


def test_rioxarray_writes_it_with_no_data(cube: xr.DataArray, tmp_path: Path) -> None:
    pytest.importorskip("rioxarray")
    import rasterio

    found = cm.mask(cube.rename(bands="band"), **HOLLSTEIN).rio.write_crs("EPSG:32633")
    found.rio.to_raster(tmp_path / "mask.tif")
    with rasterio.open(tmp_path / "mask.tif") as dataset:
        assert dataset.nodata == 255
        assert dataset.dtypes == ("uint8",)
        np.testing.assert_array_equal(dataset.read(), found)


def test_declared_no_data_of_each_variable_counts(cube: xr.DataArray) -> None:
    counts = xr.where(np.isnan(cube), 0, cube * 10_000).astype("int16").to_dataset(dim="bands")
    for number, name in enumerate(counts.data_vars):
        counts[name][5, number] = -5 - number % 2
        counts[name].attrs["nodata"] = -5 - number % 2
    found = cm.mask(counts, scale=1e-4, **HOLLSTEIN)["mask"]
    used = [S2.index(name) for name in get_model("hollstein").inputs["sentinel-2-l1c"]]
    assert (found.to_numpy()[5, used] == 255).all()


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (np.zeros((13, 9, 9)), {}, BandError, "needs bands=, a name for each band"),
        (np.zeros((13, 9, 9)), {"bands": "B02"}, BandError, "expected 13 names"),
        (np.zeros((9, 9)), {"bands": S2}, InputError, r"shape \(9, 9\); expected \(band, y, x\)"),
        ([1, 2], {}, InputError, "of type list; expected an xarray.DataArray or Dataset"),
        (None, {}, InputError, "of type NoneType"),
        (xr.Dataset({"a": 1}), {}, InputError, "none with dimensions y and x"),
        (
            xr.DataArray(np.zeros((3, 9, 9)), dims=("band", "y", "x")),
            {},
            BandError,
            "have no names",
        ),
        (xr.DataArray(np.zeros((3, 9)), dims=("a", "b")), {}, InputError, "dimensions a, b"),
        (np.zeros((13, 9, 9)), {"bands": S2, "modle": 1}, OptionError, "did you mean 'model'"),
        (np.zeros((13, 9, 9)), {"bands": S2, "foo": 1}, OptionError, r"'foo'\. Known are"),
        (np.zeros((9, 9, 13)), {"bands": S2}, BandError, r"numpy\.moveaxis\(data, -1, -3\)"),
        (xr.DataTree(), {}, InputError, r"of type DataTree.*\.to_dataset\(\)"),
        (
            xr.DataArray(np.zeros((3, 9, 9)), dims=("sample", "y", "x")),
            {},
            InputError,
            "dimensions sample, y, x; expected bands",
        ),
    ],
)
def test_wrong_calls_say_what_was_expected(
    data: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        cm.mask(data, **options)


def test_a_channel_is_a_band_and_numbers_may_be_numpys(cube: xr.DataArray) -> None:
    plain = cm.mask(cube, **HOLLSTEIN)
    found = cm.mask(cube.rename(bands="channel"), scale=np.float32(1), **HOLLSTEIN)
    np.testing.assert_array_equal(found.to_numpy(), plain.to_numpy())


def test_every_public_name_is_there() -> None:
    assert [name for name in cm.__all__ if getattr(cm, name, None) is None] == []
    assert set(dir(cm)) == set(cm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cm.nothing
    assert "mini" in [entry.id for entry in cm.list_models()]


def test_import_is_quick_and_without_torch() -> None:
    code = (
        "import sys, time; begin = time.process_time(); import openeo_cloudmask; "
        "assert time.process_time() - begin < 0.3; "
        "assert not {'torch', 'xarray', 'rasterio', 'openeo'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
