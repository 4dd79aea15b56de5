"""An exported network with products of 8 bit integers, block by block, as far as classes stay.

Weights get a scale for each output channel, tensors between layers one each, from the smallest and
the largest value they take on the calibration's windows: ranges are fixed, so that an answer
depends on its window alone. A convolution that a ReLU follows is stored behind it: numbers below 0
need no steps. What the network is asked for are classes; so each block is tried as
the only one in int8 on windows that the calibration has not seen, and blocks stay in fp32, those
first that change most classes for the arithmetic they hold, until next to none changes.
"""

from __future__ import annotations

import bisect
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import MissingExtraError, OptionError
from openeo_cloudmask.inference.windows import mirror_indices
from openeo_cloudmask.models.onnx_card import CARD_KEY, OnnxCard
from openeo_cloudmask.models.onnx_detector import LEAST_EQUAL, packaged_onnx, read_card
from openeo_cloudmask.models.registry import get_model
from openeo_cloudmask.models.statistics import band_percentiles
from openeo_cloudmask.models.weights import sha256_of
from openeo_cloudmask.sensors import ANY_SENSOR, SENSORS

CALIBRATION_SEEDS = tuple(range(700, 712))
GUARD_SEEDS = tuple(range(800, 808))
"""Of simulated scenes, each of which is one window."""
_ANY_SENSOR_IS = "sentinel-2-l1c"
"""Sensor of the scenes for a file that takes any."""
_ACTIVATIONS = ["Relu", "Clip"]
_QUANTISED = ["Conv", *_ACTIVATIONS]

_log = logging.getLogger(__name__)
Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Convolutions of one part of a network."""

    name: str
    nodes: tuple[str, ...]
    products: float
    """Products of numbers per window there, in millions."""
    changed: float
    """Share of the guard's pixels whose class changes where this block alone is in int8, 0-1."""
    int8: bool = True
    """Whether it is in int8 in the file."""


def export_int8(
    model: str,
    path: Path,
    *,
    scenes: Path | None = None,
    **options: Any,  # noqa: ANN401 - those of ``export_onnx``
) -> tuple[OnnxCard, list[Block]]:
    """Write a model's network as an ONNX file in int8; return its card and its blocks.

    Args:
        model: name of the model.
        path: the file to write.
        scenes: folder of labelled scenes to calibrate with too, for a file for any sensor.
        options: those of ``export_onnx``.

    Raises:
        CloudMaskError: as ``export_onnx`` and ``quantise``.
    """
    from openeo_cloudmask.models.onnx_export import check_onnx_output, export_onnx

    check_onnx_output(path)
    with tempfile.TemporaryDirectory() as folder:
        exact, entry = Path(folder) / "fp32.onnx", get_model(model)
        packaged = packaged_onnx(entry)
        as_packaged = options.get("sensor") == ANY_SENSOR and packaged.is_file()
        if as_packaged and options.get("weights") is None and options.get("window_px") is None:
            exact = packaged
        else:
            export_onnx(model, exact, **options)
        form = None
        if entry.kind.int8_form:
            form = Path(folder) / "form.onnx"
            export_onnx(model, form, for_int8=True, **options)
        blocks = quantise(exact, path, read_scenes(scenes, read_card(exact)), form=form)
    return read_card(path), blocks


def read_scenes(folder: Path | None, card: OnnxCard) -> list[NDArray[np.float32]]:
    """Return labelled scenes of a folder as windows of a file that takes any sensor."""
    if folder is None:
        return []
    if card.sensor != ANY_SENSOR:
        raise OptionError("labelled scenes calibrate a file for any sensor: pass --sensor any")
    from openeo_cloudmask.training.labelled import read_labelled

    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise OptionError(f"{folder} holds no labelled scenes (*.npz)")
    side = card.window_px
    found = []
    for path in paths:
        planes = read_labelled(path).planes
        height, width = planes.shape[1:]
        rows, columns = (mirror_indices(0, size - 1, side) for size in (height, width))
        found.append(np.ascontiguousarray(planes[:, rows[:, np.newaxis], columns]))
    return found


