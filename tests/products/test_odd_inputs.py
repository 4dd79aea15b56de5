"""What newcomers pass: a mask, or one line that says what to pass instead."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from numpy.typing import NDArray
from typer.testing import CliRunner

import openeo_cloudmask as cm
from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import CloudMaskError
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import ReadOptions, mask_product, open_product

FOUR = ("B02", "B03", "B04", "B08")
Write = Callable[..., Path]


def pixels(size: int = 32) -> NDArray[np.float32]:
    return cm.simulate(3, size=size, bands=list(FOUR)).cube


def cube(*, dims: tuple[str, str] = ("y", "x"), step: float = 10, first: float = 5e5) -> Any:
    steps = step * np.arange(32)
    coords = {"bands": list(FOUR), dims[0]: first - steps, dims[1]: first + steps}
    return xr.DataArray(pixels(), dims=("bands", *dims), coords=coords, name="reflectance")


def run(*arguments: object) -> str:
    result = CliRunner().invoke(build_app(), ["run", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.output


def crs_of(path: Path) -> Any:
    with rasterio.open(path) as dataset:
        return dataset.crs


@pytest.mark.parametrize("part", ["GRANULE", "GRANULE/*", "GRANULE/*/IMG_DATA"])
def test_a_folder_inside_a_safe_is_told_from_a_folder_of_bands(
    part: str, write_safe: Callable[..., tuple[Path, Any]], tmp_path: Path
) -> None:
    safe, _ = write_safe()
    (folder,) = safe.glob(part)
    with pytest.raises(CloudMaskError, match=rf"is a part of the product {safe}, .*: {safe}$"):
        run(folder, tmp_path / "mask.tif")
    with open_product(folder, scale=0.0001, offset=-0.1) as scene:  # who knows what to say
        assert "B02" in scene.band_labels


def test_one_image_of_a_safe(write_safe: Callable[..., tuple[Path, Any]], tmp_path: Path) -> None:
    safe, _ = write_safe("L2A")
    (image,) = safe.rglob("*B02_10m.jp2")
    with pytest.raises(CloudMaskError, match=rf"one file of the product {safe}: mask that"):
        run(image, tmp_path / "mask.tif")


def test_the_fourth_band_of_8_bits_is_a_band_where_it_is_named(
    write_raster: Write, tmp_path: Path
) -> None:
    counts = np.clip(np.rint(pixels() * 255), 0, 255).astype(np.uint8)
    expected = pixels_seen(counts)
    named = write_raster(counts, "named.tif", labels=FOUR)
    nameless = write_raster(counts, "nameless.tif")
    with rasterio.open(nameless) as dataset:
        assert dataset.colorinterp[3].name == "alpha"
    with (
        open_product(named, scale=1 / 255) as scene,
        open_product(nameless, scale=1 / 255, bands=FOUR) as other,
    ):
        np.testing.assert_allclose(scene.cube(FOUR)[:, :, :], expected, rtol=1e-6)
        np.testing.assert_allclose(other.cube(FOUR)[:, :, :], expected, rtol=1e-6)
    with open_product(nameless) as scene:  # a picture: red, green, blue, alpha
        assert scene.band_labels == ("1", "2", "3")


def pixels_seen(counts: NDArray[np.uint8]) -> NDArray[np.float32]:
    seen = counts * np.float32(1 / 255)
    seen[:, (counts == 0).all(axis=0)] = np.nan
    return seen


def test_a_reference_system_can_be_given_where_the_file_has_none(tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf")
    path, mask = tmp_path / "scene.nc", tmp_path / "mask.tif"
    cube(first=5_000_000).to_netcdf(path, engine="h5netcdf")
    with pytest.raises(CloudMaskError, match=r"no georeference.*--crs EPSG.*--ungeoreferenced"):
        run(path, mask)
    run(path, mask, "--crs", "EPSG:32632")
    assert crs_of(mask).to_epsg() == 32632
    with pytest.raises(CloudMaskError, match="'nowhere' is not known"):
        run(path, tmp_path / "other.tif", "--crs", "nowhere")


def test_a_reference_system_that_the_file_says_stays(write_raster: Write, tmp_path: Path) -> None:
    path = write_raster(pixels(), labels=FOUR)
    with pytest.raises(CloudMaskError, match="says its own, EPSG:32632; leave it out"):
        mask_product(path, tmp_path / "mask.tif", read=ReadOptions(crs="EPSG:4326"))
    nowhere = write_raster(pixels(), "nowhere.tif", labels=FOUR, georeferenced=False)
    with pytest.raises(CloudMaskError, match="has no coordinates; leave it out"):
        mask_product(nowhere, tmp_path / "mask.tif", read=ReadOptions(crs="EPSG:4326"))


@pytest.mark.parametrize("dims", [("lat", "lon"), ("latitude", "longitude")])
def test_degrees_are_known_by_their_names(dims: tuple[str, str], tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf")
    cube(dims=dims, step=1e-4, first=40).to_netcdf(tmp_path / "scene.nc", engine="h5netcdf")
    run(tmp_path / "scene.nc", tmp_path / "mask.tif")
    assert crs_of(tmp_path / "mask.tif").to_epsg() == 4326


def test_netcdf_3_as_xarray_writes_it_where_it_has_nothing_else(tmp_path: Path) -> None:
    cube().to_netcdf(tmp_path / "scene.nc", engine="scipy")
    with open_product(tmp_path / "scene.nc") as scene:
        assert scene.band_labels == FOUR
        np.testing.assert_array_equal(scene.cube()[:, :, :], pixels())
    broken = tmp_path / "broken.nc"
    broken.write_bytes((tmp_path / "scene.nc").read_bytes()[:100])
    with pytest.raises(CloudMaskError, match=r"cannot read .*broken\.nc as NetCDF"):
        open_product(broken)


def test_the_date_of_several_is_chosen(tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf")
    days = np.datetime64("2024-01-01", "ns") + np.arange(30) * np.timedelta64(1, "D")
    path, many = tmp_path / "scene.nc", cube().expand_dims(t=days)
    many.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(CloudMaskError, match=r"30 dates: 2024-01-01.*, \.\.\., 2024-01-30.*date="):
        cm.mask(path)
    chosen = cm.mask(path, date="2024-01-05")
    np.testing.assert_array_equal(chosen.to_numpy(), cm.mask(cube()).to_numpy())
    with pytest.raises(CloudMaskError, match="date is for the path of a file"):
        cm.mask(many, date="2024-01-05")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jpg", b"\xff\xd8\xff\xe0", "picture .JPEG., which holds no reflectance"),
        ("a.png", b"\x89PNG\r\n", "picture .PNG."),
        ("a.tif", b"<!DOCTYPE html><html>", "a web page"),
        ("b.tif", b"\n<html>", "a web page"),
        ("c.tif", b"CDF\x01", "name it .nc"),
        ("d.tif", b"PK\x03\x04", "name it .zip"),
        ("e.tif", b"", "Expected a GeoTIFF or JPEG 2000"),
    ],
)
def test_other_files_are_named(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CloudMaskError, match=says):
        run(tmp_path / name, tmp_path / "mask.tif")


def test_a_file_that_is_still_being_written(write_raster: Write, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "scene.nc"
    with h5py.File(path, "w"):
        # Locks hold between processes; in one, HDF5 knows its own files.
        code = f"import openeo_cloudmask as cm; cm.open_scene({str(path)!r})"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
    assert "another program has it open for writing" in done.stderr
    whole = write_raster(pixels(), labels=FOUR, driver="COG").read_bytes()
    (tmp_path / "half.tif").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "start.tif").write_bytes(whole[:12])
    with pytest.raises(CloudMaskError, match=r"may be (damaged or )?incomplete"):
        run(tmp_path / "half.tif", tmp_path / "mask.tif")
    with pytest.raises(CloudMaskError, match="may be incomplete, or still being written"):
        run(tmp_path / "start.tif", tmp_path / "mask.tif")
    assert not (tmp_path / "mask.tif").exists()


def test_a_zip_in_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.writestr("S2A.SAFE.zip", b"PK")
    with pytest.raises(CloudMaskError, match=r"holds the archive S2A\.SAFE\.zip: unpack it"):
        run(tmp_path / "outer.zip", tmp_path / "mask.tif")


@pytest.mark.parametrize(("given", "said"), [(["scene.tif"], r"only scene\.tif"), ([], "no path")])
def test_one_path_alone(given: list[str], said: str) -> None:
    with pytest.raises(CloudMaskError, match=f"{said} is given; expected INPUT and OUTPUT"):
        run(*given)


def test_names_with_spaces_and_umlauts_and_a_single_pixel(
    write_raster: Write, tmp_path: Path
) -> None:
    path = write_raster(pixels()[:, 8:9, 8:9], "Über alle Bäume & #1/ein Bild.tif", labels=FOUR)
    mask = path.with_name("die Maske.tif")
    report = mask_product(path, mask, MaskOptions(sensor="sentinel-2-l1c"))
    assert sum(report.shares.values()) == 1
    assert crs_of(mask).to_epsg() == 32632


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.img", b"\1\2\3" * 50, r"convert it: gdal_translate a\.img a\.tif \(or rio convert"),
        ("a.tif", b"", "It is empty"),
    ],
)
def test_what_is_no_geotiff_says_how_to_make_one(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CloudMaskError, match=message):
        run(tmp_path / name, tmp_path / "mask.tif")


def test_one_band_of_a_folder(write_raster: Write, tmp_path: Path) -> None:
    path = write_raster(np.full((1, 8, 8), 900, np.uint16), "T32TQM_20230625T101559_B04.tif")
    with pytest.raises(CloudMaskError, match=f"it is the band B04 alone: .* {path.parent}"):
        run(path, tmp_path / "mask.tif")


def test_a_folder_of_scenes_and_a_zipped_zarr(write_raster: Write, tmp_path: Path) -> None:
    path = write_raster(np.full((4, 8, 8), 900, np.uint16), "scenes/monday.tif")
    with pytest.raises(CloudMaskError, match=r"pass the rasters: monday\.tif"):
        run(path.parent, tmp_path / "mask.tif")
    packed = tmp_path / "S2B_MSIL2A_20250512T101559.zarr.zip"
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("zarr.json", "{}")
    with pytest.raises(CloudMaskError, match="It holds a Zarr: unpack it"):
        run(packed, tmp_path / "mask.tif")
