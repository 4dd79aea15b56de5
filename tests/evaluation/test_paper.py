"""The three commands from masks to a table for a paper, as docs/references.md has them."""

from __future__ import annotations

import hashlib
import shlex
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openeo_cloudmask.alcd import scenes
from openeo_cloudmask.alcd.archive import AlcdArchive
from openeo_cloudmask.classes import ALCD, FOUR_CLASS, map_labels
from openeo_cloudmask.cli import build_app
from openeo_cloudmask.products.cog import write_cog
from tests.fetch.archives import PublicArchive, serve

PAGE = Path(__file__).resolve().parents[2] / "docs" / "references.md"


def commands() -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    section = text.split("## From a folder of masks to a table for a paper", 1)[1]
    block = section.split("```console", 1)[1].split("```", 1)[0]
    return [line.removeprefix("$ ") for line in block.strip().splitlines()]


def test_three_commands_make_the_table(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "packed.tgz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(archive, archive.name)
    content = packed.read_bytes()
    place = tmp_path / "work"
    (place / "masks").mkdir(parents=True)
    with AlcdArchive(archive) as opened:
        for entry in opened.distinct():
            scene = opened.read(entry)
            labels = map_labels(scene.labels, ALCD, FOUR_CLASS)
            name = scenes.find_scene_info(entry.name)
            assert name is not None
            path = place / "masks" / f"{name.product_name}_mask.tif"
            write_cog(path, [(0, labels[None])], grid=scene.grid, scheme=FOUR_CLASS)
    monkeypatch.chdir(place)
    download, score, show = commands()
    with serve(PublicArchive()) as state:
        state.objects["archive.tgz"] = content
        remote = replace(
            scenes.ALCD_ARCHIVE,
            url=f"{state.url}/archive.tgz",
            digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
        )
        monkeypatch.setattr(scenes, "ALCD_ARCHIVE", remote)
        for line in (download, score):
            name, *words = shlex.split(line)
            assert name == "cloudmask"
            done = CliRunner().invoke(build_app(), words)
            assert done.exit_code == 0, done.output + str(done.exception)
    name, *files = shlex.split(show)
    assert name == "cat"
    table, methods, bibtex = ((place / file).read_text(encoding="utf-8") for file in files)
    assert "all & 2 & 1.000" in table
    assert "ALCD reference masks" in methods
    assert "baetens2019alcd" in bibtex
