"""What is guessed of a raster, and that it is shown."""

import numpy as np
import pytest
import rasterio

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.sensors import SENSORS
from openeo_cloudmask.viewer.guess import guess_codes, guess_image, meaning_text, parse_names
from openeo_cloudmask.viewer.meaning import name_classes, parse_meaning
from tests.viewer.conftest import TRANSFORM


@pytest.fixture
def write_image(tmp_path):
    def write(values: np.ndarray, names: tuple[str, ...] = (), **profile):
        path = tmp_path / "image.tif"
        with rasterio.open(
            path, "w", driver="GTiff", height=values.shape[1], width=values.shape[2],
            count=len(values), dtype=values.dtype, crs="EPSG:32631", transform=TRANSFORM, **profile,
        ) as out:  # fmt: skip
            out.write(values)
            if names:
                out.descriptions = names
        return path

    return write


def counts(count: int, low: int, high: int) -> np.ndarray:
    return np.random.default_rng(1).integers(low, high, (count, 64, 64)).astype(np.uint16)


@pytest.mark.parametrize(
    ("low", "high", "scale", "offset"),
    [(1100, 9000, 1e-4, -0.1), (50, 9000, 1e-4, 0.0)],
)
def test_scale_and_offset_are_told_from_counts(write_image, low, high, scale, offset):
    guess = guess_image(write_image(counts(4, low, high)))
    assert (guess.scale, guess.offset) == (scale, offset)
    assert "lie between" in guess.why
    assert guess.names == ("B02", "B03", "B04", "B08")
    assert guess.sensor_id == "sentinel-2-l1c"
    assert not guess.named


def test_reflectance_is_taken_as_it_is(write_image):
    values = counts(13, 100, 9000).astype(np.float32) / 1e4
    guess = guess_image(write_image(values))
    assert (guess.scale, guess.offset) == (None, None)
    assert guess.names == SENSORS["sentinel-2-l1c"].band_names


def test_names_of_the_file_are_believed(write_image):
    guess = guess_image(write_image(counts(3, 50, 9000), ("B03", "B8A", "B11")))
    assert guess.names == ("B03", "B8A", "B11")
    assert guess.named
    assert guess.sensor_id is not None


def test_a_rim_of_zeros_is_no_data_and_no_darkness(write_image):
    values = counts(4, 1100, 9000)
    values[:, :16] = 0
    guess = guess_image(write_image(values))
    assert guess.offset == -0.1
    assert guess.nodata == "0 in all bands (25.0% of the pixels)"
    assert (guess.preview[:16] == 0).all()
    assert guess.preview[16:].any()


def test_colours_that_the_file_says_name_its_bands(write_image):
    # Of four bands of bytes GDAL says red, green, blue and transparency, whatever the fourth is.
    values = counts(4, 100, 250).astype(np.uint8)
    assert guess_image(write_image(values)).names == ("B04", "B03", "B02", "B08")
    values[3] = 255
    values[3, :9] = 0
    assert guess_image(write_image(values)).names == ("B04", "B03", "B02", "alpha")
    plain = guess_image(write_image(values, photometric="MINISBLACK"))
    assert plain.names == ("B02", "B03", "B04", "B08")


def test_bands_of_an_unknown_number_stay_open(write_image):
    assert guess_image(write_image(counts(5, 50, 9000))).names == ("?",) * 5


def test_codes_are_listed_with_their_shares(write_classes):
    labels = np.zeros((10, 10))
    labels[:2], labels[2], labels[3] = 1, 3, 255
    labels[4] = 9
    codes = guess_codes(write_classes(labels))
    assert [(code.value, round(code.share, 3)) for code in codes] == [
        (0, 0.5), (1, 0.2), (3, 0.1), (9, 0.1), (255, 0.1),
    ]  # fmt: skip
    guesses = [code.guess.name if code.guess else None for code in codes]
    assert guesses == ["clear", "thick-cloud", "cloud-shadow", None, None]


@pytest.mark.parametrize(
    ("dtype", "gone"), [("float32", np.nan), ("float32", 0.5), ("int16", -9999), ("int32", 7)]
)
def test_codes_of_any_type_are_taken(tmp_path, write_image, dtype, gone):
    values = np.array([[0, 1, 3, gone]], np.float64).astype(dtype)[np.newaxis]
    path = write_image(values, nodata=gone)
    codes = guess_codes(path)
    assert [code.value for code in codes] == [0, 1, 3, 7 if gone == 7 else 255]
    assert codes[-1].guess is None
    named = name_classes(path, "0=clear, 1=thick-cloud, 3=cloud-shadow", tmp_path)
    with rasterio.open(named) as found:
        assert found.read(1).tolist() == [[0, 1, 3, 255]]


