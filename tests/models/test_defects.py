"""The ten defects of the published SEnSeIv2 code: none of them is here.

Numbers are those of the project's list. Each test fails where the defect comes back.
"""

import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

torch = pytest.importorskip("torch")

from openeo_cloudmask.classes import OutputStyle, apply_style, style_probabilities, style_scheme
from openeo_cloudmask.errors import InputError, WeightsError
from openeo_cloudmask.inference import Layout, Window, predict
from openeo_cloudmask.models import get_model, load_detector
from openeo_cloudmask.models.sensei_detector import make_detector
from openeo_cloudmask.products import Grid, safe, write_cog
from openeo_cloudmask.sensors import (
    SENSORS,
    brightness_temperature,
    landsat_reflectance,
    normalise_temperature,
)


@pytest.fixture
def detector(golden_case):
    """Return a detector with windows of 64 pixels on the weights of the golden pipeline."""
    case = golden_case("pipeline_s2")
    return make_detector(
        case.network,
        case.descriptors,
        band_names=SENSORS["sentinel-2-l1c"].band_names,
        scheme=get_model("senseiv2").scheme,
        window=Window(size_px=64),
        device="cpu",
        precision="fp32",
    )


@pytest.mark.parametrize("stride", [48, 64])
def test_published_pipeline_is_reproduced(golden_case, detector, stride):
    case = golden_case("pipeline_s2")
    native = predict(case.bands[0].numpy(), detector, stride=stride, layout=Layout.CENTRED)
    compared = 0
    for style in OutputStyle:
        wanted = case.answers.get(f"{style.value}_stride{stride}")
        if wanted is not None:
            given = style_probabilities(native, detector.scheme, style)
            np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-3)
            compared += 1
    assert compared >= 3


@pytest.mark.parametrize("offset", [None, -1000])
def test_defect_1_offset_comes_from_the_metadata_whatever_the_name(offset):
    # The published code took the second digit of the tile's name for the processing baseline.
    entries = (
        ""
        if offset is None
        else "".join(
            f'<RADIO_ADD_OFFSET band_id="{number}">{offset}</RADIO_ADD_OFFSET>'
            for number in range(13)
        )
    )
    root = ET.fromstring(
        f"<a><QUANTIFICATION_VALUE>10000</QUANTIFICATION_VALUE>"
        f"<Radiometric_Offset_List>{entries}</Radiometric_Offset_List></a>"
    )
    for tile in ("T29SNC", "T32TQM"):
        name = f"S2A_MSIL1C_20170601T103031_N0205_R108_{tile}_20170601T141000.SAFE"
        read = safe._read_radiometry(root, SENSORS["sentinel-2-l1c"], f"{name}/MTD_MSIL1C.xml")
        assert set(read.offsets.values()) == {offset or 0.0}


def test_defect_2_landsat_is_corrected_for_the_sun_and_temperature_for_planck():
    dn = np.array([10000.0], np.float32)
    given = landsat_reflectance(dn, 2e-5, -0.1, 30.0)
    np.testing.assert_allclose(given, (2e-5 * 10000 - 0.1) / 0.5, rtol=1e-6)
    dn = np.array([25000.0], np.float32)
    kelvin = brightness_temperature(dn, 3.342e-4, 0.1, 774.8853, 1321.0789)
    radiance = 3.342e-4 * 25000 + 0.1
    np.testing.assert_allclose(kelvin, 1321.0789 / np.log(774.8853 / radiance + 1), rtol=1e-6)
    normalised = normalise_temperature(np.array([200.0], np.float32), "B10")
    np.testing.assert_allclose(normalised, (200 - 132) / (249 - 132), rtol=1e-6)


def test_defect_3_no_data_is_never_clear_and_shifts_no_statistics(golden_case, detector):
    scene = golden_case("pipeline_s2").bands[0].numpy()[:, :64, :64]
    holed = scene.copy()
    holed[:, :, :30] = np.nan
    given = predict(holed, detector, stride=64)
    mask = apply_style(given, detector.scheme, OutputStyle.FOUR_CLASS, categorise=True)
    assert (mask[0, :, :30] == 255).all()
    assert (mask[0, :, 30:] <= 3).all()
    # The percentiles that the network is told of are those of the pixels seen.
    network, vectors = detector.network, detector.vectors
    valid = np.isfinite(holed).all(axis=0)
    seen = torch.from_numpy(np.nan_to_num(holed))[None]
    encoder = network.senseiv2
    stats = encoder.statistics(seen, torch.from_numpy(valid)[None])
    told = encoder.blocks[0](vectors[None], stats)[0, :, -5:]
    wanted = np.quantile(scene[:, :, 30:].reshape(13, -1), [0.01, 0.1, 0.5, 0.9, 0.99], axis=1).T
    np.testing.assert_allclose(told.numpy(), wanted, atol=1e-6)


