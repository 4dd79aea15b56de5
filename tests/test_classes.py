"""Class schemes, every mapping, and the output styles."""

import numpy as np
import pytest

from openeo_cloudmask import classes
from openeo_cloudmask.classes import (
    ALCD,
    FOUR_CLASS,
    MAPPINGS,
    NODATA,
    SCHEMES,
    SENSEI_SEVEN,
    OutputStyle,
    apply_style,
    map_labels,
    mapping,
    style_probabilities,
    style_scheme,
)
from openeo_cloudmask.errors import OptionError


@pytest.mark.parametrize(("source", "target"), list(MAPPINGS))
def test_every_mapping_names_classes_that_exist(source, target):
    row = MAPPINGS[source, target]
    assert len(row) == len(SCHEMES[source].classes)
    assert set(row) <= {*SCHEMES[target].values, NODATA}


@pytest.mark.parametrize(
    "source", ["4-class", "sensei-7-class", "hollstein-6-class", "ukis-5-class", "alcd"]
)
def test_going_through_four_classes_gives_the_same_binary_mask(source):
    # A class the four do not know ("no data") counts as not cloud in the published binary styles.
    to_four = mapping(SCHEMES[source], FOUR_CLASS)
    for style in ("cloud-noncloud", "valid-invalid"):
        direct = mapping(SCHEMES[source], SCHEMES[style])
        for four, binary in zip(to_four, direct, strict=True):
            if four != NODATA:
                assert mapping(FOUR_CLASS, SCHEMES[style])[four] == binary
            else:
                assert binary in (0, NODATA)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=lambda scheme: scheme.name)
def test_values_names_and_colours_are_unique(scheme):
    assert len(set(scheme.values)) == len(set(scheme.names)) == len(scheme.classes)
    assert len({item.color for item in scheme.classes}) == len(scheme.classes)
    for item in scheme.classes:
        assert len(item.rgba) == 4
        assert scheme.index(item.name) == scheme.classes.index(item)


def test_unknown_mapping_and_class():
    with pytest.raises(OptionError, match="'cloud-noncloud' cannot be mapped to '4-class'"):
        mapping(classes.CLOUD_NONCLOUD, FOUR_CLASS)
    with pytest.raises(OptionError, match="no class 'fog'; it has clear, thick-cloud"):
        FOUR_CLASS.index("fog")


def test_labels_are_mapped_and_strange_values_refused():
    labels = np.array([[0, 1, 2, 3], [4, 5, 6, 7], [255, 0, 0, 0]], np.uint8)
    expected = [[255, 0, 1, 2], [3, 0, 0, 0], [255, 255, 255, 255]]
    np.testing.assert_array_equal(map_labels(labels, ALCD, FOUR_CLASS), expected)
    with pytest.raises(OptionError, match=r"values \[9\] are no classes of 'alcd'"):
        map_labels(np.array([9], np.uint8), ALCD, FOUR_CLASS)


def test_styles_are_those_of_the_published_post_processing(golden):
    with np.load(golden / "pipeline_s2.npz") as case:
        native = case["native_stride48"].astype(np.float32)
        published = {
            style: case[f"{style.value}_stride48"].astype(np.float32)
            for style in OutputStyle
            if style is not OutputStyle.NATIVE
        }
    for style, expected in published.items():
        got = style_probabilities(native, SENSEI_SEVEN, style)
        np.testing.assert_allclose(got, expected, atol=2e-3)
        mask = apply_style(native, SENSEI_SEVEN, style, categorise=True)
        assert (mask[0] == expected.argmax(axis=0)).mean() > 0.999


def test_categorised_and_percent_masks_mark_nodata_pixels():
    probabilities = np.array(
        [[[0.7, np.nan]], [[0.2, np.nan]], [[0.096, np.nan]], [[0.004, np.nan]]], np.float32
    )
    mask = apply_style(probabilities, FOUR_CLASS, OutputStyle.FOUR_CLASS, categorise=True)
    np.testing.assert_array_equal(mask, [[[0, 255]]])
    percent = apply_style(probabilities, FOUR_CLASS, OutputStyle.FOUR_CLASS, categorise=False)
    np.testing.assert_array_equal(percent[:, 0], [[70, 255], [20, 255], [10, 255], [0, 255]])
    assert percent.dtype == mask.dtype == np.uint8
    binary = apply_style(probabilities, FOUR_CLASS, OutputStyle.VALID_INVALID, categorise=False)
    np.testing.assert_array_equal(binary[:, 0], [[70, 255], [30, 255]])


def test_native_style_keeps_the_detectors_own_classes():
    assert style_scheme(OutputStyle.NATIVE, SENSEI_SEVEN) is SENSEI_SEVEN
    probabilities = np.zeros((7, 1, 7), np.float32)
    probabilities[range(7), 0, range(7)] = 1
    mask = apply_style(probabilities, SENSEI_SEVEN, OutputStyle.NATIVE, categorise=True)
    np.testing.assert_array_equal(mask[0, 0], range(7))


def test_the_class_of_a_pixel_is_the_most_probable_one_the_first_of_equals():
    rng = np.random.default_rng(3)
    probabilities = rng.integers(0, 4, (4, 40, 30)).astype(np.float32)  # many are equal
    mask = apply_style(probabilities, FOUR_CLASS, OutputStyle.NATIVE, categorise=True)
    np.testing.assert_array_equal(mask[0], probabilities.argmax(axis=0))
