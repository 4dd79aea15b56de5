from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.errors import InputError, OptionError
from openeo_cloudmask.inference import Window
from openeo_cloudmask.models import KINDS, build_network
from openeo_cloudmask.models.networks import fused_conv, fused_graph
from openeo_cloudmask.models.networks.prepare import prepare, resolve_device
from openeo_cloudmask.models.networks.winograd import WinogradConv
from openeo_cloudmask.models.torch_detector import TorchDetector

pytestmark = pytest.mark.slow

Unet = Callable[[int], Any]
FastUnet = Callable[[int, str], Any]


@pytest.fixture(scope="module")
def fast_unet(golden_unet: Unet) -> FastUnet:
    """Return the factory of the inference form with the golden weights; each is made once."""
    return cache(lambda bands, precision: prepare(golden_unet(bands), "cpu", precision))


@pytest.fixture
def pixels(fill: ModuleType) -> Callable[..., Any]:
    def make(seed: int, bands: int, height: int, width: int) -> Any:
        return torch.from_numpy(fill.reflectance(seed, (bands, height, width)))[None]

    return make


@pytest.fixture
def vectors(golden: Path) -> Callable[[int], dict[str, Any]]:
    def read(bands: int) -> dict[str, Any]:
        with np.load(golden / f"unet_mobilenet_v2_{bands}bands.npz") as file:
            return dict(file)

    return read


def test_state_dict_has_the_published_names_in_their_order(golden: Path) -> None:
    keys = json.loads((golden / "unet_mobilenet_v2_13bands.keys.json").read_text())
    own = build_network("unet-mobilenet-v2", {"bands": 13, "classes": 4}).state_dict()
    assert {key: list(value.shape) for key, value in own.items()} == keys
    assert list(own) == list(keys)


@pytest.mark.parametrize("bands", [13, 4])
def test_logits_are_those_of_the_published_network(
    golden_unet: Unet,
    bands: int,
    pixels: Callable[..., Any],
    vectors: Callable[[int], dict[str, Any]],
) -> None:
    answers = vectors(bands)
    x = pixels(int(answers["seed"]), *map(int, answers["shape"]))
    with torch.inference_mode():
        logits = golden_unet(bands)(x)[0].numpy()
    np.testing.assert_allclose(logits, answers["logits"], atol=1e-4)


@pytest.mark.parametrize("bands", [13, 4])
def test_any_size_is_masked_as_the_published_code_pads_it(
    fast_unet: FastUnet,
    bands: int,
    vectors: Callable[[int], dict[str, Any]],
    fill: ModuleType,
) -> None:
    answers = vectors(bands)
    shape = tuple(map(int, answers["predict_shape"]))
    cube = fill.reflectance(int(answers["predict_seed"]), shape)
    detector = _detector(fast_unet(bands, "fp32"), bands)
    answer = detector.predict_windows(cube[None], np.ones((1, *shape[1:]), bool))[0]
    assert answer.shape == (4, *shape[1:])
    assert (answer.argmax(axis=0) == answers["predict"]).mean() >= 0.999


def _detector(network: Any, bands: int, batch: int = 1) -> TorchDetector:
    return TorchDetector(
        network=network,
        device=resolve_device("cpu"),
        band_names=tuple(f"B{index:02d}" for index in range(1, bands + 1)),
        scheme=FOUR_CLASS,
        window=Window(batch=batch),
    )


@pytest.mark.parametrize(("bands", "classes", "size"), [(13, 4, 96), (4, 2, 64), (1, 7, 32)])
def test_inference_form_is_the_same_function(
    bands: int, classes: int, size: int, pixels: Callable[..., Any], fill: ModuleType
) -> None:
    network = build_network("unet-mobilenet-v2", {"bands": bands, "classes": classes})
    fill.fill_state_dict(network)
    fast = prepare(network, "cpu", "fp32")
    x = torch.cat([pixels(seed, bands, size, 2 * size) for seed in (1, 2)])
    with torch.inference_mode():
        exact = network.double()(x.double()).softmax(1)
        answer = fast(x).softmax(1)
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, exact.float(), atol=1e-5, rtol=0)


def test_inference_form_does_not_change_the_network(golden_unet: Unet) -> None:
    network = golden_unet(4)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    prepare(network, "cpu", "bf16")
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_plain_operators_give_what_the_fused_ones_give(
    fast_unet: FastUnet,
    precision: str,
    monkeypatch: pytest.MonkeyPatch,
    pixels: Callable[..., Any],
) -> None:
    if not fused_conv.FUSED:
        pytest.skip("this torch has no fused operators")
    fast = fast_unet(13, precision)
    x = pixels(3, 13, 64, 96)
    with torch.inference_mode():
        fused = fast(x).softmax(1)
        monkeypatch.setattr(fused_conv, "FUSED", False)
        plain = fast(x).softmax(1)
    torch.testing.assert_close(fused, plain, atol=1e-5 if precision == "fp32" else 0.01, rtol=0)


