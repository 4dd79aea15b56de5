"""Judging masks: areas, thresholds and buffers, spectra of classes, one report, series of dates."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform as transform_points

from openeo_cloudmask.classes import FOUR_CLASS, NODATA, OutputStyle
from openeo_cloudmask.errors import BackendError, InputError, OptionError, ReferenceDataError
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import mask_product, open_product
from openeo_cloudmask.viewer import trial as trials
from openeo_cloudmask.viewer.class_spectra import class_spectra, spectrum_rows
from openeo_cloudmask.viewer.drawing import AREA_KEY
from openeo_cloudmask.viewer.job_results import image_bands, list_masks
from openeo_cloudmask.viewer.judgement import (
    Judged,
    judgement_csv,
    judgement_dict,
    provenance,
    render_judgement,
)
from openeo_cloudmask.viewer.places import cloud_cover, inside, ring_of
from openeo_cloudmask.viewer.scenes import thumbnail
from openeo_cloudmask.viewer.series import Series
from openeo_cloudmask.viewer.session import begin_session
from openeo_cloudmask.viewer.trial import Trial, read_percentages, try_mask
from tests.viewer.conftest import TRANSFORM

OPTIONS = MaskOptions(model="hollstein", sensor="sentinel-2-l1c")


@pytest.fixture(scope="module")
def opened(demo_session, tmp_path_factory):
    """The demo session with a mask of its scene, its percentages beside it."""
    entry = next(iter(demo_session.scenes.values()))
    folder = tmp_path_factory.mktemp("masks")
    path, percent = folder / "mask.tif", folder / "percent.tif"
    mask_product(entry.path, path, OPTIONS, percentages=percent)
    demo_session.add_mask(path, title="judged", scene=entry.title, percentages=percent)
    return demo_session


@pytest.fixture
def scene(opened):
    return next(iter(opened.scenes.values()))


@pytest.fixture
def comparison(opened):
    return opened.findings.compare("judged", next(iter(opened.references)))


def half(bounds):
    """Return the western half of a rectangle."""
    west, south, east, north = bounds
    return ring_of((west, south, (west + east) / 2, north))


def test_an_area_holds_the_pixels_whose_centre_lies_in_it():
    grid = Grid(shape_yx=(40, 60), crs=rasterio.CRS.from_epsg(32631), transform=TRANSFORM)
    corners = [(500_603.0, 4_998_507.0), (502_411.0, 4_999_713.0), (501_017.0, 4_999_919.0)]
    ring = tuple(
        (x[0], y[0])
        for x, y in (transform_points(grid.crs, "EPSG:4326", [a], [b]) for a, b in corners)
    )
    found = inside(grid, ring)
    rows, columns = np.mgrid[0:40, 0:60] + 0.5
    xs, ys = 500_000 + 60 * columns, 5_000_000 - 60 * rows
    signs = [
        (x2 - x1) * (ys - y1) - (y2 - y1) * (xs - x1)
        for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True)
    ]
    expected = np.all([sign > 0 for sign in signs], axis=0)
    assert expected.any()
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("limit", [1024, 16])
def test_cover_counts_cloud_in_an_area(write_classes, monkeypatch, limit):
    from openeo_cloudmask.viewer import places

    monkeypatch.setattr(places, "COVER_PX", limit)
    labels = np.zeros((64, 64), np.uint8)
    labels[:, :16] = 1
    labels[:, 16:32] = 2
    labels[32:, 32:] = NODATA
    path = write_classes(labels, CLASS_SCHEME="4-class")
    assert cloud_cover(path, None) == pytest.approx(32 * 64 / (64 * 64 - 32 * 32))
    with rasterio.open(path) as source:
        x, y = source.transform @ (16, 0)
        right, bottom = source.transform @ (48, 32)
        west, south, east, north = rasterio.warp.transform_bounds(
            source.crs, "EPSG:4326", x, bottom, right, y
        )
    found = cloud_cover(path, ring_of((west, south, east, north)))
    assert found == pytest.approx(0.5, abs=0.05)
    assert cloud_cover(path, ring_of((50.0, 50.0, 51.0, 51.0))) is None


def test_numbers_of_an_area_are_those_of_its_pixels(comparison, scene):
    ring = half(next(iter(scene.layers.values())).bounds)
    found = comparison.within(ring)
    assert found.inside
    reference, mask = comparison.evaluation.pair.labels(OutputStyle.FOUR_CLASS)
    there = inside(comparison.evaluation.reference.grid, ring)
    counts = found.case(OutputStyle.FOUR_CLASS, dilated=False).confusion.counts
    seen = there & (reference != NODATA) & (mask != NODATA)
    expected = np.zeros((4, 4))
    np.add.at(expected, (reference[seen], mask[seen]), 1)
    assert np.array_equal(counts, expected)
    assert 0 < counts.sum() < comparison.case(
        OutputStyle.FOUR_CLASS, dilated=False
    ).confusion.counts.sum()  # fmt: skip
    assert (found.evaluation.errors[~there] == NODATA).all()


@pytest.mark.parametrize(
    "trial",
    [
        Trial(cloud=0.35), Trial(cloud=0.8, shadow=0.2), Trial(buffer_m=60),
        Trial(cloud=0.6, buffer_m=40),
    ],
)  # fmt: skip
def test_a_trial_is_the_mask_of_a_run_with_its_options(opened, scene, tmp_path, trial):
    made = tmp_path / "made.tif"
    mask_product(scene.path, made, replace(OPTIONS, **trial.options()))
    tried = opened.findings.try_mask("judged", trial)
    assert tried.step == 1
    assert opened.findings.try_mask("judged", trial) is tried
    mask, layer = tried.mask, tried.layer
    with rasterio.open(made) as source, rasterio.open(layer.path) as shown:
        expected = source.read(1)
        assert np.array_equal(shown.read(1), mask.labels)
    # Percentages are whole: only pixels at the very threshold may differ.
    assert np.mean(mask.labels != expected) < 0.002


def test_a_large_mask_is_tried_on_a_coarser_one(opened, monkeypatch):
    monkeypatch.setattr(trials, "TRIAL_PX", 100)
    kept = read_percentages(opened.masks["judged"].percentages)
    assert kept.step == 3
    assert kept.grid.shape_yx == (85, 85)
    assert try_mask(kept, Trial(cloud=0.5)).labels.shape == (85, 85)


def test_what_cannot_be_tried_is_told(opened, write_classes):
    opened.add_mask(write_classes(np.zeros((8, 8))), title="bare")
    with pytest.raises(OptionError, match="bare has no percentages beside it"):
        opened.findings.try_mask("bare", Trial(cloud=0.5))
    with pytest.raises(OptionError, match="holds no percentages of known classes"):
        read_percentages(opened.masks["bare"].path)


def test_spectra_are_quartiles_of_the_pixels_of_each_class(opened, scene, monkeypatch):
    from openeo_cloudmask.viewer import class_spectra as module

    monkeypatch.setattr(module, "SAMPLE_PX", 256)
    with rasterio.open(opened.masks["judged"].path) as source:
        labels = source.read(1)
    with open_product(scene.path, sensor="sentinel-2-l1c") as product:
        found = class_spectra(product, labels, product.grid, FOUR_CLASS)
        cube = product.cube(["B02", "B08"])[:, 0:256, 0:256]
    for item in found:
        own = (labels == item.item.value) & np.isfinite(cube).all(axis=0)
        assert item.pixels == own.sum()
        for name, plane in zip(("B02", "B08"), cube, strict=True):
            place = [band.name for band in item.bands].index(name)
            assert item.quartiles[place] == pytest.approx(np.percentile(plane[own], (25, 50, 75)))
    rows = spectrum_rows(found)
    assert {row["class"].partition(" (")[0] for row in rows} <= {
        item.title for item in FOUR_CLASS.classes
    }


def test_spectra_of_a_coarser_reference_are_of_the_pixels_under_it(opened, scene):
    reference = next(iter(opened.references.values()))
    title = reference.title
    found = opened.findings.spectra(scene, "reference", title, None)
    assert found
    assert opened.findings.spectra(scene, "reference", title, None) is found
    cloud = {item.item.name: item for item in found}
    # Blue light: clouds are brighter than land.
    blue = [band.common_name for band in found[0].bands].index("blue")
    assert cloud["low-cloud"].quartiles[blue][1] > cloud["land"].quartiles[blue][1]


def test_one_report_has_all_masks_image_provenance_and_method(opened, scene, comparison):
    other = opened.add_mask(opened.masks["judged"].path, title="<other>", scene=scene.title)
    title = next(iter(opened.references))
    masks = {"judged": comparison, other.title: opened.findings.compare(other.title, title)}
    judged = [
        Judged(name=name, comparison=item, made=provenance(opened.masks[name].path))
        for name, item in masks.items()
    ]
    ring = half(next(iter(scene.layers.values())).bounds)
    page = render_judgement("Both", judged, thumbnail(scene.picture), ring)
    for text in ("<h2>judged</h2>", "&lt;other&gt;", "How the masks were made", "hollstein",
                 'alt="The scene"', "Balanced accuracy is the mean recall", "one area alone",
                 "class shares in each cell"):  # fmt: skip
        assert text in page, text
    assert "<other>" not in page
    rows = list(csv.DictReader(io.StringIO(judgement_csv(judged))))
    assert {row["mask"] for row in rows} == {"judged", "<other>"}
    content = json.loads(json.dumps(judgement_dict("Both", judged, ring)))
    assert content["masks"][0]["made"]["Model"] == "hollstein"
    scores = comparison.case(OutputStyle.VALID_INVALID, dilated=False).confusion.scores()
    assert content["masks"][0]["results"][0]["scores"]["balanced_accuracy"] == (
        scores.balanced_accuracy
    )


def test_provenance_names_no_signed_link(opened):
    item = {
        "id": "j-1", "links": [
            {"rel": "derived_from", "title": "Input", "href": "https://a.example/i?signature=s"},
        ],
    }  # fmt: skip
    made = provenance(opened.masks["judged"].path, item)
    assert made["Made from"] == "https://a.example/i"
    assert made["STAC item"] == "j-1"


class Asset:
    """A file of a job's results, as the openEO client gives them."""

    def __init__(self, name, content, roles=("data",)):
        self.name, self.metadata, self.content, self.fetched = (
            name,
            {"roles": list(roles)},
            content,
            0,
        )

    def download(self, path):
        self.fetched += 1
        path.write_bytes(self.content)


