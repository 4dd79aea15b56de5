"""What a user's files do not say of themselves is asked for, never guessed."""

import numpy as np
import pytest
import rasterio

from openeo_cloudmask.errors import OptionError, ReferenceDataError
from openeo_cloudmask.evaluation.grids import read_mask
from openeo_cloudmask.products import ReadOptions
from openeo_cloudmask.viewer.comparison import differing_days
from openeo_cloudmask.viewer.local import plain_text
from openeo_cloudmask.viewer.meaning import name_classes, parse_meaning, read_tags
from openeo_cloudmask.viewer.session import begin_session

CODES = np.array([[0, 1], [2, 3]], np.uint8).repeat(8, 0).repeat(8, 1)


def test_codes_that_say_nothing_are_not_taken_for_the_four_classes(write_classes, tmp_path):
    session = begin_session(tmp_path)
    path = write_classes(CODES)
    with pytest.raises(ReferenceDataError, match="does not say what its values mean"):
        session.add_reference(path)
    entry = session.add_reference(path, meaning="4-class")
    assert np.array_equal(entry.reference.labels, CODES)


def test_a_file_that_says_it_is_believed(write_classes, tmp_path):
    path = write_classes(CODES, CLASS_SCHEME="4-class", ACQUIRED="2024-05-01T10:00:00+00:00")
    entry = begin_session(tmp_path).add_reference(path)
    assert entry.day == "2024-05-01"
    assert read_tags(path).scheme == "4-class"


def test_each_value_can_get_a_class_of_its_own(write_classes, tmp_path):
    path = write_classes(CODES)
    text = "0=cloud-shadow, 1: clear, 2=Thick-Cloud,3=none"
    named = read_mask(name_classes(path, text, tmp_path / "..")).labels
    assert [int(named[y, x]) for y, x in ((0, 0), (0, 15), (15, 0), (15, 15))] == [3, 0, 1, 255]


@pytest.mark.parametrize("text", ["", "0=fog", "x=clear", "300=clear", "clear", "0=clear 1=none"])
def test_what_names_no_class_is_refused(text):
    with pytest.raises(OptionError, match="expected"):
        parse_meaning(text)


def test_values_without_a_class_are_named(write_classes, tmp_path):
    with pytest.raises(ReferenceDataError, match=r"holds \[3\], to which no class"):
        name_classes(write_classes(CODES), "0=clear, 1=thick-cloud, 2=none", tmp_path)


def test_integers_without_names_are_opened_with_names_and_a_scale(tmp_path):
    path = tmp_path / "counts.tif"
    counts = np.random.default_rng(0).integers(500, 9000, (4, 64, 64)).astype(np.uint16)
    with rasterio.open(
        path, "w", driver="GTiff", height=64, width=64, count=4, dtype="uint16",
        crs="EPSG:32631", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6),
    ) as out:  # fmt: skip
        out.write(counts)
    session = begin_session(tmp_path)
    read = ReadOptions(bands=("B02", "B03", "B04", "B08"), scale=1e-4, offset=-0.1)
    entry = session.add_scene(path, sensor="sentinel-2-l2a", read=read)
    from openeo_cloudmask.viewer.local import start_mask
    from openeo_cloudmask.viewer.scenes import open_scene

    with open_scene(path, sensor=entry.sensor_id, read=entry.read) as scene:
        pixels = scene.cube(["B03"])[:, :, :]
    assert np.allclose(pixels[0], counts[1] * 1e-4 - 0.1, atol=1e-6)
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "openeo_cloudmask.products.mask_product",
            lambda *_, **options: seen.update(options),
        )
        from openeo_cloudmask.options import MaskOptions

        start_mask(path, tmp_path / "m.tif", MaskOptions(), read=entry.read).wait(30)
    assert seen["read"] == read


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ("2024-05-01", "2024-05-02", True), ("2024-05-01", "2024-05-01", False),
        (None, "2024-05-01", False), (None, None, False),
    ],
)  # fmt: skip
def test_masks_of_different_days_are_told_apart(one, other, differ):
    assert differing_days(one, other) is differ


def test_the_page_warns_of_different_days(app, tmp_path, write_classes, monkeypatch):
    monkeypatch.setattr("streamlit_folium.st_folium", lambda *_, **__: {})
    session = begin_session(tmp_path)
    for name, day in (("one", "2024-05-01"), ("other", "2024-06-01")):
        path = write_classes(CODES, f"{name}.tif", CLASS_SCHEME="4-class", ACQUIRED=day)
        session.add_mask(path, title=name)
    app.run()
    app.session_state.session = session
    app.switch_page("screens/compare.py").run()
    assert not app.exception
    assert any("clouds of different days" in warning.value for warning in app.warning)


def test_no_data_has_no_confidence(tmp_path, write_classes):
    from dataclasses import replace

    labels = CODES.copy()
    labels[:8] = 255
    session = begin_session(tmp_path)
    entry = session.add_reference(write_classes(labels), meaning="4-class")
    confidence = np.where(labels == 255, 0, 204).astype(np.uint8)
    sure = replace(entry, reference=replace(entry.reference, confidence=confidence))
    assert sure.mean_confidence() == pytest.approx(0.8)
    assert entry.mean_confidence() is None


def test_messages_show_no_paths_of_the_server():
    message = "cannot open /srv/viewer/sessions/xyz/scene.tif as a raster: /srv/a b.tif is not one"
    assert "/srv" not in plain_text(ValueError(message))
    assert "scene.tif" in plain_text(ValueError(message))
    kept = "see https://example.org/a/b and use m/s, 4/3"
    assert plain_text(ValueError(kept)) == kept


def test_a_mask_of_the_own_back_end_comes_with_its_image(demo_session, tmp_path, monkeypatch):
    pytest.importorskip("pystac")
    from openeo_cloudmask.viewer import backends

    scene = next(iter(demo_session.scenes.values()))
    backends.register_scene(scene.path, tmp_path, sensor="sentinel-2-l1c")
    bounds = next(iter(scene.layers.values())).bounds
    collection = next(iter((tmp_path / "collections").iterdir()))
    import json

    (item,) = [path for path in collection.rglob("*.json") if path.name != "collection.json"]
    day = json.loads(item.read_text())["properties"]["datetime"][:10]
    path, _, sensor, _ = backends.find_scene(tmp_path, bounds, day)
    assert path.name == scene.path.name
    assert sensor == "sentinel-2-l1c"
    assert backends.find_scene(tmp_path, bounds, "1999-01-01") is None
    assert backends.find_scene(tmp_path, (0.0, -80.0, 0.1, -79.9), day) is None


def test_a_file_cannot_name_a_file_of_this_machine_as_its_sensor(write_classes, tmp_path):
    known = write_classes(np.zeros((4, 4), np.uint8), "known.tif", SENSOR="sentinel-2-l1c")
    assert read_tags(known).sensor == "sentinel-2-l1c"
    secret = tmp_path / "secret.json"
    secret.write_text('{"key": "\tvalue}')
    path = write_classes(np.zeros((4, 4), np.uint8), SENSOR=str(secret))
    assert read_tags(path).sensor is None
