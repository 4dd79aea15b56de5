"""Images of references from archives on this machine that speak as the public ones do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from openeo_cloudmask.alcd.scenes import ALCD_SCENES, find_scene_info
from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import OptionError, OutputError, ReferenceDataError
from openeo_cloudmask.fetch import products as fetch_products
from openeo_cloudmask.fetch.archives import ARCHIVES, describe_product
from openeo_cloudmask.fetch.biome import BIOMES
from openeo_cloudmask.fetch.copernicus import Account, CopernicusArchive
from openeo_cloudmask.fetch.files import RemoteFile
from openeo_cloudmask.fetch.google import GoogleArchive
from openeo_cloudmask.fetch.names import choose_landsat, choose_sentinel, parse_scene_name
from openeo_cloudmask.fetch.products import check_space, choose_files, fetch_product
from openeo_cloudmask.products import open_product
from openeo_cloudmask.simulator.products import write_product
from openeo_cloudmask.simulator.scene import SimulatedScene, simulate_scene
from tests.fetch.archives import PublicArchive, serve

OLD = "S2A_MSIL1C_20200615T103031_N0209_R108_T31SIM_20200615T124519"
TILES, LANDSAT = "gcp-public-data-sentinel-2", "gcp-public-data-landsat"


@pytest.fixture(scope="module")
def scene() -> SimulatedScene:
    return simulate_scene(2, size=240)


@pytest.fixture(scope="module")
def safe(scene: SimulatedScene, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a product of baseline 05.00, with some that nobody needs."""
    path = write_product(scene, tmp_path_factory.mktemp("safe"))
    files = {
        item.relative_to(path).as_posix(): item.read_bytes()
        for item in path.rglob("*")
        if item.is_file()
    }
    granule = next(name for name in files if name.startswith("GRANULE/")).split("/")[1]
    files |= {
        f"GRANULE/{granule}/QI_DATA/MSK_DETFOO_B02.jp2": b"x" * 1000,
        f"GRANULE/{granule}/QI_DATA/MSK_CLASSI_B00.jp2": b"y" * 100,
        "HTML/banner_1.png": b"z" * 1000,
    }
    return {"name": path.name.encode(), **files}


@pytest.fixture
def archive(safe: dict[str, bytes]) -> Iterator[PublicArchive]:
    state = PublicArchive()
    files = dict(safe)
    name = files.pop("name").decode()
    place = "tiles/31/S/IM/"
    state.put(TILES, f"{place}{name}/", files)
    state.objects[f"{TILES}/{place}{name}_$folder$"] = b""
    other = name.replace("20200615T103031", "20200615T233031")  # another pass of that day
    state.put(TILES, f"{place}{other}/", {"manifest.safe": b"?"})
    state.products = {name: files}
    with serve(state):
        yield state


def _google(archive: PublicArchive) -> GoogleArchive:
    return GoogleArchive(url=archive.url)


def _copernicus(archive: PublicArchive, monkeypatch: pytest.MonkeyPatch) -> CopernicusArchive:
    monkeypatch.setenv("CDSE_USERNAME", "me")
    monkeypatch.setenv("CDSE_PASSWORD", "right")
    return CopernicusArchive(
        catalogue=f"{archive.url}/odata/v1",
        download=f"{archive.url}/odata/v1",
        account=Account(url=f"{archive.url}/token"),
    )


def test_names_tell_scenes_and_reprocessed_products_are_found() -> None:
    wanted = parse_scene_name(OLD)
    again = OLD.replace("N0209", "N0500").replace("124519", "101010")
    newest = OLD.replace("N0209", "N0510")
    others = (
        OLD.replace("T31SIM", "T31SIN"),
        OLD.replace("S2A", "S2B"),
        OLD.replace("20200615T103031", "20200618T103031"),
        OLD.replace("MSIL1C", "MSIL2A"),
        "readme.txt",
    )
    assert choose_sentinel(wanted, others) is None
    assert choose_sentinel(wanted, [*others, again, newest]).name == newest
    assert choose_sentinel(wanted, [newest, OLD]).name == OLD
    first = next(iter(BIOMES))
    scene = parse_scene_name(first)
    assert (scene.path, scene.row, f"{scene.day}") == ("042", "008", "2013-08-08")
    real_time = "LC08_L1TP_042008_20130808_20170503_01_RT"
    best = "LC08_L1TP_042008_20130808_20170401_01_T1"
    assert choose_landsat(scene, [real_time, best, best.replace("042008", "042009")]).name == best
    assert choose_landsat(scene, [real_time, first]).name == first
    with pytest.raises(OptionError, match="names no scene; expected a Sentinel-2 product"):
        parse_scene_name("my scene")
    assert len(BIOMES) == 96
    assert all(parse_scene_name(item.product_name) for item in ALCD_SCENES)
    # Every scene of ALCD is known under the name of the same scene processed again.
    for item in ALCD_SCENES:
        parts = item.product_name.split("_")
        new = "_".join([*parts[:3], "N0500", *parts[4:6], "20230101T000000"])
        assert find_scene_info(f"{new}.SAFE") == item


