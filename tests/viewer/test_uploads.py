"""What users send is refused unless it is a raster or a product."""

import errno
import io
import zipfile

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.transform import from_origin

from openeo_cloudmask.errors import InputError, OutputError, ProductError
from openeo_cloudmask.products import open_product
from openeo_cloudmask.viewer.guess import guess_codes, guess_image
from openeo_cloudmask.viewer.scenes import open_scene
from openeo_cloudmask.viewer.session import begin_session
from openeo_cloudmask.viewer.uploads import save_upload


def save(content: bytes, name: str, folder, size=None):
    return save_upload(io.BytesIO(content), name, len(content) if size is None else size, folder)


def test_a_raster_is_kept(write_classes, tmp_path):
    content = write_classes(np.zeros((8, 8))).read_bytes()
    folder = tmp_path / "own"
    folder.mkdir()
    path = save(content, "../../evil name.tif", folder)
    assert path == folder / "evil_name.tif"
    assert path.read_bytes() == content
    assert save(content, f"{'n' * 250}.tif", folder).is_file()


def test_a_netcdf_is_kept(tmp_path):
    pytest.importorskip("h5netcdf", reason="the extra netcdf is not installed")
    import xarray as xr

    bands = xr.DataArray(
        np.full((2, 8, 8), 0.1, np.float32), dims=("bands", "y", "x"),
        coords={"bands": ["B02", "B03"]}, name="reflectance",
    )  # fmt: skip
    source = tmp_path / "made.nc"
    bands.to_netcdf(source, engine="h5netcdf")
    folder = tmp_path / "own"
    folder.mkdir()
    path = save(source.read_bytes(), "scene.nc", folder)
    assert path == folder / "scene.nc"
    assert path.read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.nc", b"this is no raster", "no raster that can be read"),
        ("note.txt", b"hello", r"ends in \.txt"),
        ("noend", b"hello", "ends in nothing"),
        ("text.tif", b"this is no raster", "no raster that can be read"),
        ("broken.zip", b"this is no zip", "no readable zip"),
    ],
)
def test_what_is_no_raster_is_refused(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message):
        save(content, name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_points_to_others_is_refused(write_classes, tmp_path):
    path = write_classes(np.zeros((8, 8)))
    vrt = (
        '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1">'
        f"<SimpleSource><SourceFilename>{path}</SourceFilename><SourceBand>1</SourceBand>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    folder = tmp_path / "own"
    folder.mkdir()
    with pytest.raises((InputError, ProductError), match="expected a GeoTIFF or NetCDF"):
        save(vrt.encode(), "image.tif", folder)
    assert list(folder.iterdir()) == []


def test_five_gigabytes_are_refused_before_a_byte_is_read(tmp_path):
    class Unread(io.BytesIO):
        def read(self, size=-1):
            raise AssertionError(size)

    with pytest.raises(InputError, match=r"5\.0 GB; at most 2 GB"):
        save_upload(Unread(), "big.tif", 5 * 1024**3, tmp_path)


def test_damaged_pixels_are_told(tmp_path):
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", height=64, width=64, count=1, dtype="uint8",
                       compress="deflate", crs="EPSG:32633",
                       transform=from_origin(6e5, 5e6, 10, 10)) as out:  # fmt: skip
        out.write(np.arange(4096, dtype=np.uint16).astype(np.uint8).reshape(1, 64, 64))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x78\x9c", b"\xff\xff").replace(b"\x78\x5e", b"\xff\xff"))
    for read in (guess_image, guess_codes):
        with pytest.raises(ProductError, match=r"a\.tif is damaged or incomplete"):
            read(path)


def test_pixels_without_a_place_or_size_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    for numbers in ((np.nan, 0, 0, 0, -10, 0), (10, 0, np.inf, 0, -10, 0), (0, 0, 5, 0, 0, 5)):
        with rasterio.open(path, "w", driver="GTiff", height=8, width=8, count=3, dtype="uint8",
                           crs="EPSG:32633", transform=Affine(*numbers)):  # fmt: skip
            pass
        with pytest.raises(ProductError, match="expected finite numbers, and pixels with a width"):
            open_scene(path, sensor="sentinel-2-l1c")


def test_a_full_disk_is_told(tmp_path):
    class Full(io.BytesIO):
        def read(self, size=-1):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"a\.tif cannot be kept: No space left on device"):
        save_upload(Full(), "a.tif", 10, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_zip_bomb_is_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.tif", bytes(20_000_000))
    with pytest.raises(InputError, match=r"would unpack to 19 MB.* times its size"):
        save(buffer.getvalue(), "bomb.zip", tmp_path)


@pytest.fixture
def sparse_raster(tmp_path):
    """Return a function that writes a raster of which no pixel is stored."""

    def write(height, width, **profile):
        path = tmp_path / "sparse.tif"
        profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "sparse_ok": True, **profile}
        with rasterio.open(path, "w", height=height, width=width, crs="EPSG:32633",
                           transform=from_origin(6e5, 5e6, 10, 10), **profile):  # fmt: skip
            pass
        return path

    return write


