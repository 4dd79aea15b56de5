"""Archives that say less of themselves than they hold."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from openeo_cloudmask.errors import ProductError
from openeo_cloudmask.products import files
from openeo_cloudmask.products.files import ArchiveFiles


@pytest.fixture(autouse=True)
def most(monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes of metadata that are read at most, fewer than else."""
    monkeypatch.setattr(files, "METADATA_BYTES", 4 * 2**20)
    return files.METADATA_BYTES


def test_a_directory_that_lies_about_sizes_unpacks_no_more(tmp_path: Path, most: int) -> None:
    path = tmp_path / "product.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("MTD_MSIL1C.xml", bytes(10 * most))
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 1000)  # its size, unpacked
    path.write_bytes(bytes(content))
    tracemalloc.start()
    with suppress(ProductError):  # the checksum does not fit; either way little is unpacked
        ArchiveFiles(path).read("MTD_MSIL1C.xml")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * most


def test_large_metadata_is_refused(tmp_path: Path, most: int) -> None:
    path = tmp_path / "product.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("MTD_MSIL1C.xml", bytes(most + 1))
    with pytest.raises(ProductError, match="expected a metadata file of less than"):
        ArchiveFiles(path).read("MTD_MSIL1C.xml")
