"""One rule of no-data on every path by which pixels come in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from numpy.typing import NDArray
from rasterio.transform import from_origin

from openeo_cloudmask.datacube import CubeReader, nodata_values
from openeo_cloudmask.models.inputs import ModelInput
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import open_product
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.sensors import SENSORS

BANDS = ("B02", "B03", "B04", "B08")
SHAPE_YX = (6, 8)
Read = Callable[[Path, NDArray[Any], float, float | None], NDArray[np.float32]]


def _cube(stored: NDArray[Any], nodata: float | None) -> xr.DataArray:
    attrs = {} if nodata is None else {"_FillValue": nodata}
    return xr.DataArray(
        stored, dims=("bands", "y", "x"), coords={"bands": list(BANDS)}, attrs=attrs
    )


def _datacube(
    _: Path, stored: NDArray[Any], scale: float, nodata: float | None
) -> NDArray[np.float32]:
    inputs = ModelInput(sensor=SENSORS["sentinel-2-l1c"], band_names=BANDS)
    cube = _cube(stored, nodata)
    reader = CubeReader(cube.variable, inputs, MaskOptions(scale=scale), nodata_values(cube))
    return reader[:, 0 : SHAPE_YX[0], 0 : SHAPE_YX[1]]


def _dask(_: Path, stored: NDArray[Any], scale: float, nodata: float | None) -> NDArray[np.float32]:
    da = pytest.importorskip("dask.array")
    inputs = ModelInput(sensor=SENSORS["sentinel-2-l1c"], band_names=BANDS)
    values = () if nodata is None else (nodata,)
    reader = CubeReader(da.from_array(stored, chunks=3), inputs, MaskOptions(scale=scale), values)
    return reader[:, 0 : SHAPE_YX[0], 0 : SHAPE_YX[1]]


def _write(folder: Path, stored: NDArray[Any], nodata: float | None) -> Path:
    path = folder / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=len(stored), height=SHAPE_YX[0], width=SHAPE_YX[1],
        dtype=stored.dtype.name, crs="EPSG:32632", nodata=nodata, photometric="MINISBLACK",
        transform=from_origin(600_000, 5_000_000, 10, 10),
    ) as dataset:  # fmt: skip
        dataset.write(stored)
        dataset.descriptions = BANDS
    return path


def _geotiff(
    folder: Path, stored: NDArray[Any], scale: float, nodata: float | None
) -> NDArray[np.float32]:
    with open_product(_write(folder, stored, nodata), scale=scale) as scene:
        return scene.cube(BANDS)[:, 0 : SHAPE_YX[0], 0 : SHAPE_YX[1]]


def _asset(
    folder: Path, stored: NDArray[Any], scale: float, nodata: float | None
) -> NDArray[np.float32]:
    pytest.importorskip("dask")
    from openeo_cloudmask.backend.cubes.read import BandFile, FilesRef

    class Here:
        """Stands for what reads from outside; the file is here."""

        open_raster = staticmethod(open_raster)

    path = str(_write(folder, stored, nodata))
    files = tuple(
        BandFile(path=path, index=number, scale=scale, shape_yx=SHAPE_YX)
        for number in range(1, len(BANDS) + 1)
    )
    source = FilesRef(files=files, outside=Here()).open()
    return source.read(range(len(BANDS)), slice(0, SHAPE_YX[0]), slice(0, SHAPE_YX[1]))


def _netcdf(
    folder: Path, stored: NDArray[Any], scale: float, nodata: float | None
) -> NDArray[np.float32]:
    pytest.importorskip("h5netcdf")
    path = folder / "scene.nc"
    cube = _cube(stored, nodata)
    cube.to_dataset(name="reflectance").to_netcdf(path, engine="h5netcdf")
    with open_product(path, sensor="sentinel-2-l1c", scale=scale) as scene:
        return scene.cube(BANDS)[:, 0 : SHAPE_YX[0], 0 : SHAPE_YX[1]]


PATHS = {
    "datacube": _datacube,
    "dask": _dask,
    "geotiff": _geotiff,
    "stac asset": _asset,
    "netcdf": _netcdf,
}
FILLS: list[tuple[str, float, float | None]] = [
    ("uint16", 0, None),
    ("uint16", 65535, None),
    ("int16", -32768, None),
    ("int16", -9999, None),
    ("int16", -1000, None),  # count 0 with Sentinel-2's offset applied
    ("int16", -2500, None),
    ("float32", 0, None),
    ("float32", -9999, None),
    ("float32", np.nan, None),
    ("float32", 0, -9999.0),  # another value is declared, but these were never written
    ("int16", 77, 77),
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("dtype", "fill", "declared"), FILLS)
def test_fill_is_no_data_on_every_path(
    tmp_path: Path, path: str, dtype: str, fill: float, declared: float | None
) -> None:
    counts = np.random.default_rng(1).integers(100, 6000, (len(BANDS), *SHAPE_YX))
    stored = counts.astype(dtype)
    stored[:, :2, :3] = fill
    stored[1, 5, 5] = 0  # one dark band is no hole
    pixels = PATHS[path](tmp_path, stored, 0.0001, declared)
    hole = np.zeros(SHAPE_YX, bool)
    hole[:2, :3] = True
    np.testing.assert_array_equal(np.isnan(pixels), np.broadcast_to(hole, pixels.shape))
    np.testing.assert_allclose(pixels[:, ~hole], stored[:, ~hole] * 1e-4, rtol=1e-5)


@pytest.mark.parametrize("white", [255, 250])
def test_white_of_eight_bits_is_seen(tmp_path: Path, white: int) -> None:
    stored = np.full((len(BANDS), *SHAPE_YX), white, np.uint8)
    for read in PATHS.values():
        assert np.isfinite(read(tmp_path, stored, 1 / 255, None)).all()
        for path in tmp_path.iterdir():
            path.unlink()


def test_undeclared_fill_is_counted_with_its_reason(tmp_path: Path) -> None:
    stored = np.full((len(BANDS), *SHAPE_YX), 3000, np.int16)
    stored[:, 0] = -32768
    stored[:, 1, :3] = -1000
    stored[:, 2] = 77
    with open_product(_write(tmp_path, stored, 77), scale=0.0001) as scene:
        scene.cube()[:, 0 : SHAPE_YX[0], 0 : SHAPE_YX[1]]
        assert dict(scene.source.fills) == {
            "-32768 in all bands": 8,
            "count 0 with the offset -0.1 applied": 3,
        }