@torch.inference_mode()
def test_defect_4_windows_of_a_batch_do_not_mix(golden_case, published, fill):
    case = golden_case("sensei_medium_tiny_l2a")
    windows = torch.from_numpy(np.stack([fill.reflectance(s, (12, 64, 64)) for s in (1, 2, 3)]))
    together = case.network(windows, case.descriptors)
    alone = torch.cat([case.network(window[None], case.descriptors) for window in windows])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    # Alone is the reference; the published code in a batch gives other numbers.
    reference = torch.cat(
        [published.published_forward(case.network, w[None], case.descriptors) for w in windows]
    )
    torch.testing.assert_close(together, reference, rtol=0, atol=1e-5)
    mixed = published.published_forward(case.network, windows, case.descriptors)
    assert (mixed - reference).abs().max() > 1e-4


def test_defect_5_skips_stay_as_the_weights_were_trained(golden_case):
    network = golden_case("sensei_medium_tiny_l2a").network
    fully_connected, attention = network.senseiv2.blocks[1:3]
    vectors = torch.rand(1, 4, 79)
    with torch.inference_mode():
        out = vectors
        for layer in fully_connected.layers:
            out = 2 * out if isinstance(layer, torch.nn.Identity) else layer(out)
        torch.testing.assert_close(fully_connected(vectors), out)
        tokens = torch.rand(1, 4, 128)
        out = tokens
        for layer in attention.layers:
            out = layer(out)
        torch.testing.assert_close(attention(tokens), out)  # nothing is added to it


@pytest.mark.slow
def test_defect_6_statistics_of_many_pixels_work():
    from openeo_cloudmask.models.networks.percentiles import band_percentiles

    bands = torch.rand(1, 1, 4200, 4000)  # above the 2 ** 24 values that torch.quantile takes
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(bands.flatten(2), 0.5, dim=2)
    given = band_percentiles(bands, None, (0.1, 0.5))
    torch.testing.assert_close(given, torch.tensor([[[0.1, 0.5]]]), rtol=0, atol=1e-3)


def test_defect_7_no_graph_is_kept_and_no_window_is_wasted(golden_case, detector, monkeypatch):
    calls = []
    network = type(detector.network)
    forward = network.forward

    def counted(self, *arguments):
        out = forward(self, *arguments)
        calls.append(out.requires_grad or torch.is_grad_enabled())
        return out

    monkeypatch.setattr(network, "forward", counted)
    scene = golden_case("pipeline_s2").bands[0].numpy()[:, :64, :64]
    predict(scene, detector, stride=64)
    assert calls == [False]  # one window, one call: none to learn the number of classes
    assert not any(parameter.requires_grad for parameter in detector.network.parameters())


@pytest.mark.parametrize("size_yx", [(20, 150), (64, 64), (65, 63), (1, 7)])
def test_defect_8_scenes_of_any_size_are_masked_with_overlap(golden_case, detector, size_yx):
    height, width = size_yx
    scene = golden_case("pipeline_s2").bands[0].numpy()[:, :height, :width]
    for layout in Layout:
        given = predict(scene, detector, stride=48, layout=layout)
        assert given.shape == (7, height, width)
        np.testing.assert_allclose(given.sum(axis=0), 1, atol=1e-4)


def test_defect_8_cuts_of_a_scene_give_the_mask_of_the_scene(golden_case, detector):
    scene = golden_case("pipeline_s2").bands[0].numpy()
    whole = predict(scene, detector, stride=48)
    # As much overlap as the contract asks for: a window less one pixel on each side.
    part = predict(scene[:, :, 20:], detector, stride=48, origin_yx=(0, 20))
    np.testing.assert_allclose(part[:, :, 63:], whole[:, :, 83:], rtol=0, atol=1e-5)


def test_defect_9_local_weights_load_strictly_and_nothing_is_downloaded(hub_folder, monkeypatch):
    import socket

    def refuse(*_arguments, **_options):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    folder = hub_folder()
    load_detector("senseiv2", weights=folder)
    path = next(folder.glob("full-models/*/weights.pt"))
    state = torch.load(path, weights_only=True)
    state.popitem()
    torch.save(state, path)
    with pytest.raises(WeightsError, match="1 keys are missing"):
        load_detector("senseiv2", weights=folder)


@pytest.mark.slow
def test_defect_9_no_other_segmentation_package_is_needed():
    code = (
        "import sys, openeo_cloudmask.models.sensei_detector\n"
        "names = 'transformers segmentation_models_pytorch torchvision wandb timm'.split()\n"
        "sys.exit(any(name in sys.modules for name in names))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_defect_10_output_is_a_cog_that_names_its_classes_and_its_no_data(tmp_path):
    scheme = style_scheme(OutputStyle.FOUR_CLASS, get_model("senseiv2").scheme)
    grid = Grid(
        shape_yx=(600, 520),
        transform=from_origin(600000, 5000000, 10, 10),
        crs=rasterio.CRS.from_epsg(32632),
    )
    mask = np.full((1, 600, 520), 255, np.uint8)
    path = write_cog(tmp_path / "mask.tif", [(0, mask)], grid=grid, scheme=scheme)
    with rasterio.open(path) as dataset:
        assert dataset.nodata == 255
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.overviews(1)
        assert dataset.transform == grid.transform
        assert "2=thin-cloud" in dataset.tags()["CLASS_NAMES"]


def test_network_is_told_when_its_bands_are_not_those_of_the_window(detector):
    with pytest.raises(InputError, match="4 bands; expected 13"):
        detector.predict_windows(np.zeros((1, 4, 64, 64), np.float32), np.ones((1, 64, 64), bool))
