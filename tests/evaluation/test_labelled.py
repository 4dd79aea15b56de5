"""Labelled scenes: what is read, what is refused, and rates equal to a plain count."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import ReferenceDataError, SensorError
from openeo_cloudmask.evaluation.compare_scenes import ComparedModel
from openeo_cloudmask.evaluation.labelled import list_scenes, read_labelled
from openeo_cloudmask.evaluation.labelled_masks import GivenMasks, ModelMasks, rate_masks
from openeo_cloudmask.evaluation.labelled_report import render_markdown

L2A = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B09", "B11")
SIDE = (40, 50)

Write = Callable[..., Path]


@pytest.fixture
def write_scene(tmp_path: Path) -> Write:
    """Return a writer of scenes in a folder of their own."""
    folder = tmp_path / "scenes"
    folder.mkdir()

    def write(name: str, seed: int, **changes: Any) -> Path:
        numbers = np.random.default_rng(seed)
        content: dict[str, Any] = {
            "counts": numbers.integers(0, 9000, (len(L2A), *SIDE)).astype(np.int16),
            "bands": np.array(L2A),
            "label": numbers.choice(np.array([0, 1, 2, 3, 255], np.uint8), SIDE),
            "sensor": "sentinel-2-l2a",
            "level": "L2A",
            "pixel_m": 20,
            "shadow_labelled": True,
            "thin_labelled": True,
        }
        content |= changes
        path = folder / f"{name}.npz"
        np.savez(path, **{key: value for key, value in content.items() if value is not None})
        return path

    return write


@pytest.fixture
def three_scenes(write_scene: Write) -> Path:
    """Return a folder with a scene of mixed labels, an overcast one and one of snow."""
    overcast = np.ones(SIDE, np.uint8)
    overcast[0] = 2
    overcast[1, :20] = 0
    write_scene("field_a", 1)
    write_scene("field_b", 2, label=overcast, shadow_labelled=False)
    return write_scene("alps_SnowIce", 3, label=np.zeros(SIDE, np.uint8)).parent


def write_masks(folder: Path, target: Path) -> None:
    target.mkdir()
    for place, path in enumerate(list_scenes(folder)):
        numbers = np.random.default_rng(place + 100)
        mask = numbers.choice(np.array([0, 1, 2, 3, 255], np.uint8), SIDE)
        np.save(target / f"{path.stem}.npy", mask)


def counts(truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> list[int]:
    pairs = list(zip(truth.tolist(), found.tolist(), strict=True))
    return [
        pairs.count((True, True)),
        sum(there for there, _ in pairs),
        pairs.count((False, False)),
        sum(not there for there, _ in pairs),
    ]


def plain_count(folder: Path, masks: Path) -> dict[tuple[str, str], list[int]]:
    """Count as the folder's README says, pixel by pixel."""
    table: dict[tuple[str, str], list[int]] = {}

    def add(group: str, name: str, more: list[int]) -> None:
        old = table.get((group, name), [0, 0, 0, 0])
        table[group, name] = [a + b for a, b in zip(old, more, strict=True)]

    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as scene:
            seen = scene["label"] != 255
            label, shadow = scene["label"][seen], bool(scene["shadow_labelled"])
        mask = np.load(masks / f"{path.stem}.npy")[seen]
        cloud = (label == 1) | (label == 2)
        wrong = mask == 255
        for group in (path.stem.split("_")[0], "all"):
            more = counts(cloud, np.where(wrong, ~cloud, (mask == 1) | (mask == 2)))
            add(group, "cloud", more)
            if cloud.mean() > 0.95:
                add(group, "overcast", more)
            if "Snow" in path.stem:
                add(group, "snow", more)
            if shadow:
                dark = label == 3
                add(group, "shadow", counts(dark, np.where(wrong, ~dark, mask == 3)))
    return table


def test_rates_are_those_of_a_plain_count(three_scenes: Path, tmp_path: Path) -> None:
    write_masks(three_scenes, tmp_path / "masks")
    sources = (GivenMasks(folder=tmp_path / "masks"),)
    (rated,) = rate_masks(three_scenes, sources, on_mask=lambda *_: None)
    found = {
        (group, name): [rates.found, rates.there, rates.kept, rates.rest]
        for group, each in rated.groups().items()
        for name, rates in each.items()
        if name != "invalid"
    }
    assert found == plain_count(three_scenes, tmp_path / "masks")
    assert found["all", "overcast"][1] == SIDE[0] * SIDE[1] - 20
    assert found["all", "snow"][3] == SIDE[0] * SIDE[1]


