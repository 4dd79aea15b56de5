"""A family of models is one file; one rule for devices."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import openeo_cloudmask
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.models import KINDS, MODELS, load_detector
from openeo_cloudmask.models.devices import choose_device

PACKAGE = Path(openeo_cloudmask.__file__).parent
ROOT = PACKAGE.parent

USE_IT = """
import numpy as np
from openeo_cloudmask.inference import predict
from openeo_cloudmask.models import KINDS, MODELS, load_detector
from openeo_cloudmask.stac.model_item import build_model_item

entry = MODELS["bright-is-cloud"]
assert list(MODELS)[-1] == entry.id, "families without an order come last"
assert KINDS["bright"] is entry.kind
cube = np.full((2, 20, 30), 0.1, np.float32)
cube[:, 5:, :] = 0.9
mask = predict(cube, load_detector("bright-is-cloud", bands=["B04", "B03", "B02"]))
assert (mask.argmax(axis=0) == 1).mean() == 0.75
item = build_model_item(entry)
assert item.properties["mlm:framework"] == "NumPy"
assert item.assets["model"].title == "A rule without weights, run by the function"
"""


def test_a_new_family_is_one_file(tmp_path):
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (text,) = (block for block in blocks if "FAMILY = " in block)
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("stac_extension", "udf"):  # beside the package in a checkout
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / PACKAGE.name / "models" / "families" / "bright.py").write_text(text)
    subprocess.run(
        [sys.executable, "-c", USE_IT],
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )


def test_a_kind_has_one_name_for_each_way_to_load():
    for entry in MODELS.values():
        assert KINDS[entry.kind.id] is entry.kind, "two kinds of one name"
        assert entry.takes_weights or entry.kind.artifact in ("python", "onnx", "lightgbm")


@pytest.mark.parametrize("model", ["hollstein", "mini", "ukis-csmask", "s2cloudless"])
def test_a_gpu_that_is_not_there_is_an_error_that_names_it(model):
    extra = {"mini": "torch", "ukis-csmask": "ukis_csmask", "s2cloudless": "s2cloudless"}
    if model in extra:
        pytest.importorskip(extra[model])
    with pytest.raises(OptionError, match=r"device was 'cuda:93', but .* sees \d+ CUDA devices"):
        load_detector(model, device="cuda:93")
    with pytest.raises(OptionError, match=r"device was 'tpu'; expected 'auto', 'cpu', 'cuda'"):
        load_detector(model, device="tpu")


def test_devices_are_numbers_of_gpus():
    for device, gpus, number in (
        ("cpu", 2, None),
        ("auto", 0, None),
        ("auto", 2, 0),
        ("cuda", 1, 0),
        ("cuda:1", 2, 1),
    ):
        assert choose_device(device, gpus=gpus, runtime="torch") == number
    with pytest.raises(OptionError, match="torch sees 0 CUDA devices; use 'cpu', or buy one"):
        choose_device("cuda", gpus=0, runtime="torch", remedy="buy one")
