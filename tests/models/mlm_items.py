"""Ten items of third-party models, each in the style of those who publish some.

The weights are synthetic. Nine are one layer that looks at single pixels, so that numpy alone says
what their masks have to be; the tenth is a U-Net with safetensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

S2 = ["B02", "B03", "B04", "B08"]
ALL_S2 = ["B01", *S2[:3], "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]
FOUR = [("clear", 0), ("thick cloud", 1), ("thin cloud", 2), ("cloud shadow", 3)]
Layer = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(kw_only=True)
class Made:
    """An item to write, and what its network does with the pixels of the model's units."""

    name: str
    bands: list[Any] = field(default_factory=lambda: list(S2))
    classes: list[tuple[str, int]] = field(default_factory=lambda: list(FOUR))
    meaning: tuple[int, ...] = (0, 1, 2, 3)
    """What each class is of our four; 255 for no class."""
    scaling: Any = None
    scale: Callable[[NDArray[Any]], NDArray[Any]] = lambda pixels: pixels
    """(band, y, x) reflectance -> what the layer sees."""
    size: int = 64
    order: str = "bcyx"
    dtype: str = "float32"
    answer: str = "logits"
    format: str = "onnx"
    sensor: str = "sentinel-2-l1c"
    names: list[str] = field(default_factory=list)
    """The bands as the sensor calls them, where the item says it otherwise."""
    properties: Mapping[str, Any] = field(default_factory=dict)
    output: Mapping[str, Any] = field(default_factory=dict)
    version: str = "https://stac-extensions.github.io/mlm/v1.5.0/schema.json"

    @property
    def sensor_bands(self) -> list[str]:
        return self.names or self.bands