@pytest.fixture
def results(opened, scene, tmp_path):
    """A connection whose job has masks of three dates, with images and percentages."""
    percent, mask = (
        opened.masks["judged"].percentages.read_bytes(), opened.masks["judged"].path.read_bytes()
    )  # fmt: skip
    with rasterio.open(scene.path) as source:
        profile = source.profile | {"count": 4, "driver": "GTiff"}
        with rasterio.open(tmp_path / "image.tif", "w", **profile) as out:
            out.write(source.read([2, 3, 4, 8]))
            out.descriptions = ("B02", "B03", "B04", "B08")
            out.update_tags(SENSOR="sentinel-2-l1c")
    image = (tmp_path / "image.tif").read_bytes()
    assets = []
    for day, cover in (("2024-05-03", 12.0), ("2024-05-01", 55.5), ("2024-05-02", None)):
        item = {
            "properties": {"datetime": f"{day}T10:00:00Z", "eo:cloud_cover": cover},
            "assets": {
                kind: {"href": f"https://a.example/results/{day}{suffix}?signature=x"}
                for kind, suffix in (
                    ("mask", ".tif"), ("percentages", "-percent.tif"), ("image", "-image.tif")
                )
            },
        }  # fmt: skip
        assets += [
            Asset(f"{day}.tif", mask), Asset(f"../{day}-percent.tif", percent, ["percentages"]),
            Asset(f"{day}-image.tif", image, ["overview"]),
            Asset(f"{day}.json", json.dumps(item).encode(), ["metadata"]),
        ]  # fmt: skip
    job = SimpleNamespace(
        get_results=lambda: SimpleNamespace(get_assets=lambda: assets, get_metadata=dict)
    )
    return SimpleNamespace(job=lambda _: job), assets


