"""Work on a reference in the viewer: what is drawn becomes marks, and marks a reference."""

import io
import zipfile

import numpy as np
import pytest
from rasterio.warp import transform

from openeo_cloudmask.alcd.marks import Mark
from openeo_cloudmask.classes import ALCD, FOUR_CLASS, NODATA, SCL
from openeo_cloudmask.errors import InputError, OptionError, ReferenceDataError
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.simulator.products import write_truth
from openeo_cloudmask.simulator.scene import simulate_scene
from openeo_cloudmask.viewer.comparison import compare_with_reference, read_reference
from openeo_cloudmask.viewer.drawing import Event, Shape
from openeo_cloudmask.viewer.labeller import (
    Labeller,
    count_marks,
    mask_on_grid,
    pack,
    plain_name,
    start_labeller,
)
from openeo_cloudmask.viewer.layers import STORE

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

SIZE = 160


@pytest.fixture(autouse=True, scope="module")
def few_trees():
    """Forests that are there at once; what they learn is plain here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("openeo_cloudmask.alcd.forest.TREES", 6)
        yield


@pytest.fixture(scope="module")
def truth():
    """The scene that ``demo_session`` has, cut smaller."""
    return simulate_scene(3, size=SIZE)


@pytest.fixture
def work(truth, tmp_path) -> Labeller:
    from openeo_cloudmask.simulator.products import write_geotiff

    path = write_geotiff(truth, tmp_path / "scene.tif")
    return start_labeller(
        path, tmp_path, title="Scene 3", sensor="sentinel-2-l1c", day="2024-05-01", pixel_m=20
    )


def dot_on(work, truth, row, column, number, value=None):
    """An event of the pen: a dot on a pixel of 20 m, of the class that is there."""
    grid = work.features.grid
    x, y = grid.to_xy(row + 0.5, column + 0.5)
    (lon,), (lat,) = transform(grid.crs, "EPSG:4326", [x], [y])
    code = int(truth.truth_alcd[2 * row, 2 * column]) if value is None else value
    shape = Shape(points=((lon, lat),), area=False, radius_m=25, value=code)
    return Event(number=number, shape=shape)


def places_of(truth, count=24):
    """Pixels of 20 m, spread over all classes."""
    rng = np.random.default_rng(0)
    found = []
    small = truth.truth_alcd[::2, ::2]
    codes = np.unique(small)
    for n in range(count):
        rows, columns = np.nonzero(small == codes[n % len(codes)])
        at = rng.integers(rows.size)
        found.append((int(rows[at]), int(columns[at])))
    return found


@pytest.fixture
def marked(work, truth):
    """Work after 24 marks."""
    events = [dot_on(work, truth, *at, n) for n, at in enumerate(places_of(truth), start=1)]
    work.hear(events)
    work.learn()
    return work


def test_before_the_first_mark_there_are_places_to_begin_with(work):
    assert work.place is None
    assert work.point() is None
    work.hear([Event(number=1, action="next")])
    latitude, longitude = work.point()
    west, south, east, north = work.around()
    assert west < longitude < east
    assert south < latitude < north
    assert "of the scene" in work.place.why


def test_a_shape_is_marked_on_the_pixels_under_it(work, truth):
    work.hear([dot_on(work, truth, 30, 40, 5)])
    rows, columns = np.divmod(work.marks[0].pixels(work.features.grid), SIZE // 2)
    assert (30, 40) in set(zip(rows.tolist(), columns.tolist(), strict=True))
    assert len(rows) == 5
    assert work.heard == 5
    assert work.pen()["heard"] == 5
    assert len(work.pen()["shapes"]) == 1


def test_undo_takes_the_last_mark_back(marked, truth):
    before = marked.answer.labels
    marked.hear([dot_on(marked, truth, 10, 10, 100, value=7)])
    marked.learn()
    assert not np.array_equal(marked.answer.labels, before)
    marked.hear([Event(number=101, action="undo")])
    marked.learn()
    assert np.array_equal(marked.answer.labels, before)


def test_a_new_map_takes_the_place_of_the_file_before(marked, truth, tmp_path):
    before = marked.layer
    marked.learn()  # of the same marks: the same file
    assert marked.layer.path == before.path
    marked.hear([dot_on(marked, truth, 10, 10, 100, value=7)])
    marked.learn()
    assert list(tmp_path.glob("labels-*")) == [marked.layer.path]
    assert STORE.get(marked.layer.token) is marked.layer
    marked.hear([Event(number=200 + n, action="undo") for n in range(40)])
    marked.learn()
    assert not list(tmp_path.glob("labels-*"))


def test_undoing_everything_leaves_no_map(marked):
    marked.hear([Event(number=200 + n, action="undo") for n in range(40)])
    marked.learn()
    assert marked.marks == []
    assert marked.layer is None
    assert marked.rounds == []


def test_shapes_that_cannot_be_marks_are_told(work, truth):
    good = dot_on(work, truth, 10, 10, 3)
    work.hear([dot_on(work, truth, 10, 10, 1, value=0)])
    assert "a mark has class 0; expected one of" in work.complaint
    work.hear([dot_on(work, truth, 400, 400, 2, value=2)])
    assert "outside the scene" in work.complaint
    assert work.marks == []
    work.hear([good])
    assert len(work.marks) == 1
    assert work.complaint == ""
    assert work.heard == 3


def test_rounds_are_counted_every_ten_marks(work, truth):
    for n, at in enumerate(places_of(truth, 21), start=1):
        work.hear([dot_on(work, truth, *at, n)])
        if n in (9, 10, 15, 21):
            work.learn()
    assert [item.marks for item in work.rounds] == [10, 21]
    assert 0.5 < work.rounds[-1].statistics.means["accuracy"] <= 1


def test_figures_are_forgotten_with_the_marks_they_are_of(work, truth):
    events = [dot_on(work, truth, *at, n) for n, at in enumerate(places_of(truth, 11), start=1)]
    work.hear(events[:10])
    work.learn()
    before = work.rounds[-1]
    work.hear([Event(number=20, action="undo"), events[10]])  # heard at once, as many marks
    work.learn()
    assert [item.marks for item in work.rounds] == [10]
    assert work.rounds[-1] is not before


def test_what_other_marks_gave_is_not_saved(work, tmp_path):
    def mark(code, row, radius_m=25.0):
        x, y = work.features.grid.to_xy(row + 0.5, 40.5)
        return Mark(code=code, points=((x, y),), radius_m=radius_m)

    work.marks = [mark(5, 10), mark(5, 20), mark(2, 50), mark(2, 60)]
    work.learn()
    work.marks.append(mark(5, 55, 500.0))  # covers all marks of cloud
    with pytest.raises(ReferenceDataError, match="marks of 1 classes"):
        work.learn()
    with pytest.raises(InputError, match="nothing is learned"):
        work.save(tmp_path / "made", name="stale", location="")


def test_saving_counts_no_round(marked, truth, tmp_path):
    before = list(marked.rounds)
    for n in range(4):
        marked.hear([dot_on(marked, truth, 10 + n, 10, 100 + n)])
        marked.learn()
        marked.save(tmp_path / "made", name="scene-3", location="Simulated")
    assert marked.rounds == before  # a few marks more would seem to change nothing


def test_the_map_drawn_is_the_forests(marked):
    with open_raster(marked.layer.path) as source:
        assert np.array_equal(source.read(1), marked.answer.labels)
        assert source.nodata == 0


def test_the_reference_scores_masks_as_any(marked, truth, tmp_path):
    folder = marked.save(tmp_path / "made", name="scene-3", location="Simulated")
    reference = read_reference(folder)
    assert reference.grid == marked.features.grid
    mask = write_truth(truth, tmp_path / "truth.tif")
    found = compare_with_reference(mask, reference, tmp_path, name="truth")
    score = found.evaluation.result.results[0].confusion.scores()
    assert score.balanced_accuracy > 0.7
    packed = zipfile.ZipFile(io.BytesIO(pack(folder))).namelist()
    assert "scene-3/Classification/classification_map.tif" in packed
    assert "scene-3/Statistics/k_fold_summary.json" in packed


def test_what_cannot_be_saved_is_told(work, marked, tmp_path):
    with pytest.raises(OptionError, match=r"the name is '\.\./up'"):
        marked.save(tmp_path, name="../up", location="")
    marked.marks = marked.marks[:2]
    marked.learn()
    with pytest.raises((InputError, ReferenceDataError), match="mark"):
        marked.save(tmp_path, name="few", location="")


def test_marks_are_saved_and_taken_up_again(marked, truth, tmp_path):
    text = marked.save_text().encode()
    path = tmp_path / "scene.tif"
    again = start_labeller(path, tmp_path, title="Scene 3", sensor="sentinel-2-l1c", pixel_m=20)
    again.load(text)
    assert again.marks == marked.marks
    assert np.array_equal(again.answer.labels, marked.answer.labels)
    assert len(again.pen()["shapes"]) == 24
    with pytest.raises(ReferenceDataError, match="holds no marks"):
        again.load(b"{}")
    assert again.marks == marked.marks, "a file that is refused changes nothing"


def test_masks_are_brought_to_the_grid_of_the_features(work, truth, tmp_path):
    path = write_truth(truth, tmp_path / "mask.tif")
    found = mask_on_grid(path, FOUR_CLASS, work.features.grid)
    assert found.shape == work.features.grid.shape_yx
    # Under the centre of a pixel of 20 m is the corner of four of 10 m: any of them is right.
    corners = np.stack([truth.truth[y::2, x::2] for y in (0, 1) for x in (0, 1)])
    assert (corners == found).any(axis=0).all()
    shifted = work.features.grid.crop(slice(-5, 20), slice(0, 20))
    assert (mask_on_grid(path, FOUR_CLASS, shifted)[:5] == NODATA).all()
    assert mask_on_grid(path, SCL, work.features.grid) is not None


def test_names_and_counts():
    assert plain_name("Demo scene 3 (2)") == "Demo-scene-3-2"
    assert plain_name("../..") == "scene"
    # What is suggested can be saved: letters of any script, leading dashes, long titles.
    assert plain_name("_Überblick") == "berblick"
    assert plain_name("日本") == "scene"
    assert len(plain_name("x" * 300)) == 100
    assert list(count_marks([])) == [ALCD.classes[code].title for code in range(2, 8)]


def test_a_reference_is_made_of_marks_that_were_not_learned_yet(marked, truth, tmp_path):
    """As where a run of the page was broken off between hearing and learning."""
    assert not marked.is_behind
    marked.hear([dot_on(marked, truth, 10, 10, 100, value=7)])
    assert marked.is_behind
    folder = marked.save(tmp_path / "made", name="late", location="")
    assert not marked.is_behind
    assert read_reference(folder).labels[10, 10] == 7