def quantise(
    exact: Path,
    path: Path,
    scenes: Sequence[NDArray[np.float32]] = (),
    *,
    form: Path | None = None,
    every: Path | None = None,
) -> list[Block]:
    """Write the int8 form of an exported file; return its blocks, with what each changes.

    Args:
        exact: a file that ``cloudmask export`` wrote, in fp32.
        path: the file to write.
        scenes: more windows to calibrate with, (band, y, x) float32 reflectance as the file takes
            them, 0 where no-data.
        form: the same network in another form, which is made int8 instead; see ``export_onnx``.
        every: also write the network with all blocks in int8 here, to compare with.

    Raises:
        OptionError: the file is no fp32 one.
        MissingExtraError: onnx is not installed.
    """
    card = read_card(exact)
    if card.precision != "fp32":
        raise OptionError(f"{exact} is in {card.precision}; expected a file in fp32")
    try:
        import onnx
    except ModuleNotFoundError as err:
        raise MissingExtraError.for_extra("onnx", "Writing an int8 file") from err
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".int8") as folder:
        work = _Work(form or exact, Path(folder))
        work.calibrate([*_windows(card, CALIBRATION_SEEDS), *(feed_of(card, s) for s in scenes)])
        if every is not None:
            nodes = [node for names in work.blocks().values() for node in names]
            every.write_bytes(work.write(nodes).read_bytes())
        guard = list(_windows(card, GUARD_SEEDS))
        wanted = work.classes(exact, guard)
        blocks = [
            Block(
                name=name,
                nodes=nodes,
                products=sum(map(work.products, nodes)),
                changed=work.changed(nodes, guard, wanted),
            )
            for name, nodes in work.blocks().items()
        ]
        blocks, equal = _choose(work, blocks, guard, wanted)
        model = onnx.load(work.quantised)
        card = replace(card, precision="int8", equal_classes=equal, made_from=sha256_of(exact))
        model.producer_name = "openeo-cloudmask"
        model.doc_string = f"{card.title}. Licence of the weights: {card.licence}."
        onnx.helper.set_model_props(model, {CARD_KEY: card.to_json()})
        onnx.save(model, work.quantised)
        work.quantised.replace(path)
    return blocks


def _choose(
    work: _Work, blocks: list[Block], guard: list[Feed], wanted: list[NDArray[np.intp]]
) -> tuple[list[Block], float]:
    """Leave as few blocks in fp32 as content the guard.

    Those first that change most classes for the products that int8 makes quicker there. How many
    it takes is found by halving: the more are left out, the fewer classes change, or nearly so.
    """
    order = sorted(blocks, key=lambda block: block.changed / block.products, reverse=True)

    def equal(left_out: int) -> float:
        kept = {block.name for block in order[left_out:]}
        nodes = [node for block in blocks if block.name in kept for node in block.nodes]
        share = 1 - work.changed(nodes, guard, wanted)
        _log.info("%d of %d blocks in int8: %.2f %% equal", len(kept), len(blocks), 100 * share)
        return share

    left_out = bisect.bisect_left(range(len(blocks) - 1), LEAST_EQUAL, key=equal)
    kept = {block.name for block in order[left_out:]}
    return [replace(block, int8=block.name in kept) for block in blocks], equal(left_out)


