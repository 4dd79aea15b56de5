"""Making a reference: features, forest, places, rounds, and what is saved."""

from dataclasses import replace

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from openeo_cloudmask.alcd import labelling, places
from openeo_cloudmask.alcd.archive import AlcdArchive
from openeo_cloudmask.alcd.features import choose_pixel_m, make_features, read_features
from openeo_cloudmask.alcd.forest import MAX_SAMPLES, fold_samples, gather_samples, train_forest
from openeo_cloudmask.alcd.labelling import Round, is_settled, learn, make_scene, validate
from openeo_cloudmask.alcd.marks import Mark
from openeo_cloudmask.alcd.places import APART_PX, first_places
from openeo_cloudmask.alcd.types import AlcdParameters, KFold
from openeo_cloudmask.alcd.writer import write_alcd_scene
from openeo_cloudmask.errors import InputError, ReferenceDataError
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.sensors import get_sensor

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

SENSOR = get_sensor("sentinel-2-l1c")
BANDS = ("B02", "B03", "B04", "B08", "B11")
SPECTRA = {
    # Code of ALCD -> reflectance in BANDS.
    2: (0.60, 0.60, 0.60, 0.65, 0.50),
    4: (0.05, 0.04, 0.03, 0.10, 0.06),
    5: (0.08, 0.10, 0.09, 0.35, 0.25),
    6: (0.10, 0.09, 0.06, 0.03, 0.01),
}
PARAMETERS = AlcdParameters(
    tile="31SIM", location="Simulated", cloudy_date="20240501", cloudy_product_name="scene",
    clear_date="none", clear_product_name="none",
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def few_trees():
    """Forests that are there at once; what they learn is plain here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("openeo_cloudmask.alcd.forest.TREES", 15)
        yield


def grid_of(shape, pixel_m=20.0):
    affine = Affine(pixel_m, 0, 300_000, 0, -pixel_m, 5_000_000)
    return Grid(shape_yx=shape, transform=affine, crs=CRS.from_epsg(32631))


@pytest.fixture(scope="module")
def world():
    """Features and truth of four squares, each of a class, with noise; a column is no-data."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.repeat(np.array([[2, 4], [5, 6]], np.uint8), 32, axis=0), 32, axis=1)
    spectra = np.zeros((8, len(BANDS)), np.float32)
    for code, values in SPECTRA.items():
        spectra[code] = values
    cube = np.moveaxis(spectra[truth], 2, 0) + rng.normal(0, 0.01, (5, 64, 64)).astype(np.float32)
    cube[:, :, 0] = np.nan
    return make_features(cube.astype(np.float32), grid_of((64, 64)), BANDS, SENSOR), truth


def dot(features, truth, row, column, radius_m=30.0):
    point = features.grid.to_xy(row + 0.5, column + 0.5)
    return Mark(code=int(truth[row, column]), points=(point,), radius_m=radius_m)


@pytest.fixture(scope="module")
def marks(world):
    places = [(8, 8), (8, 50), (50, 8), (50, 50), (20, 20), (20, 40), (40, 20), (40, 40)]
    return [dot(*world, *place) for place in places]


@pytest.fixture(scope="module")
def answer(world, marks):
    return learn(world[0], marks)


def test_features_are_of_pixels_with_data_alone(world):
    features, _ = world
    assert features.values.shape == (64 * 63, len(features.names))
    assert np.isfinite(features.values).all()
    assert features.values.dtype == np.float32
    ndvi = features.values[:, features.names.index("ndvi")]
    red, nir = (features.values[:, features.names.index(name)] for name in ("B04", "B08"))
    np.testing.assert_allclose(ndvi, (nir - red) / (nir + red), rtol=1e-5)


def test_texture_takes_nothing_from_no_data(world):
    """Beside no-data the mean of the surroundings is that of what was seen."""
    features, _ = world
    mean = np.full(features.seen.shape, np.nan)
    mean[features.seen] = features.values[:, features.names.index("B02 near")]
    assert mean[10, 1] == pytest.approx(SPECTRA[2][0], abs=0.02)


def test_features_of_strips_are_those_of_the_whole(monkeypatch):
    rng = np.random.default_rng(1)
    cube = rng.uniform(0, 1, (5, 61, 47)).astype(np.float32)
    grid, done = grid_of((61, 47), 10.0), []
    whole = read_features(cube, grid, BANDS, SENSOR, pixel_m=20)
    monkeypatch.setattr("openeo_cloudmask.alcd.features.STRIP_PX", 7)
    strips = read_features(cube, grid, BANDS, SENSOR, pixel_m=20, report=done.append)
    assert np.array_equal(whole.values, strips.values)
    assert whole.grid == grid_of((30, 23), 20.0)
    assert len(done) == 10
    assert done[-1] == 1
    plain = cube[:, :60, :46].reshape(5, 30, 2, 23, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(whole.values[:, 0], plain[0].ravel(), rtol=1e-6)


def test_the_size_of_pixels_follows_that_of_the_scene():
    assert choose_pixel_m(grid_of((1000, 1000), 10.0)) == 10
    assert choose_pixel_m(grid_of((1024, 1024), 10.0)) == 20
    assert choose_pixel_m(grid_of((10_980, 10_980), 10.0)) == 120
    assert choose_pixel_m(grid_of((7000, 7000), 30.0)) == 240
    degrees = Grid(
        shape_yx=(9, 9), transform=Affine(0.1, 0, 0, 0, -0.1, 0), crs=CRS.from_epsg(4326)
    )
    with pytest.raises(InputError, match="no pixels in metres"):
        choose_pixel_m(degrees)
    with pytest.raises(InputError, match="pixels of 15 m cannot be made"):
        read_features(np.zeros((5, 9, 9), np.float32), grid_of((9, 9), 10.0), BANDS, SENSOR,
                      pixel_m=15)  # fmt: skip


def test_a_scene_without_data_is_refused():
    cube = np.full((5, 8, 8), np.nan, np.float32)
    with pytest.raises(InputError, match="no pixel with data"):
        make_features(cube, grid_of((8, 8)), BANDS, SENSOR)


def test_of_marks_that_overlap_the_last_one_counts(world):
    features, truth = world
    first = replace(dot(features, truth, 8, 8), code=3)
    second = dot(features, truth, 8, 8)
    samples = gather_samples([first, second], features)
    assert samples.classes == (2,)
    assert set(samples.marks) == {1}


def test_large_marks_are_sampled_evenly(world):
    features, truth = world
    large = dot(features, truth, 16, 16, radius_m=600)
    samples = gather_samples([large, dot(features, truth, 50, 50)], features)
    assert (samples.marks == 0).sum() <= MAX_SAMPLES // 2
    assert (samples.marks == 1).sum() == 9  # pixels within 30 m of the middle of one of 20 m


def test_the_forest_finds_the_classes(world, answer):
    features, truth = world
    assert (answer.labels[:, 0] == 0).all()
    assert (answer.confidence[:, 0] == 0).all()
    right = (answer.labels == truth)[features.seen]
    assert right.mean() > 0.98
    assert answer.confidence[features.seen].min() > 0


def test_the_same_marks_give_the_same_answer(world, marks, answer):
    again = learn(world[0], marks)
    assert np.array_equal(again.labels, answer.labels)
    assert again.places == answer.places


def test_a_draft_classifies_one_pixel_in_a_square(world, marks, answer, monkeypatch):
    features, truth = world
    monkeypatch.setattr(labelling, "DRAFT_PIXELS", 64 * 64 // 9)
    monkeypatch.setattr(labelling, "PART_PX", 100)
    assert labelling.draft_step(features) == 3
    asked = []
    predict = labelling.predict_shares
    monkeypatch.setattr(
        labelling, "predict_shares", lambda forest, values: asked.append(len(values)) or predict(
            forest, values
        )
    )  # fmt: skip
    draft = learn(features, marks)
    assert sum(asked) <= 22 * 22, "one pixel in a square is classified"
    assert max(asked) <= 100
    whole = learn(features, marks, draft=False)
    assert np.array_equal(whole.labels, answer.labels)
    assert np.array_equal(draft.labels == 0, ~features.seen)
    assert (draft.labels == truth)[features.seen].mean() > 0.9


def test_votes_around_a_pixel_sum_to_one_beside_no_data_too(world, marks):
    features, _ = world
    samples = gather_samples(marks, features)
    shares = labelling._share_out(features, train_forest(features, samples), 1)
    assert shares.shape == (len(features.values), len(SPECTRA))
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-5)


def test_a_lone_pixel_is_outvoted_by_those_around_it(world, marks, monkeypatch):
    features, truth = world
    lone = np.flatnonzero(features.positions == 8 * 64 + 8)[0]
    predict = labelling.predict_shares

    def one_wrong(forest, values):
        shares = predict(forest, values)
        shares[lone] = np.eye(len(SPECTRA), dtype=np.float32)[-1]
        return shares

    monkeypatch.setattr(labelling, "predict_shares", one_wrong)
    assert learn(features, marks).labels[8, 8] == truth[8, 8]


def test_each_class_has_its_turn():
    found, doubt = np.array([0, 0, 1, 1]), np.array([0.1, 0.9, 0.2, 0.3], np.float32)
    assert places._in_turn(found, doubt, 0) == [1, 3, 0, 2]
    assert places._in_turn(found, doubt, 1) == [3, 1, 2, 0]


def test_one_class_is_not_enough(world, marks):
    with pytest.raises(ReferenceDataError, match="1 classes; a forest needs at least two"):
        learn(world[0], marks[:1])


def test_the_first_places_are_of_every_kind(world):
    _, truth = world
    found = {int(truth[place.row, place.column]) for place in first_places(world[0])}
    assert found == set(SPECTRA)


def test_places_keep_off_marks_and_nodata(world, marks, answer):
    features, _ = world
    for place in answer.places:
        assert features.seen[place.row, place.column]
        for mark in marks:
            rows, columns = np.divmod(mark.pixels(features.grid), 64)
            apart = np.maximum(abs(rows - place.row), abs(columns - place.column))
            assert apart.min() > APART_PX


def test_a_class_nobody_marked_is_where_to_look(world, marks):
    """A forest without a mark on water is sure that it is something else."""
    features, truth = world
    place = learn(features, [mark for mark in marks if mark.code != 6]).places[0]
    assert truth[place.row, place.column] == 6
    assert "which no mark is like" in place.why


def test_places_are_where_models_contradict_the_forest(world, marks, answer):
    features, _ = world
    table = np.zeros(8, np.uint8)
    table[[2, 4]] = 1, 3
    model = table[answer.labels]
    model[36:46, 10:20] = 1  # a cloud where the forest sees land
    places = learn(features, marks, models={"other": model}).places
    inside = [36 <= place.row < 46 and 10 <= place.column < 20 for place in places]
    assert any(inside[:4])
    assert "other: thick cloud" in places[inside.index(True)].why


def test_folds_keep_a_mark_together_and_spread_classes(world, marks):
    samples = gather_samples(marks, world[0])
    folds = fold_samples(samples)
    assert len(np.unique(folds)) == len(marks)
    for number in range(len(marks)):
        assert len(np.unique(folds[samples.marks == number])) == 1


def test_figures_are_of_marks_held_out(world, marks, answer):
    features, _ = world
    found = validate(features, answer, len(marks))
    assert found.statistics.means["accuracy"] > 0.98
    # Marks that lie are not found: a figure of the training itself would still be near 1.
    rng = np.random.default_rng(0)
    lies = [replace(mark, code=int(rng.permutation(list(SPECTRA))[0])) for mark in marks]
    wrong = validate(features, learn(features, lies), len(marks))
    assert wrong.statistics.means["accuracy"] < 0.8
    assert validate(features, learn(features, marks[:2]), 2) is None


def rounds_of(*accuracies):
    return [
        Round(marks=10 * n, statistics=KFold(folds=np.full((10, 5), accuracy)))
        for n, accuracy in enumerate(accuracies, start=1)
    ]


def test_the_work_is_done_when_the_figures_stand_still():
    assert not is_settled(rounds_of(0.9, 0.9, 0.9))
    assert is_settled(rounds_of(0.5, 0.9, 0.905, 0.9, 0.91))
    assert not is_settled(rounds_of(0.9, 0.9, 0.9, 0.92))
    assert labelling.movement(rounds_of(0.9)) == 1


def test_the_reference_is_read_as_any_of_alcd(world, marks, answer, tmp_path):
    features, _ = world
    statistics = validate(features, answer, len(marks)).statistics
    scene = make_scene(features, answer, statistics, name="scene", parameters=PARAMETERS)
    folder = write_alcd_scene(tmp_path, scene)
    for part in ("Classification", "Samples", "Statistics/k_fold_summary.json"):
        assert (folder / part).exists()
    with AlcdArchive(folder) as archive:
        found = archive.read(archive.entries[0])
    assert np.array_equal(found.labels, answer.labels)
    assert np.array_equal(found.confidence, answer.confidence)
    assert found.statistics.means == pytest.approx(statistics.means)
    points = {item.code: item.points for item in found.samples}
    assert {code for code, given in points.items() if len(given)} == set(SPECTRA)
    x, y = points[2][0]
    row, column = (int(part) for part in found.grid.to_pixel(x, y))
    assert found.labels[row, column] == 2


def test_a_reference_needs_its_figures(world, answer):
    with pytest.raises(ReferenceDataError, match="mark each class at least twice"):
        make_scene(world[0], answer, None, name="scene", parameters=PARAMETERS)
