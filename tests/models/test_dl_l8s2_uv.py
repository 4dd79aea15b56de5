"""DL-L8S2-UV: published Keras files give the published network's answers; others are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")
h5py = pytest.importorskip("h5py")

from openeo_cloudmask.errors import OptionError, WeightsError
from openeo_cloudmask.inference import predict
from openeo_cloudmask.models import build_network, get_model, load_detector
from openeo_cloudmask.models.onnx_export import export_onnx
from openeo_cloudmask.models.weights import sha256_of

pytestmark = pytest.mark.slow

Arrays = dict[str, NDArray[np.float32]]
MODELS = {4: "dl-l8s2-uv-rgbi", 6: "dl-l8s2-uv-rgbiswir"}
BLOCKS = {"input": (None, 32), "pool1": (32, 64), "pool2": (64, 128), "up1": (128, 64),
          "up2": (64, 32)}  # fmt: skip


def make_arrays(bands: int) -> Arrays:
    """Return arrays under their published names: ``layer/array``."""
    rng = np.random.default_rng(bands)

    def normal(*shape: int, scale: float = 0.3) -> NDArray[np.float32]:
        return rng.normal(0, scale, shape).astype(np.float32)

    arrays = {
        "normalization/kernel": normal(1, 1, bands, bands),
        "normalization/bias": normal(bands),
        "upconv1/kernel": normal(2, 2, 64, 128, scale=0.1),
        "upconv1/bias": normal(64),
        "upconv2/kernel": normal(2, 2, 32, 64, scale=0.1),
        "upconv2/bias": normal(32),
        "linear_model/kernel": normal(1, 1, 32, 1),
        "linear_model/bias": normal(1),
    }
    for block, (given, out) in BLOCKS.items():
        for number in (1, 2):
            channels = (given or bands) if number == 1 else out
            conv, norm = f"{block}_conv_{number}", f"{block}_bn_{number}"
            arrays |= {
                f"{conv}/depthwise_kernel": normal(3, 3, channels, 1),
                f"{conv}/pointwise_kernel": normal(1, 1, channels, out, scale=channels**-0.5),
                f"{conv}/bias": normal(out),
                f"{norm}/gamma": 1 + normal(out, scale=0.1),
                f"{norm}/beta": normal(out),
                f"{norm}/moving_mean": normal(out),
                f"{norm}/moving_variance": 0.5 + np.abs(normal(out)),
            }
    return arrays


def write_keras(path: Path, arrays: Arrays, suffix: str = "_2") -> Path:
    """Write arrays as Keras does: a group per layer, in it one named after the layer."""
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            layer, _, what = name.partition("/")
            file[f"model_weights/{layer}/{layer}{suffix}/{what}:0"] = values
        file["optimizer_weights/iterations:0"] = 7
    return path


def run_numpy(arrays: Arrays, image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the probability of cloud, (y, x), of an image (y, x, band): the published network."""

    def block(name: str, x: NDArray[Any]) -> NDArray[Any]:
        for number in (1, 2):
            conv, norm = f"{name}_conv_{number}", f"{name}_bn_{number}"
            depth = arrays[f"{conv}/depthwise_kernel"][..., 0]
            padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
            height, width = x.shape[:2]
            x = sum(
                depth[row, column] * padded[row : row + height, column : column + width]
                for row in range(3)
                for column in range(3)
            )
            x = x @ arrays[f"{conv}/pointwise_kernel"][0, 0] + arrays[f"{conv}/bias"]
            x = (x - arrays[f"{norm}/moving_mean"]) / np.sqrt(
                arrays[f"{norm}/moving_variance"] + 1e-3
            )
            x = np.maximum(0, x * arrays[f"{norm}/gamma"] + arrays[f"{norm}/beta"])
        return x

    def pool(x: NDArray[Any]) -> NDArray[Any]:
        return np.maximum.reduce([x[row::2, column::2] for row in (0, 1) for column in (0, 1)])

    def widen(name: str, x: NDArray[Any]) -> NDArray[Any]:
        kernel = arrays[f"{name}/kernel"]
        out = np.empty((2 * x.shape[0], 2 * x.shape[1], kernel.shape[2]))
        for row in (0, 1):
            for column in (0, 1):
                out[row::2, column::2] = x @ kernel[row, column].T
        return out + arrays[f"{name}/bias"]

    x = image.astype(np.float64) @ arrays["normalization/kernel"][0, 0]
    fine = block("input", x + arrays["normalization/bias"])
    middle = block("pool1", pool(fine))
    coarse = block("pool2", pool(middle))
    middle = block("up1", np.concatenate([widen("upconv1", coarse), middle], axis=2))
    fine = block("up2", np.concatenate([widen("upconv2", middle), fine], axis=2))
    score = fine @ arrays["linear_model/kernel"][0, 0] + arrays["linear_model/bias"]
    probability: NDArray[np.float64] = 1 / (1 + np.exp(-score[..., 0]))
    return probability