@pytest.mark.parametrize("size", [(8, 12), (6, 5), (1, 3)])
@pytest.mark.parametrize("relu", [True, False])
def test_winograd_is_a_convolution(size: tuple[int, int], *, relu: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    x, weight, bias = (
        torch.randn(shape, generator=generator) for shape in ((2, 9, *size), (7, 9, 3, 3), (7,))
    )
    wanted = torch.nn.functional.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    answer = WinogradConv(weight, bias, relu=relu)(x)
    wanted = wanted.relu() if relu else wanted
    largest = wanted.abs().max().item()
    torch.testing.assert_close(answer.double(), wanted, atol=1e-5 * largest, rtol=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_graph_gives_what_its_module_gives(
    fast_unet: FastUnet,
    precision: str,
    pixels: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    encoder = fast_unet(4, precision).encoder
    x = pixels(6, 4, 128, 160).contiguous(memory_format=torch.channels_last)
    with caplog.at_level("INFO"), torch.inference_mode():
        graph, plain = encoder(x), encoder.module(x)
    assert not caplog.records, caplog.text
    assert not torch.jit.onednn_fusion_enabled()
    for answer, wanted in zip(graph, plain, strict=True):
        assert answer.dtype == wanted.dtype
        # One step of the type: 2**-8 of a number near 6 in bf16.
        atol = 1e-4 if precision == "fp32" else 0.05
        torch.testing.assert_close(answer, wanted, atol=atol, rtol=0)


def test_graph_that_cannot_be_compiled_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, pixels: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("could not create a primitive descriptor")

    monkeypatch.setattr(torch.jit, "trace", fail)
    graph = fused_graph.FusedGraph(torch.nn.Conv2d(4, 3, 1))
    x = pixels(6, 4, 128, 128)
    with caplog.at_level("INFO"), torch.inference_mode():
        assert torch.equal(graph(x), graph.module(x))
    assert "could not create a primitive descriptor" in caplog.text


def test_bf16_gives_the_same_classes(
    golden_unet: Unet, fast_unet: FastUnet, pixels: Callable[..., Any]
) -> None:
    network = golden_unet(13)
    x = pixels(4, 13, 256, 256)
    with torch.inference_mode():
        exact = network(x).softmax(1)
        answer = fast_unet(13, "bf16")(x).softmax(1)
    assert (answer - exact).abs().max() < 0.02
    assert (answer.argmax(1) == exact.argmax(1)).float().mean() >= 0.995


def test_bf16_form_is_right_at_the_border(
    golden_unet: Unet, fast_unet: FastUnet, pixels: Callable[..., Any]
) -> None:
    """The constants taken out of the stored tensors meet the zero padding only there."""
    network = golden_unet(13)
    x = pixels(5, 13, 128, 128)
    with torch.inference_mode():
        error = (fast_unet(13, "bf16")(x) - network(x)).abs()[0].amax(0)
    edge = torch.cat([error[0], error[-1], error[:, 0], error[:, -1]])
    assert edge.mean() < 2 * error[8:-8, 8:-8].mean()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_batches_change_nothing(
    fast_unet: FastUnet, precision: str, batch: int, fill: ModuleType
) -> None:
    windows = np.stack([fill.reflectance(seed, (4, 64, 64)) for seed in range(5)])
    valid = np.ones((5, 64, 64), bool)
    network = fast_unet(4, precision)
    alone = _detector(network, 4)
    single = np.concatenate([alone.predict_windows(w[None], valid[:1]) for w in windows])
    together = _detector(network, 4, batch=batch).predict_windows(windows, valid)
    np.testing.assert_allclose(together, single, atol=1e-5 if precision == "fp32" else 0.02)
    np.testing.assert_allclose(together.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(alone.predict_windows(windows, valid), single)


@pytest.mark.parametrize("shape", [(1, 12, 64, 64), (1, 13, 60, 64), (13, 64, 64)])
@pytest.mark.parametrize("form", ["published", "fast"])
def test_wrong_input_is_refused(
    golden_unet: Unet, fast_unet: FastUnet, shape: tuple[int, ...], form: str
) -> None:
    network = golden_unet(13) if form == "published" else fast_unet(13, "fp32")
    with pytest.raises(InputError, match=r"\(n, 13, y, x\) with y and x multiples of 32"):
        network(torch.zeros(shape))


def test_detector_refuses_another_number_of_bands(fast_unet: FastUnet) -> None:
    detector = _detector(fast_unet(4, "fp32"), 4)
    with pytest.raises(InputError, match="5 bands; expected 4, in this order: B01"):
        detector.predict_windows(np.zeros((1, 5, 32, 32), np.float32), np.ones((1, 32, 32), bool))


@pytest.mark.parametrize(
    "config",
    [{}, {"bands": 13}, {"bands": 0, "classes": 4}, {"bands": 3, "classes": 4, "depth": 5}],
)
def test_wrong_settings_are_refused(config: dict[str, int]) -> None:
    with pytest.raises(OptionError, match="nothing else"):
        build_network("unet-mobilenet-v2", config)


def test_unknown_kind_lists_the_known_ones() -> None:
    with pytest.raises(OptionError, match=r"'unet'.*unet-mobilenet-v2"):
        build_network("unet", {})


@pytest.mark.parametrize("kind", [kind.id for kind in KINDS.values() if kind.network])
@pytest.mark.parametrize("config", [None, 13, ["bands"]])
def test_settings_that_are_no_names_with_values(kind: str, config: Any) -> None:
    with pytest.raises(OptionError, match=f"of the network '{kind}' are of type"):
        build_network(kind, config)


@pytest.mark.parametrize(
    ("device", "message"),
    [("gpu", "expected 'auto'"), ("cuda:99", "CUDA devices"), ("meta", "expected .auto.")],
)
def test_unknown_devices_are_refused(device: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        resolve_device(device)


def test_unknown_precision_is_refused(golden_unet: Unet) -> None:
    with pytest.raises(OptionError, match="'fp8'; torch runs auto, fp32 and bf16"):
        prepare(golden_unet(4), "cpu", "fp8")
