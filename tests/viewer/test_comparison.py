"""Comparisons, pixels and places."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from rasterio.warp import transform as transform_points

from openeo_cloudmask.alcd.scenes import ALCD_SCENES
from openeo_cloudmask.classes import FOUR_CLASS, OutputStyle
from openeo_cloudmask.errors import OptionError, ReferenceDataError
from openeo_cloudmask.evaluation.error_map import ERROR_CLASSES
from openeo_cloudmask.inference import Window, predict
from openeo_cloudmask.options import DEFAULT_STRIDE_PX, MaskOptions
from openeo_cloudmask.products import mask_product, open_product
from openeo_cloudmask.viewer import bench, charts, probabilities, session
from openeo_cloudmask.viewer.atlas import class_shares, find_scenes, tile_centre
from openeo_cloudmask.viewer.comparison import class_at
from openeo_cloudmask.viewer.probabilities import PixelSourceFile, how_made, probabilities_at

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
    comparison = opened.findings.compare("mask", title)
    assert opened.findings.compare("mask", title) is comparison
    expected = evaluate_mask(
        read_mask(opened.masks["mask"].path), reference.reference, ScoreSettings()
    )
    for result in expected.result.results:
        shown = comparison.case(result.case.view, dilated=False)
        assert np.array_equal(shown.confusion.counts, result.confusion.counts)
    assert comparison.case(OutputStyle.FOUR_CLASS, dilated=True) is not None


def test_two_masks_are_compared_where_there_is_no_reference(opened):
    result = opened.findings.compare("mask", "again").case(OutputStyle.FOUR_CLASS, dilated=False)
    counts = result.confusion.counts
    assert counts.sum() == np.trace(counts) > 0


def test_a_pixel_is_named_in_mask_and_error_map(opened, centre):
    comparison = opened.findings.compare("mask", next(iter(opened.references)))
    mask = (comparison.mask.labels, comparison.mask.scheme, comparison.mask.grid)
    assert class_at(*mask, *centre) in {item.title for item in FOUR_CLASS.classes}
    assert class_at(*mask, 0.0, 0.0) == "outside"
    evaluation = comparison.evaluation
    errors = (evaluation.errors, ERROR_CLASSES, evaluation.reference.grid)
    assert class_at(*errors, *centre) != "outside"


def test_error_layer_has_colours_that_all_eyes_tell_apart(opened):
    layer = opened.findings.error_layer("mask", next(iter(opened.references)))
    assert layer.colors[3] == (0x88, 0x22, 0x55, 255)


def test_masks_that_do_not_overlap_are_told(opened, write_classes):
    far = opened.add_mask(write_classes(np.zeros((8, 8)), "far.tif"), title="far")
    with pytest.raises(ReferenceDataError, match="overlap"):
        opened.findings.compare(far.title, next(iter(opened.references)))


def test_probabilities_of_pixels_are_those_of_the_mask(opened):
    """Each pixel's most probable class is the mask's, and its numbers are the whole scene's."""
    entry = next(iter(opened.scenes.values()))
    path = opened.masks["mask"].path
    model, stride = how_made(path)
    assert (model, stride) == (MODEL, DEFAULT_STRIDE_PX)
    source = PixelSourceFile(path=entry.path, sensor="sentinel-2-l1c")
    detector = FakeNet()
    with open_product(entry.path, sensor="sentinel-2-l1c") as scene:
        cube = scene.cube(detector.band_names)
        whole = predict(cube, detector, stride=64, origin_yx=scene.origin_yx)
        grid = scene.grid
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        inputs = SimpleNamespace(band_names=detector.band_names, sensor=None)
        masker = SimpleNamespace(detector=detector, inputs=inputs, scheme=detector.scheme)
        patch.setattr(probabilities, "_masker", lambda *_: masker)
        for row, column in rng.integers(0, 256, (20, 2)):
            place = place_of(grid, row, column)
            found = probabilities_at(source, MODEL, 64, *place)
            shares = np.asarray([item.share for item in found], np.float32)
            assert np.array_equal(shares, whole[:, row, column])
        assert probabilities_at(source, MODEL, 64, 0.0, 0.0) is None


