"""Products in archives of web servers, read in parts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import openeo_cloudmask as cm
from openeo_cloudmask.cli.children import running
from openeo_cloudmask.errors import ProductError
from openeo_cloudmask.products.addresses import Address
from openeo_cloudmask.products.ranges import open_web_file
from tests.backend.conftest import answers, wait_for
from tests.ports import free_port

SERVER = Path(__file__).parents[1] / "backend" / "range_server.py"
ALL = (slice(None),) * 3
SIGNATURE = "sig=c2VjcmV0&se=2030"


@contextmanager
def _answers(command: list[str], port: int) -> Iterator[str]:
    with running([sys.executable, *command], dict(os.environ)):
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/none"))
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Return the address of the test's folder on a server with byte ranges."""
    port = free_port()
    with _answers([str(SERVER), str(tmp_path), str(port)], port) as address:
        yield address


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_packed_product_is_the_one_on_disk(kind, write_safe, pack, served) -> None:
    here = pack(write_safe("L1C")[0], kind)
    with (
        cm.open_scene(here) as expected,
        cm.open_scene(f"{served}/{here.name}?{SIGNATURE}") as there,
    ):
        assert there.band_labels == expected.band_labels
        assert there.sensor == expected.sensor
        assert there.grid == expected.grid
        assert np.array_equal(there.cube()[ALL], expected.cube()[ALL], equal_nan=True)
        assert "c2VjcmV0" not in str(there.metadata)


def test_a_packed_landsat_product(write_landsat, pack, served) -> None:
    here = pack(write_landsat()[0], "tar")
    with cm.open_scene(here) as expected, cm.open_scene(f"{served}/{here.name}") as there:
        assert np.array_equal(there.cube()[ALL], expected.cube()[ALL], equal_nan=True)


def test_what_cannot_be_read_keeps_the_signature(served, tmp_path) -> None:
    (tmp_path / "text.zip").write_text("no archive")
    for name in ("none.zip", "text.zip"):
        with pytest.raises(ProductError, match=f"cannot read the archive .*{name}") as caught:
            cm.open_scene(f"{served}/{name}?{SIGNATURE}")
        assert "c2VjcmV0" not in str(caught.value)


def test_a_server_that_sends_whole_files_only(tmp_path) -> None:
    (tmp_path / "scene.zip").write_bytes(b"PK" + bytes(100))
    port = free_port()
    command = ["-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with (
        _answers(command, port) as address,
        pytest.raises(ProductError, match=r"scene\.zip: the server does not send parts of files"),
    ):
        cm.open_scene(f"{address}/scene.zip")


def test_parts_of_a_file(served, tmp_path) -> None:
    content = np.random.default_rng(0).bytes(200_000)
    (tmp_path / "file.bin").write_bytes(content)
    with open_web_file(Address(f"{served}/file.bin")) as file:
        assert file.read(10) == content[:10]
        assert file.seek(-7, os.SEEK_END) == len(content) - 7
        assert file.read() == content[-7:]
        assert file.read() == b""
        file.seek(1234)
        assert file.read(150_000) == content[1234:151_234]
