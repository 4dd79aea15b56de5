"""Data sets from servers on this machine that list files as Zenodo and the hub do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import OptionError, ReferenceDataError
from openeo_cloudmask.evaluation.reference_format import formats
from openeo_cloudmask.fetch import records
from openeo_cloudmask.fetch.biome import BIOMES
from openeo_cloudmask.fetch.records import record_files
from tests.fetch.archives import PublicArchive, serve

CONTENT = b"points and masks" * 1000
TACO = "cloudsen12-l1c.0000.part.taco"


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[PublicArchive]:
    with serve(PublicArchive()) as state:
        monkeypatch.setattr(records, "ZENODO_URL", state.url)
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        state.objects["content/points.zip"] = CONTENT
        listing = {
            "files": [
                {
                    "key": "points.zip",
                    "size": len(CONTENT),
                    "checksum": f"md5:{hashlib.md5(CONTENT).hexdigest()}",
                    "links": {"self": f"{state.url}/content/points.zip"},
                }
            ]
        }
        state.objects["api/records/5721781"] = json.dumps(listing).encode()
        rows = [
            {"type": "directory", "path": "demo"},
            {"type": "file", "path": "README.md", "size": 3},
            *(
                {
                    "type": "file",
                    "path": name,
                    "size": len(CONTENT),
                    "lfs": {"oid": hashlib.sha256(CONTENT).hexdigest(), "size": len(CONTENT)},
                }
                for name in (TACO, TACO.replace("l1c", "l2a"))
            ),
        ]
        name = "datasets/tacofoundation/cloudsen12"
        state.objects[f"api/{name}/tree/main"] = json.dumps(rows).encode()
        state.objects[f"{name}/resolve/main/{TACO}"] = CONTENT
        yield state


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(build_app(), ["references", "download", *words])
    return done.exit_code, done.output + str(done.exception or "")


def test_zenodo_and_hub_files_are_checked(archive: PublicArchive, tmp_path: Path) -> None:
    code, text = run(str(tmp_path), "--of", "tarrio-2020")
    assert code == 0, text
    assert (tmp_path / "points.zip").read_bytes() == CONTENT
    archive.cut = {".taco": 1}
    code, text = run(str(tmp_path), "--of", "cloudsen12plus-l1c")
    assert code == 0, text
    assert "terms of CloudSEN12+" in text
    assert (tmp_path / TACO).read_bytes() == CONTENT
    assert not list(tmp_path.glob("*l2a*"))
    (tmp_path / "points.zip").unlink()
    archive.spoiled = {".zip"}
    code, text = run(str(tmp_path), "--of", "tarrio-2020")
    assert code == 1
    assert "sent has md5" in text
    code, text = run(str(tmp_path), "--of", "s2-hollstein")
    assert code == 1
    assert "has no public files; get it by hand: https://" in text


def test_what_a_server_sends_is_doubted(archive: PublicArchive) -> None:
    for content, message in (
        (b"<html>", "sent no JSON"),
        (b'{"files": []}', "lists no files"),
        (b'{"files": [{"key": "a"}]}', "sent no list of files"),
        (b'{"message": "gone"}', "sent no list of files"),
        (b'{"files": [{"key": "../a", "size": 1, "links": {"self": "x"}}]}', "a plain path"),
        (
            b'{"files": [{"key": "a", "size": 1, "checksum": "crc:1", "links": {"self": "x"}}]}',
            "is of no known kind",
        ),
    ):
        archive.objects["api/records/1"] = content
        with pytest.raises(ReferenceDataError, match=message):
            record_files("zenodo:1")
    with pytest.raises(ReferenceDataError, match="HTTP 404"):
        record_files("zenodo:2")
    with pytest.raises(OptionError, match=r"no file fits '\*l9\*'; there are README.md"):
        record_files("hub:tacofoundation/cloudsen12", "*l9*")


def test_every_record_of_a_format_is_of_a_known_kind() -> None:
    told = {item.id: item.record for item in formats().values() if item.record}
    assert {"tarrio-2020", "kappaset", "whus2-cd", "sparcs", "l8-biome"} <= told.keys()
    for record in told.values():
        assert record.startswith(("zenodo:", "hub:", "https://"))
    assert [file.name for file in record_files(told["sparcs"])] == ["l8cloudmasks.zip"]
    biome = record_files(told["l8-biome"])
    assert [file.name for file in biome] == [f"{name}.tar.gz" for name in BIOMES]