class FakeNet:
    """A network whose answer depends on the whole window, as those of real ones do."""

    band_names = ("B02", "B03")
    scheme = FOUR_CLASS
    window = Window(size_px=128, multiple_px=32)

    def predict_windows(self, windows, valid):
        assert valid.shape[0] == windows.shape[0]
        spread = windows.std(axis=(1, 2, 3))[:, None, None]
        planes = np.exp(np.stack([windows[:, 0] * k + spread for k in range(4)], axis=1))
        return (planes / planes.sum(axis=1, keepdims=True)).astype(np.float32)


def place_of(grid, row, column):
    x, y = grid.transform @ (column + 0.5, row + 0.5)
    longitudes, latitudes = transform_points(grid.crs, "EPSG:4326", [x], [y])
    return longitudes[0], latitudes[0]


def test_pixels_nobody_looks_at_any_longer_are_not_computed(opened, monkeypatch):
    begun, stopped, go_on = threading.Event(), threading.Event(), threading.Event()

    def slow(_source, _model, _stride, longitude, _latitude, *, stop):
        if longitude == 1.0:
            begun.set()
            assert stop.wait(30)
            stopped.set()
        go_on.wait(30)
        return ()

    monkeypatch.setattr(bench, "probabilities_at", slow)
    entry = next(iter(opened.scenes.values()))
    first = opened.findings.ask_probabilities(entry, (MODEL, 384), 1.0, 2.0)
    assert opened.findings.ask_probabilities(entry, (MODEL, 384), 1.0, 2.0) is first
    assert begun.wait(30)
    second = opened.findings.ask_probabilities(entry, (MODEL, 384), 3.0, 2.0)
    assert stopped.wait(30), "the first pixel's model is told to stop"
    go_on.set()
    assert second.result(30) == ()


def test_one_session_does_not_wait_for_another(opened, tmp_path, monkeypatch):
    go_on = threading.Event()

    def wait(_source, _model, _stride, longitude, *_, stop):
        assert not stop.is_set()
        return go_on.wait(30) if longitude == 1.0 else ()

    monkeypatch.setattr(bench, "probabilities_at", wait)
    entry = next(iter(opened.scenes.values()))
    busy = opened.findings.ask_probabilities(entry, (MODEL, 384), 1.0, 2.0)
    other = session.begin_session(tmp_path)
    assert other.findings.ask_probabilities(entry, (MODEL, 384), 3.0, 2.0).result(10) == ()
    assert not busy.done()
    go_on.set()
    busy.result(30)


def test_a_mask_without_tags_has_no_model(write_classes):
    assert how_made(write_classes(np.zeros((8, 8)))) is None
    assert how_made(write_classes(np.zeros((8, 8)), "b.tif", MODEL="evil")) is None


def test_charts_hold_the_numbers(opened, centre):
    from openeo_cloudmask.viewer.scenes import open_scene, read_spectrum

    entry = next(iter(opened.scenes.values()))
    with open_scene(entry.path, sensor="sentinel-2-l1c") as scene:
        spectrum = read_spectrum(scene, *centre)
    line, points = charts.draw_spectrum(spectrum).to_dict()["layer"]
    assert points["encoding"]["key"]["field"] == "band"  # else each click leaves nodes in the page
    assert "key" not in line["encoding"]  # it would be a line for each band
    source = PixelSourceFile(path=entry.path, sensor="sentinel-2-l1c")
    found = probabilities_at(source, MODEL, 384, *centre)
    layers = charts.draw_probabilities(found).to_dict()["layer"]
    assert {layer["encoding"]["key"]["field"] for layer in layers} == {"class"}
    title = next(iter(opened.references))
    comparison = opened.findings.compare("mask", title)
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