def test_masks_of_a_job_come_with_what_lies_beside_them(results, tmp_path):
    connection, assets = results
    masks = list_masks(connection, "j-1", tmp_path / "job")
    assert [mask.day for mask in masks] == ["2024-05-01", "2024-05-02", "2024-05-03"]
    assert masks[0].cloud_percent == 55.5
    assert not any(asset.fetched for asset in assets if asset.name.endswith(".tif"))
    for kind in ("mask", "percentages", "image"):
        path = masks[0].fetch(kind)
        assert path.parent == tmp_path / "job"
        assert masks[0].fetch(kind) == path
    assert max(asset.fetched for asset in assets) == 1


def test_items_that_are_links_describe_masks_too(results, tmp_path):
    _, assets = results
    (mask,) = [asset for asset in assets if asset.name == "2024-05-01.tif"]
    (item,) = [asset for asset in assets if asset.name == "2024-05-01.json"]
    href = "https://a.example/results/2024-05-01.json?expires=1"
    content = json.loads(item.content)
    content["assets"] = {"mask": content["assets"]["mask"]}

    def download_url(url, target, **_):
        assert url == href
        target.write_text(json.dumps(content))

    job = SimpleNamespace(
        connection=SimpleNamespace(download_url=download_url),
        get_results=lambda: SimpleNamespace(
            get_assets=lambda: [mask],
            get_metadata=lambda: {"links": [{"rel": "item", "href": href}, {"rel": "self"}]},
        ),
    )
    (found,) = list_masks(SimpleNamespace(job=lambda _: job), "j-3", tmp_path / "job")
    assert (found.day, found.cloud_percent) == ("2024-05-01", 55.5)


