"""Coordinate reference systems from untrusted text."""

from __future__ import annotations

import socket
import threading

import pytest
from rasterio.crs import CRS

from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.products.crs import parse_crs

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


def test_nothing_is_fetched() -> None:
    """GDAL itself would connect to the address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/crs"
        thread = threading.Thread(target=_try, args=(url,), daemon=True)
        thread.start()
        with pytest.raises(TimeoutError):
            listening.accept()
        thread.join(5)


def _try(url: str) -> None:
    with pytest.raises(OptionError, match="not known"):
        parse_crs(url)
