"""Scenes that lie elsewhere: read for who sits at the machine, and for nobody else."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

import openeo_cloudmask as cm
from openeo_cloudmask.cli import build_app
from openeo_cloudmask.cli.children import running
from openeo_cloudmask.errors import OptionError, ProductError
from openeo_cloudmask.products import open_product
from openeo_cloudmask.products.addresses import Address, parse_source
from openeo_cloudmask.products.mask import mask_scene
from openeo_cloudmask.simulator.products import write_geotiff
from tests.backend.conftest import answers, wait_for
from tests.ports import free_port

SERVER = Path(__file__).parents[1] / "backend" / "range_server.py"
SIGNATURE = "sig=c2VjcmV0&se=2030"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what the server serves: a scene, as COG and as JPEG 2000, and a text."""
    folder = tmp_path_factory.mktemp("served")
    write_geotiff(cm.simulate(3, size=96), folder / "scene.tif")
    pixels = np.random.default_rng(0).integers(1000, 9000, (4, 64, 64)).astype(np.uint16)
    with rasterio.open(
        folder / "four.jp2", "w", driver="JP2OpenJPEG", count=4, height=64, width=64,
        dtype="uint16", crs="EPSG:32632", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6),
        QUALITY=100, REVERSIBLE="YES",
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
    (folder / "text.tif").write_text("no pixels")
    broken = (folder / "scene.tif").read_bytes()
    (folder / "broken.tif").write_bytes(broken[: len(broken) // 2])
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[str]:
    """Return the address of a server with byte ranges."""
    port = free_port()
    with running([sys.executable, str(SERVER), str(folder), str(port)], dict(os.environ)):
        wait_for(lambda: answers(f"http://127.0.0.1:{port}"))
        yield f"http://127.0.0.1:{port}"


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(build_app(), ["run", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result


@pytest.mark.parametrize(
    "form", ["{}/scene.tif", f"{{}}/scene.tif?{SIGNATURE}", "/vsicurl/{}/scene.tif"]
)
def test_an_address_is_masked_as_the_file_it_leads_to(
    form: str, served: str, folder: Path, tmp_path: Path
) -> None:
    run(form.format(served), tmp_path / "there.tif", "--model", "hollstein")
    run(folder / "scene.tif", tmp_path / "here.tif", "--model", "hollstein")
    with (
        rasterio.open(tmp_path / "there.tif") as there,
        rasterio.open(tmp_path / "here.tif") as here,
    ):
        assert np.array_equal(there.read(), here.read())
        assert len(np.unique(here.read())) > 1
        assert there.tags()["SOURCE"] == here.tags()["SOURCE"] == "scene"
        assert "sig" not in str(there.tags())


def test_in_python(served: str, folder: Path) -> None:
    there = cm.mask(f"{served}/scene.tif", model="hollstein")
    assert there.identical(cm.mask(folder / "scene.tif", model="hollstein"))
    with (
        cm.open_scene(f"{served}/four.jp2", scale=0.0001) as scene,
        cm.open_scene(folder / "four.jp2", scale=0.0001) as expected,
    ):
        part = (slice(None), slice(7, 40), slice(3, 60))
        assert np.array_equal(scene.cube()[part], expected.cube()[part])


def test_several_get_names_of_their_own(served: str, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    arguments = [f"{served}/scene.tif?{SIGNATURE}", tmp_path / "masks", "--model", "hollstein"]
    assert "1 masked" in run(*arguments).output
    assert "1 were there before" in run(*arguments).output
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["scene_mask.tif"]


@pytest.mark.parametrize(
    ("name", "says"),
    [("none.tif", "404"), ("text.tif", "Expected a GeoTIFF or JPEG 2000"), ("broken.tif", "")],
)
def test_what_cannot_be_read_is_an_error_without_the_signature(
    name: str, says: str, served: str, tmp_path: Path
) -> None:
    with pytest.raises(ProductError, match=f"cannot .*{name}.*{says}") as caught:
        run(f"{served}/{name}?{SIGNATURE}", tmp_path / "mask.tif", "--model", "hollstein")
    assert "c2VjcmV0" not in str(caught.value)
    assert "se=2030" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "gdal_path", "name"),
    [
        ("https://a.b/c/d.tif?x=1/2.tif", "/vsicurl/https://a.b/c/d.tif?x=1/2.tif", "d.tif"),
        ("s3://bucket/c%20d/B02.tif", "/vsis3/bucket/c%20d/B02.tif", "B02.tif"),
        ("/vsis3/bucket/S2A.SAFE", "/vsis3/bucket/S2A.SAFE", "S2A.SAFE"),
        ("/vsicurl/http://a.b/c.jp2", "/vsicurl/http://a.b/c.jp2", "c.jp2"),
    ],
)
def test_what_is_an_address(text: str, gdal_path: str, name: str) -> None:
    found = parse_source(text)
    assert isinstance(found, Address)
    assert (found.gdal_path, found.name) == (gdal_path, name)


@pytest.mark.parametrize("text", ["a:b.tif", "c/https:/x.tif", "C:\\scenes\\x.tif", "s3:/x", "~/x"])
def test_what_is_a_path(text: str) -> None:
    assert parse_source(text) == Path(text)


@pytest.mark.parametrize(
    "text",
    ["gs://bucket/x.tif", "ftp://host/x.tif", "file:///etc/passwd", "/vsizip/x.zip/y.tif",
     "/vsicurl/ftp://a.b/c.tif", "/vsistdin/", "-"],
)  # fmt: skip
def test_other_kinds_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ProductError, match=r"the input is .*expected a path"):
        run(text, tmp_path / "mask.tif")


@pytest.mark.parametrize("name", ["x.nc", "x.zarr", "LC09.tar.gz", "x.SAFE", "folder/"])
def test_what_is_not_read_from_a_web_server_says_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(ProductError, match=r"https://a\.b/.*or a download of it"):
        run(f"https://a.b/{name}", tmp_path / "mask.tif")


def test_a_text_is_a_path_to_all_that_servers_call(served: str) -> None:
    for text in (f"{served}/scene.tif", "s3://bucket/x.tif", f"/vsicurl/{served}/scene.tif", "-"):
        for call in (open_product, mask_scene):
            with pytest.raises(ProductError, match="is not there"):
                call(text)


def test_nobody_but_the_local_user_makes_addresses() -> None:
    package = Path(cm.__file__).parent
    makes = re.compile(r"\b(parse_source|takes_addresses|products\.anywhere|Address\()")
    makers = {
        path.relative_to(package).as_posix()
        for path in (*package.rglob("*.py"), *(package.parent / "udf").glob("*.py"))
        if "_assets" not in path.parts and makes.search(path.read_text(encoding="utf-8"))
    }
    assert makers == {
        "__init__.py", "cli/run.py", "front.py", "products/addresses.py", "products/anywhere.py",
    }  # fmt: skip


def test_options_are_checked_for_addresses_too(served: str) -> None:
    with pytest.raises(OptionError, match="is a raster: date cannot be given"):
        cm.open_scene(f"{served}/scene.tif", date="2024")
