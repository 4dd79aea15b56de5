"""What a pixel is said to be comes from what the run kept, not from another run."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform as transform_points

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import mask_product
from openeo_cloudmask.viewer import local
from openeo_cloudmask.viewer.comparison import title_at
from openeo_cloudmask.viewer.local import start_mask
from openeo_cloudmask.viewer.probabilities import kept_probabilities, values_at

HOLLSTEIN = MaskOptions(model="hollstein", sensor="sentinel-2-l1c")


@pytest.fixture(scope="module")
def scene(demo_session):
    return next(iter(demo_session.scenes.values()))


@pytest.fixture(scope="module")
def run(scene, tmp_path_factory):
    output = tmp_path_factory.mktemp("kept") / "mask.tif"
    task = start_mask(scene.path, output, HOLLSTEIN, pixels=256 * 256)
    task.wait(120)
    assert task.state.value == "finished", task.message
    return task


def places(path, count=40):
    rng = np.random.default_rng(1)
    with rasterio.open(path) as source:
        for row, column in rng.integers(0, 256, (count, 2)):
            x, y = source.transform @ (column + 0.5, row + 0.5)
            (lon,), (lat,) = transform_points(source.crs, "EPSG:4326", [x], [y])
            yield row, column, lon, lat


def test_percentages_are_those_of_a_run_for_them_alone(run, scene, tmp_path):
    alone = tmp_path / "alone.tif"
    mask_product(scene.path, alone, replace(HOLLSTEIN, categorise=False))
    with rasterio.open(run.percentages) as kept, rasterio.open(alone) as other:
        assert np.array_equal(kept.read(), other.read())
        assert kept.descriptions == FOUR_CLASS.names
        assert kept.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_every_pixel_clicked_is_what_the_files_hold(run):
    with rasterio.open(run.output) as mask, rasterio.open(run.percentages) as kept:
        labels, percent = mask.read(1), kept.read()
    for row, column, lon, lat in places(run.output):
        assert values_at(run.output, lon, lat) == (labels[row, column],)
        shares = kept_probabilities(run.percentages, FOUR_CLASS, lon, lat)
        if labels[row, column] == 255:
            assert shares is None
            continue
        assert [round(item.share * 100) for item in shares] == percent[:, row, column].tolist()
        title = FOUR_CLASS.classes[labels[row, column]].title
        assert title_at(run.output, FOUR_CLASS, lon, lat) == title
        # Whole percents: the class is one of those that have the most.
        best = max(item.share for item in shares)
        assert title in [item.title for item in shares if item.share == best]


def test_outside_there_is_nothing(run):
    assert kept_probabilities(run.percentages, FOUR_CLASS, 120.0, 0.0) is None
    assert title_at(run.output, FOUR_CLASS, 120.0, 0.0) == "outside"


def test_no_more_is_kept_than_a_disk_should_bear(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "KEPT_VALUES", 256 * 256)
    task = start_mask(scene.path, tmp_path / "mask.tif", HOLLSTEIN, pixels=256 * 256)
    task.wait(120)
    assert task.percentages is None
    assert [path.name for path in tmp_path.glob("*.tif")] == ["mask.tif"]


def test_a_stopped_run_leaves_nothing(scene, tmp_path):
    def stop(_done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mask_product(
            scene.path, tmp_path / "mask.tif", HOLLSTEIN, progress=stop,
            percentages=tmp_path / "percent.tif",
        )  # fmt: skip
    assert not list(tmp_path.glob("*.tif"))


def test_the_session_opens_both(demo_session, run):
    run.scene = next(iter(demo_session.scenes))
    demo_session.open_task(run)
    entry = next(item for item in demo_session.masks.values() if item.path == run.output)
    assert entry.percentages == run.percentages
