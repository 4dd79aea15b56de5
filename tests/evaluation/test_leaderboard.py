"""Studies and leaderboards: every figure equals a plain count, and nothing is computed twice."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from sklearn import metrics
from typer.testing import CliRunner

from openeo_cloudmask.alcd.writer import write_alcd_scene
from openeo_cloudmask.classes import ALCD, FOUR_CLASS
from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import OptionError, ReferenceDataError
from openeo_cloudmask.evaluation import study
from openeo_cloudmask.evaluation.cases import VIEWS, Pair
from openeo_cloudmask.evaluation.compare_scenes import ComparedModel
from openeo_cloudmask.evaluation.labelled import read_labelled
from openeo_cloudmask.evaluation.labelled_masks import ModelMasks
from openeo_cloudmask.evaluation.leaderboard import COLUMNS, make_boards
from openeo_cloudmask.evaluation.leaderboard_report import board_rows
from openeo_cloudmask.evaluation.study import LEFT_OUT, measure_scene, pair_rows, run_study
from openeo_cloudmask.evaluation.study_scenes import (
    Masked,
    find_study_scenes,
    simulated_scenes,
)
from openeo_cloudmask.evaluation.study_store import FILE_NAME, read_rows, write_rows
from openeo_cloudmask.fetch.names import is_same_scene
from openeo_cloudmask.simulator.products import make_reference, write_product
from openeo_cloudmask.simulator.scene import simulate_scene

MINI, RULES, SCL = (
    ComparedModel(id=name, device="cpu", precision="fp32") for name in ("mini", "hollstein", "scl")
)
SIDE = 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three small labelled scenes; of the last, shadow is not labelled."""
    place = tmp_path / "scenes"
    place.mkdir()
    for seed in (1, 2, 3):
        scene = simulate_scene(seed, size=SIDE)
        label = scene.truth.copy()
        label[:5] = 255
        np.savez(
            place / f"made_{seed}.npz",
            counts=np.round(scene.cube * 10000).astype(np.int16),
            bands=np.array(scene.band_names),
            label=np.where(label == 3, 0, label).astype(np.uint8) if seed == 3 else label,
            sensor="sentinel-2-l1c",
            pixel_m=10,
            shadow_labelled=seed != 3,
            thin_labelled=True,
            sun_elevation_deg=90 - scene.sun_zenith_deg,
        )
    return place


@pytest.mark.slow
def test_figures_are_those_of_plain_counts(folder: Path, tmp_path: Path) -> None:
    rows = run_study(tmp_path / "study", find_study_scenes(folder), [MINI, RULES, SCL])
    (board,) = make_boards(rows)
    assert (board.references, board.scenes) == ("scenes", 3)
    assert {item.model for item in board.standings} == {"mini", "hollstein"}
    assert list(board.left_out) == ["scl"]
    truth, given, valid_truth, valid_given = [], [], [], []
    for path in sorted(folder.glob("*.npz")):
        scene = read_labelled(path)
        mask = ModelMasks(model=MINI).mask(scene)
        seen = scene.label != 255
        truth.append(np.isin(scene.label[seen], (1, 2)))
        given.append(np.isin(mask[seen], (1, 2)))
        if scene.shadow_labelled:
            valid_truth.append(scene.label[seen] != 0)
            valid_given.append(mask[seen] != 0)
    one, other = np.concatenate(truth), np.concatenate(given)
    mini = next(item for item in board.standings if item.model == "mini")
    found = {key: number.value for (_, _, key), number in zip(COLUMNS, mini.numbers, strict=True)}
    assert found["cloud.f1"] == pytest.approx(metrics.f1_score(one, other), abs=1e-12)
    assert found["cloud.recall"] == pytest.approx(metrics.recall_score(one, other), abs=1e-12)
    assert found["kappa"] == pytest.approx(metrics.cohen_kappa_score(one, other), abs=1e-12)
    assert mini.ranked.value == pytest.approx(
        metrics.balanced_accuracy_score(one, other), abs=1e-12
    )
    valid = mini.numbers[[heading for heading, *_ in COLUMNS].index("Valid/invalid, balanced")]
    assert valid.value == pytest.approx(
        metrics.balanced_accuracy_score(np.concatenate(valid_truth), np.concatenate(valid_given)),
        abs=1e-12,
    )
    rings = [value for (kind, _), value in mini.strata.items() if kind.startswith("distance")]
    assert len(rings) == 5
    heights = {name: n for (kind, name), (_, n) in mini.strata.items() if kind.startswith("sun")}
    assert sum(heights.values()) == 3


