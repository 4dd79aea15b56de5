"""Job options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from openeo_cloudmask import assets
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.models import MODELS
from openeo_cloudmask.openeo.bundle import RUNTIMES, WEIGHTS_FOLDER
from openeo_cloudmask.openeo.jobs import (
    BUNDLE_FOLDER,
    DRIVER_MIB,
    RUNTIME_MIB,
    job_options,
    python_mebibytes,
)
from openeo_cloudmask.openeo.neighborhood import Neighborhood


def test_archive_is_unpacked_where_the_udf_looks() -> None:
    options = job_options("https://example.org/a/bundle.zip")
    assert options["udf-dependency-archives"] == [
        f"https://example.org/a/bundle.zip#{BUNDLE_FOLDER}"
    ]
    text = assets.path("udf/cloud_mask.py").read_text()
    assert f'"{BUNDLE_FOLDER}"' in text
    assert f'"{WEIGHTS_FOLDER}"' in text


def mebibytes(options: dict[str, object]) -> int:
    memory = str(options["python-memory"])
    assert memory.endswith("m")
    return int(memory[:-1])


def test_a_worker_has_all_of_the_memory() -> None:
    # The limit of a worker is python-memory / executor-cores, and 2 cores are the default there.
    options = job_options()
    assert options["executor-cores"] == 1
    assert options["executor-memory"] == "2g"
    assert "udf-dependency-archives" not in options


def test_memory_follows_bands_neighbourhood_and_runtime() -> None:
    # 13 bands x 2048 x 2048 pixels x 52 bytes are 2704 MiB.
    unet = job_options(model="cloudsen12", runtime="onnx")
    assert mebibytes(unet) >= 2704 + RUNTIME_MIB["onnx"]
    assert mebibytes(job_options(model="cloudsen12")) > mebibytes(unet)  # torch is larger
    assert mebibytes(job_options(model="mini", runtime="onnx")) < mebibytes(unet)  # seven bands
    assert mebibytes(job_options(model="cloudsen12", runtime="onnx", bands=20)) > mebibytes(unet)
    # Pixel by pixel, tiles are small.
    assert mebibytes(job_options(model="hollstein")) <= 1024
    large = Neighborhood(size_px=4096, overlap_px=512)
    assert mebibytes(job_options(model="hollstein", around=large)) > 13_000
    with pytest.raises(OptionError, match="runtime is 'jax'; expected one of none, onnx"):
        job_options(runtime="jax")


def test_every_model_and_every_bundle_has_its_memory() -> None:
    assert set(RUNTIME_MIB) == set(RUNTIMES)
    for name in MODELS:
        assert 768 <= mebibytes(job_options(model=name)) < 8192


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


def test_measured_peaks_are_covered() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "openeo.md").read_text(encoding="utf-8")
    row = r"^\| `(\S+)` \| (\w+) \| (\d+) \| (\d+) x \d+ \| [^|]+ \| (\d+) MiB \| (\d+) MiB \|$"
    rows = re.findall(row, page, flags=re.MULTILINE)
    assert len(rows) >= 6
    for _, runtime, bands, side, peak, asked in rows:
        given = python_mebibytes(runtime, bands=int(bands), side_px=int(side))
        assert int(peak) + DRIVER_MIB <= given == int(asked)
