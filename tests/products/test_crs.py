"""Coordinate reference systems from untrusted text."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pyproj
import pytest
import rasterio
from rasterio.crs import CRS

from openeo_cloudmask.errors import OptionError, ProductError
from openeo_cloudmask.products.crs import names_files, parse_crs
from openeo_cloudmask.products.drivers import open_raster

UTM = CRS.from_epsg(32633)


@pytest.mark.parametrize(
    "value",
    [32633, "32633", "EPSG:32633", "epsg:32633", "urn:ogc:def:crs:EPSG::32633", UTM, UTM.to_wkt(),
     UTM.to_wkt(version="WKT2_2019")],
)  # fmt: skip
def test_known(value: object) -> None:
    assert parse_crs(value) == UTM


@pytest.mark.parametrize(
    "value", ["EPSG:999999", "/etc/passwd", "file:///etc/passwd", "nonsense", "", None, True, 1.5,
              "+proj=utm +zone=33", "+init=/etc/passwd:1", "GEOGCS[", [], {"a": 1}]
)  # fmt: skip
def test_unknown(value: object) -> None:
    with pytest.raises(OptionError, match=r"reference system .* is not known; expected"):
        parse_crs(value)


GEOGCS = (
    'GEOGCS["x",DATUM["d",SPHEROID["WGS 84",6378137,298.257223563]{}],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433]{}]'
)


def _naming(path: Path) -> dict[str, str]:
    """Return texts by which PROJ opens a file that defines a system or shifts coordinates."""
    return {
        "init": f"+init={path}:x [",
        "grids": f"+proj=longlat +nadgrids={path} +title=[a]",
        "wkt": GEOGCS.format("", f',EXTENSION["PROJ4","+proj=longlat +init={path}:x"]'),
        "wkt with quotes": GEOGCS.format(
            "", f',EXTENSION["PROJ4","+proj=longlat +title=""a"" +init={path}:x"]'
        ),
        "wkt with grids": GEOGCS.format(f',EXTENSION["PROJ4_GRIDS","{path}"]', ""),
    }


@pytest.mark.parametrize("kind", list(_naming(Path("x"))))
def test_no_file_is_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "secret"
    path.write_text("<x> +proj=longlat +datum=WGS84 <>\n")
    with pytest.raises(OptionError, match="not known"):
        parse_crs(_naming(path)[kind])


def test_files_are_found_in_what_was_parsed(tmp_path: Path) -> None:
    assert not names_files(CRS.from_epsg(3857))  # whose WKT has an extension, without a file
    assert parse_crs(CRS.from_epsg(3857).to_wkt()) == CRS.from_epsg(3857)
    bound = pyproj.CRS.from_user_input(f"+proj=longlat +nadgrids={tmp_path}/a.gsb +type=crs")
    for value in (bound.to_json_dict(), bound.to_wkt()):
        with pytest.raises(OptionError, match="not known"):
            parse_crs(value)
    assert names_files(CRS.from_wkt(bound.to_wkt("WKT1_GDAL")))


def test_a_raster_whose_system_names_a_file_is_refused(tmp_path: Path) -> None:
    """GeoTIFF keeps Esri's WKT as it is, with the names of grids in it."""
    path = tmp_path / "a.tif"
    crs = CRS.from_wkt(GEOGCS.format(f',EXTENSION["PROJ4_GRIDS","{tmp_path}/secret"]', ""))
    with rasterio.open(path, "w", driver="GTiff", width=8, height=8, count=1, dtype="uint8",
                       crs=crs, GEOTIFF_KEYS_FLAVOR="ESRI_PE"):  # fmt: skip
        pass
    with pytest.raises(ProductError, match=r"the reference system of .* names a file"):
        open_raster(path)


def test_nothing_is_fetched() -> None:
    """GDAL itself would connect to the address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/crs"
        thread = threading.Thread(target=_try, args=(url,), daemon=True)
        thread.start()
        thread.join(60)
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.accept()


def _try(url: str) -> None:
    with pytest.raises(OptionError, match="not known"):
        parse_crs(url)