def watch_study(
    monkeypatch: pytest.MonkeyPatch, *, stop_after: int
) -> tuple[list[tuple[str, tuple[str, ...]]], list[int]]:
    """Return what is measured, and after how many scenes a study is stopped; both may change."""
    measured: list[tuple[str, tuple[str, ...]]] = []
    limit = [stop_after]

    def watched(scene, models):
        if len(measured) >= limit[0]:
            raise KeyboardInterrupt
        measured.append((scene.name, tuple(model.label for model, _ in models)))
        return measure_scene(scene, models)

    monkeypatch.setattr(study, "measure_scene", watched)
    return measured, limit


def test_a_study_goes_on_and_makes_again_only_what_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "study"
    measured, stop_after = watch_study(monkeypatch, stop_after=2)
    scenes = find_study_scenes(folder)
    with pytest.raises(KeyboardInterrupt):
        run_study(place, scenes, [RULES])
    assert len(list((place / "parts").iterdir())) == 2
    stop_after[0] = 99
    run_study(place, scenes, [RULES])
    assert [name for name, _ in measured] == ["made_1", "made_2", "made_3"]
    assert [item.name for item in place.iterdir()] == [FILE_NAME]
    before = read_rows(place / FILE_NAME)
    measured.clear()
    assert run_study(place, scenes, [RULES]) == before
    assert not measured
    run_study(place, scenes, [RULES, SCL])
    assert {models for _, models in measured} == {("scl",)}
    measured.clear()
    path = folder / "made_2.npz"
    path.write_bytes(path.read_bytes())
    run_study(place, find_study_scenes(folder), [RULES])
    assert measured == [("made_2", ("hollstein",))]
    # What failed for want of weights or an extra is tried again.
    measured.clear()
    rows = run_study(place, scenes, [SCL])
    assert len(measured) == 3
    assert {row["kind"] for row in rows} == {LEFT_OUT}