def test_the_published_scenes_are_scored_as_beside_them(
    shared: Callable[[str], Path], tmp_path: Path
) -> None:
    """Against the script that lies beside the scenes, on masks by a threshold."""
    import importlib.util

    folder = shared("scenes")
    spec = importlib.util.spec_from_file_location("score", folder / "score.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    (tmp_path / "masks").mkdir()
    for path in list_scenes(folder):
        scene = read_labelled(path)
        bright = scene.cube[:3].mean(axis=0)
        mask = np.where(bright > 0.25, 1, np.where(bright < 0.05, 3, 0)).astype(np.uint8)
        mask[::7, ::5] = 255
        np.save(tmp_path / "masks" / f"{path.stem}.npy", mask)
    (rated,) = rate_masks(folder, (GivenMasks(folder=tmp_path / "masks"),), on_mask=lambda *_: None)
    groups = rated.groups()
    expected = script.score(folder, tmp_path / "masks")
    assert set(groups) == set(expected)
    for group, rows in expected.items():
        for name, row in rows.items():
            rates = groups[group][name]
            assert [rates.found, rates.there, rates.kept, rates.rest] == row.tolist()


def test_the_command_masks_scores_and_draws(three_scenes: Path, tmp_path: Path) -> None:
    write_masks(three_scenes, tmp_path / "mine")
    out = tmp_path / "out"
    arguments = ["evaluate", str(three_scenes), "--model", "hollstein", "--model", "dtacs4bands"]
    arguments += ["--masks", str(tmp_path / "mine"), "--output", str(out)]
    answer = CliRunner().invoke(build_app(), arguments)
    assert answer.exit_code == 0, answer.output
    content = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert [item["label"] for item in content["masks"]] == ["hollstein", "dtacs4bands", "mine"]
    assert str(tmp_path) not in json.dumps(content)
    tree, other, mine = content["masks"]
    assert len(tree["scenes"]) == len(mine["scenes"]) == 3
    assert set(other["left_out"]) == {"field_a", "field_b", "alps_SnowIce"}
    assert "sentinel-2-l2a" in other["left_out"]["field_a"]
    for name in tree["scenes"]:  # the masks it wrote score the same when they are given
        assert np.load(out / "hollstein" / f"{name}.npy").shape == SIDE
        with Image.open(out / "hollstein" / f"{name}.png") as picture:
            assert np.asarray(picture).std() > 10
    again = GivenMasks(folder=out / "hollstein")
    (rated,) = rate_masks(three_scenes, (again,), on_mask=lambda *_: None)
    assert rated.to_dict()["groups"] == tree["groups"]
    with Image.open(out / "hollstein.png") as sheet:
        assert sheet.width > 3 * 3 * 200
    assert (out / "evaluation.md").read_text(encoding="utf-8") == render_markdown(content)
    assert "| `hollstein` | 3 |" in answer.output
    assert "`dtacs4bands` has no masks of 3 scene(s)" in answer.output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": None}, "has no label; expected counts, bands, label"),
        ({"counts": np.zeros((10, 40, 50), np.float32)}, "expected integers of"),
        ({"counts": np.zeros((9, 40, 50), np.int16)}, "9 planes and names 10 bands"),
        ({"label": np.zeros((4, 5), np.uint8)}, r"uint8 of shape \(4, 5\)"),
        ({"label": np.full(SIDE, 7, np.uint8)}, r"holds \[7\]; expected \[0, 1, 2, 3\] and 255"),
        ({"label": np.full(SIDE, 255, np.uint8)}, "no labelled pixel"),
        ({"bands": np.array(["B01"] * 9 + ["red"])}, "has bands red; sentinel-2-l2a has B01"),
        ({"bands": np.array(L2A, dtype=object)}, "cannot be read"),
    ],
)
def test_bad_scenes_are_refused(write_scene: Write, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ReferenceDataError, match=message):
        read_labelled(write_scene("field", 1, **changes))