class _Work:
    """A network, its calibration, and the file that is tried."""

    def __init__(self, exact: Path, folder: Path) -> None:
        import onnx
        from onnxruntime.quantization.shape_inference import quant_pre_process

        self._plain = folder / "plain.onnx"
        self._folder = folder
        self.quantised = folder / "int8.onnx"
        quant_pre_process(exact, self._plain, skip_symbolic_shape=True)
        self._model = onnx.load(self._plain)
        self._weights = {
            node.name: node.input[1]
            for node in onnx.load(exact).graph.node
            if node.op_type == "Conv"
        }
        self._ranges: Any = None

    def blocks(self) -> dict[str, tuple[str, ...]]:
        """Name of a block -> the names of its convolutions."""
        found: dict[str, list[str]] = {}
        for node in self._model.graph.node:
            if node.op_type == "Conv":
                name = _block_name(self._weights.get(node.name, node.name))
                found.setdefault(name, []).append(node.name)
        return {name: tuple(nodes) for name, nodes in found.items()}

    def products(self, name: str) -> float:
        """Millions of products of a convolution on one window."""
        graph = self._model.graph
        node = next(item for item in graph.node if item.name == name)
        weight = next(item for item in graph.initializer if item.name == node.input[1])
        shape = next(item for item in graph.value_info if item.name == node.output[0])
        pixels = [dimension.dim_value for dimension in shape.type.tensor_type.shape.dim[2:]]
        return float(np.prod(weight.dims) * np.prod(pixels)) / 1e6

    def calibrate(self, windows: Sequence[Feed]) -> None:
        """Find the range of each tensor at a convolution."""
        from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
        from onnxruntime.quantization.calibrate import create_calibrator

        names = [item.name for item in self._model.graph.input]

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self._left = (pick(window, names) for window in windows)

            def get_next(self) -> Feed | None:
                return next(self._left, None)

        calibrator = create_calibrator(
            self._plain,
            _QUANTISED,
            augmented_model_path=str(self._folder / "ranges.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(Reader())
        self._ranges = calibrator.compute_data()

    def _activations(self, nodes: Sequence[str]) -> list[str]:
        """Return those that follow these convolutions."""
        graph = self._model.graph
        outputs = {node.output[0] for node in graph.node if node.name in set(nodes)}
        return [
            node.name
            for node in graph.node
            if node.op_type in _ACTIVATIONS and node.input[0] in outputs
        ]

    def write(self, nodes: Sequence[str]) -> Path:
        """Write the network with these convolutions in int8."""
        import onnx
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        quantizer = QDQQuantizer(
            onnx.load(self._plain),
            True,  # weights by channel
            False,
            QuantType.QInt8,
            QuantType.QUInt8,
            self._ranges,
            [*nodes, *self._activations(nodes)],
            [],
            _QUANTISED,
            {},
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(str(self.quantised))
        return self.quantised

    def classes(self, path: Path, windows: Sequence[Feed]) -> list[NDArray[np.intp]]:
        """The classes that a file gives the windows."""
        from openeo_cloudmask.models.onnx_session import open_session

        session = open_session(path, "cpu")
        names = [item.name for item in session.get_inputs()]
        return [session.run(None, pick(feed, names))[0].argmax(axis=1) for feed in windows]

    def changed(
        self, nodes: Sequence[str], guard: Sequence[Feed], wanted: list[NDArray[np.intp]]
    ) -> float:
        """The share of all pixels whose class changes with these nodes in int8."""
        given = self.classes(self.write(nodes), guard)
        return float(np.mean([(a != b).mean() for a, b in zip(given, wanted, strict=True)]))


def _block_name(weight: str) -> str:
    """The part of a network that a weight belongs to: up to the first number in its name."""
    parts = [part for part in weight.split(".") if part != "network"]
    names = list(takewhile(lambda part: not part.isdecimal(), parts[:-1]))
    number = parts[len(names) : len(names) + 1] if len(names) < len(parts) - 1 else []
    return ".".join([*names, *number]) or weight


def _windows(card: OnnxCard, seeds: Sequence[int]) -> Iterator[Feed]:
    """Simulated windows, as the file takes them; of optional bands, some have none."""
    from openeo_cloudmask.simulator.scene import simulate_scene

    sensor = SENSORS[_ANY_SENSOR_IS if card.sensor == ANY_SENSOR else card.sensor]
    names = [sensor.band(name).name for name in card.bands]
    for index, seed in enumerate(seeds):
        scene = simulate_scene(seed, size=card.window_px, sensor=sensor.id, bands=names)
        cube = scene.cube[[scene.band_names.index(name) for name in names]]
        pixels = np.nan_to_num(cube, nan=0.0).astype(np.float32)
        if card.optional and index % 4 == 3:
            pixels[[card.bands.index(name) for name in card.optional]] = 0
        yield feed_of(card, pixels)


def feed_of(card: OnnxCard, pixels: NDArray[np.float32]) -> Feed:
    """Return what a session of the file may take for one window, (band, y, x) reflectance."""
    given = np.asarray(pixels.any(axis=(1, 2)))
    feed: dict[str, NDArray[Any]] = {"windows": pixels[np.newaxis]}
    if card.percentiles:
        valid = np.asarray(pixels.any(axis=0))[np.newaxis]
        feed["percentiles"] = band_percentiles(feed["windows"], valid, card.percentiles)
    if card.optional:
        feed["present"] = given[np.newaxis].astype(np.float32)
    return feed


def pick(feed: Feed, names: Sequence[str]) -> Feed:
    """Return the inputs of these names."""
    return {name: feed[name] for name in names}
