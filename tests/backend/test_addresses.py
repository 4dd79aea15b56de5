"""Scenes in a bucket, read for the local user: an S3-speaking process that checks keys."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

import openeo_cloudmask as cm
from openeo_cloudmask.errors import ProductError
from openeo_cloudmask.simulator.products import write_geotiff, write_product
from tests.backend.conftest import S3Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # botocore warns of its own doings
]
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture
def bucket(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder whose files lie in the bucket ``mine``, too; keys are in the environment."""
    scene = cm.simulate(3, size=96)
    (tmp_path / "one").mkdir()
    write_geotiff(scene, tmp_path / "one" / "scene.tif")
    safe = write_product(scene, tmp_path)
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, safe.name)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            s3.client.upload_file(str(path), "mine", path.relative_to(tmp_path).as_posix())
    settings = {
        "AWS_S3_ENDPOINT": urlsplit(s3.url).netloc, "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE", **s3.environment,
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    yield tmp_path
    for name in s3.objects("mine"):
        s3.client.delete_object(Bucket="mine", Key=name)


def test_a_file_a_product_and_an_archive_of_a_bucket(bucket: Path) -> None:
    (safe,) = bucket.glob("*.SAFE")
    for name in ("one/scene.tif", safe.name, "packed.zip"):
        there = cm.mask(f"s3://mine/{name}", model="hollstein")
        assert there.identical(cm.mask(bucket / name, model="hollstein"))
        assert len(np.unique(there)) > 1
    with cm.open_scene(f"s3://mine/{safe.name}/", bands=["B02"]) as scene:
        assert scene.metadata["product_type"] == "S2MSI1C"


def test_without_keys_it_is_said_how_they_are_given(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (safe,) = bucket.glob("*.SAFE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for name in ("one/other.tif", safe.name, "packed.zip"):
        with pytest.raises(ProductError, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
            cm.mask(f"s3://mine/{name}", model="hollstein")
