from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from openeo_cloudmask.errors import InputError, MissingExtraError, install_command
from openeo_cloudmask.inference import predict
from openeo_cloudmask.models import load_detector
from openeo_cloudmask.models.load import _load

pytestmark = pytest.mark.slow

Shared = Callable[[str], Path]


def needs(*packages: str) -> pytest.MarkDecorator:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


needs_ukis = needs("ukis_csmask", "onnxruntime")
needs_s2cloudless = needs("s2cloudless", "lightgbm")


def balanced(truth: np.ndarray, found: np.ndarray) -> float:
    return float((found[truth].mean() + (~found[~truth]).mean()) / 2)


@needs_ukis
@pytest.mark.parametrize(
    ("name", "sensor", "cloud", "shadow"),
    [("sentinel2", "sentinel-2-l1c", 0.94, 0.94), ("landsat5", "landsat-4-5-l1", 0.92, 0.88)],
)
def test_ukis_finds_the_clouds_of_real_scenes(
    shared: Shared, name: str, sensor: str, cloud: float, shadow: float
) -> None:
    with np.load(shared(f"real/{name}.npz")) as file:
        cube, truth = np.moveaxis(file["img"], -1, 0), file["msk"][..., 0]
    found = predict(cube, load_detector("ukis-csmask", sensor=sensor)).argmax(axis=0)
    assert balanced(truth == 4, found == 1) > cloud
    assert balanced(truth == 0, found == 3) > shadow


@needs_ukis
def test_ukis_agrees_with_the_package_on_one_tile() -> None:
    """One tile of the package's size: the same network, bands and scaling."""
    from ukis_csmask.mask import CSmask

    rng = np.random.default_rng(3)
    coarse = rng.random((6, 9, 9), np.float32)
    image = np.kron(coarse, np.ones((1, 32, 32), np.float32))[:, :256, :256]
    image += 0.02 * rng.standard_normal(image.shape, np.float32)
    names = ["blue", "green", "red", "nir", "swir16", "swir22"]
    session = CSmask(img=np.moveaxis(image, 0, -1).copy(), band_order=names)
    mean, std = (np.reshape(v, (6, 1, 1)) for v in (session.band_mean, session.band_std))
    pixels = (image - mean) / std
    logits = session.session.run(None, {session.input_names: pixels[None].astype(np.float32)})[0]
    expected = session.softmax(logits)[0]
    answer = load_detector("ukis-csmask", sensor="sentinel-2-l1c").predict_windows(
        image[None], np.ones((1, 256, 256), bool)
    )[0]
    np.testing.assert_allclose(answer[[0, 1, 3]], expected, atol=2e-4)
    np.testing.assert_array_equal(answer[2], 0.0)


@needs_ukis
def test_ukis_batches_change_nothing_and_probabilities_sum_to_one() -> None:
    windows = np.random.default_rng(4).random((2, 4, 512, 512), np.float32)
    valid = np.ones((2, 512, 512), bool)
    detector = load_detector("ukis-csmask", bands=["B02", "B03", "B04", "B08"])
    assert detector.band_names == ("B02", "B03", "B04", "B08")
    together = detector.predict_windows(windows, valid)
    np.testing.assert_array_equal(together[1:], detector.predict_windows(windows[1:], valid[1:]))
    np.testing.assert_allclose(together.sum(axis=1), 1.0, atol=1e-5)


@needs_ukis
def test_ukis_takes_the_network_of_the_level() -> None:
    window = np.random.default_rng(5).random((1, 6, 256, 256), np.float32)
    valid = np.ones((1, 256, 256), bool)
    toa = load_detector("ukis-csmask", sensor="sentinel-2-l1c").predict_windows(window, valid)
    boa = load_detector("ukis-csmask", sensor="sentinel-2-l2a").predict_windows(window, valid)
    assert np.abs(toa - boa).max() > 0.01


@needs_ukis
def test_ukis_refuses_windows_it_cannot_tile() -> None:
    detector = load_detector("ukis-csmask")
    with pytest.raises(InputError, match="300 x 256 pixels; expected multiples of 256"):
        detector.predict_windows(
            np.zeros((1, 6, 300, 256), np.float32), np.ones((1, 300, 256), bool)
        )


@needs_s2cloudless
def test_s2cloudless_is_the_package_s_probability() -> None:
    import lightgbm

    spec = importlib.util.find_spec("s2cloudless")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "models" / "pixel_s2_cloud_detector_lightGBM_v0.1.txt"
    pixels = np.random.default_rng(6).random((1, 10, 9, 11), np.float32)
    valid = np.ones((1, 9, 11), bool)
    valid[0, 2, 3] = False
    expected = lightgbm.Booster(model_file=str(path)).predict(
        np.moveaxis(pixels, 1, -1).reshape(-1, 10)
    )
    detector = load_detector("s2cloudless")
    answer = detector.predict_windows(pixels, valid)[0]
    expected_plane = np.asarray(expected).reshape(9, 11)
    expected_plane[2, 3] = 0
    np.testing.assert_allclose(answer[1], expected_plane, atol=1e-6)
    np.testing.assert_allclose(answer.sum(axis=0), 1.0, atol=1e-6)
    np.testing.assert_array_equal(answer[2:], 0.0)
    assert detector.window.pixelwise


@pytest.mark.parametrize(
    ("model", "package", "extra"),
    [
        ("ukis-csmask", "ukis_csmask", "ukis"),
        ("ukis-csmask", "onnxruntime", "ukis"),
        ("s2cloudless", "lightgbm", "s2cloudless"),
    ],
)
def test_missing_extra_says_what_to_install(
    model: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec

    def without(name: str, *rest: str) -> object:
        return None if name == package else find_spec(name, *rest)

    _load.cache_clear()
    for module in ("ukis", "s2cloudless"):
        monkeypatch.setattr(f"openeo_cloudmask.models.families.{module}.find_spec", without)
    with pytest.raises(MissingExtraError, match=re.escape(install_command(extra))):
        load_detector(model)


def test_omnicloudmasks_own_package_gives_what_our_networks_give(
    tmp_path: Path, fill: ModuleType
) -> None:
    pytest.importorskip("omnicloudmask")
    from safetensors.torch import save_file

    from openeo_cloudmask.models.families.omnicloudmask import _FILES
    from openeo_cloudmask.models.networks.omnicloudmask import build

    for member, name in zip(build({}).members, _FILES.values(), strict=True):
        fill.fill_state_dict(member)
        save_file(member.state_dict(), tmp_path / name)
    about = {"sensor": "sentinel-2-l2a", "weights": tmp_path, "device": "cpu"}
    window, seen = fill.reflectance(3, (3, 96, 96))[np.newaxis], np.ones((1, 96, 96), bool)
    ours = load_detector("omnicloudmask", precision="fp32", **about).predict_windows(window, seen)
    theirs = load_detector("omnicloudmask-package", **about).predict_windows(window, seen)
    np.testing.assert_array_equal(theirs.argmax(axis=1), ours.argmax(axis=1))
    np.testing.assert_allclose(theirs, ours, atol=0.004)  # it adds 0.001 to each


def test_without_omnicloudmask_its_extra_is_named(tmp_path: Path) -> None:
    if importlib.util.find_spec("omnicloudmask") is not None:
        pytest.skip("omnicloudmask is installed")
    weights = tmp_path / "both.safetensors"
    weights.write_bytes(b"x")
    with pytest.raises(MissingExtraError, match="needs the extra 'omnicloudmask'"):
        load_detector("omnicloudmask-package", sensor="sentinel-2-l2a", weights=weights)
