"""SEnSeI: golden vectors, other descriptors, masks of valid pixels, settings that cannot be."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from openeo_cloudmask.errors import BandError, OptionError, SensorError
from openeo_cloudmask.models import build_network
from openeo_cloudmask.models.networks.descriptors import band_descriptor, descriptor_vectors
from openeo_cloudmask.models.networks.percentiles import band_percentiles, percentiles_of_tensors
from openeo_cloudmask.sensors import SENSORS, Band, BandKind

SENSEI_CASES = (
    "sensei_medium_b2_s2",
    "sensei_medium_tiny_landsat",
    "sensei_medium_tiny_l2a",
    "sensei_small_tiny_rgbn",
    "sensei_other_tiny_s2",
)
STYLE_2 = {"style": "SEnSeIv2", "N_embeddings": 32, "final_size": 74}


@pytest.mark.parametrize("name", SENSEI_CASES)
@torch.inference_mode()
def test_network_gives_the_published_numbers(golden_case, name):
    case = golden_case(name)
    network, answers = case.network, case.answers
    vectors = network.descriptor_vectors(case.descriptors)
    np.testing.assert_array_equal(vectors.numpy(), answers["descriptor_vectors"])
    embedding = network.embed(*case.arguments)[0, :, :16, :16].numpy()
    wanted = answers["embedding_crop"]
    np.testing.assert_allclose(embedding, wanted, rtol=0, atol=1e-5 * wanted.std())
    probabilities = network(*case.arguments)[0].numpy()
    np.testing.assert_allclose(probabilities, answers["softmax"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["sensei_medium_b2_s2", "sensei_other_tiny_s2"])
def test_network_has_the_published_parameters(golden_case, name):
    case = golden_case(name)
    published = case.config["keys"]
    own = {key: list(value.shape) for key, value in case.network.state_dict().items()}
    assert own == (published if isinstance(published, dict) else dict.fromkeys(published))


@pytest.mark.parametrize("name", ["sensei_medium_tiny_landsat", "sensei_other_tiny_s2"])
@torch.inference_mode()
def test_inference_form_changes_next_to_nothing(golden_case, name):
    case = golden_case(name)
    exact = case.network(*case.arguments)
    fast = case.network.inference_form("fp32")(*case.arguments)
    torch.testing.assert_close(fast, exact, rtol=0, atol=1e-5)
    rounded = case.network.inference_form("bf16")(*case.arguments)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.1


@torch.inference_mode()
def test_sar_and_elevation_bands_match_the_published_arithmetic(golden_case, published, fill):
    case = golden_case("sensei_medium_tiny_landsat")
    descriptors = [
        *case.descriptors[:3],
        {"band_type": "SAR VV"},
        {"band_type": "SAR VH"},
        {"band_type": "SAR Angle"},
        {"band_type": "DEM"},
        {"band_type": "fill"},
    ]
    bands = torch.from_numpy(fill.reflectance(5, (len(descriptors), 40, 72)))[None]
    wanted = published.published_forward(case.network, bands, descriptors)
    torch.testing.assert_close(case.network(bands, descriptors), wanted, rtol=0, atol=1e-5)


def test_descriptor_vectors_of_each_kind():
    vectors = descriptor_vectors(
        [
            {"band_type": "SAR VV"},
            {"band_type": "SAR VH"},
            {"band_type": "SAR Angle"},
            {"band_type": "DEM"},
            {"band_type": "fill"},
            {"band_type": "TOA Reflectance", "min_wavelength": 446.0, "max_wavelength": 542.0}
            | {"multitemporal": True},
        ],
        STYLE_2,
    )
    ones = [list(np.flatnonzero(row == 1)) for row in vectors[:5]]
    low, high = list(range(32)), list(range(32, 64))
    assert ones == [[*low, 65], [*high, 65], [*low, *high, 65], [66], []]
    assert vectors[5, 64] == 1
    assert vectors[5, 67] == 0
    assert vectors[5, 73] == 1
    assert vectors[5, 0] == np.float32(np.sin(446.0))
    assert vectors[5, 33] == np.float32(np.cos(542.0 / 10000 ** (2 / 32)))


def test_descriptor_vectors_of_the_first_style():
    band = {"band_type": "TOA Reflectance", "min_wavelength": 400.0, "max_wavelength": 500.0}
    vectors = descriptor_vectors([band, {"band_type": "fill"}], {"style": "SEnSeIv1"})
    np.testing.assert_allclose(vectors[0], np.log([100.0, 150.0, 200.0]) - 2, rtol=1e-6)
    assert not vectors[1].any()
    with pytest.raises(SensorError, match="above 300 nm"):
        descriptor_vectors([band | {"min_wavelength": 250.0}], {"style": "SEnSeIv1"})


def test_descriptors_of_sensors_are_the_published_ones(golden_case):
    for sensor, name in (
        ("sentinel-2-l1c", "sensei_medium_b2_s2"),
        ("sentinel-2-l2a", "sensei_medium_tiny_l2a"),
        ("landsat-8-9-l1", "sensei_medium_tiny_landsat"),
    ):
        own = [band_descriptor(band) for band in SENSORS[sensor].bands]
        assert own == golden_case(name).descriptors
    angle = Band(name="angle", kind=BandKind.SAR_ANGLE, resolution_m=10)
    assert band_descriptor(angle) == {"band_type": "SAR Angle"}


@pytest.mark.parametrize(
    ("descriptor", "message"),
    [
        ({"band_type": "TOA Reflectance"}, "min_wavelength = None.*nanometres"),
        ({"band_type": "TOA Reflectance", "min_wavelength": 446.0}, "max_wavelength = None"),
        ({"min_wavelength": 446.0, "max_wavelength": 542.0}, "no 'band_type'"),
        ({"band_type": "radio"}, "'radio'.*expected"),
        (
            {"band_type": "TOA Reflectance", "min_wavelength": 542.0, "max_wavelength": 446.0},
            "must not be above",
        ),
        (
            {"band_type": "TOA Reflectance", "min_wavelength": "446", "max_wavelength": 542.0},
            "min_wavelength = '446'",
        ),
    ],
)
def test_descriptor_that_says_too_little_is_refused(descriptor, message):
    with pytest.raises(SensorError, match=message):
        descriptor_vectors([descriptor], STYLE_2)


def test_bands_and_descriptors_have_to_agree(golden_case):
    case = golden_case("sensei_small_tiny_rgbn")
    with pytest.raises(BandError, match="3 descriptors"):
        case.network(case.bands, case.descriptors[:3])


@torch.inference_mode()
def test_statistics_are_those_of_the_valid_pixels(golden_case):
    case = golden_case("sensei_small_tiny_rgbn")
    valid = torch.ones(1, 64, 64, dtype=torch.bool)
    valid[:, :, :24] = False
    holed = case.bands * valid[:, None]
    vectors = case.network.descriptor_vectors(case.descriptors)[None]
    encoder = case.network.senseiv2

    def encode(vectors, bands, valid):
        return encoder.encode_descriptors(vectors, encoder.statistics(bands, valid))

    cut = case.bands[..., 24:]
    torch.testing.assert_close(encode(vectors, holed, valid), encode(vectors, cut, None))
    assert not torch.allclose(encode(vectors, holed, None), encode(vectors, cut, None), atol=1e-3)


@pytest.mark.parametrize("percentiles", [band_percentiles, percentiles_of_tensors])
def test_percentiles_are_those_of_numpy(percentiles):
    generator = torch.Generator().manual_seed(3)
    bands = torch.rand((3, 2, 9, 11), generator=generator)
    valid = torch.rand((3, 9, 11), generator=generator) > 0.3
    valid[2] = False
    quantiles = (0.01, 0.1, 0.5, 0.9, 0.99, 1.0)
    given = percentiles(bands, valid, quantiles).numpy()
    for window in range(2):
        for band in range(2):
            seen = bands[window, band][valid[window]].numpy()
            np.testing.assert_allclose(given[window, band], np.quantile(seen, quantiles), atol=1e-6)
    assert not given[2].any()
    whole = percentiles(bands, None, quantiles)
    torch.testing.assert_close(
        whole, torch.quantile(bands.flatten(2), torch.tensor(quantiles), dim=2).permute(1, 2, 0)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["sensei"]["blocks"].insert(1, {"type": "MAGIC"}), "block 1.*'MAGIC'.*FCL"),
        (lambda c: c["sensei"]["blocks"].pop(), "last block.*'ATTENTION'.*BAND_EMBEDDING"),
        (lambda c: c["sensei"].update(blocks=[]), "needs a list of 'blocks'"),
        (lambda c: c["sensei"]["blocks"][1].pop("layer_sizes"), "FCL.*lacks.*layer_sizes"),
        (lambda c: c["sensei"]["blocks"][2].update(num_heads=3), "3 heads of 32"),
        (lambda c: c["sensei"]["descriptors"].update(style="SEnSeI2"), "style 'SEnSeI2'"),
        (lambda c: c["sensei"]["descriptors"].update(final_size=64), "at least 69"),
        (lambda c: c.pop("segformer"), "lack the section 'segformer'"),
        (lambda c: c["segformer"].update(depths=[1, 2]), "list of 4 numbers"),
        (lambda c: c.update(classes=0), "'classes' is 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(golden_case, change, message):
    config = copy.deepcopy(golden_case("sensei_medium_tiny_l2a").config)
    change(config)
    with pytest.raises(OptionError, match=message):
        build_network("sensei-segformer", config)


@torch.inference_mode()
def test_published_first_version_runs(published):
    config = {
        "sensei": {
            "descriptors": {"style": "SEnSeIv1"},
            "blocks": [
                {"type": "FCL", "layer_sizes": [128, 64], "skips": True},
                {"type": "PERMUTED_FCL", "layer_sizes": [64], "skips": True},
                {"type": "FCL", "layer_sizes": [64], "skips": False},
                {"type": "BAND_MULTIPLICATION", "normalize": True},
            ],
        },
        "deeplab": {"encoder": "resnet50"},
        "classes": 4,
    }
    torch.manual_seed(0)
    network = build_network("sensei-deeplab", config)
    descriptors = [band_descriptor(band) for band in SENSORS["sentinel-2-l1c"].bands[:4]]
    bands = torch.rand(2, 4, 32, 64)
    wanted = published.published_forward(network, bands, descriptors)
    torch.testing.assert_close(network(bands, descriptors), wanted, rtol=0, atol=1e-5)
