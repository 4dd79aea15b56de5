"""Scenes as their providers make them: their mask is that of the same pixels in a plain array."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from numpy.typing import NDArray

import openeo_cloudmask as cm
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import ReadOptions, mask_product
from tests.products.test_eopf import write_product

SIZE_PX = 60
Counts = NDArray[Any]
X, Y = 501480, 5300040
"""A seam of windows crosses the rows; one in the columns, too, would double the work."""


@dataclass(frozen=True, kw_only=True)
class Provider:
    """How one provider stores and names bands."""

    make: Callable[[Path, Provider, Counts], Path]
    """Writes counts (band, y, x) below a folder and returns what is masked."""
    sensor: str
    bands: Sequence[str]
    """The sensor's labels, in the order of the counts."""
    names: Sequence[str]
    """Of the files or layers, in the same order."""
    scale: float
    offset: float = 0.0
    nodata: int = 0
    dtype: str = "uint16"
    declared: bool = True
    """Whether the data says what means no-data; else it is where all bands hold it."""
    given: dict[str, Any] = field(default_factory=dict)
    """What a user has to say, because the data does not."""

    @property
    def pixel_m(self) -> int:
        """Size of a pixel."""
        return 30 if "landsat" in self.sensor else 10


def write(
    path: Path, it: Provider, counts: Counts, names: Sequence[str] = (), **profile: Any
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = counts.shape[-2:]
    with rasterio.open(
        path, "w", height=height, width=width, count=len(counts), dtype=counts.dtype,
        crs="EPSG:32632", transform=rasterio.Affine(it.pixel_m, 0, X, 0, -it.pixel_m, Y),
        **{"driver": "GTiff", **profile},
    ) as dataset:  # fmt: skip
        dataset.write(counts)
        for number, name in enumerate(names, start=1):
            dataset.set_band_description(number, name)
    return path


def a_file_per_band(folder: Path, it: Provider, counts: Counts, **profile: Any) -> Path:
    for name, plane in zip(it.names, counts, strict=True):
        write(folder / name, it, plane[np.newaxis], **profile)
    return folder


def earth_search(folder: Path, it: Provider, counts: Counts) -> Path:
    """COGs beside a thumbnail, the true-colour image and the scene classification."""
    small = counts[:3, ::2, ::2].astype(np.uint8)
    write(folder / "TCI.tif", it, small, driver="COG")
    write(folder / "SCL.tif", it, small[:1], driver="COG")
    write(folder / "AOT.tif", it, counts[:1], driver="COG")
    (folder / "thumbnail.jpg").write_bytes(b"JPEG")
    (folder / "tileinfo_metadata.json").write_text("{}")
    return a_file_per_band(folder, it, counts, driver="COG", nodata=0)


def aws_tile(folder: Path, it: Provider, counts: Counts) -> Path:
    """JPEG 2000, lossless, beside a preview and the tile's metadata."""
    (folder / "qi").mkdir(parents=True)
    (folder / "metadata.xml").write_text("<Level-1C_Tile_ID/>")
    (folder / "preview.jpg").write_bytes(b"JPEG")
    lossless = {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES"}
    return a_file_per_band(folder, it, counts, **lossless)


def hls(folder: Path, it: Provider, counts: Counts) -> Path:
    scene = it.names[0].rpartition(".B")[0]
    for layer in ("Fmask", "SAA", "SZA", "VAA", "VZA"):
        write(folder / f"{scene}.{layer}.tif", it, counts[:1].astype(np.uint16))
    return a_file_per_band(folder, it, counts, nodata=it.nodata)


def landsat_tar(folder: Path, it: Provider, counts: Counts) -> Path:
    """Level-2 with its MTL file, temperature and quality, packed flat."""
    scene = it.names[0].partition("_SR_")[0]
    a_file_per_band(folder, it, counts, nodata=0)
    for layer in ("ST_B10", "QA_PIXEL", "SR_QA_AEROSOL"):
        write(folder / f"{scene}_{layer}.TIF", it, counts[:1])
    (folder / f"{scene}_MTL.txt").write_text(
        "GROUP = LANDSAT_METADATA_FILE\n  GROUP = PRODUCT_CONTENTS\n"
        f'    LANDSAT_PRODUCT_ID = "{scene}"\n    PROCESSING_LEVEL = "L2SP"\n'
        "  END_GROUP = PRODUCT_CONTENTS\nEND_GROUP = LANDSAT_METADATA_FILE\nEND\n"
    )
    packed = folder / f"{scene}.tar"
    with tarfile.open(packed, "w") as tar:
        for path in sorted(folder.iterdir()):
            if path != packed:
                tar.add(path, path.name)
    return packed


def maja(folder: Path, it: Provider, counts: Counts) -> Path:
    """Flat and slope-corrected reflectance side by side; the second is the one to take."""
    for name in it.names:
        write(folder / name.replace("_FRE_", "_SRE_"), it, counts[:1] // 2)
    write(folder / "MASKS" / f"{it.names[0][:-10]}_CLM_R1.tif", it, counts[:1].astype(np.uint8))
    return a_file_per_band(folder, it, counts, nodata=it.nodata)


def a_layer_per_band(folder: Path, it: Provider, counts: Counts) -> Path:
    return write(folder / "export.tif", it, counts, it.names, nodata=it.nodata)


def axes(it: Provider) -> tuple[Counts, Counts]:
    """Return y and x of the pixels' centres."""
    steps = (np.arange(SIZE_PX) + 0.5) * it.pixel_m
    return Y - steps, X + steps


def one_array(it: Provider, counts: Counts, dates: Sequence[str]) -> xr.Dataset:
    """One variable per band and date, as odc-stac and datacube load them."""
    y, x = axes(it)
    crs = xr.DataArray(32632, attrs={"spatial_ref": rasterio.CRS.from_epsg(32632).to_wkt()})
    about = {"nodata": it.nodata, "units": "1", "grid_mapping": "spatial_ref"}
    shifts = range(len(dates))
    return xr.Dataset(
        {
            name: (("time", "y", "x"), np.stack([np.roll(plane, n) for n in shifts]), about)
            for name, plane in zip(it.names, counts, strict=True)
        },
        coords={"time": np.array(dates, "datetime64[ns]"), "y": y, "x": x, "spatial_ref": crs},
    )  # fmt: skip


def dea_netcdf(folder: Path, it: Provider, counts: Counts) -> Path:
    pytest.importorskip("h5netcdf")
    folder.mkdir()
    one_array(it, counts, ["2023-01-01"]).to_netcdf(folder / "dea.nc", engine="h5netcdf")
    return folder / "dea.nc"


def odc_zarr(folder: Path, it: Provider, counts: Counts) -> Path:
    pytest.importorskip("zarr")
    cube = one_array(it, counts, ["2023-01-01", "2023-01-06", "2023-01-11"])
    cube.to_zarr(folder / "cube.zarr", consolidated=False, zarr_format=2)
    return folder / "cube.zarr"


def eopf(zarr_format: int) -> Callable[[Path, Provider, Counts], Path]:
    def make(folder: Path, it: Provider, counts: Counts) -> Path:
        pytest.importorskip("zarr")
        bands = dict(zip(it.names, counts, strict=True))
        return write_product(folder, zarr_format, bands=bands, left=X)

    return make


S2 = ("B02", "B03", "B04", "B08")
S2_LONG = ("B02", "B03", "B04", "B08", "B11", "B12")
OLI = ("B2", "B3", "B4", "B5", "B6", "B7")
TM = ("B1", "B2", "B3", "B4", "B5", "B7")
L2 = {"scale": 0.0000275, "offset": -0.2}
PROVIDERS = {
    "Earth Search": Provider(
        make=earth_search, sensor="sentinel-2-l2a", bands=S2, scale=0.0001,
        names=[f"{band}.tif" for band in S2], given={"sensor": "sentinel-2-l2a", "scale": 0.0001},
    ),
    "Earth Search, by asset": Provider(
        make=earth_search, sensor="sentinel-2-l2a", bands=S2, scale=0.0001,
        names=["blue.tif", "green.tif", "red.tif", "nir.tif"],
        given={"sensor": "sentinel-2-l2a", "scale": 0.0001},
    ),
    "AWS, Level-1C": Provider(
        make=aws_tile, declared=False, sensor="sentinel-2-l1c", bands=S2, scale=0.0001, offset=-0.1,
        names=[f"{band}.jp2" for band in S2],
        given={"sensor": "sentinel-2-l1c", "scale": 0.0001, "offset": -0.1},
    ),
    "AWS, Level-2A": Provider(
        make=aws_tile, declared=False, sensor="sentinel-2-l2a", bands=S2, scale=0.0001, offset=-0.1,
        names=[f"R10m/{band}.jp2" for band in S2],
        given={"sensor": "sentinel-2-l2a", "scale": 0.0001, "offset": -0.1},
    ),
    "HLS S30": Provider(
        make=hls, sensor="sentinel-2-l2a", bands=S2_LONG, scale=0.0001, nodata=-9999, dtype="int16",
        names=[f"HLS.S30.T32TMR.2021001T102019.v2.0.{band}.tif" for band in S2_LONG],
    ),
    "HLS L30": Provider(
        make=hls, sensor="landsat-8-9-l2", bands=OLI, scale=0.0001, nodata=-9999, dtype="int16",
        names=[f"HLS.L30.T32TMR.2021001T102019.v2.0.B0{band[1]}.tif" for band in OLI],
    ),
    "Landsat 8 Level-2": Provider(
        make=landsat_tar, sensor="landsat-8-9-l2", bands=OLI, **L2,
        names=[f"LC08_L2SP_193027_20201204_20210313_02_T1_SR_{band}.TIF" for band in OLI],
    ),
    "Landsat 5 Level-2": Provider(
        make=landsat_tar, sensor="landsat-4-5-l2", bands=TM, **L2,
        names=[f"LT05_L2SP_193027_19951204_20210313_02_T1_SR_{band}.TIF" for band in TM],
    ),
    "Earth Engine, Landsat 8": Provider(
        make=a_layer_per_band, sensor="landsat-8-9-l2", bands=OLI, **L2,
        names=[f"SR_{band}" for band in OLI], given={"sensor": "landsat-8-9-l2", **L2},
    ),
    "Earth Engine, Sentinel-2": Provider(
        make=a_layer_per_band, sensor="sentinel-2-l2a", bands=S2_LONG, scale=0.0001,
        names=["B2", "B3", "B4", "B8", "B11", "B12"],
        given={"sensor": "sentinel-2-l2a", "scale": 0.0001},
    ),
    "Earth Engine, a file per band": Provider(
        make=a_file_per_band, declared=False, sensor="landsat-8-9-l2", bands=OLI, **L2,
        names=[f"LC08_193027_20201204.SR_{band}.tif" for band in OLI],
        given={"sensor": "landsat-8-9-l2", **L2},
    ),
    "DEA, files": Provider(
        make=a_file_per_band, sensor="landsat-8-9-l2", bands=OLI, scale=0.0001, nodata=-999,
        dtype="int16",
        names=[f"ga_ls8c_nbart_3-2-1_091084_2023-01-01_final_band0{band[1]}.tif" for band in OLI],
    ),
    "DEA, NetCDF": Provider(
        make=dea_netcdf, sensor="landsat-8-9-l2", bands=OLI, scale=0.0001, nodata=-999,
        dtype="int16",
        names=[f"nbart_{name}" for name in ("blue", "green", "red", "nir", "swir_1", "swir_2")],
        given={"sensor": "landsat-8-9-l2", "scale": 0.0001},
    ),
    "odc-stac, Zarr of three dates": Provider(
        make=odc_zarr, sensor="sentinel-2-l2a", bands=S2, scale=0.0001, offset=-0.1,
        names=["blue", "green", "red", "nir"],
        given={"sensor": "sentinel-2-l2a", "scale": 0.0001, "offset": -0.1, "date": "2023-01-01"},
    ),
    "MAJA": Provider(
        make=maja, sensor="sentinel-2-l2a", bands=S2, scale=0.0001, nodata=-10000, dtype="int16",
        names=[f"SENTINEL2A_20210101-102019-123_L2A_T32TMR_C_V2-2_FRE_B{n}.tif" for n in "2348"],
    ),
    "EOPF Zarr 2": Provider(
        make=eopf(2), sensor="sentinel-2-l1c", bands=S2, scale=0.0001, offset=-0.1,
        names=["b02", "b03", "b04", "b08"], given={"bands": S2},
    ),
    "EOPF Zarr 3": Provider(
        make=eopf(3), sensor="sentinel-2-l1c", bands=S2, scale=0.0001, offset=-0.1,
        names=["b02", "b03", "b04", "b08"], given={"bands": S2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_mask_is_that_of_the_plain_array(name: str, tmp_path: Path) -> None:
    it = PROVIDERS[name]
    common = ("blue", "green", "red", "nir", "swir16", "swir22")[: len(it.bands)]
    scene = cm.simulate(3, size=SIZE_PX, bands=["B02", "B03", "B04", "B08", "B11", "B12"])
    reflectance = scene.cube[: len(common)]
    counts = np.round((reflectance - it.offset) / it.scale).clip(1, 30000).astype(it.dtype)
    counts[:, :7] = it.nodata
    if it.declared:  # one band that is not seen is enough
        counts[0, 7:9] = it.nodata
    plain = counts.astype(np.float32) * np.float32(it.scale) + np.float32(it.offset)
    plain[counts == it.nodata] = np.nan
    y, x = axes(it)  # windows are anchored where the scene lies
    coords = {"bands": list(it.bands), "y": y, "x": x}
    cube = xr.DataArray(plain, dims=("bands", "y", "x"), coords=coords)
    expected = cm.mask(cube, sensor=it.sensor).sel(bands="mask").to_numpy()

    given = dict(it.given)
    options = MaskOptions(sensor=given.pop("sensor", None))
    path = it.make(tmp_path / "scene", it, counts)
    report = mask_product(path, tmp_path / "mask.tif", options, read=ReadOptions(**given))
    with rasterio.open(report.path) as dataset:
        found = dataset.read(1)
    assert report.sensor == it.sensor
    assert (found[: 9 if it.declared else 7] == 255).all()
    assert (found[9:] != 255).all()
    assert len(np.unique(found)) > 2
    np.testing.assert_array_equal(found, expected)