def test_unknown_sensor_and_empty_folder_are_refused(write_scene: Write, tmp_path: Path) -> None:
    with pytest.raises(SensorError, match="spot-9"):
        read_labelled(write_scene("field", 1, sensor="spot-9"))
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ReferenceDataError, match="holds no labelled scenes"):
            list_scenes(folder)


def test_no_data_is_nan_and_test_scenes_of_ukis_are_read_by_name(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((8, 9, 6), dtype=np.float32)
    labels = np.arange(72, dtype=np.uint8).reshape(8, 9, 1) % 5
    np.savez(tmp_path / "landsat5.npz", img=image, msk=labels)
    scene = read_labelled(tmp_path / "landsat5.npz")
    assert (scene.sensor, scene.bands[-1], scene.shadow_labelled) == ("landsat-4-5-l1", "B7", True)
    np.testing.assert_array_equal(scene.cube[2], image[..., 2])
    np.testing.assert_array_equal(scene.label, np.array([3, 0, 0, 0, 1])[labels[..., 0]])
    np.savez(tmp_path / "other.npz", img=image, msk=labels)
    with pytest.raises(ReferenceDataError, match=r"expected one of sentinel2\.npz, landsat5\.npz"):
        read_labelled(tmp_path / "other.npz")


def test_no_data_counts_become_nan(write_scene: Write) -> None:
    values = np.full((10, *SIDE), 5000, np.int16)
    values[3, 5, 6] = -32768
    cube = read_labelled(write_scene("field", 1, counts=values)).cube
    assert np.isnan(cube[3, 5, 6])
    assert np.isnan(cube).sum() == 1
    np.testing.assert_array_equal(cube[0], np.float32(0.5))


def test_masks_that_are_missing_or_no_masks_are_refused(three_scenes: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    write_masks(three_scenes, masks)
    np.save(masks / "field_a.npy", np.zeros(SIDE, np.int64))
    sources = (GivenMasks(folder=masks),)
    with pytest.raises(ReferenceDataError, match=r"field_a\.npy is int64"):
        rate_masks(three_scenes, sources, on_mask=lambda *_: None)
    (masks / "field_a.npy").unlink()
    with pytest.raises(ReferenceDataError, match="no mask of field_a"):
        rate_masks(three_scenes, sources, on_mask=lambda *_: None)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([], "expected --model NAME or --masks FOLDER"),
        (["--model", "dtacs4bands"], "no model can take these scenes"),
        (["--model", "hollstein", "--model", "hollstein"], "is given twice"),
        (["--model", "all", "--model", "hollstein"], "--model all takes every model"),
    ],
)
def test_wrong_calls_say_what_is_expected(
    three_scenes: Path, tmp_path: Path, extra: list[str], message: str
) -> None:
    arguments = ["evaluate", str(three_scenes), "--output", str(tmp_path / "out"), *extra]
    answer = CliRunner().invoke(build_app(), arguments)
    assert message in str(answer.exception)
    assert not (tmp_path / "out" / "evaluation.json").exists()


def test_a_providers_layer_in_a_scene_is_rated_like_a_model(write_scene: Write) -> None:
    label = np.random.default_rng(5).choice(np.array([0, 1, 2, 3], np.uint8), SIDE)
    codes = np.array([4, 9, 10, 3], np.uint8)[label]
    codes[0] = 0  # nothing seen: counts as wrong, not as clear
    path = write_scene("field_scl", 1, label=label, SCL=codes)
    source = ModelMasks(model=ComparedModel(id="scl"))
    (rated,) = rate_masks(path.parent, (source,), on_mask=lambda *_: None)
    (scene,) = rated.scenes
    assert (
        scene.rates["cloud"].recall
        == np.isin(label[1:], (1, 2)).sum() / np.isin(label, (1, 2)).sum()
    )
    assert scene.rates["shadow"].found == (label[1:] == 3).sum()
    assert scene.rates["shadow"].kept == (label[1:] != 3).sum()
    write_scene("field_scl", 1, label=label, SCL=codes[:5])
    with pytest.raises(ReferenceDataError, match=r"SCL of shape \(5, 50\); expected \(40, 50\)"):
        read_labelled(path)
