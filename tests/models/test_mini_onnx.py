"""mini without torch: the ONNX file in the package answers as the weights beside it do."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from openeo_cloudmask.errors import BandError, OptionError, UnknownModelError, WeightsError
from openeo_cloudmask.inference import predict
from openeo_cloudmask.models import (
    LoadRequest,
    get_model,
    load,
    load_detector,
    onnx_detector,
    select_input,
    start_early,
)
from openeo_cloudmask.models.onnx_detector import (
    INT8_SUFFIX,
    ONNX_SUFFIX,
    load_onnx,
    packaged_onnx,
    read_card,
)
from openeo_cloudmask.models.processor import Processor
from openeo_cloudmask.models.weights import find_weights
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.simulator.scene import simulate_scene

pytestmark = pytest.mark.slow

MINI = get_model("mini")


def test_its_card_is_of_the_model():
    card = read_card(packaged_onnx(MINI))
    assert (card.model, card.sensor, card.classes) == ("mini", "any", MINI.scheme.names)
    assert card.bands == ("blue", "green", "red", "nir", "cirrus", "swir16", "swir22")
    assert card.optional == card.bands[4:]
    assert card.window == MINI.window


@pytest.mark.parametrize("suffix", [ONNX_SUFFIX, INT8_SUFFIX])
def test_it_says_nothing_of_the_machine_that_wrote_it(suffix):
    content = packaged_onnx(MINI, suffix).read_bytes()
    assert not [found for found in (b"File ", b"-packages/", b'.py"') if found in content]


@pytest.mark.parametrize("sensor", ["sentinel-2-l1c", "sentinel-2-l2a", "landsat-7-l1"])
def test_both_runtimes_give_the_same_classes(sensor):
    pytest.importorskip("torch")
    scene = simulate_scene(6, size=256, sensor=sensor, nodata_fraction=0.1)
    options = {"sensor": sensor, "bands": scene.band_names, "device": "cpu", "precision": "fp32"}
    found = []
    for runtime in ("torch", "onnx"):
        detector = load_detector("mini", runtime=runtime, **options)
        cube = scene.cube[[scene.band_names.index(name) for name in detector.band_names]]
        found.append(predict(cube, detector, stride=256))
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-4)
    seen = np.isfinite(found[0][0])
    np.testing.assert_array_equal(*(each.argmax(axis=0)[seen] for each in found))
    assert len(np.unique(found[0].argmax(axis=0)[seen])) > 1


@pytest.mark.parametrize("form", ["MiniParts", "MiniConvolutions"])
def test_exported_forms_are_the_network(form):
    torch = pytest.importorskip("torch")
    from openeo_cloudmask.models.networks import mini, mini_exported

    torch.manual_seed(0)
    network = mini.build({})
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    planes = torch.rand(2, len(mini.PLANES), 64, 96) * 0.6
    planes[1, :, :20] = 0
    present = torch.ones(2, len(mini.PLANES))
    planes[1, 4], present[1, 4] = 0, 0
    with torch.inference_mode():
        wanted = network.classify(planes, present)
        given = getattr(mini_exported, form)(network)(planes, present)
    torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4)
    assert wanted.std() > 0.01


def test_four_bands_will_do_and_three_will_not():
    bands = ["B08", "B02", "B03", "B04"]
    detector = load_detector("mini", sensor="sentinel-2-l1c", bands=bands, runtime="onnx")
    windows = np.random.default_rng(1).random((1, 4, 512, 512), np.float32)
    answer = detector.predict_windows(windows, np.ones((1, 512, 512), bool))
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)
    with pytest.raises(BandError, match="B04"):
        load_detector("mini", sensor="sentinel-2-l1c", bands=bands[:3], runtime="onnx")


def test_only_models_with_common_bands_are_exported_for_any_sensor(tmp_path):
    for package in ("torch", "onnx", "onnxscript"):
        pytest.importorskip(package)
    from openeo_cloudmask.models.onnx_export import export_onnx

    with pytest.raises(OptionError, match="'cloudsen12' is exported for one sensor at a time"):
        export_onnx("cloudsen12", tmp_path / "x.onnx", sensor="any")


def test_on_a_cpu_it_starts_without_torch():
    code = (
        "import sys; from openeo_cloudmask.models import load_detector; "
        "load_detector('mini', device='cpu', sensor='sentinel-2-l1c'); "
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_auto_on_torch_takes_fp32_on_a_cpu_that_has_bf16(monkeypatch):
    pytest.importorskip("torch")
    from openeo_cloudmask.models.networks import prepare

    monkeypatch.setattr(prepare, "cpu_has_bf16", lambda: True)
    request = LoadRequest(
        entry=MINI,
        model_input=select_input(MINI, sensor="sentinel-2-l2a"),
        weights=find_weights(MINI),
    )
    for precision, taken in (("auto", "fp32"), ("bf16", "bf16")):
        detector = MINI.kind.load(replace(request, precision=precision))
        assert detector.network.network.precision == taken


@pytest.mark.parametrize("suffix", [ONNX_SUFFIX, INT8_SUFFIX])
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_threads_and_batches_change_nothing_bit_for_bit(runtime, suffix, monkeypatch):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    request = LoadRequest(
        entry=MINI,
        model_input=select_input(MINI, sensor="sentinel-2-l2a"),
        weights=packaged_onnx(MINI, suffix),
        precision="auto",
        runtime=runtime,
    )
    bands = len(request.model_input.band_names)
    windows = np.random.default_rng(2).random((3, bands, 512, 512), np.float32) * 0.4
    valid = np.ones((3, 512, 512), bool)
    found = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        detector = load_onnx(request)
        found.append(detector.predict_windows(windows, valid))
    alone = detector.predict_windows(windows[2:], valid[2:])
    for answer in found:
        np.testing.assert_array_equal(answer, found[0])
    np.testing.assert_array_equal(alone, found[0][2:])


def test_openvino_gives_the_same_classes():
    pytest.importorskip("openvino")
    scene = simulate_scene(6, size=256, sensor="landsat-7-l1", nodata_fraction=0.1)
    options = {"sensor": "landsat-7-l1", "bands": scene.band_names, "device": "cpu"}
    found = []
    for runtime in ("onnx", "openvino"):
        detector = load_detector("mini", runtime=runtime, precision="fp32", **options)
        cube = scene.cube[[scene.band_names.index(name) for name in detector.band_names]]
        found.append(predict(cube, detector, stride=256))
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-4)
    with pytest.raises(OptionError, match="'openvino' computes on the CPU"):
        load_detector("mini", runtime="openvino", **(options | {"device": "cuda"}))


FORKED = """
import os, sys
from pathlib import Path
import numpy as np
from openeo_cloudmask.models import load_detector

