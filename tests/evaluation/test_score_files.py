"""``cloudmask score`` and ``references``: which mask belongs where, reports, what is left out."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import rasterio
from sklearn import metrics
from typer.testing import CliRunner

from openeo_cloudmask.alcd.types import AlcdScene
from openeo_cloudmask.classes import ALCD, FOUR_CLASS, NODATA_CLASS, VALID_INVALID, map_labels
from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.evaluation.error_map import ERROR_CLASSES, map_errors
from openeo_cloudmask.evaluation.evaluate import parse_scene_result
from openeo_cloudmask.evaluation.report_html import write_report
from openeo_cloudmask.evaluation.score_files import ScoreRequest, find_mask, score_files
from openeo_cloudmask.products import Grid, write_cog

FIRST = "S2B_MSIL1C_20171009T102009_N0205_R065_T32TMR_20171009T102008"
OLD = "S2A_OPER_PRD_MSIL1C_PDMC_20160417T203056_R137_V20160417T111159_20160417T111159"
NEW = "S2A_MSIL1C_20160417T110652_N0201_R137_T29RPQ_20160417T111159"

SceneFactory = Callable[..., AlcdScene]


def _mask_of(scene: AlcdScene, path: Path, *, seed: int = 3, factor: int = 1) -> Path:
    """Write a mask that is right in most blocks, on a grid finer by ``factor``."""
    labels = map_labels(scene.labels, ALCD, FOUR_CLASS)
    rng = np.random.default_rng(seed)
    wrong = rng.random(labels.shape) < 0.2
    labels = np.where(wrong & (labels != 255), rng.integers(0, 4, labels.shape), labels)
    labels = np.repeat(np.repeat(labels.astype(np.uint8), factor, 0), factor, 1)
    transform = scene.grid.transform
    assert transform is not None
    grid = Grid(
        shape_yx=labels.shape,
        transform=type(transform)(
            transform.a / factor, 0, transform.c, 0, transform.e / factor, transform.f
        ),
        crs=scene.grid.crs,
    )
    path.parent.mkdir(exist_ok=True)
    return write_cog(path, [(0, labels[np.newaxis])], grid=grid, scheme=FOUR_CLASS)


@pytest.fixture
def masks(tmp_path: Path, make_scene: SceneFactory) -> Path:
    folder = tmp_path / "masks"
    _mask_of(make_scene(), folder / f"{FIRST}.tif", factor=3)
    _mask_of(make_scene(OLD, seed=1), folder / f"{NEW}_mask.tif", factor=2)
    return folder


def test_pooled_scores_equal_scikit_learn_on_all_pixels(
    archive: Path, masks: Path, make_scene: SceneFactory
) -> None:
    report = score_files(ScoreRequest(mask=masks, reference=archive))
    assert {scene.name for scene in report.scenes} == {FIRST, OLD}
    truth, guess = [], []
    for scene, name in (
        (make_scene(), f"{FIRST}.tif"),
        (make_scene(OLD, seed=1), f"{NEW}_mask.tif"),
    ):
        with rasterio.open(masks / name) as data:
            factor = data.width // scene.labels.shape[1]
            labels = data.read(1)[::factor, ::factor]
        reference = map_labels(scene.labels, ALCD, VALID_INVALID)
        found = map_labels(labels, FOUR_CLASS, VALID_INVALID)
        seen = (reference != 255) & (found != 255)
        truth.append(reference[seen])
        guess.append(found[seen])
    pooled = report.pooled[0]
    assert pooled.case.name == "valid-invalid"
    scores = pooled.confusion.scores()
    true, said = np.concatenate(truth), np.concatenate(guess)
    assert scores.compared == true.size
    assert abs(scores.kappa - metrics.cohen_kappa_score(true, said)) < 1e-12
    assert abs(scores.balanced_accuracy - metrics.balanced_accuracy_score(true, said)) < 1e-12
    assert abs(scores.of("invalid").f1 - metrics.f1_score(true, said)) < 1e-12
    nodata = sum(int((s.labels == 0).sum()) for s in (make_scene(), make_scene(OLD, seed=1)))
    assert pooled.excluded.reference_nodata == nodata
    assert "balanced_accuracy" in pooled.intervals


def test_a_mask_is_scored_against_the_scene_it_is_named_after(archive: Path, masks: Path) -> None:
    one = score_files(ScoreRequest(mask=masks / f"{NEW}_mask.tif", reference=archive))
    assert [scene.name for scene in one.scenes] == [OLD]
    assert one.pooled[0].intervals == {}
    renamed = (masks / f"{NEW}_mask.tif").rename(masks / "mask.tif")
    with pytest.raises(ReferenceDataError, match="say which one it shows with --scene"):
        score_files(ScoreRequest(mask=renamed, reference=archive))
    told = score_files(ScoreRequest(mask=renamed, reference=archive, scene=NEW))
    assert told.pooled[0].excluded == one.pooled[0].excluded


def test_masks_are_found_by_product_or_tile_and_date(tmp_path: Path) -> None:
    for name in ("T29RPQ_20160417_mask.tif", "T32TMR_20171009.tif", "T32TMR_20171111.tif"):
        (tmp_path / name).touch()
    assert find_mask(tmp_path, OLD).name == "T29RPQ_20160417_mask.tif"
    assert find_mask(tmp_path, FIRST).name == "T32TMR_20171009.tif"
    with pytest.raises(ReferenceDataError, match="no mask in"):
        find_mask(tmp_path, "another")
    (tmp_path / f"{FIRST}_a.tif").touch()
    (tmp_path / f"{FIRST}_b.tif").touch()
    with pytest.raises(ReferenceDataError, match=r"2 masks \("):
        find_mask(tmp_path, FIRST)
    (tmp_path / f"{FIRST}.tif").touch()
    assert find_mask(tmp_path, FIRST).name == f"{FIRST}.tif"


def test_what_fails_stops_the_run_or_is_left_out_and_listed(archive: Path, masks: Path) -> None:
    (archive / "Reference_dataset" / FIRST / "Samples" / "water.prj").unlink()
    with pytest.raises(ReferenceDataError, match=rf"scene {FIRST}: Samples/water.prj is missing"):
        score_files(ScoreRequest(mask=masks, reference=archive))
    report = score_files(ScoreRequest(mask=masks, reference=archive, keep_going=True))
    assert [scene.name for scene in report.scenes] == [OLD]
    assert [item.name for item in report.left_out] == [FIRST]
    assert "Samples/water.prj is missing" in report.left_out[0].reason
    (masks / f"{NEW}_mask.tif").unlink()
    with pytest.raises(ReferenceDataError, match=r"no scene of .* could be scored"):
        score_files(ScoreRequest(mask=masks, reference=archive, keep_going=True))


def test_another_scene_s_mask_is_told(
    archive: Path, tmp_path: Path, make_scene: SceneFactory
) -> None:
    path = _mask_of(make_scene(), tmp_path / "m" / "mask.tif")
    with rasterio.open(path) as data:
        labels = data.read()
    far = Grid(
        shape_yx=labels.shape[1:],
        transform=rasterio.Affine(60, 0, 700_000, 0, -60, 4_000_000),
        crs=make_scene().grid.crs,
    )
    write_cog(path, [(0, labels)], grid=far, scheme=FOUR_CLASS)
    with pytest.raises(ReferenceDataError, match=rf"scene {FIRST}: .*do not overlap"):
        score_files(ScoreRequest(mask=path, reference=archive, scene=FIRST))


class _Page(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_report_stands_alone_and_holds_the_numbers(
    archive: Path, masks: Path, tmp_path: Path
) -> None:
    report = score_files(ScoreRequest(mask=masks, reference=archive))
    paths = write_report(tmp_path / "out", report)
    text = paths[0].read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 6
    assert all(item["alt"] for item in images)
    assert all((item["src"] or "").startswith("data:image/png;base64,") for item in images)
    assert not [
        tag
        for tag, attrs in page.tags
        if tag in ("script", "link")
        or ("href" in attrs and not (attrs["href"] or "").startswith("#"))
    ]
    tables = sum(tag == "table" for tag, _ in page.tags)
    assert tables == sum(tag == "caption" for tag, _ in page.tags)
    assert ("html", {"lang": "en"}) in page.tags
    scores = report.pooled[0].confusion.scores()
    assert f"{scores.balanced_accuracy:.3f}" in text
    rows = list(csv.DictReader(paths[1].read_text().splitlines()))
    row = next(
        row
        for row in rows
        if (row["scene"], row["case"], row["class"], row["number"])
        == ("pooled", "valid-invalid", "", "kappa")
    )
    assert float(row["value"]) == scores.kappa
    assert float(row["interval_low"]) <= scores.kappa <= float(row["interval_high"])
    content = json.loads(paths[2].read_text())
    assert content["pooled"][0]["scores"]["kappa"] == scores.kappa
    again = parse_scene_result(content["scenes"][0])
    assert again.to_dict() == report.scenes[0].to_dict()


def test_names_cannot_put_code_into_the_page(archive: Path, masks: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    report = replace(
        score_files(ScoreRequest(mask=masks, reference=archive)), title="<script>x</script>"
    )
    text = write_report(tmp_path, report)[0].read_text()
    assert "<script" not in text


def test_error_map_has_the_four_kinds_in_their_colours(
    archive: Path, masks: Path, tmp_path: Path
) -> None:
    reference = np.array([[0, 0, 1, 1, 255]], np.uint8)
    mask = np.array([[0, 1, 0, 1, 1]], np.uint8)
    assert map_errors(reference, mask).tolist() == [[0, 2, 3, 1, 255]]
    score_files(
        ScoreRequest(mask=masks, reference=archive, scene=FIRST, error_maps=tmp_path / "maps")
    )
    with rasterio.open(tmp_path / "maps" / f"{FIRST}_errors.tif") as data:
        values, colours = data.read(1), data.colormap(1)
        assert data.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert data.nodata == 255
    assert set(np.unique(values)) == {0, 1, 2, 3, 255}
    red, green, blue, _ = (
        np.array([colours[item.value][band] for item in ERROR_CLASSES.classes]) for band in range(4)
    )
    kinds = dict(zip(ERROR_CLASSES.names, zip(red, green, blue, strict=True), strict=True))
    assert max(kinds["true-positive"]) == kinds["true-positive"][2]  # blue
    assert len(set(kinds["true-negative"])) == 1  # grey
    assert max(kinds["false-negative"]) == kinds["false-negative"][0]  # dark red
    orange = kinds["false-positive"]
    assert orange[0] > orange[1] > orange[2]


# Machado, Oliveira and Fernandes (2009): what is seen without one of the three kinds of cones.
SIGHTS = {
    "all": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
         [0.004733, 0.691367, 0.303900]]
    ),
}  # fmt: skip


def lab_of(color: str, sight: np.ndarray) -> np.ndarray:
    """Return CIE L*a*b* of an sRGB colour as it is seen."""
    stored = np.array([int(color[at : at + 2], 16) / 255 for at in (0, 2, 4)])
    linear = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ np.clip(sight @ linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHTS)
def test_kinds_of_errors_are_told_apart_by_all_eyes(sight: str) -> None:
    shown = [item.color for item in (*ERROR_CLASSES.classes, NODATA_CLASS)]
    colours = [lab_of(color, SIGHTS[sight]) for color in shown]
    pairs = [np.linalg.norm(one - other) for one, other in combinations(colours, 2)]
    assert min(pairs) > 25


def test_kinds_of_errors_are_told_apart_in_print_without_colours() -> None:
    shown = [item.color for item in (*ERROR_CLASSES.classes, NODATA_CLASS)]
    lightness = [float(lab_of(color, SIGHTS["all"])[0]) for color in shown]
    assert min(abs(one - other) for one, other in combinations(lightness, 2)) > 13


def test_command_scores_and_prints(archive: Path, masks: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(
        build_app(),
        ["score", str(masks), str(archive), "--output", str(tmp_path / "out"), "--dilate", "60m"],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    assert "valid-invalid, dilated 60 m" in result.stdout
    assert (tmp_path / "out" / "scores.html").is_file()
    assert (tmp_path / "out" / "error_maps" / f"{FIRST}_errors.tif").is_file()
    result = runner.invoke(build_app(), ["score", str(masks), str(archive), "--json"])
    content = json.loads(result.stdout)
    assert content["settings"]["regrid"] == "fractions"
    assert math.isfinite(content["pooled"][0]["scores"]["kappa"])


def test_command_scores_against_a_raster(masks: Path) -> None:
    path = str(masks / f"{FIRST}.tif")
    result = CliRunner().invoke(build_app(), ["score", path, path, "--json"])
    assert json.loads(result.stdout)["pooled"][0]["scores"]["overall_accuracy"] == 1.0


def test_command_lists_and_shows_references(archive: Path) -> None:
    runner = CliRunner()
    rows = runner.invoke(build_app(), ["references", "list"]).stdout.splitlines()
    assert rows.pop(0).split("\t") == ["tile", "date", "location", "product", "folder", "in"]
    assert len(rows) == 37
    assert sum("Hollstein" in row for row in rows) == 7
    rows = json.loads(
        runner.invoke(
            build_app(), ["references", "list", "--archive", str(archive), "--json"]
        ).stdout
    )
    assert sum(bool(row["same as"]) for row in rows) == 1
    shown = runner.invoke(
        build_app(), ["references", "show", NEW, "--archive", str(archive), "--json"]
    )
    about = json.loads(shown.stdout)
    assert about["folder"] == OLD
    assert sum(about["pixels"].values()) == 1600
    assert list(about["k_fold_means"]) == [
        "accuracy", "f1_score", "precision", "recall", "specificity",
    ]  # fmt: skip