def test_the_product_that_took_its_place_is_fetched_and_read(
    archive: PublicArchive, scene: SimulatedScene, tmp_path: Path
) -> None:
    product = _google(archive).find(parse_scene_name(OLD), None)
    assert product.note == (
        f"{product.found.name} takes its place: the same tile and pass, baseline 05.00 instead of "
        "02.09; its counts have an offset, which is read from its metadata"
    )
    left = product.left_bytes(tmp_path)
    assert left == sum(file.size for file in product.files)
    path = fetch_product(product, tmp_path)
    assert product.left_bytes(tmp_path) == 0
    names = {item.name for item in path.rglob("*") if item.is_file()}
    assert "MSK_CLASSI_B00.jp2" in names
    assert not {"MSK_DETFOO_B02.jp2", "banner_1.png"} & names
    assert not list(tmp_path.glob("*.part"))
    with open_product(path) as opened:
        assert opened.metadata["add_offset_dn"] == -1000
        red = opened.cube(["B04"])[:, 0:240, 0:240][0]
    np.testing.assert_allclose(red, scene.cube[scene.band_names.index("B04")], atol=6e-5)
    assert "-1000" in describe_product(path)


def test_only_the_bands_asked_for_come_and_others_are_added_later(
    archive: PublicArchive, tmp_path: Path
) -> None:
    google = _google(archive)
    path = fetch_product(google.find(parse_scene_name(OLD), ["B04", "B8A"]), tmp_path)
    with open_product(path) as opened:
        assert opened.band_labels == ("B04", "B8A")
    before = len(archive.requests)
    again = fetch_product(google.find(parse_scene_name(OLD), ["B04", "B11"]), tmp_path)
    assert again == path
    asked = [item for item, _ in archive.requests[before:] if item.endswith(".jp2")]
    assert [item[-7:-4] for item in asked] == ["B11"]
    with open_product(path) as opened:
        assert opened.band_labels == ("B04", "B8A", "B11")
    with pytest.raises(ReferenceDataError, match="no image of B77 in the archive"):
        google.find(parse_scene_name(OLD), ["B77"])
    with pytest.raises(OptionError, match="no band is asked for"):
        google.find(parse_scene_name(OLD), [])


def test_a_broken_transfer_goes_on_and_a_spoiled_file_is_refused(
    archive: PublicArchive, tmp_path: Path
) -> None:
    archive.cut = {"_B04.jp2": 1, "_B02.jp2": 9}
    product = _google(archive).find(parse_scene_name(OLD), ["B02", "B04"])
    with pytest.raises(ReferenceDataError, match="call again to continue"):
        fetch_product(product, tmp_path)  # B02 breaks off at every try
    assert not (tmp_path / product.folder_name).exists()
    archive.cut = {"_B04.jp2": 1}
    there: list[int] = []
    path = fetch_product(product, tmp_path, progress=there.append)
    assert there == sorted(there)
    assert there[-1] == sum(file.size for file in product.files)
    resumed = [start for item, start in archive.requests if item.endswith("_B04.jp2") and start]
    assert resumed
    assert path.is_dir()
    archive.spoiled = {"_B03.jp2"}
    bad = _google(archive).find(parse_scene_name(OLD), ["B03"])
    with pytest.raises(ReferenceDataError, match=r"sent has md5 .*It was removed"):
        fetch_product(bad, tmp_path)
    assert not list(path.rglob("*_B03*"))


