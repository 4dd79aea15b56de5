"""Job options."""

from __future__ import annotations

import pytest

from openeo_cloudmask import assets
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.openeo.bundle import WEIGHTS_FOLDER
from openeo_cloudmask.openeo.jobs import BUNDLE_FOLDER, job_options
from openeo_cloudmask.openeo.neighborhood import Neighborhood


def test_archive_is_unpacked_where_the_udf_looks() -> None:
    options = job_options("https://example.org/a/bundle.zip")
    assert options["udf-dependency-archives"] == [
        f"https://example.org/a/bundle.zip#{BUNDLE_FOLDER}"
    ]
    text = assets.path("udf/cloud_mask.py").read_text()
    assert f'"{BUNDLE_FOLDER}"' in text
    assert f'"{WEIGHTS_FOLDER}"' in text


def test_memory_grows_with_the_neighbourhood() -> None:
    assert job_options()["python-memory"] == "3g"
    large = job_options(around=Neighborhood(size_px=4096, overlap_px=512))
    # 13 bands x 5120 x 5120 pixels x 4 bytes = 1.27 GiB; four times that and 2 GiB
    assert large["python-memory"] == "8g"
    assert "udf-dependency-archives" not in large


def test_the_embedded_back_end_needs_none() -> None:
    assert job_options("https://example.org/bundle.zip", backend="cloudmask") == {}


@pytest.mark.parametrize("url", ["bundle.zip", "s3://bucket/b.zip", "https://e.org/b.zip#x", ""])
def test_addresses_a_back_end_cannot_load_are_refused(url: str) -> None:
    with pytest.raises(OptionError, match="expected the http"):
        job_options(url)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(
        OptionError, match="backend is 'gee'; expected one of geopyspark, cloudmask"
    ):
        job_options(backend="gee")