@pytest.mark.parametrize(("bands", "suffix"), [(4, "_2"), (6, "")])
def test_a_keras_file_gives_the_networks_answers(
    tmp_path: Path, reflectance: Callable[..., NDArray[np.float32]], bands: int, suffix: str
) -> None:
    arrays = make_arrays(bands)
    path = write_keras(tmp_path / "weights.hdf5", arrays, suffix)
    detector = load_detector(MODELS[bands], weights=path, device="cpu", precision="fp32")
    assert len(detector.band_names) == bands
    window = reflectance(3, (bands, 24, 36))
    given = detector.predict_windows(window[np.newaxis], np.ones((1, 24, 36), bool))[0]
    wanted = run_numpy(arrays, window.transpose(1, 2, 0))
    assert wanted.std() > 0.01
    np.testing.assert_allclose(given[1], wanted, rtol=0, atol=2e-5)
    np.testing.assert_allclose(given[0], 1 - wanted, rtol=0, atol=2e-5)
    assert not given[2:].any()
    exported = tmp_path / f"{MODELS[bands]}.onnx"
    card = export_onnx(MODELS[bands], exported, weights=path, window_px=32)
    assert card.bands == detector.band_names
    cube = reflectance(4, (bands, 40, 50))
    onnx = load_detector(MODELS[bands], weights=exported)
    small = replace(detector, window=replace(detector.window, size_px=32))
    answers = [predict(cube, each, stride=16) for each in (onnx, small)]
    np.testing.assert_allclose(*answers, rtol=0, atol=1e-5)


def drop(arrays: Arrays) -> None:
    del arrays["pool1_bn_2/gamma"]


def rename(arrays: Arrays) -> None:
    arrays["pool9_conv_1/bias"] = arrays["pool1_conv_1/bias"]


def reshape(arrays: Arrays) -> None:
    arrays["upconv1/kernel"] = arrays["upconv1/kernel"][..., 0]


def spoil(arrays: Arrays) -> None:
    arrays["linear_model/bias"][:] = np.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"1 keys are missing: pool1.norm_2.weight"),
        (rename, r"1 keys are not expected: pool9.point_1.bias"),
        (reshape, r"upconv1/kernel of shape \(2, 2, 64\), which is not in DL-L8S2-UV"),
        (spoil, r"no finite numbers, in 1 keys: linear_model.bias"),
    ],
)
def test_other_arrays_are_refused(
    tmp_path: Path, change: Callable[[Arrays], None], message: str
) -> None:
    arrays = make_arrays(4)
    change(arrays)
    path = write_keras(tmp_path / "weights.hdf5", arrays)
    with pytest.raises(WeightsError, match=message):
        load_detector(MODELS[4], weights=path, device="cpu")


def test_weights_of_the_other_network_are_refused(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "weights.hdf5", make_arrays(4))
    with pytest.raises(WeightsError, match=r"normalization.weight is \(4, 4, 1, 1\), expected \(6"):
        load_detector(MODELS[6], weights=path, device="cpu")


def link_outside(file: Any) -> None:
    del file["model_weights/linear_model"]
    file["model_weights/linear_model"] = h5py.ExternalLink("other.hdf5", "/model_weights")


def keep_outside(file: Any) -> None:
    where = "model_weights/linear_model/linear_model_2"
    del file[f"{where}/bias:0"]
    outside = [("elsewhere.bin", 0, 4)]
    file[where].create_dataset("bias:0", shape=(1,), dtype="f4", external=outside)


def keep_text(file: Any) -> None:
    file["model_weights/name:0"] = "a text"


def keep_nothing(file: Any) -> None:
    del file["model_weights"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (link_outside, "holds /model_weights/linear_model, a link; expected a file of its own"),
        (keep_outside, "takes /model_weights/.*/bias:0 from other files"),
        (keep_text, "of type object with 1 values; expected floats"),
        (keep_nothing, "holds no arrays in 'model_weights'; expected a model that Keras saved"),
    ],
)
def test_files_that_hold_other_things_are_refused(
    tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    path = write_keras(tmp_path / "weights.hdf5", make_arrays(4))
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(WeightsError, match=message):
        load_detector(MODELS[4], weights=path, device="cpu")


@pytest.mark.parametrize("keep", [100, 50_000])
def test_truncated_files(tmp_path: Path, keep: int) -> None:
    path = write_keras(tmp_path / "weights.hdf5", make_arrays(4))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="is truncated, damaged or no HDF5"):
        load_detector(MODELS[4], weights=path, device="cpu")


def test_settings_of_the_network() -> None:
    for config in ({}, {"bands": 5}, {"bands": 4, "classes": 2}):
        with pytest.raises(OptionError, match=r"expected \{'bands': 4\} or \{'bands': 6\}"):
            build_network("dl-l8s2-uv", config)


@pytest.mark.parametrize("bands", [4, 6])
def test_published_weights_on_labelled_scenes(shared: Callable[[str], Path], bands: int) -> None:
    """Broken cloud over a wood, and a sky that is all cloud; both in its training data set."""
    entry = get_model(MODELS[bands])
    assert entry.weights is not None
    weights = shared(f"weights/dl_l8s2_uv_{Path(entry.weights.file).name}")
    assert sha256_of(weights) == entry.weights.sha256
    assert weights.stat().st_size == entry.weights.size_bytes
    for name, kept_least in (("biome_Forest_01_2715", 0.9), ("biome_Urban_01_0609", None)):
        with np.load(shared(f"scenes/{name}.npz")) as scene:
            labels = [str(band) for band in scene["bands"]]
            cube = (scene["counts"] / 10000).astype(np.float32)  # no pixel is without data
            truth = scene["label"]
        detector = load_detector(
            entry, sensor="landsat-8-9-l1", weights=weights, device="cpu", precision="fp32"
        )
        planes = [labels.index(band) for band in detector.band_names]
        cloud = predict(cube[planes], detector).argmax(axis=0) == 1
        assert cloud[np.isin(truth, (1, 2))].mean() > 0.9
        if kept_least is not None:
            assert cloud[truth == 0].mean() < 1 - kept_least
