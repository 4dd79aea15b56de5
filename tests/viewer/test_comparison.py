"""Comparisons, pixels and places."""

import numpy as np
import pytest

from openeo_cloudmask.alcd.scenes import ALCD_SCENES
from openeo_cloudmask.classes import FOUR_CLASS, OutputStyle
from openeo_cloudmask.errors import OptionError, ReferenceDataError
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import mask_product, open_product
from openeo_cloudmask.viewer import charts
from openeo_cloudmask.viewer.atlas import class_shares, find_scenes, tile_centre
from openeo_cloudmask.viewer.probabilities import model_of_mask, probabilities_at

MODEL = "hollstein"


@pytest.fixture(scope="module")
def opened(demo_session, tmp_path_factory):
    """The demo session with a mask of its scene."""
    entry = next(iter(demo_session.scenes.values()))
    path = tmp_path_factory.mktemp("masks") / "mask.tif"
    mask_product(entry.path, path, MaskOptions(model=MODEL, sensor="sentinel-2-l1c"))
    demo_session.add_mask(path, title="mask", scene=entry.title)
    demo_session.add_mask(path, title="again", scene=entry.title)
    return demo_session


@pytest.fixture
def centre(opened):
    west, south, east, north = opened.masks["mask"].layer.bounds
    return (west + east) / 2, (south + north) / 2


def test_comparison_is_made_once_and_scores_as_score_does(opened):
    from openeo_cloudmask.evaluation.evaluate import ScoreSettings, evaluate_mask
    from openeo_cloudmask.evaluation.grids import read_mask

    title, reference = next(iter(opened.references.items()))
    comparison = opened.compare("mask", title)
    assert opened.compare("mask", title) is comparison
    expected = evaluate_mask(
        read_mask(opened.masks["mask"].path), reference.reference, ScoreSettings()
    )
    for result in expected.result.results:
        shown = comparison.case(result.case.view, dilated=False)
        assert np.array_equal(shown.confusion.counts, result.confusion.counts)
    assert comparison.case(OutputStyle.FOUR_CLASS, dilated=True) is not None


def test_two_masks_are_compared_where_there_is_no_reference(opened):
    result = opened.compare("mask", "again").case(OutputStyle.FOUR_CLASS, dilated=False)
    counts = result.confusion.counts
    assert counts.sum() == np.trace(counts) > 0


def test_a_pixel_is_named_in_mask_reference_and_error_map(opened, centre):
    comparison = opened.compare("mask", next(iter(opened.references)))
    said = comparison.classes_at(*centre)
    assert said["Mask"] in {item.title for item in FOUR_CLASS.classes}
    assert said["Verdict"] != "outside"
    assert set(comparison.classes_at(0.0, 0.0).values()) == {"outside"}


def test_error_layer_and_report(opened):
    from openeo_cloudmask.evaluation.report import to_csv
    from openeo_cloudmask.evaluation.report_html import render_report
    from openeo_cloudmask.viewer.comparison import build_report

    title = next(iter(opened.references))
    layer = opened.error_layer("mask", title)
    assert layer.colors[3] == (0x88, 0x22, 0x55, 255)
    report = build_report("mask", [opened.compare("mask", title)])
    assert "Confusion matrices" in render_report(report)
    assert "balanced_accuracy" in to_csv(report)


def test_masks_that_do_not_overlap_are_told(opened, write_classes):
    far = opened.add_mask(write_classes(np.zeros((8, 8)), "far.tif"), title="far")
    with pytest.raises(ReferenceDataError, match="overlap"):
        opened.compare(far.title, next(iter(opened.references)))


def test_probabilities_are_those_of_the_model(opened, centre):
    from openeo_cloudmask.inference import predict
    from openeo_cloudmask.models import load_detector
    from openeo_cloudmask.viewer.scenes import pixel_at

    entry = next(iter(opened.scenes.values()))
    assert model_of_mask(opened.masks["mask"].path) == MODEL
    found = probabilities_at(entry.path, "sentinel-2-l1c", MODEL, *centre)
    detector = load_detector(MODEL, sensor="sentinel-2-l1c")
    with open_product(entry.path, sensor="sentinel-2-l1c") as scene:
        whole = predict(scene.cube(detector.band_names), detector)
        row, column = pixel_at(scene.grid, *centre)
    shares = np.asarray([item.share for item in found])
    assert np.allclose(shares, whole[:, row, column], atol=1e-6)
    assert probabilities_at(entry.path, "sentinel-2-l1c", MODEL, 0.0, 0.0) is None


def test_a_mask_without_tags_has_no_model(write_classes):
    assert model_of_mask(write_classes(np.zeros((8, 8)))) is None
    assert model_of_mask(write_classes(np.zeros((8, 8)), "b.tif", MODEL="evil")) is None


def test_charts_hold_the_numbers(opened, centre):
    from openeo_cloudmask.viewer.scenes import open_scene, read_spectrum

    entry = next(iter(opened.scenes.values()))
    with open_scene(entry.path, sensor="sentinel-2-l1c") as scene:
        spectrum = read_spectrum(scene, *centre)
    assert charts.draw_spectrum(spectrum) is not None
    found = probabilities_at(entry.path, "sentinel-2-l1c", MODEL, *centre)
    assert charts.draw_probabilities(found).to_dict()["layer"]
    title = next(iter(opened.references))
    comparison = opened.compare("mask", title)
    result = comparison.case(OutputStyle.VALID_INVALID, dilated=False)
    drawn = charts.draw_confusion(result).to_dict()
    rows = next(iter(drawn["datasets"].values()))
    assert [row["count"] for row in rows] == [
        f"{count:,.0f}" for count in result.confusion.counts.ravel()
    ]
    table = charts.score_rows([("mask", title, comparison)])
    assert {row["mask dilated"] for row in table} == {"no", "120 m"}
    assert len(charts.class_rows(result)) == 2


def test_class_shares_sum_to_one(opened):
    rows = class_shares(next(iter(opened.references.values())).reference)
    assert sum(row["share"] for row in rows) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("tile", "latitude", "longitude"),
    [
        # Corners and centres published with Sentinel-2's tiling grid, to a quarter degree.
        ("32TMR", 45.5, 8.4),
        ("31UDP", 48.2, 2.4),
        ("35JPM", -25.7, 28.6),
        ("34LGJ", -15.0, 23.3),
        ("21LWK", -9.5, -56.5),
    ],
)
def test_places_of_tiles(tile, latitude, longitude):
    assert tile_centre(tile) == pytest.approx((latitude, longitude), abs=0.35)


def test_all_scenes_have_a_place_in_their_latitude_band():
    for scene in ALCD_SCENES:
        latitude, _ = tile_centre(scene.tile)
        south = -80 + 8 * "CDEFGHJKLMNPQRSTUVWX".index(scene.tile[2])
        assert south - 1 < latitude < south + 9


def test_a_wrong_tile_is_told():
    with pytest.raises(OptionError, match="no MGRS square"):
        tile_centre("nowhere")


def test_scenes_of_an_archive(opened, tmp_path):
    folder = next(iter(opened.references.values())).path
    assert list(find_scenes(folder.parent.parent)) == [folder.name]
    with pytest.raises(ReferenceDataError, match="no folder"):
        find_scenes(tmp_path / "nothing")