detector = load_detector("mini", sensor="sentinel-2-l2a", precision=sys.argv[1], device="cpu",
                         runtime="openvino")
windows = np.random.default_rng(0).random((2, len(detector.band_names), 512, 512), np.float32)
valid = np.ones((2, 512, 512), bool)
answer = detector.predict_windows(windows, valid)
child = os.fork()
if child == 0:
    grandchild = os.fork()  # before it has computed anything itself
    same = np.array_equal(detector.predict_windows(windows, valid), answer)
    if grandchild == 0:
        os._exit(not same)
    same &= os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 0
    sys.exit(not same)  # ends as Python ends, which frees what there is
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert status == 0, status
assert np.array_equal(detector.predict_windows(windows, valid), answer)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_process_forked_after_openvino_computed_computes_the_same(precision):
    pytest.importorskip("openvino")
    command = [sys.executable, "-c", FORKED, precision]
    subprocess.run(command, check=True, timeout=120)  # it hung


def test_auto_takes_openvino_where_it_was_measured_to_be_faster(monkeypatch):
    pytest.importorskip("openvino")
    request = LoadRequest(
        entry=MINI,
        model_input=select_input(MINI, sensor="sentinel-2-l2a"),
        weights=packaged_onnx(MINI),
        precision="auto",
    )

    def taken(*, runtime="auto", **gifts):
        monkeypatch.setattr(onnx_detector, "read_processor", lambda: Processor(**gifts))
        return type(load_onnx(replace(request, runtime=runtime)).session).__name__

    assert taken(avx512=True) == "OpenVinoSession"
    assert taken(avx512=True, runtime="onnx") == "InferenceSession"
    assert taken(avx2=True, arm_dot=True) == "InferenceSession"
    monkeypatch.setattr(onnx_detector, "find_spec", lambda name: None)
    assert taken(avx512=True) == "InferenceSession"
    monkeypatch.setattr(onnx_detector, "find_spec", lambda name: name == "openvino" or None)
    assert taken(avx2=True) == "OpenVinoSession"  # onnxruntime is not installed
    monkeypatch.undo()

    def fail(path):
        raise WeightsError(f"OpenVINO cannot compile {path}")

    monkeypatch.setattr(onnx_detector, "_compile", fail)
    assert taken(avx512=True) == "InferenceSession"
    with pytest.raises(WeightsError, match="OpenVINO cannot compile"):
        taken(avx512=True, runtime="openvino")