def test_results_without_items_are_masks_by_themselves(tmp_path):
    assets = [Asset("b.tif", b""), Asset("a.tiff", b""), Asset("note.txt", b"")]
    job = SimpleNamespace(
        get_results=lambda: SimpleNamespace(get_assets=lambda: assets, get_metadata=dict)
    )
    masks = list_masks(SimpleNamespace(job=lambda _: job), "j-2", tmp_path)
    assert [mask.name for mask in masks] == ["a", "b"]
    assert masks[0].fetch("image") is None
    assert list(Series(title="s", masks=tuple(masks)).dates) == ["a", "b"]


def test_a_date_opens_with_its_image_and_percentages(results, tmp_path):
    connection, _ = results
    session = begin_session(tmp_path / "own")
    series = session.add_series("job", list_masks(connection, "j", tmp_path / "job"))
    entry = session.open_date("job", "2024-05-02")
    assert session.open_date("job", "2024-05-02") is entry
    assert (entry.series, entry.percentages is not None) == ("job", True)
    scene = session.scenes[entry.scene]
    assert (scene.day, scene.series) == ("2024-05-02", "job")
    assert set(scene.picture.bands) == {"B02 blue", "B03 green", "B04 red", "B08 nir"}
    assert session.latest == "job"
    assert list(series.dates) == ["2024-05-01", "2024-05-02", "2024-05-03"]
    assert series.cover("2024-05-01") == 0.555
    assert series.cover("2024-05-02") == cloud_cover(entry.path, None)


def test_a_job_whose_id_is_a_path_reaches_no_other_folder(app, opened, tmp_path, told):
    """A visitor may name any public back end, and that one its jobs."""
    outside = tmp_path / "outside"
    outside.mkdir()
    secret = opened.masks["judged"].path.read_bytes()
    (outside / "secret.tif").write_bytes(secret)
    assets = [Asset("secret.tif", b"sent by the back end")]
    job = SimpleNamespace(
        get_results=lambda: SimpleNamespace(get_assets=lambda: assets, get_metadata=dict), logs=list
    )  # fmt: skip
    rows = [{"id": str(outside), "title": "mine", "status": "finished", "created": ""}]
    session = begin_session(tmp_path / "own")
    session.connection = SimpleNamespace(job=lambda _: job, list_jobs=lambda: rows)
    app.session_state["session"] = session
    app.run()
    page = app.switch_page("screens/jobs.py").run()
    next(item for item in page.button if item.label == "Open in Compare").click().run()
    assert not session.masks
    assert "secret.tif is no raster" in page.error[0].value
    assert [path.name for path in outside.iterdir()] == ["secret.tif"]