def counts(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels * 1e4


NINE = [
    Made(  # as the examples of the MLM extension: 13 bands, z-score of counts, TorchScript
        name="resnet-like-s2-all",
        bands=ALL_S2,
        size=256,
        format="torchscript",
        scaling=[{"type": "z-score", "mean": 1000.0 + i, "stddev": 800.0 + i} for i in range(13)],
        scale=lambda x: (
            (counts(x) - 1000 - np.arange(13)[:, None, None]) / (800 + np.arange(13)[:, None, None])
        ),
    ),
    Made(  # as its U-Net of fields: bands without a leading zero, one scaling for all
        name="unet-effb3-like",
        bands=["B4", "B3", "B2", "B8"],
        names=["B04", "B03", "B02", "B08"],
        scaling=[{"type": "z-score", "mean": 0, "stddev": 3000}],
        scale=lambda x: counts(x) / 3000,
        properties={"constellation": "sentinel-2"},
        format="exported",
        size=128,
    ),
    Made(  # bands as objects; reflectance; classes in no order of their values
        name="bands-as-objects",
        bands=[{"name": name} for name in S2],
        names=S2,
        classes=[("cloud", 1), ("background", 0)],
        meaning=(0, 1),
    ),
    Made(  # crim's datacubes: counts of 16 bits, channels last
        name="crim-channels-last",
        order="byxc",
        dtype="uint16",
        scale=counts,
        size=256,
        classes=[("No cloud", 0), ("Clouds", 1)],
        meaning=(0, 1),
    ),
    Made(  # terradue: clouds of one plane, a probability; names in capitals
        name="terradue-binary",
        answer="sigmoid",
        scaling=[{"type": "scale", "value": 10000}],
        scale=lambda x: x,
        classes=[("NON_CLOUD", 0), ("CLOUD", 1)],
        meaning=(0, 1),
    ),
    Made(  # terradue: a plane more for no-data, values that are no planes
        name="terradue-scl-like",
        classes=[("NO_DATA", 0), ("CLEAR", 10), ("CLOUD", 20), ("CIRRUS", 30), ("SHADOW", 40)],
        meaning=(255, 0, 1, 2, 3),
        answer="softmax",
        version="https://stac-extensions.github.io/mlm/v1.4.0/schema.json",
    ),
    Made(  # a network that ends in argmax: class values, no planes
        name="labels-out",
        answer="labels",
        output={"post_processing_function": {"format": "python", "expression": "torch.argmax"}},
    ),
    Made(  # Landsat by common names and wavelengths, with the scale of Collection 2
        name="landsat-common-names",
        sensor="landsat-8-9-l2",
        bands=["blue", "green", "red", "nir08"],
        names=["B2", "B3", "B4", "B5"],
        scale=lambda x: (x + 0.2) / 2.75e-05 / 10000,
        scaling=[{"type": "scale", "value": 10000}],
        properties={
            "platform": "landsat-8",
            "bands": [
                {
                    "name": name,
                    "eo:common_name": name,
                    "eo:center_wavelength": centre,
                    "raster:scale": 2.75e-05,
                    "raster:offset": -0.2,
                }
                for name, centre in zip(
                    ["blue", "green", "red", "nir08"], [0.48, 0.56, 0.65, 0.86], strict=True
                )
            ],
        },
    ),
    Made(  # min-max, after the old name of the field for classes
        name="min-max-old-names",
        scaling=[{"type": "min-max", "minimum": 0.0, "maximum": 0.5}],
        scale=lambda x: x / 0.5,
        size=-1,
        output={"classification_classes": True},
    ),
]
"""Nine that are one layer; ``unet_item`` makes the tenth."""


def layer_of(made: Made) -> Layer:
    """Return the weights (plane, band) and biases of the one layer."""
    numbers = np.random.default_rng(len(made.name))
    planes = 1 if made.answer == "sigmoid" else len(made.classes)
    seen = made.scale(np.full((len(made.sensor_bands), 1, 1), 0.25)).ravel()
    weights = numbers.normal(size=(planes, len(made.sensor_bands))) / np.maximum(np.abs(seen), 0.1)
    biases = -(weights @ seen) + numbers.normal(size=planes) * 0.01
    if made.classes[0][0] == "NO_DATA":
        biases[0] -= 3
    return weights.astype(np.float32), biases.astype(np.float32)


def expected_mask(made: Made, cube: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (y, x) uint8 of the four classes for (band, y, x) reflectance, all seen."""
    weights, biases = layer_of(made)
    planes = np.einsum("pb,byx->pyx", weights, made.scale(cube)) + biases[:, None, None]
    if made.answer == "sigmoid":
        planes = np.concatenate([-planes, planes])
    order = np.argsort([value for _, value in made.classes]) if _counts_up(made) else None
    listed = np.asarray(made.meaning)
    meaning = listed if order is None else listed[[made.classes[i][1] for i in order]]
    return meaning[planes.argmax(axis=0)].astype(np.uint8)


def _counts_up(made: Made) -> bool:
    return sorted(value for _, value in made.classes) == list(range(len(made.classes)))


def write_item(made: Made, folder: Path) -> Path:
    """Write the network and its item into ``folder``; return the item's path."""
    suffix = {"onnx": ".onnx", "torchscript": ".pt", "exported": ".pt2"}[made.format]
    file = folder / f"{made.name}{suffix}"
    _WRITERS[made.format](made, file)
    return write_json(made, file, folder)


def write_json(made: Made, file: Path, folder: Path, artifact: str | None = None) -> Path:
    types = {"onnx": "onnx", "torchscript": "torch.jit.save", "exported": "torch.export.save"}
    words = {"b": "batch", "c": "bands", "y": "height", "x": "width"}
    sizes = {"b": -1, "c": len(made.sensor_bands), "y": made.size, "x": made.size}
    planes = 1 if made.answer == "sigmoid" else len(made.classes)
    answer = {"b": -1, "c": planes, "y": made.size, "x": made.size}
    out = [axis for axis in made.order if made.answer != "labels" or axis != "c"]
    classes = [{"name": name, "value": value} for name, value in made.classes]
    output = {
        "name": "mask",
        "tasks": ["semantic-segmentation"],
        "result": {
            "shape": [answer[axis] for axis in out],
            "dim_order": [words[axis].replace("bands", "class") for axis in out],
            "data_type": "float32",
        },
        "classification:classes": classes,
        **made.output,
    }
    if made.output.get("classification_classes"):
        output["classification_classes"] = output.pop("classification:classes")
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [made.version],
        "id": made.name,
        "geometry": None,
        "properties": {
            "datetime": "2024-01-01T00:00:00Z",
            "mlm:name": made.name,
            "mlm:architecture": "U-Net",
            "mlm:tasks": ["semantic-segmentation"],
            "mlm:input": [
                {
                    "name": "pixels",
                    "bands": made.bands,
                    "input": {
                        "shape": [sizes[axis] for axis in made.order],
                        "dim_order": [words[axis] for axis in made.order],
                        "data_type": made.dtype,
                    },
                    "value_scaling": made.scaling,
                }
            ],
            "mlm:output": [output],
            **made.properties,
        },
        "assets": {
            "weights": {
                "href": f"./{file.name}",
                "roles": ["mlm:model", "mlm:weights"],
                "mlm:artifact_type": artifact or types[made.format],
                "file:checksum": f"1220{hashlib.sha256(file.read_bytes()).hexdigest()}",
            }
        },
        "links": [],
    }
    path = folder / f"{made.name}.json"
    path.write_text(json.dumps(item), encoding="utf-8")
    return path


def _write_onnx(made: Made, file: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights, biases = layer_of(made)
    last = made.order == "byxc"
    kinds = {"float32": TensorProto.FLOAT, "uint16": TensorProto.UINT16}
    nodes = [helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT)]
    nodes.append(
        helper.make_node(
            "Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2] if last else [0, 1, 2, 3]
        )
    )
    nodes.append(helper.make_node("Conv", ["planes", "weights", "biases"], ["logits"]))
    name = "logits"
    if made.answer in ("softmax", "sigmoid"):
        kind = "Softmax" if made.answer == "softmax" else "Sigmoid"
        options = {"axis": 1} if kind == "Softmax" else {}
        nodes.append(helper.make_node(kind, ["logits"], ["shares"], **options))
        name = "shares"
    if made.answer == "labels":
        nodes.append(helper.make_node("ArgMax", ["logits"], ["values"], axis=1, keepdims=0))
        name = "values"
    if last:
        nodes.append(helper.make_node("Transpose", [name], ["turned"], perm=[0, 2, 3, 1]))
        name = "turned"
    kind = TensorProto.INT64 if made.answer == "labels" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        made.name,
        [helper.make_tensor_value_info("pixels", kinds[made.dtype], None)],
        [helper.make_tensor_value_info(name, kind, None)],
        [
            numpy_helper.from_array(weights[:, :, None, None], "weights"),
            numpy_helper.from_array(biases, "biases"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, file)


def _network(made: Made) -> Any:
    import torch

    weights, biases = layer_of(made)
    layer = torch.nn.Conv2d(weights.shape[1], len(weights), 1)
    layer.weight.data = torch.from_numpy(weights[:, :, None, None])
    layer.bias.data = torch.from_numpy(biases)
    return layer.eval().requires_grad_(requires_grad=False)


def _write_script(made: Made, file: Path) -> None:
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against the format
        torch.jit.save(torch.jit.script(_network(made)), file)


def _write_exported(made: Made, file: Path) -> None:
    import torch

    example = torch.zeros((1, len(made.sensor_bands), made.size, made.size))
    torch.export.save(torch.export.export(_network(made), (example,)), file)


_WRITERS: dict[str, Callable[[Made, Path], None]] = {
    "onnx": _write_onnx,
    "torchscript": _write_script,
    "exported": _write_exported,
}


def unet_item(folder: Path) -> Path:
    """Write an item as mlstac has them: a collection's U-Net, its tensors as safetensors."""
    import torch
    from safetensors.torch import save_file

    from openeo_cloudmask.models.registry import build_network

    torch.manual_seed(3)
    network = build_network("unet-mobilenet-v2", {"bands": 4, "classes": 4})
    file = folder / "unet.safetensors"
    save_file(network.state_dict(), file)
    made = Made(
        name="mlstac-unet",
        size=256,
        scaling=[{"type": "scale", "value": 10000}],
        properties={
            "mlm:architecture": "UNet",
            "mlm:hyperparameters": {"kind": "Unet with encoder mobilenet_v2"},
        },
    )
    return write_json(made, file, folder, "safetensors.torch.save_file")
