"""ALCD references: what is written is read, from a folder, a scene and a .tgz; errors are named."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapefile
from affine import Affine

from openeo_cloudmask.alcd.archive import AlcdArchive, Failure
from openeo_cloudmask.alcd.scenes import ALCD_SCENES, GROUPS, find_scene_info
from openeo_cloudmask.alcd.types import METRICS, SAMPLE_LAYERS, AlcdScene
from openeo_cloudmask.alcd.writer import write_alcd_scene
from openeo_cloudmask.errors import OutputError, ReferenceDataError

FIRST = "S2B_MSIL1C_20171009T102009_N0205_R065_T32TMR_20171009T102008"
OLD = "S2A_OPER_PRD_MSIL1C_PDMC_20160417T203056_R137_V20160417T111159_20160417T111159"
NEW = "S2A_MSIL1C_20160417T110652_N0201_R137_T29RPQ_20160417T111159"


def _assert_same(one: AlcdScene, other: AlcdScene) -> None:
    assert (one.name, one.group, one.grid) == (other.name, other.group, other.grid)
    assert np.array_equal(one.labels, other.labels)
    assert np.array_equal(one.confidence, other.confidence)
    assert one.parameters == other.parameters
    assert np.array_equal(one.statistics.folds, other.statistics.folds)
    assert one.contours == other.contours
    for a, b in zip(one.samples, other.samples, strict=True):
        assert (a.layer, a.code) == (b.layer, b.code)
        assert np.allclose(a.points, b.points, atol=1e-6)


def _tgz(archive: Path) -> Path:
    path = archive.parent / "archive.tgz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(archive, arcname=archive.name)
    return path


def test_the_table_has_37_scenes_in_38_folders() -> None:
    assert len(ALCD_SCENES) == 37
    assert sum(len(scene.groups) for scene in ALCD_SCENES) == 38
    assert sum("Reference_dataset" in scene.groups for scene in ALCD_SCENES) == 31
    assert sum("Hollstein" in scene.groups for scene in ALCD_SCENES) == 7
    assert len({(scene.tile, scene.date) for scene in ALCD_SCENES}) == 37
    twice = [scene for scene in ALCD_SCENES if scene.groups == GROUPS]
    assert [scene.archive_name for scene in twice] == [OLD]
    assert all("_OPER_" not in scene.product_name for scene in ALCD_SCENES)
    assert all(f"_T{scene.tile}_" in scene.product_name for scene in ALCD_SCENES)


def test_scenes_are_known_by_old_and_new_names() -> None:
    info = find_scene_info(OLD)
    assert info is not None
    assert (info.product_name, info.tile, info.location) == (NEW, "29RPQ", "Marrakech")
    assert find_scene_info(f"{NEW}.SAFE") == info
    hollstein = find_scene_info("S2A_MSIL1C_20160126T023442_N0201_R103_T49JGL_20160126T023437")
    assert hollstein is not None
    assert hollstein.location == "49JGL_20160126"
    assert find_scene_info("S2A_MSIL1C_20990101") is None


@pytest.mark.parametrize("kind", ["folder", "parent", "tgz"])
def test_an_archive_is_read_as_it_was_written(
    kind: str, archive: Path, make_scene: Callable[..., AlcdScene]
) -> None:
    path = {"folder": archive, "parent": archive.parent}.get(kind) or _tgz(archive)
    if kind == "tgz":
        shutil.rmtree(archive)  # nothing may be read from beside it
    before = sorted(path.parent.rglob("*"))
    with AlcdArchive(path) as opened:
        assert len(opened.entries) == 3
        scenes = {scene.name: scene for scene in opened.read_each(None)}
    assert set(scenes) == {FIRST, OLD}
    _assert_same(scenes[FIRST], make_scene())
    duplicate = next(entry for entry in opened.entries if entry.duplicate_of)
    assert duplicate.name == OLD
    assert sorted(path.parent.rglob("*")) == before  # nothing was unpacked


def test_one_scene_folder_is_an_archive_of_one(
    archive: Path, make_scene: Callable[..., AlcdScene]
) -> None:
    with AlcdArchive(archive / "Reference_dataset" / FIRST) as opened:
        (entry,) = opened.distinct()
        _assert_same(opened.read(entry), make_scene())


def test_scenes_are_found_by_either_name(archive: Path) -> None:
    with AlcdArchive(archive) as opened:
        assert opened.find(NEW).name == OLD
        assert opened.find(FIRST).group == "Reference_dataset"
        with pytest.raises(ReferenceDataError, match="no scene 'nothing'"):
            opened.find("nothing")


def test_parts_of_a_scene(archive: Path) -> None:
    with AlcdArchive(archive / "Reference_dataset" / FIRST) as opened:
        scene = opened.read(opened.entries[0])
    assert scene.grid.crs.to_epsg() == 32632
    assert [item.layer for item in scene.samples] == list(SAMPLE_LAYERS)
    for item in scene.samples:
        for x, y in item.points:
            row, column = scene.grid.to_pixel(x, y)
            assert scene.labels[int(row), int(column)] == item.code
    assert scene.statistics.folds.shape == (10, 5)
    assert tuple(scene.statistics.means) == METRICS
    assert scene.statistics.means["accuracy"] == 1.0  # samples are drawn from the labels
    assert scene.contours is not None
    assert scene.contours.startswith(b"\x89PNG")


def test_metrics_are_told_apart_by_their_names(archive: Path) -> None:
    path = archive / "Reference_dataset" / FIRST / "Statistics" / "k_fold_summary.json"
    order = ["specificity", "recall", "accuracy", "f1_score", "precision"]
    table = [[0.1, 0.2, 0.3, 0.4, 0.5], [0.3, 0.4, 0.5, 0.6, 0.7]]
    path.write_text(json.dumps({"K": 2, "all_metrics": table, "metrics_names": order}))
    with AlcdArchive(path.parents[1]) as opened:
        statistics = opened.read(opened.entries[0]).statistics
    assert statistics.means == pytest.approx(
        {"accuracy": 0.4, "f1_score": 0.5, "precision": 0.6, "recall": 0.3, "specificity": 0.2}
    )
    assert statistics.stds["recall"] == pytest.approx(0.1)  # of the population


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _text(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def _class_nine(folder: Path) -> None:
    with rasterio.open(folder / "Classification" / "classification_map.tif", "r+") as data:
        values = data.read(1)
        values[3, 3] = 9
        data.write(values, 1)


def _other_grid(folder: Path) -> None:
    with rasterio.open(folder / "Classification" / "confidence_enhanced.tif", "r+") as data:
        data.transform = Affine(60, 0, 0, 0, -60, 0)


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no map": (
        _remove("Classification/classification_map.tif"),
        "classification_map.tif is missing",
    ),
    "no confidence": (
        _remove("Classification/confidence_enhanced.tif"),
        "confidence_enhanced.tif is missing",
    ),
    "no parameters": (
        _remove("Classification/used_parameters.json"),
        "used_parameters.json is missing",
    ),
    "no statistics": (_remove("Statistics/k_fold_summary.json"), "k_fold_summary.json is missing"),
    "no prj": (_remove("Samples/water.prj"), "Samples/water.prj is missing"),
    "bad prj": (_text("Samples/water.prj", "nonsense"), "Samples/water.prj describes no"),
    "no dbf": (_remove("Samples/land.dbf"), "Samples/land.dbf is missing"),
    "bad shp": (_text("Samples/snow.shp", "nonsense"), "Samples/snow.shp is no readable shapefile"),
    "bad tif": (
        _text("Classification/classification_map.tif", "nonsense"),
        "classification_map.tif is no readable GeoTIFF",
    ),
    "bad json": (
        _text("Classification/used_parameters.json", "{not json"),
        "used_parameters.json is no valid JSON",
    ),
    "list": (_text("Statistics/k_fold_summary.json", "[1]"), "k_fold_summary.json holds a list"),
    "keys": (_text("Classification/used_parameters.json", "{}"), "lacks tile, location"),
    "metrics": (
        _text(
            "Statistics/k_fold_summary.json",
            '{"K": 1, "all_metrics": [[1]], "metrics_names": ["accuracy"]}',
        ),
        "k_fold_summary.json has metrics_names",
    ),
    "class 9": (_class_nine, "classification_map.tif holds class 9; expected codes 0 to 7"),
    "other grid": (_other_grid, "confidence_enhanced.tif lies on another grid"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_scene_is_named_with_its_file(name: str, archive: Path) -> None:
    damage, message = BROKEN[name]
    damage(archive / "Reference_dataset" / FIRST)
    with AlcdArchive(archive) as opened:
        with pytest.raises(ReferenceDataError, match=rf"scene {FIRST}: .*{message}"):
            list(opened.read_each(None))
        failures: list[Failure] = []
        assert [scene.name for scene in opened.read_each(failures.append)] == [OLD]
    assert [item.name for item in failures] == [FIRST]
    assert message.split(";")[0] in failures[0].reason


def test_records_without_a_shape_are_no_samples(archive: Path) -> None:
    folder = archive / "Reference_dataset" / FIRST
    with shapefile.Writer(str(folder / "Samples" / "snow"), shapeType=shapefile.POINT) as writer:
        writer.field("id", "N")
        writer.null()
        writer.record(0)
        writer.point(400_000, 5_099_000)
        writer.record(1)
    with AlcdArchive(folder) as opened:
        samples = opened.read(opened.entries[0]).samples
    snow = next(item for item in samples if item.layer == "snow")
    assert snow.points.tolist() == [[400_000, 5_099_000]]


def test_an_archive_is_unpacked_once_however_its_files_are_ordered(
    archive: Path, make_scene: Callable[..., AlcdScene], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive.parent / "shuffled.tgz"
    files = sorted(item for item in archive.rglob("*") if item.is_file())
    files.sort(key=lambda item: (item.parents[1].name, item.name[::-1]))
    with tarfile.open(path, "w:gz") as tar:
        for item in files:
            tar.add(item, arcname=f"./{item.relative_to(archive.parent)}")
    with AlcdArchive(path) as opened:
        rewinds = []
        rewind = gzip._GzipReader._rewind

        def count(self: gzip._GzipReader) -> None:
            rewinds.append(self)
            rewind(self)

        monkeypatch.setattr(gzip._GzipReader, "_rewind", count)
        scenes = {scene.name: scene for scene in opened.read_each(None)}
    _assert_same(scenes[FIRST], make_scene())
    assert len(rewinds) <= len(scenes)


def test_a_cut_archive_is_told(archive: Path) -> None:
    path = _tgz(archive)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ReferenceDataError, match="no complete tar archive"):
        AlcdArchive(path)


def test_what_is_no_archive_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReferenceDataError, match="holds no reference scene"):
        AlcdArchive(tmp_path)
    with pytest.raises(ReferenceDataError, match="does not exist"):
        AlcdArchive(tmp_path / "nothing")
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ReferenceDataError, match=r"neither a folder nor a \.tgz"):
        AlcdArchive(tmp_path / "a.txt")


def test_a_scene_is_not_overwritten_unless_told(
    archive: Path, make_scene: Callable[..., AlcdScene]
) -> None:
    other = make_scene(seed=5)
    with pytest.raises(OutputError, match="exists"):
        write_alcd_scene(archive, other)
    folder = write_alcd_scene(archive, other, overwrite=True)
    with AlcdArchive(folder) as opened:
        _assert_same(opened.read(opened.entries[0]), other)
    assert not [path for path in archive.rglob("*") if path.name.endswith(".tmp")]


def test_labels_without_a_class_make_no_reference(make_scene: Callable[..., AlcdScene]) -> None:
    from openeo_cloudmask.alcd.writer import make_alcd_scene

    scene = make_scene()
    with pytest.raises(ReferenceDataError, match="no sample lies on a pixel"):
        make_alcd_scene(
            name="empty",
            labels=np.zeros_like(scene.labels),
            grid=scene.grid,
            parameters=scene.parameters,
        )
    with pytest.raises(ReferenceDataError, match="holds class 9"):
        make_alcd_scene(
            name="wrong",
            labels=np.full_like(scene.labels, 9),
            grid=scene.grid,
            parameters=scene.parameters,
        )