@pytest.mark.parametrize("value", [0.5, -1, 256, np.inf])
def test_numbers_that_are_no_codes_are_told(write_image, value):
    with pytest.raises(ReferenceDataError, match=f"holds {value:g}; expected class values"):
        guess_codes(write_image(np.full((1, 4, 4), value, np.float32)))


def test_a_reference_is_no_picture(write_classes):
    with pytest.raises(ReferenceDataError, match="64 different values"):
        guess_codes(write_classes(np.arange(64).reshape(8, 8)))


def test_what_is_chosen_is_understood():
    chosen = {item.value: item.name for item in FOUR_CLASS.classes} | {9: None}
    assert parse_meaning(meaning_text(chosen)) == {0: 0, 1: 1, 2: 2, 3: 3, 9: 255}
    assert parse_names(" B02,B03  B04 ") == ("B02", "B03", "B04")


def test_import_offers_schemes_and_says_what_has_no_class(app, write_image, write_classes):
    labels = np.full((64, 64), 4)
    labels[:16], labels[16:32] = 3, 0
    image = write_image(counts(4, 1100, 9000))
    truth = write_classes(labels, "truth.tif")
    page = app.run().switch_page("screens/import_own.py").run()
    for box, path in zip(page.file_uploader, (image, truth), strict=True):
        box.set_value((path.name, path.read_bytes(), "image/tiff"))
    page.run()
    assert "50.0% of the pixels have values without a class" in page.warning[0].value
    next(box for box in page.selectbox if box.label == "Values").set_value("scl").run()
    assert not page.warning
    assert not [box for box in page.selectbox if "of the pixels" in box.label]
    assert page.button[0].label == "Mask and score"
    assert not page.exception


COLORS = counts(3, 100, 250).astype(np.uint8)


@pytest.mark.parametrize(
    ("values", "names", "colors"),
    [
        (COLORS, (), ("red", "green", "blue")),
        (counts(4, 100, 250).astype(np.uint8), (), ("red", "green", "blue", "nir")),
        (COLORS, ("B04", "B03", "B02"), ("red", "green", "blue")),
        (COLORS, ("Band 1", "Band 2", "Band 3"), ("red", "green", "blue")),
    ],
)
def test_colours_of_8_bits_are_no_sensors_values(write_image, values, names, colors):
    guess = guess_image(write_image(values, names, photometric="RGB"))
    assert guess.colors == colors
    assert guess.sensor_id is None


def test_more_than_8_bits_or_other_bands_are_no_picture(write_image):
    assert guess_image(write_image(counts(3, 100, 9000))).colors is None
    assert guess_image(write_image(COLORS, ("B08", "B03", "B11"))).colors is None


def import_image(app, path):
    page = app.run().switch_page("screens/import_own.py").run()
    page.file_uploader[0].set_value((path.name, path.read_bytes(), "image/tiff"))
    return page.run()


def test_import_shows_a_picture_and_computes_nothing(app, write_image):
    values = COLORS.copy()
    values[:, :8] = 0
    path = write_image(values, photometric="RGB")
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ns="IMAGERY", ACQUISITIONDATETIME="2024-05-01 10:20:30")
    page = import_image(app, path)
    assert "picture in 8-bit colours" in page.warning[0].value
    assert [box.label for box in page.selectbox] == []  # no sensor, no model
    page.button[0].click().run()
    assert not page.exception
    assert not page.error
    assert not page.info  # no mask is offered on Compare either
    current = page.session_state["session"]
    (entry,) = current.scenes.values()
    assert entry.is_colors
    assert entry.day == "2024-05-01"
    assert current.findings.live_masks(entry) == {}
    assert current.tasks == []
    with rasterio.open(entry.picture.path) as picture:
        assert (picture.read() == values).all()
    page.switch_page("screens/new_job.py").run()
    next(item for item in page.button if item.label == "Make the mask").click().run()
    assert "neither reflectance nor counts" in page.error[0].value
    assert current.tasks == []


def test_8_bits_of_reflectance_need_the_sensor(app, write_image):
    page = import_image(app, write_image(COLORS, photometric="RGB"))
    page.radio[0].set_value(page.radio[0].options[1]).run()
    sensor = next(box for box in page.selectbox if box.label == "Sensor")
    assert sensor.value == "tell from the file"
    next(item for item in page.button if item.label == "Mask").click().run()
    assert "choose the sensor" in page.error[0].value