def _wait_for_starts() -> None:
    for thread in threading.enumerate():
        if thread.name == "start":
            thread.join()


def test_the_runtime_starts_before_the_data_are_known(monkeypatch):
    _wait_for_starts()  # of tests before this one
    started, plain = [], onnx_detector._start

    def start(*where):
        started.append(threading.current_thread().name)
        return plain(*where)

    monkeypatch.setattr(onnx_detector, "_start", start)
    monkeypatch.setattr(onnx_detector, "_early", {})
    monkeypatch.setattr(load, "_load", load._load.__wrapped__)  # anew, whatever is loaded
    for options in (MaskOptions(), MaskOptions(), MaskOptions(weights="elsewhere.onnx")):
        start_early(options, "onnx")
    _wait_for_starts()
    detector = load_detector("mini", sensor="landsat-7-l1", runtime="onnx")
    assert started == ["start"]
    window = np.full((1, len(detector.band_names), 512, 512), 0.1, np.float32)
    answer = detector.predict_windows(window, np.ones((1, 512, 512), bool))
    other = load_detector("mini", sensor="landsat-7-l1", runtime="onnx")
    assert started == ["start", "MainThread"]
    np.testing.assert_array_equal(other.predict_windows(window, window[:, 0] > 0), answer)
    with pytest.raises(UnknownModelError):
        start_early(MaskOptions(model="minni"))


FIRST = """
import sys
from openeo_cloudmask import models
from openeo_cloudmask.cli import build_app
models.start_early = lambda *what: sys.exit("rasterio" in sys.modules)
build_app()(["run", "in.tif", "out.tif"])
"""


def test_the_command_starts_the_runtime_before_it_imports_what_reads_files():
    subprocess.run([sys.executable, "-c", FIRST], check=True, timeout=120)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # an import fails, as where it is not installed
from pathlib import Path
import numpy as np
import rasterio
from openeo_cloudmask.products.mask import mask_product
from openeo_cloudmask.simulator.products import write_product
from openeo_cloudmask.models.weights import find_weights
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.simulator.scene import simulate_scene

folder = Path(sys.argv[1])
scene = simulate_scene(3, size=240, sensor="sentinel-2-l1c", decks=["cumulus"], cloud_fraction=0.4)
mask_product(write_product(scene, folder), folder / "mask.tif")
with rasterio.open(folder / "mask.tif") as mask:
    values = mask.read(1)
assert {0, 1} <= set(np.unique(values)), np.unique(values)
"""


def test_a_safe_is_masked_where_torch_is_not_installed(tmp_path):
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, str(tmp_path)], check=True, timeout=600)


def test_an_archive_with_the_onnx_file_alone_runs_beside_torch(monkeypatch, tmp_path):
    pytest.importorskip("torch")
    monkeypatch.setattr(load, "packaged_weights", lambda _: tmp_path / "mini.safetensors")
    detector = load_detector("mini", sensor="sentinel-2-l1c")
    assert type(detector) is type(load_detector("mini", sensor="sentinel-2-l1c", runtime="onnx"))
