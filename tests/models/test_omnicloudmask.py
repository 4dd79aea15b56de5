"""OmniCloudMask: the answers of its authors' package 1.8.1 on synthetic weights.

``benchmarks/omnicloudmask.py --golden`` wrote what the package answers.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from openeo_cloudmask.errors import InputError, OptionError, WeightsError
from openeo_cloudmask.models import load_detector
from openeo_cloudmask.models.families.omnicloudmask import _FILES, open_logits
from openeo_cloudmask.models.networks import fused_conv
from openeo_cloudmask.models.networks.omnicloudmask import build, normalise
from openeo_cloudmask.models.networks.prepare import prepare
from openeo_cloudmask.models.omnicloudmask_layout import (
    fit_patches,
    mask_scene,
    network_logits,
    ramp,
)

SEED, SHAPE = 11, (3, 96, 128)
SCENE_SEED, SCENE_SHAPE, PATCH_PX, OVERLAP_PX = 12, (3, 230, 190), 96, 32


@pytest.fixture(scope="module")
def case() -> dict[str, np.ndarray]:
    path = Path(__file__).parents[1] / "data" / "golden" / "omnicloudmask.npz"
    with np.load(path) as found:
        return dict(found)


@pytest.fixture(scope="module")
def network(case: dict[str, np.ndarray], fill: ModuleType) -> Any:
    ensemble = build({})
    for member, bias in zip(ensemble.members, case["biases"], strict=True):
        fill.fill_state_dict(member)
        member.segmentation_head[0].bias.data = torch.from_numpy(bias)
    return ensemble


def _logits(network: Any, patches: np.ndarray) -> np.ndarray:
    """(patch, band, y, x) -> (patch, class, y, x)."""
    with torch.inference_mode():
        return network(torch.from_numpy(patches)).numpy()


def test_logits_are_those_of_the_package(
    network: Any, case: dict[str, np.ndarray], fill: ModuleType
) -> None:
    window = fill.reflectance(SEED, SHAPE)
    window[:, 40:50, 60:70] = 0
    expected = case["logits"]
    found = _logits(network, window[np.newaxis])[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.std())


@pytest.mark.parametrize("shape", [(96, 128), (45, 77), (66, 90), (33, 64), (1, 0)])
def test_the_inference_form_gives_the_same_logits(
    network: Any, fill: ModuleType, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if shape == (1, 0):  # the form without fused operators, on any size
        shape = (120, 66)
        monkeypatch.setattr(fused_conv, "FUSED", False)
    fast = prepare(network, "cpu", "fp32")
    patches = np.stack([fill.reflectance(seed, (3, *shape)) for seed in (5, 6)])
    patches[0, :, 5:9] = 0
    expected = _logits(network, patches)
    np.testing.assert_allclose(_logits(fast, patches), expected, rtol=0, atol=5e-5 * expected.std())
    assert _logits(fast, patches).shape == (2, 4, *shape)


def test_a_scenes_mask_is_that_of_the_package(
    network: Any, case: dict[str, np.ndarray], fill: ModuleType
) -> None:
    scene = fill.reflectance(SCENE_SEED, SCENE_SHAPE) + np.float32(0.01)
    scene[:, :25], scene[:, :, -15:] = 0, 0
    scene[:, 100:112, 50:70], scene[1, 150:155, 80:90] = 0, 0
    size = {"patch_px": PATCH_PX, "overlap_px": OVERLAP_PX}
    found = mask_scene(scene, lambda patches: _logits(network, patches), **size)
    logits = network_logits(prepare(network, "cpu", "fp32"))
    fast = [mask_scene(scene, logits, batch=batch, **size) for batch in (1, 3)]
    np.testing.assert_array_equal(fast[0], fast[1])
    assert (fast[0] == found).mean() > 0.9999
    seen = (scene != 0).any(axis=0)
    np.testing.assert_array_equal(found == 255, ~seen)
    assert len(np.unique(case["mask"][seen])) == 4
    assert (found[seen] == case["mask"][seen]).mean() > 0.9999


@pytest.mark.parametrize(
    ("shape", "missing", "size", "overlap"),
    [
        ((3000, 2000), 0.0, 1000, 300),
        ((800, 900), 0.0, 800, 300),
        ((500, 900), 0.0, 500, 250),
        ((1800, 1900), 0.4, 900, 300),
        ((3000, 3000), 0.4, 1000, 300),
        ((50, 60), 0.4, 32, 16),
    ],
)
def test_patches_fit_the_scene(
    shape: tuple[int, int], missing: float, size: int, overlap: int
) -> None:
    patches = fit_patches(shape, missing, 1000, 300)
    assert (patches.size_px, patches.overlap_px) == (size, overlap)
    weights = ramp(patches)
    assert weights.shape == (size, size)
    assert weights.max() == 1
    assert weights[0, 0] == pytest.approx(overlap**-2)


def test_scenes_below_32_pixels_are_refused() -> None:
    with pytest.raises(InputError, match="20 x 90 pixels; expected 32"):
        mask_scene(np.ones((3, 20, 90), np.float32), lambda pixels: pixels)


def test_bands_are_normalised_by_what_was_seen() -> None:
    pixels = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(1)) + 0.1
    pixels[:, :, :10] = 0
    pixels[1, 2] = 0.5
    found = normalise(pixels)
    assert (found[:, :, :10] == 0).all()
    seen = found[0, :, 10:].flatten(1)
    np.testing.assert_allclose(seen.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(seen.std(1, unbiased=False), 1, atol=1e-5)
    np.testing.assert_allclose(normalise(10000 * pixels), found, atol=1e-4)
    assert torch.isfinite(found).all()


def test_both_files_are_loaded_and_strictly(network: Any, tmp_path: Path, fill: ModuleType) -> None:
    from safetensors.torch import save_file

    for member, name in zip(network.members, _FILES.values(), strict=True):
        save_file(member.state_dict(), tmp_path / name)
    detector = load_detector(
        "omnicloudmask",
        sensor="sentinel-2-l2a",
        bands=["B03", "B04", "B8A"],
        weights=tmp_path,
        device="cpu",
        precision="fp32",
    )
    assert detector.band_names == ("B04", "B03", "B8A")
    window = fill.reflectance(3, (3, 96, 96))[np.newaxis]
    found = detector.predict_windows(window, np.ones((1, 96, 96), bool))
    expected = torch.softmax(torch.from_numpy(_logits(network, window)), 1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    patches = window[:, :, :64, :64]
    np.testing.assert_allclose(
        open_logits(tmp_path, "cpu")(patches), _logits(network, patches), atol=1e-3
    )
    names = list(_FILES.values())
    (tmp_path / names[1]).write_bytes((tmp_path / names[0]).read_bytes())
    with pytest.raises(WeightsError, match="keys are missing"):
        load_detector(
            "omnicloudmask", bands=["B03", "B04", "B8A"], weights=tmp_path / names[0],
            sensor="sentinel-2-l1c", device="cpu", precision="fp32",
        )  # fmt: skip


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(OptionError, match="expected nothing, or"):
        build({"encoder": "resnet"})