def test_results_that_are_too_large_to_open_are_refused(tmp_path):
    path = tmp_path / "bomb.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=40_000, width=40_000, count=1, dtype="uint8",
        tiled=True, sparse_ok=True,
    ):  # fmt: skip
        pass
    item = Asset("item.json", b" " * (16 * 2**20 + 1), ["metadata"])
    assets = [Asset("bomb.tif", path.read_bytes())]
    job = SimpleNamespace(
        get_results=lambda: SimpleNamespace(get_assets=lambda: assets, get_metadata=dict)
    )
    connection = SimpleNamespace(job=lambda _: job)
    (mask,) = list_masks(connection, "j", tmp_path / "job")
    with pytest.raises(InputError, match="40000 x 40000 pixels"):
        mask.fetch("mask")
    assert not list((tmp_path / "job").iterdir())
    assets.append(item)
    with pytest.raises(BackendError, match="a STAC item of at most 16 MB"):
        list_masks(connection, "j", tmp_path / "job")


def test_a_job_without_a_mask_is_told(results, tmp_path):
    connection, _ = results
    mask = list_masks(connection, "j", tmp_path / "job")[0]
    session = begin_session(tmp_path / "own")
    with pytest.raises(ReferenceDataError, match="have no mask among them"):
        session.open_job_mask(replace(mask, assets={}), "none")


@pytest.fixture
def told(monkeypatch):
    """What the map was told last."""
    found = {}

    def fake(*, data, **_):
        found.clear()
        found.update(data)
        return SimpleNamespace(clicked=None, drawn=None)

    monkeypatch.setattr("openeo_cloudmask.viewer.panels._component", lambda: fake)
    return found


def open_part(app, part: str) -> None:
    """Open a part of Compare, of those below the map."""
    next(item for item in app.button_group if item.label == "Told of the masks").select(part)
    app.run()
    assert not app.exception, part
    assert not app.error, part
    assert app.session_state["compare_part"] == part


@pytest.mark.slow  # eighteen pages
def test_every_part_is_drawn_everywhere_and_in_an_area(app, opened, told):
    app.session_state["session"] = opened
    app.run()
    app.switch_page("screens/compare.py").run()
    bounds = opened.masks["judged"].layer.bounds
    masks = next(box for box in app.multiselect if box.label == "Masks")
    masks.set_value(["judged"]).run()
    seen = {}
    for area in (None, half(bounds)):
        app.session_state[AREA_KEY] = area
        for part in (
            "Scores", "Confusion matrix", "Largest errors", "Classes", "Threshold and buffer",
            "Spectra", "Provenance", "All scenes", "Report",
        ):  # fmt: skip
            open_part(app, part)
            if part == "Provenance":
                assert app.table[-1].value.loc["Model", "judged"] == "hollstein"
            if part == "Scores":
                seen[area] = app.dataframe[0].value["pixels"].max()
    assert 0 < seen[half(bounds)] < seen[None]
    open_part(app, "Threshold and buffer")
    buffer = next(item for item in app.slider if item.label.startswith("Buffer"))
    buffer.set_value(60).run()
    assert not app.exception
    assert "mask trial" in [layer["id"] for layer in told["layers"]]
    assert "--buffer 60m" in app.code[0].value
    assert len(app.dataframe[0].value) == 6  # three ways of comparing, with and without
    open_part(app, "Scores")  # what is tried stays on the map
    assert "mask trial" in [layer["id"] for layer in told["layers"]]


def test_a_mask_of_another_day_is_no_reference(app, opened, told, tmp_path):
    path = opened.masks["judged"].path
    for title, day in (("one day", "2024-05-01"), ("another day", "2024-05-02")):
        entry = opened.add_mask(path, title=title)
        opened.masks[title] = replace(entry, day=day)
    app.session_state["session"] = opened
    app.run()
    app.switch_page("screens/compare.py").run()
    next(box for box in app.multiselect if box.label == "Masks").set_value(["one day"]).run()
    box = next(box for box in app.selectbox if box.label == "Compared with")
    box.set_value("another day").run()
    assert not app.exception
    assert "one day is of 2024-05-01, another day of 2024-05-02" in app.warning[0].value