def test_a_small_file_that_claims_many_pixels_is_refused(sparse_raster, tmp_path):
    path = sparse_raster(60_000, 60_000, tiled=True, blockxsize=4096, blockysize=4096)
    assert path.stat().st_size < 10_000
    folder = tmp_path / "own"
    folder.mkdir()
    with pytest.raises(InputError, match="60000 x 60000 pixels; the viewer takes"):
        save(path.read_bytes(), "many.tif", folder)
    assert list(folder.iterdir()) == []
    with pytest.raises(InputError, match=r"sparse\.tif has 60000 x 60000 pixels"):
        open_scene(path, sensor="sentinel-2-l1c")


def test_blocks_that_unpack_to_gigabytes_are_refused(sparse_raster, tmp_path):
    side = 16_384
    path = sparse_raster(
        side, side, count=3, interleave="pixel", dtype="float64", tiled=True, blockxsize=side,
        blockysize=side,
    )  # fmt: skip
    with pytest.raises(InputError, match="blocks of 16384 x 16384 pixels, 6144 MB each"):
        save(path.read_bytes(), "blocks.tif", tmp_path)


def test_a_reference_of_more_pixels_than_can_be_compared_is_refused(sparse_raster, tmp_path):
    """A file of some kB: to compare 2**30 pixels takes 16 GB for the shares of four classes."""
    path = sparse_raster(16_384, 16_384, tiled=True, blockxsize=4096, blockysize=4096)
    with pytest.raises(InputError, match="has 16384 x 16384 pixels; the viewer takes 134217728"):
        begin_session(tmp_path).add_reference(path, meaning="4-class")


def _zip(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "<a/>" * 20)
    return buffer.getvalue()


def _spoil(content, marker, place, value):
    """Return a zip with another byte ``place`` bytes behind each ``marker``."""
    content = bytearray(content)
    at = content.find(marker)
    while at >= 0:
        content[at + place] = value
        at = content.find(marker, at + 1)
    return bytes(content)


def test_a_zip_of_very_many_files_is_refused(tmp_path):
    """Their names are read again for each file that is read."""
    content = _zip(*map(str, range(10_001)))
    with pytest.raises(InputError, match=r"many\.zip holds 10001 files; expected at most 10000"):
        save(content, "many.zip", tmp_path)
    (tmp_path / "many.zip").write_bytes(content)
    with pytest.raises(ProductError, match="holds more than 10000 files"):
        open_product(tmp_path / "many.zip")


LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
NAME = "A.SAFE/MTD_MSIL1C.xml"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_spoil(_zip("ü.xml"), CENTRAL, 46, 255), "can't decode byte"),
        (_spoil(_zip(NAME), CENTRAL, 6, 99), "zip file version 9.9"),
    ],
)
def test_a_zip_whose_directory_cannot_be_read_is_refused(content, reason, tmp_path):
    with pytest.raises(InputError, match=f"no readable zip file: .*{reason}"):
        save(content, "odd.zip", tmp_path)
    (tmp_path / "odd.zip").write_bytes(content)
    with pytest.raises(ProductError, match=f"cannot read the archive .*{reason}"):
        open_product(tmp_path / "odd.zip")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_spoil(_spoil(_zip(NAME), LOCAL, 6, 32), CENTRAL, 8, 32), "compressed patched data"),
        (_spoil(_spoil(_zip(NAME), LOCAL, 6, 1), CENTRAL, 8, 1), "is encrypted"),
        (_spoil(_zip(NAME), CENTRAL, 10, 97), "compression method is not supported"),
        (_spoil(_zip(NAME), CENTRAL, 10, 8), "decompressing data"),
        (_spoil(_zip(NAME), CENTRAL, 46, 0), "is no product"),  # a name of nothing
        (_spoil(_zip(NAME), CENTRAL, 10, 14), "cannot read A.SAFE/MTD_MSIL1C.xml"),
    ],
)
def test_a_zip_whose_files_cannot_be_read_is_refused(content, reason, tmp_path):
    path = save(content, "odd.zip", tmp_path)
    with pytest.raises(ProductError, match=reason):
        open_product(path)


@pytest.mark.parametrize("member", ["../outside.tif", "/etc/passwd", "a\\..\\..\\b.tif"])
def test_a_zip_that_leads_out_of_its_folder_is_refused(tmp_path, member):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, b"x")
    with pytest.raises(InputError, match="leads out of it"):
        save(buffer.getvalue(), "out.zip", tmp_path)


def test_a_zipped_product_whose_bands_unpack_to_gigabytes_is_refused(sparse_raster, tmp_path):
    """The zip itself is no bomb: its rasters are."""
    side = 30_000
    band = sparse_raster(side, side, dtype="float64", blockysize=side, compress="deflate")
    band = band.read_bytes()
    good = sparse_raster(side, side, tiled=True, blockxsize=4096, blockysize=4096).read_bytes()
    path = tmp_path / "bands.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"B02": good, "B03": good, "B04": band}.items():
            archive.writestr(f"{name}.tif", content)
    with pytest.raises(InputError, match=r"B04\.tif in bands\.zip has blocks of 30000 x 30000"):
        open_scene(path, sensor="sentinel-2-l1c")
