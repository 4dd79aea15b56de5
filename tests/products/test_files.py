"""Archives that say less of themselves than they hold."""

from __future__ import annotations

import struct
import tarfile
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from openeo_cloudmask.errors import ProductError
from openeo_cloudmask.products import files
from openeo_cloudmask.products.files import ArchiveFiles
from openeo_cloudmask.viewer.uploads import save_upload


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


def test_a_zip_whose_directory_is_huge_is_not_read(tmp_path: Path) -> None:
    """Entries without a file: 46 bytes each, and twelve times that in memory."""
    count = 200_000
    entry = b"PK\x01\x02" + bytes(42)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, count * len(entry), 0, 0)
    path = tmp_path / "product.zip"
    path.write_bytes(entry * count + end)
    (tmp_path / "session").mkdir()
    tracemalloc.start()
    reason = r"product\.zip is a zip whose list of files has more than 4 MB; expected at most 10000"
    with pytest.raises(ProductError, match=reason):
        ArchiveFiles(path)
    with path.open("rb") as stream, pytest.raises(ProductError, match=f"^{reason}"):
        save_upload(stream, path.name, path.stat().st_size, tmp_path / "session")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * files.DIRECTORY_BYTES


def test_no_more_of_a_tar_is_listed_than_a_product_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FILES", 10)
    path = tmp_path / "product.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for number in range(50):
            archive.addfile(tarfile.TarInfo(f"a_{number}.tif"))
    listed: list[str] = []
    one_more = tarfile.TarFile.next

    def counted(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        found = one_more(tar)
        listed.append(found.name if found else "")
        return found

    monkeypatch.setattr(tarfile.TarFile, "next", counted)
    with pytest.raises(ProductError, match="holds more than 10 files"):
        ArchiveFiles(path)
    assert len(listed) < 15


def test_what_is_no_archive_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "page.zip"
    path.write_text("<html>")
    with pytest.raises(ProductError) as caught:
        ArchiveFiles(path)
    assert str(caught.value) == (
        f"cannot read the archive {path} as a zip or tar: file could not be opened successfully. "
        "It may be incomplete; download it again"
    )
