"""Providers' masks read as models: codes, bits and shares by plain loops, and the traps in them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from openeo_cloudmask.classes import MAPPINGS, NODATA, SCHEMES
from openeo_cloudmask.datacube import mask_datacube
from openeo_cloudmask.errors import BandError, InputError, OptionError
from openeo_cloudmask.evaluation.compare_scenes import all_models
from openeo_cloudmask.models import MODELS, get_model, load_detector, select_input
from openeo_cloudmask.models.families.provider_masks import FAMILY
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.sensors import SENSORS

CLEAR, THICK, THIN, SHADOW = 0, 1, 2, 3
NAMES = [entry.id for entry in FAMILY.models]


def mask_of(model, sensor="sentinel-2-l2a", nodata=None, **layers):
    """The four-class mask of a datacube of these layers, made by the user-defined function."""
    planes = np.stack(list(layers.values()))
    cube = xr.DataArray(
        planes, dims=("bands", "y", "x"), coords={"bands": list(layers)}, attrs={"nodata": nodata}
    )
    if nodata is None:
        del cube.attrs["nodata"]
    # The scale of the reflectance of the same cube must not touch the codes.
    options = MaskOptions(model=model, sensor=sensor, scale=0.0001, offset=-0.1)
    return mask_datacube(cube, options).to_numpy()[0]


def test_scl_code_by_code():
    expected = {
        0: NODATA, 1: NODATA, 2: CLEAR, 3: SHADOW, 4: CLEAR, 5: CLEAR, 6: CLEAR, 7: CLEAR,
        8: THICK, 9: THICK, 10: THIN, 11: CLEAR,
    }  # fmt: skip
    codes = np.random.default_rng(1).integers(0, 12, (40, 60)).astype(np.uint8)
    found = mask_of("scl", SCL=codes)
    np.testing.assert_array_equal(found, np.vectorize(expected.get)(codes))


def test_native_style_gives_the_codes_back():
    codes = np.arange(12, dtype=np.uint8).reshape(3, 4)
    cube = xr.DataArray(codes[None], dims=("bands", "y", "x"), coords={"bands": ["scl"]})
    mask = mask_datacube(cube, MaskOptions(model="sen2cor", output_style="native"))
    np.testing.assert_array_equal(mask[0], np.where(codes < 2, NODATA, codes))


def test_every_bit_of_qa_pixel():
    values = np.arange(256, dtype=np.uint16).reshape(16, 16) + np.uint16(0x5500)  # high bits set

    def expected(value):
        if value & 0b1:
            return NODATA
        if value & 0b1000:
            return THICK
        if value & 0b100:
            return THIN
        return SHADOW if value & 0b1_0000 else CLEAR

    for sensor in ("landsat-8-9-l1", "landsat-8-9-l2", "landsat-4-5-l2"):
        found = mask_of("qa-pixel", sensor=sensor, QA_PIXEL=values)
        np.testing.assert_array_equal(found, np.vectorize(expected)(values))


def test_every_bit_of_the_hls_layer_and_zero_is_clear():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)

    def expected(value):
        if value == 255:
            return NODATA
        return THICK if value & 2 else SHADOW if value & 8 else CLEAR

    found = mask_of("hls-fmask", Fmask=values)
    np.testing.assert_array_equal(found, np.vectorize(expected)(values))
    assert (mask_of("hls-fmask", Fmask=np.zeros((5, 5), np.uint8)) == CLEAR).all()


def test_every_bit_of_maja_and_its_border():
    clm = np.arange(256, dtype=np.uint8).reshape(16, 16)
    mg2 = clm.T.copy()
    edge = np.zeros_like(clm)
    edge[:2] = 1

    def expected(cloud, ground, border):
        if border:
            return NODATA
        if cloud & 0b10:
            return THICK
        if cloud & 0b1000_0000:
            return THIN
        return SHADOW if ground & 0b1000 else CLEAR

    found = mask_of("maja", MAJA_CLM=clm, MAJA_MG2=mg2, MAJA_EDG=edge)
    np.testing.assert_array_equal(found, np.vectorize(expected)(clm, mg2, edge))


@pytest.mark.parametrize(
    ("model", "layer", "first"),
    [("s2cloudless-raster", "S2CLOUDLESS", 51), ("sentinelhub-clp", "CLP", 128)],
)
def test_a_share_is_cloud_from_the_value_that_the_documentation_names(model, layer, first):
    values = np.arange(first * 2 - 2, dtype=np.uint8)[np.newaxis]
    found = mask_of(model, sensor="sentinel-2-l1c", **{layer: values})
    np.testing.assert_array_equal(found, np.where(values >= first, THICK, CLEAR))


def test_shares_are_percentages_and_zero_is_a_share():
    percent = np.array([[0, 49, 51, 100]], np.uint8)
    scl = np.array([[4, 4, 4, 0]], np.uint8)  # the last one saw nothing, and its 100 says nothing
    found = mask_of("msk-cldprb", MSK_CLDPRB=percent, SCL=scl)
    np.testing.assert_array_equal(found, [[CLEAR, CLEAR, THICK, NODATA]])
    assert mask_of("msk-cldprb", CLDPRB=percent * 0, SCL=scl)[0, 3] == NODATA
    score = np.array([[1.0, 0.51, 0.49, 0.0, np.nan]], np.float32)
    found = mask_of("cloud-score-plus", cs=score)
    np.testing.assert_array_equal(found, [[CLEAR, CLEAR, THICK, THICK, NODATA]])
    found = mask_of("sentinelhub-clp", CLP=np.array([[0, 127, 128, 255]], np.uint8))
    np.testing.assert_array_equal(found, [[CLEAR, CLEAR, THICK, THICK]])
    found = mask_of("sentinelhub-clm", CLM=np.array([[0, 1, 255]], np.uint8))
    np.testing.assert_array_equal(found, [[CLEAR, THICK, NODATA]])


def test_the_products_own_mask_needs_a_band_that_tells_no_data():
    zero, one = np.zeros((1, 3), np.uint16), np.array([[0, 1, 0]], np.uint16)
    classi = {"MSK_CLASSI_OPAQUE": zero, "MSK_CLASSI_CIRRUS": one, "MSK_CLASSI_SNOW_ICE": zero}
    band = np.array([[3000, 3000, 0]], np.uint16)
    found = mask_of("msk-classi", nodata=None, **classi, B01=band)
    np.testing.assert_array_equal(found, [[CLEAR, THIN, NODATA]])
    with pytest.raises(BandError, match="missing band B01"):
        mask_of("msk-classi", **classi)


@pytest.mark.parametrize(
    ("model", "layers", "message"),
    [
        ("scl", {"SCL": 12}, r"SCL holds 12; expected the codes \[0, 1, 2"),
        ("fmask-4", {"FMASK4": 5}, "FMASK4 holds 5; expected the codes"),
        ("scl", {"SCL": 4.5}, "SCL holds 4.5; expected the codes"),
        ("hls-fmask", {"HLS_FMASK": 2.5}, "HLS_FMASK holds 2.5; expected whole numbers"),
        ("sentinelhub-clm", {"CLM": 2}, "CLM holds 2; expected numbers from 0"),
        ("cloud-score-plus", {"CLOUD_SCORE": 60}, "CLOUD_SCORE holds 60; expected numbers from 1"),
    ],
)
def test_codes_that_cannot_be_are_refused(model, layers, message):
    planes = {name: np.full((4, 4), value, np.float32) for name, value in layers.items()}
    with pytest.raises(InputError, match=message):
        mask_of(model, **planes)


@pytest.mark.parametrize("model", NAMES)
def test_no_class_without_counterpart_is_left_to_the_argmax(model):
    """What the four classes cannot say is no-data before the detector is asked."""
    entry = MODELS[model]
    to_four = (
        SCHEMES["4-class"].values
        if entry.scheme_name == "4-class"
        else MAPPINGS[entry.scheme_name, "4-class"]
    )
    lost = {v for v, four in zip(entry.scheme.values, to_four, strict=True) if four == NODATA}
    layers = [
        SENSORS[sensor].band(name) for sensor, bands in entry.inputs.items() for name in bands
    ]
    assert all(lost <= set(layer.nodata_codes) for layer in layers) or not lost


@pytest.mark.parametrize("model", NAMES)
def test_layers_are_known_and_no_gpu_is_pretended(model):
    entry = MODELS[model]
    assert entry.layers
    for sensor in entry.inputs:
        chosen = select_input(entry, sensor=sensor, bands=entry.inputs[sensor])
        assert chosen.band_names == entry.inputs[sensor]
        assert not set(entry.layers) & set(SENSORS[sensor].band_names)
    with pytest.raises(OptionError, match=r"no GPU|cuda"):
        load_detector(model, device="cuda")


def test_layers_do_not_disturb_other_models():
    """SCL in a cube changes neither which sensor it is nor which bands are taken."""
    labels = (*SENSORS["sentinel-2-l2a"].band_names, "SCL")
    assert get_model("hollstein").layers == ()
    for model in ("mini", "senseiv2", "hollstein"):
        with_layer = select_input(get_model(model), bands=labels)
        assert with_layer == select_input(get_model(model), bands=labels[:-1])


def test_where_nothing_can_be_read_only_computing_models_are_tried():
    """A simulated scene has no provider: its comparison need not list twelve that fail."""
    computing = {model.id for model in all_models(reading=False)}
    assert computing == set(MODELS) - set(NAMES)
    assert {model.id for model in all_models()} == set(MODELS)