def test_a_scene_is_compared_with_its_own_reference(app, opened, told, tmp_path):
    """Two images of one place, each imported with its reference; only the first has a day."""
    session = begin_session(tmp_path)
    (scene,), (known,) = opened.scenes.values(), opened.references.values()
    for title, day in (("A", "2024-05-01"), ("B", None)):
        session.scenes[title] = replace(scene, title=title, day=day)
        session.references[f"truth {title}"] = replace(known, title=f"truth {title}", scene=None)
        session.join(f"truth {title}", title)
        mask = replace(opened.masks["judged"], title=f"mask {title}", scene=title, day=day)
        session.masks[mask.title] = mask
    assert session.references["truth A"].day == "2024-05-01"
    session.scenes["C"] = replace(scene, title="C")
    app.session_state["session"] = session
    app.run()
    app.switch_page("screens/compare.py").run()
    chosen = {}
    for title in "ABCB":
        next(box for box in app.selectbox if box.label == "Scene").set_value(title).run()
        box = next(box for box in app.selectbox if box.label == "Compared with")
        chosen[title] = box.value
        assert not app.warning
    assert chosen == {"A": "truth A", "B": "truth B", "C": "nothing"}
    box.set_value("truth A").run()
    assert "mask B is of B, truth A of A" in app.warning[0].value
    open_part(app, "Report")
    assert not app.exception


def test_compare_shows_a_series_with_strip_slider_and_curve(app, opened, results, tmp_path, told):
    session = begin_session(tmp_path / "own")
    session.add_series("May", list_masks(results[0], "j", tmp_path / "job"))
    reference = next(iter(opened.references.values()))
    session.references[reference.title] = reference
    app.session_state["session"] = session
    app.session_state["compare_part"] = "Cloud over time"
    app.run()
    app.switch_page("screens/compare.py").run()
    assert not app.exception
    slider = app.select_slider[0]
    assert slider.value == "2024-05-01"
    assert told["key"] == "May"
    first = {layer["id"]: layer["url"] for layer in told["layers"]}
    slider.set_value("2024-05-03").run()
    assert not app.exception
    second = {layer["id"]: layer["url"] for layer in told["layers"]}
    # The same names from date to date: opacity, order and panels stay as they are.
    assert first.keys() == second.keys() >= {"image", "mask May", "reference", "errors May"}
    assert first["image"] != second["image"]
    table = app.dataframe[0].value
    assert list(table.index) == ["2024-05-01", "2024-05-02", "2024-05-03"]
    assert list(table.columns) == ["Whole mask"]
    bounds = session.masks["May: 2024-05-01"].layer.bounds
    app.session_state[AREA_KEY] = half(bounds)
    app.run()
    assert not app.exception
    table = app.dataframe[0].value
    path = session.masks["May: 2024-05-01"].path
    assert table.loc["2024-05-01", "Drawn area"] == cloud_cover(path, half(bounds))


def test_bands_of_an_image_are_told_by_the_collection():
    about = {"summaries": {"bands": [
        {"name": "B04", "eo:common_name": "red"}, {"name": "B02", "common_name": "blue"},
        {"name": "SCL"},
    ]}}  # fmt: skip
    assert image_bands(about, ("blue", "red", "nir")) == (["B04", "B02", "SCL"], ["B02", "B04"])
    other = {
        "cube:dimensions": {"b": {"type": "bands", "values": ["B1"]}, "t": {"type": "temporal"}}
    }
    assert image_bands(other, ("red",)) == (["B1"], [])


def test_a_link_to_a_scene_that_is_not_open_says_so(app, opened, told, tmp_path):
    for session, scene in ((begin_session(tmp_path / "own"), "elsewhere"), (opened, "elsewhere")):
        app.session_state["session"] = session
        app.run()
        app.query_params["scene"] = scene
        app.switch_page("screens/compare.py").run()
        assert not app.exception
        assert "This link shows elsewhere, which is not open" in app.warning[0].value
    assert app.query_params["scene"] != ["elsewhere"]
    app.run()
    assert not app.warning


def test_an_address_that_stays_is_not_written_again(app, opened, told, monkeypatch):
    from streamlit.runtime.state import QueryParamsProxy as address  # noqa: N813 - one word

    written = []
    for name in ("from_dict", "__setitem__"):
        plain = getattr(address, name)
        monkeypatch.setattr(
            address,
            name,
            lambda self, *args, plain=plain: (written.append(args), plain(self, *args)),
        )
    app.session_state["session"] = opened
    app.switch_page("screens/compare.py").run()
    assert written
    written.clear()
    app.run()
    assert not app.exception
    assert not written