def test_a_study_that_was_stopped_twice_keeps_all_it_made(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, stop_after = watch_study(monkeypatch, stop_after=1)
    scenes = find_study_scenes(folder)
    with pytest.raises(KeyboardInterrupt):
        run_study(tmp_path / "study", scenes, [RULES])
    stop_after[0] = 2
    with pytest.raises(KeyboardInterrupt):
        run_study(tmp_path / "study", scenes, [RULES, SCL])
    stop_after[0] = 99
    run_study(tmp_path / "study", scenes, [RULES])
    assert [name for name, models in measured if "hollstein" in models] == [
        "made_1", "made_2", "made_3",
    ]  # fmt: skip


@pytest.mark.slow
def test_workers_give_the_same_rows(folder: Path, tmp_path: Path) -> None:
    scenes = [*find_study_scenes(folder), *simulated_scenes(2, size_px=SIDE)]
    alone = run_study(tmp_path / "one", scenes, [RULES])
    shared = run_study(tmp_path / "two", scenes, [RULES], workers=1)

    def key(row: dict[str, object]) -> tuple[object, ...]:
        return tuple(row[name] for name in ("references", "scene", "view", "kind", "stratum"))

    def plain(rows: list[dict[str, object]]) -> list[dict[str, object]]:
        return sorted(({**row, "cpu_seconds": 0} for row in rows), key=key)

    assert plain(alone) == plain(shared)


def _rows(model: str, matrices: list[list[int]]) -> list[dict[str, object]]:
    return [
        {
            "references": "set",
            "scene": f"s{place}",
            "model": model,
            "fingerprint": "x",
            "view": "cloud-noncloud",
            "kind": "all",
            "stratum": "",
            "counts": counts,
            "unclassed": 0,
            "cover": 0.5,
            "sun_elevation_deg": None,
            "digest": "d",
            "pixels": sum(counts),
            "cpu_seconds": 1.0,
        }
        for place, counts in enumerate(matrices)
    ]


def test_ranks_part_only_where_intervals_do() -> None:
    good = [[90, 10, 10, 90], [92, 8, 8, 92], [91, 9, 10, 90], [90, 10, 9, 91]]
    alike = [[89, 11, 10, 90], [92, 8, 9, 91], [90, 10, 10, 90], [91, 9, 9, 91]]
    bad = [[60, 40, 40, 60], [62, 38, 41, 59], [60, 40, 39, 61], [61, 39, 40, 60]]
    rows = _rows("bad", bad) + _rows("good", good) + _rows("alike", alike)
    rows += _rows("partly", good[:2])
    (board,) = make_boards(rows)
    assert [(item.model, item.rank) for item in board.standings] == [
        ("good", 1), ("alike", 1), ("bad", 3), ("partly", None),
    ]  # fmt: skip
    blank = _rows("blank", [*good[:3], [0] * 4])
    blank[3] |= {"unclassed": 200}  # its mask says nothing of a scene that is labelled
    (board,) = make_boards(_rows("good", good) + blank)
    assert [(item.model, item.scenes, item.rank) for item in board.standings] == [
        ("good", 4, 1), ("blank", 3, None),
    ]  # fmt: skip
    (alone,) = make_boards(_rows("good", good[:1]))
    assert alone.standings[0].rank is None  # one scene has no interval
    assert math.isnan(alone.standings[0].ranked.low)


def test_intervals_do_not_depend_on_which_worker_was_first(folder: Path, tmp_path: Path) -> None:
    place, scenes = tmp_path / "study", find_study_scenes(folder)
    rows = run_study(place, scenes, [RULES])
    shuffled = sorted(rows, key=lambda row: str(row["scene"]), reverse=True)
    write_rows(place / FILE_NAME, shuffled)
    assert run_study(place, scenes, [RULES]) == rows


def test_models_that_know_the_scenes_are_marked() -> None:
    rows = [row | {"references": "SPARCS (folder)"} for row in _rows("ukis-csmask", [[9, 1, 1, 9]])]
    rows += [row | {"references": "SPARCS (folder)"} for row in _rows("mini", [[9, 1, 1, 9]])]
    rows += [
        row | {"references": "simulated sentinel-2-l1c, 64 px"} for row in _rows("mini", [[1] * 4])
    ]
    marked = [[row[1] for row in board_rows(board)[1]] for board in make_boards(rows)]
    assert marked == [["ukis-csmask †", "mini"], ["mini †"]]
    (board,) = make_boards([row | {"references": "scenes"} for row in _rows("mini", [[1] * 4])])
    assert board_rows(board)[1][0][1] == "mini"  # a folder of one's own, not the simulated scenes
    plus = {"references": "CloudSEN12+ (L1C, TACO files) (folder)"}
    (board,) = make_boards([row | plus for row in _rows("cloudsen12", [[1] * 4])])
    assert board_rows(board)[1][0][1] == "cloudsen12 †"  # it holds the scenes of CloudSEN12


def test_the_cover_of_a_scene_is_that_of_its_reference() -> None:
    reference = np.repeat(np.array([[0, 1, 1, 255]], np.uint8), 4, axis=0)
    about = {"reference": reference, "reference_scheme": FOUR_CLASS, "mask_scheme": FOUR_CLASS}
    half = np.where(np.arange(4) < 2, reference, np.uint8(255))
    for mask in (reference, half):
        masked = Masked(
            pair=Pair(mask=mask, **about), views=VIEWS, sun_elevation_deg=None, digest=""
        )
        assert {row["cover"] for row in pair_rows("s", masked)} == {2 / 3}


def test_products_are_scored_with_references_that_have_no_images(tmp_path: Path) -> None:
    scene = simulate_scene(2, size=240)
    product = write_product(scene, tmp_path / "products")
    write_alcd_scene(tmp_path / "alcd", make_reference(scene, product.stem))
    with pytest.raises(ReferenceDataError, match="name the folder of their products"):
        find_study_scenes(tmp_path / "alcd")
    scenes = find_study_scenes(tmp_path / "alcd", products=tmp_path / "products")
    rows = run_study(tmp_path / "study", scenes, [RULES])
    views = {row["view"] for row in rows if row["kind"] == "all"}
    assert views == {"cloud-noncloud", "valid-invalid", "4-class"}
    (height,) = {row["sun_elevation_deg"] for row in rows if row["kind"] == "all"}
    assert height == pytest.approx(90 - scene.sun_zenith_deg, abs=0.01)
    own = {row["stratum"] for row in rows if row["kind"] == "class"}
    assert own <= set(ALCD.names)
    assert len(own) > 2
    with pytest.raises(ReferenceDataError, match="none of the 0 products"):
        find_study_scenes(tmp_path / "alcd", products=tmp_path)


def test_a_folder_of_l8_biome_has_images_and_references(tmp_path: Path) -> None:
    scene = simulate_scene(3, size=60, sensor="landsat-8-9-l1")
    made = write_product(scene, tmp_path / "made")
    name = "LC81990302020167LGN00"
    place = tmp_path / "L8_Biome" / name
    made.rename(tmp_path / "product")
    place.parent.mkdir()
    (tmp_path / "product").rename(place)
    codes = np.array([128, 255, 192, 64], np.uint8)[np.minimum(scene.truth, 3)]
    profile = {"driver": "GTiff", "height": 60, "width": 60, "count": 1, "dtype": "uint8"}
    path = place / f"{name}_fixedmask.TIF"
    with rasterio.open(path, "w", crs=scene.crs, transform=scene.transform, **profile) as data:
        data.write(codes, 1)
    (found,) = find_study_scenes(place.parent, products=place.parent)
    assert found.name == name
    masked = found.open()(MINI)
    assert masked.pair.mask.shape == codes.shape
    assert masked.sun_elevation_deg == pytest.approx(90 - scene.sun_zenith_deg, abs=0.01)
    assert found.state()["product"]["path"] == str(place)
    (place.parent / f"{name}.part").mkdir()  # one that is still being fetched
    assert len(find_study_scenes(place.parent, products=place.parent)) == 1


def test_products_that_were_processed_again_have_the_reference_of_their_scene(
    tmp_path: Path,
) -> None:
    scene = simulate_scene(3, size=60, sensor="landsat-8-9-l1")
    product = write_product(scene, tmp_path / "products")  # named as those of Collection 2
    codes = np.array([128, 255, 192, 64], np.uint8)[np.minimum(scene.truth, 3)]
    profile = {"driver": "GTiff", "height": 60, "width": 60, "count": 1, "dtype": "uint8"}
    for name in ("LC81990302020167LGN00", "LC81990302020183LGN00"):  # the same day, and another
        path = tmp_path / "L8_Biome" / name / f"{name}_fixedmask.TIF"
        path.parent.mkdir(parents=True)
        with rasterio.open(path, "w", crs=scene.crs, transform=scene.transform, **profile) as data:
            data.write(codes, 1)
    (found,) = find_study_scenes(tmp_path / "L8_Biome", products=tmp_path / "products")
    assert found.name == product.name
    assert found.open()(MINI).pair.mask.shape == codes.shape
    assert is_same_scene("LC81990302020167LGN00", product.name)
    assert not is_same_scene("LC81990302020167LGN00_18", product.name)  # a part


def test_what_cannot_be_is_told(folder: Path, tmp_path: Path) -> None:
    scenes = find_study_scenes(folder)
    with pytest.raises(OptionError, match="names have to differ"):
        run_study(tmp_path / "study", [*scenes, scenes[0]], [RULES])
    bad = tmp_path / "bad" / FILE_NAME
    bad.parent.mkdir()
    bad.write_bytes(b"no")
    with pytest.raises(ReferenceDataError, match="cannot be read as Parquet"):
        run_study(bad.parent, scenes, [RULES])
    write_rows(bad, [])
    assert read_rows(bad) == []


def test_command(folder: Path, tmp_path: Path) -> None:
    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(build_app(), ["leaderboard", *words])
        return done.exit_code, done.output + str(done.exception or "")

    output = tmp_path / "out"
    page = tmp_path / "docs" / "leaderboard.md"
    code, text = run(
        str(folder), "--simulated", "2", "--size", str(SIDE), "--models", "hollstein,scl",
        "--output", str(output), "--markdown", str(page),
    )  # fmt: skip
    assert code == 0, text
    content = json.loads((output / "leaderboard.json").read_text())
    assert [board["scenes"] for board in content["boards"]] == [3, 2]
    assert content["software"]["openeo-cloudmask"]
    assert content["models"]["scl"]["reads"] == ["SCL"]
    markdown = page.read_text()
    assert "| Rank | Model |" in markdown
    assert "### By sun elevation" in markdown
    assert "`scl`: model 'scl' was not made" in markdown
    html = (output / "leaderboard.html").read_text()
    assert "By distance to the border of cloud" in html
    assert str(tmp_path) not in markdown + html
    for words, message in (
        ((), "nothing to compare with"),
        (("--simulated", "-1"), "expected 0 or more"),
    ):
        code, text = run(*words)
        assert code == 1
        assert message in text