def test_the_data_space_gives_files_by_its_manifest_to_an_account(
    archive: PublicArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = _copernicus(archive, monkeypatch)
    product = space.find(parse_scene_name(OLD), ["B02"])
    filters = archive.queries[0]["$filter"][0]
    assert "ContentDate/Start ge 2020-06-15T09:30:31.000Z" in filters
    assert "published digest" not in product.note
    path = fetch_product(product, tmp_path)
    with open_product(path) as opened:
        assert opened.band_labels == ("B02",)
    assert len(archive.tokens) == 1
    space.account._ends = 0
    space.account.headers()
    assert len(archive.tokens) == 2  # renewed when it is about to end
    archive.spoiled = {"_B03.jp2"}
    with pytest.raises(ReferenceDataError, match="sent has sha3_256"):
        fetch_product(space.find(parse_scene_name(OLD), ["B03"]), tmp_path)
    archive.password = "another"
    space.account._ends = 0
    with pytest.raises(ReferenceDataError, match=r"/token answers HTTP 401"):
        space.find(parse_scene_name(OLD), None)
    monkeypatch.delenv("CDSE_PASSWORD")
    with pytest.raises(OptionError, match="set CDSE_USERNAME and CDSE_PASSWORD"):
        space.find(parse_scene_name(OLD), None)
    with pytest.raises(ReferenceDataError, match="--archive google alone"):
        space.find(parse_scene_name(next(iter(BIOMES))), None)


def test_landsat_scenes_are_found_before_and_in_collections(tmp_path: Path) -> None:
    scene = simulate_scene(3, size=60, sensor="landsat-8-9-l1")
    made = write_product(scene, tmp_path / "made")
    state = PublicArchive()
    wanted = "LC81990302020167LGN00"  # the path, row and day of simulated products
    files = {item.name: item.read_bytes() for item in made.iterdir()}
    name = made.name.replace("_02_T1", "_01_T1")
    state.put(LANDSAT, f"LC08/01/199/030/{name}/", files)
    with serve(state):
        google = GoogleArchive(url=state.url)
        product = google.find(parse_scene_name(wanted), ["B4", "B5"])
        assert product.note == f"{name} takes its place: the same path, row and day"
        path = fetch_product(product, tmp_path / "products")
        with open_product(path) as opened:
            assert opened.band_labels == ("B4", "B5")
        assert "reflectance as its MTL says" in describe_product(path)
        state.put(LANDSAT, f"LC08/PRE/199/030/{wanted}/", files)
        assert google.find(parse_scene_name(wanted), None).found.name == wanted
        newer = parse_scene_name(made.name)  # of Collection 2, which is not there
        assert google.find(newer, None).found.name == name
        with pytest.raises(ReferenceDataError, match="has no product of LC80420082013220LGN00"):
            google.find(parse_scene_name(next(iter(BIOMES))), None)


def test_a_disk_without_room_is_told_before(
    archive: PublicArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = _google(archive).find(parse_scene_name(OLD), None)
    assert check_space([product], tmp_path / "not" / "there") == product.left_bytes(tmp_path)
    monkeypatch.setattr(fetch_products, "SPARE_BYTES", 2**60)
    with pytest.raises(OutputError, match="Ask for less"):
        check_space([product], tmp_path)


@pytest.mark.parametrize("name", ["../up", "/abs", "a//b", "a\\b", ""])
def test_a_server_cannot_name_files_elsewhere(name: str) -> None:
    with pytest.raises(ReferenceDataError, match="expected a plain path"):
        RemoteFile(url="http://127.0.0.1/", name=name)
    with pytest.raises(ReferenceDataError, match="lists no image of a band"):
        choose_files([RemoteFile(url="x", name="MTD_MSIL1C.xml")], None, "it")


def test_command(archive: PublicArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHIVES, "google", lambda: _google(archive))

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(build_app(), ["references", "fetch", *words])
        return done.exit_code, done.output + str(done.exception or "")

    folder = str(tmp_path / "products")
    code, text = run(OLD, "--folder", folder, "--model", "mini", "--dry-run")
    assert code == 0, text
    assert "GB of 1 products would be fetched" in text
    assert not (tmp_path / "products").exists()
    code, text = run(OLD, "--folder", folder, "--bands", "B02")
    assert code == 0, text
    assert "takes its place" in text
    assert "baseline 05.00" in text
    assert len(list((tmp_path / "products").iterdir())) == 1
    code, text = run(OLD, "LC80420082013220LGN00", "--folder", folder, "--bands", "blue")
    assert code == 1
    assert "1 of 2 scenes could not be fetched" in text
    for words, message in (
        ((), "expected either names of scenes, or --all"),
        ((OLD, "--all"), "expected either names of scenes, or --all"),
        (("--all", "--of", "sparks"), "expected one of alcd, l8-biome"),
        ((OLD, "--bands", "B02", "--model", "mini"), "say the same"),
        (("--all", "--references", str(tmp_path)), "no references of a format"),
    ):
        code, text = run(*words)
        assert code == 1
        assert message in text
