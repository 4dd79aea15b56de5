"""A file is opened by what it holds, and makes nothing else be read."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import CloudMaskError, ProductError, ReferenceDataError
from openeo_cloudmask.evaluation.grids import read_mask
from openeo_cloudmask.products import open_product
from openeo_cloudmask.products.drivers import KEPT, SKIP_VARIABLE, open_raster, skipped_drivers

SIZE_PX = 64


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Return a file that nobody is to read: random bytes."""
    path = tmp_path / "secret.key"
    path.write_bytes(np.random.default_rng(0).bytes(SIZE_PX * SIZE_PX))
    return path


@pytest.fixture
def vrt(secret: Path) -> str:
    """Return a VRT whose pixels are the bytes of the secret file."""
    return (
        f'<VRTDataset rasterXSize="{SIZE_PX}" rasterYSize="{SIZE_PX}">'
        "<SRS>EPSG:32632</SRS><GeoTransform>0,10,0,0,0,-10</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
        f'<SourceFilename relativetoVRT="0">{secret}</SourceFilename><ImageOffset>0</ImageOffset>'
        f"<PixelOffset>1</PixelOffset><LineOffset>{SIZE_PX}</LineOffset>"
        "</VRTRasterBand></VRTDataset>"
    )


@pytest.fixture
def plain(write_raster: Callable[..., Path]) -> Path:
    """Return a raster of 7 everywhere, twice the size of the VRT."""
    return write_raster(np.full((1, 2 * SIZE_PX, 2 * SIZE_PX), 7, np.uint8), "plain.tif")


def test_the_attack_works_where_nothing_is_done(vrt: str, secret: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    path.write_text(vrt)
    with rasterio.open(path) as dataset:
        assert dataset.read(1).tobytes() == secret.read_bytes()


@pytest.mark.parametrize("name", ["image.tif", "image.jp2", "image.vrt"])
def test_a_vrt_is_refused_whatever_its_name(vrt: str, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(vrt)
    with pytest.raises(ProductError, match=r"is a VRT, which reads other files.*gdal_translate"):
        open_raster(path)
    with pytest.raises(ReferenceDataError, match="cannot be read"):
        read_mask(path)
    result = CliRunner().invoke(build_app(), ["run", str(path), str(tmp_path / "mask.tif")])
    assert isinstance(result.exception, ProductError)


@pytest.mark.parametrize(
    "path",
    [
        "<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:9/</ServerUrl></Service></GDAL_WMS>",
        "http://127.0.0.1:9/image.tif",
        "WCS:http://127.0.0.1:9/",
        'STACIT:"/tmp/items.json"',
        "vrt:///tmp/image.tif",
    ],
)
def test_descriptions_and_addresses_are_no_files(path: str) -> None:
    with pytest.raises(ProductError, match="cannot open"):
        open_raster(path)


@pytest.mark.parametrize("driver", ["GTiff", "JP2OpenJPEG"])
def test_an_opener_is_used_in_gdals_stead(
    write_image: Callable[..., None], vrt: str, tmp_path: Path, driver: str
) -> None:
    pixels = np.arange(SIZE_PX * SIZE_PX, dtype=np.uint16).reshape(SIZE_PX, SIZE_PX)
    stored = tmp_path / "stored"
    write_image(stored, pixels, 10, driver)
    with open_raster("name.tif", opener=lambda *_, **__: stored.open("rb")) as dataset:
        assert dataset.driver == driver
        assert np.array_equal(dataset.read(1), pixels)
    stored.write_text(vrt)
    with pytest.raises(ProductError, match="cannot open"):
        open_raster("other.tif", opener=lambda *_, **__: stored.open("rb"))


@pytest.mark.parametrize(
    ("domain", "key"), [("OVERVIEWS", "OVERVIEW_FILE"), ("GEOLOCATION", "X_DATASET")]
)
def test_a_geotiff_that_names_another_file_is_refused(
    plain: Path, vrt: str, domain: str, key: str
) -> None:
    with rasterio.open(plain, "r+") as dataset:
        dataset.update_tags(ns=domain, **{key: vrt})
    with pytest.raises(ProductError, match=f"pixels from other files.*{domain}"):
        open_raster(plain)


def test_a_hidden_overview_is_read_where_nothing_is_done(
    plain: Path, vrt: str, secret: Path
) -> None:
    with rasterio.open(plain, "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=vrt)
    with rasterio.open(plain, driver="GTiff") as dataset:
        small = dataset.read(1, out_shape=(SIZE_PX, SIZE_PX))
    assert small.tobytes() == secret.read_bytes()


@pytest.mark.parametrize("suffix", [".ovr", ".msk", ".aux.xml"])
def test_files_beside_a_raster_are_not_read(
    plain: Path, vrt: str, tmp_path: Path, suffix: str
) -> None:
    beside = tmp_path / "beside.vrt"
    beside.write_text(vrt)
    name = '<MDI key="OVERVIEW_FILE">:::BASE:::beside.vrt</MDI>'
    aux = f'<PAMDataset><Metadata domain="OVERVIEWS">{name}</Metadata></PAMDataset>'
    plain.with_name(plain.name + suffix).write_text(aux if suffix == ".aux.xml" else vrt)
    with open_raster(plain) as dataset:
        assert dataset.files == [str(plain)]
        assert dataset.overviews(1) == []
        assert set(np.unique(dataset.read(1, out_shape=(SIZE_PX, SIZE_PX)))) == {7}
        assert dataset.dataset_mask().all()


def test_a_product_of_vrts_is_refused(
    write_landsat: Callable[..., tuple[Path, object]], vrt: str, tmp_path: Path
) -> None:
    packed = tmp_path / "product.zip"
    folder, _ = write_landsat()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in folder.iterdir():
            content = vrt.encode() if path.suffix == ".TIF" else path.read_bytes()
            archive.writestr(path.name, content)
    with pytest.raises(ProductError, match="cannot open"):
        open_product(packed)


def test_ingest_refuses_it(vrt: str, tmp_path: Path) -> None:
    pytest.importorskip("pystac")
    from openeo_cloudmask.backend.cubes.collections import CollectionStore
    from openeo_cloudmask.backend.cubes.ingest import ingest_product

    path = tmp_path / "image.tif"
    path.write_text(vrt)
    with pytest.raises(CloudMaskError, match="is a VRT"):
        ingest_product(path, CollectionStore(tmp_path / "collections"))


def test_processes_of_a_server_have_few_drivers_and_can_do_their_work(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import numpy as np, rasterio
from affine import Affine
from rasterio.crs import CRS
from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.products import Grid, write_cog
from openeo_cloudmask.products.drivers import open_raster
with rasterio.Env() as env:
    print(*sorted(env.drivers()))
grid = Grid(
    shape_yx=(600, 600), transform=Affine(10, 0, 5e5, 0, -10, 5e6), crs=CRS.from_epsg(32631)
)
path = write_cog(
    Path(sys.argv[1]), [(0, np.ones((1, 600, 600), np.uint8))], grid=grid, scheme=FOUR_CLASS
)
with open_raster(path) as dataset:
    print(dataset.read(1).min(), dataset.overviews(1))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "mask.tif")],
        env={**os.environ, SKIP_VARIABLE: skipped_drivers()},
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    drivers, pixels = done.stdout.splitlines()
    assert set(drivers.split()) <= KEPT
    assert {"GTiff", "COG"} <= set(drivers.split())
    assert pixels == "1 [2]"


def test_drivers_that_are_skipped_already_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SKIP_VARIABLE, "Other,ESRI Shapefile")
    assert {"Other", "ESRI Shapefile", "VRT"} <= set(skipped_drivers().split(","))
