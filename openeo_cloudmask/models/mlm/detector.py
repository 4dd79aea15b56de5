"""Detectors over third-party files, fed and read as their STAC items say."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS, ClassScheme
from openeo_cloudmask.errors import MissingExtraError, WeightsError
from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.entry import ModelKind
from openeo_cloudmask.models.mlm.files import Artifact
from openeo_cloudmask.models.mlm.scaling import Scaling
from openeo_cloudmask.models.onnx_session import open_session
from openeo_cloudmask.models.tiles import blend_tiles
from openeo_cloudmask.models.weights import sha256_of
from openeo_cloudmask.options import DEFAULT_STRIDE_PX

if TYPE_CHECKING:
    from openeo_cloudmask.inference import Detector
    from openeo_cloudmask.models.entry import LoadRequest

Run = Callable[[NDArray[Any]], NDArray[Any]]
"""The file's program: its input as it takes it -> its answer."""

_WINDOW_PX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a file is fed and read."""

    artifact: Artifact
    scaling: Scaling
    input_axes: tuple[str, ...]
    """Names of the axes the file takes: ``batch``, ``band``, ``y``, ``x`` in its order."""
    output_axes: tuple[str, ...]
    """The same of its answer, with ``class`` where there is a plane for each."""
    classes: Mapping[int, int | None]
    """Value (or plane) -> plane of the four classes; None for what is no class."""
    tile_px: int
    architecture: Mapping[str, int] | None = None
    """Settings of the U-Net with MobileNetV2 that the tensors of a safetensors file belong to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlmDetector:
    """A ``Detector`` that gives the four classes, whatever classes the file has."""

    model: str
    run: Run
    recipe: Recipe
    activation: str
    """What makes probabilities of the answer: ``none``, ``softmax`` or ``sigmoid``."""
    band_names: tuple[str, ...]
    window: Window
    scheme: ClassScheme = FOUR_CLASS

    def predict_windows(
        self, windows: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return class probabilities; see ``Detector``."""
        count, _, height, width = windows.shape
        out = np.zeros((count, len(self.scheme.classes), height, width), np.float32)
        for planes, pixels, seen in zip(out, windows, valid, strict=True):
            fed = self.recipe.scaling.apply(pixels, seen, self.model)
            planes[:] = blend_tiles(self._classify, fed, self.recipe.tile_px, len(planes))
        return out

    def _classify(self, tile: NDArray[Any]) -> NDArray[np.float32]:
        """(band, y, x) as the file takes it -> (class, y, x) probabilities of the four classes."""
        recipe = self.recipe
        answer = answer_tile(self.run, tile, recipe)
        planes = activate(answer, self.activation)
        found = np.zeros((len(self.scheme.classes), *planes.shape[1:]), np.float32)
        none = np.zeros(planes.shape[1:], np.float32)
        for index, plane in enumerate(planes):
            ours = recipe.classes.get(index)
            place = none if ours is None else found[ours]
            place += plane
        # Where the model finds its no-data more likely than all classes together, so do we.
        total = found.sum(axis=0)
        found /= np.where(total > 0, total, 1)
        found[:, none >= total] = np.nan
        return found


def answer_tile(run: Run, tile: NDArray[Any], recipe: Recipe) -> NDArray[np.float32]:
    """Return (plane, y, x) float32, the file's answer to one tile (band, y, x).

    Raises:
        WeightsError: the answer has another shape than the item says.
    """
    given = tile.reshape(1, *tile.shape)
    axes = ("batch", "band", "y", "x")
    order = [axes.index(axis) for axis in recipe.input_axes]
    answer = np.asarray(run(np.ascontiguousarray(given.transpose(order))))
    if answer.ndim != len(recipe.output_axes):
        raise WeightsError(
            f"{recipe.artifact.path} answers with the shape {answer.shape}; the item says that it "
            f"has the axes {', '.join(recipe.output_axes)}"
        )
    wanted = [axis for axis in ("batch", "class", "y", "x") if axis in recipe.output_axes]
    answer = answer.transpose([recipe.output_axes.index(axis) for axis in wanted])[0]
    if "class" not in recipe.output_axes:  # values of classes: a plane for each
        size = max(recipe.classes) + 1
        values = np.rint(answer).astype(np.int64)
        answer = (values[np.newaxis] == np.arange(size)[:, np.newaxis, np.newaxis]) * 1.0
    expected = len(recipe.classes)
    if answer.shape[1:] != tile.shape[1:] or (
        "class" in recipe.output_axes and len(answer) not in (expected, 1 if expected == 2 else 0)
    ):
        raise WeightsError(
            f"{recipe.artifact.path} answers with {answer.shape}; expected {expected} planes of "
            f"{tile.shape[1]} x {tile.shape[2]} pixels"
        )
    planes: NDArray[np.float32] = answer.astype(np.float32, copy=False)
    return planes


def activate(answer: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    """Return (class, y, x) probabilities of (plane, y, x); one plane is that of the last class."""
    if len(answer) == 1:
        share = 1 / (1 + np.exp(-answer)) if activation == "sigmoid" else answer
        return np.concatenate([1 - share, share]).astype(np.float32)
    if activation != "softmax":
        return answer
    raised = np.exp(answer - answer.max(axis=0))
    shares: NDArray[np.float32] = (raised / raised.sum(axis=0)).astype(np.float32)
    return shares


def load_mlm(request: LoadRequest) -> Detector:
    """Return the detector of a model that ``read_model`` read.

    Raises:
        WeightsError: the file has changed since, or does not do what the item says.
        MissingExtraError: what runs it is not installed.
    """
    recipe: Recipe = request.entry.config["recipe"]
    artifact = recipe.artifact
    if sha256_of(artifact.path) != artifact.sha256:
        raise WeightsError(f"{artifact.path} has changed since its item was read; start anew")
    run = _RUNNERS[artifact.format](artifact.path, recipe, request.device)
    return MlmDetector(
        model=request.entry.id,
        run=run,
        recipe=recipe,
        activation=_probe(run, recipe, len(request.model_input.band_names)),
        band_names=request.model_input.band_names,
        window=request.entry.window,
    )


KIND = ModelKind(
    id="mlm",
    architecture="Network of others, as its STAC item describes it",
    load=load_mlm,
    framework="ONNX",
    extra=None,
)


def window_for(tile_px: int) -> Window:
    """Return windows of one tile, or of as many small ones as a usual window has room for."""
    tiles = 1 if tile_px >= DEFAULT_STRIDE_PX else math.ceil(_WINDOW_PX / tile_px)
    return Window(size_px=tile_px * tiles, multiple_px=tile_px)


def _probe(run: Run, recipe: Recipe, bands: int) -> str:
    """Run a synthetic tile; return what makes probabilities of the answer."""
    side = recipe.tile_px
    pixels = np.random.default_rng(0).random((bands, side, side), np.float32)
    tile = recipe.scaling.apply(pixels, np.ones((side, side), bool), recipe.artifact.path.name)
    try:
        answer = answer_tile(run, tile, recipe)
    except WeightsError:
        raise
    except Exception as err:  # each runtime has errors of its own
        raise WeightsError(
            f"{recipe.artifact.path} does not take {tile.shape} of {tile.dtype} as its item says: "
            f"{(str(err).splitlines() or [type(err).__name__])[0]}"
        ) from err
    if len(answer) == 1:
        return "none" if answer.min() >= 0 and answer.max() <= 1 else "sigmoid"
    sums = answer.sum(axis=0)
    return "none" if answer.min() >= 0 and np.allclose(sums, 1, atol=1e-3) else "softmax"


def _run_onnx(path: Path, _: Recipe, device: str) -> Run:
    try:
        session = open_session(path, device)
    except ModuleNotFoundError as err:
        raise MissingExtraError.for_extra("onnx", "Running an ONNX file") from err
    except Exception as err:  # onnxruntime's errors share no base class but this one
        raise WeightsError(f"{path} cannot be read as ONNX: {str(err).splitlines()[0]}") from err
    names = [given.name for given in session.get_inputs()]
    if len(names) != 1:
        raise WeightsError(
            f"{path} takes {', '.join(names)}; only networks with one input are run from an item"
        )
    return lambda given: session.run(None, {names[0]: given})[0]  # type: ignore[no-any-return]


def _run_torch(load: Callable[[Path, Recipe, Any], Any]) -> Callable[[Path, Recipe, str], Run]:
    def make(path: Path, recipe: Recipe, device: str) -> Run:
        try:
            import torch
        except ModuleNotFoundError as err:
            raise MissingExtraError.for_extra("torch", "Running this model") from err
        from openeo_cloudmask.models.networks.prepare import resolve_device

        target = resolve_device(device)
        network = load(path, recipe, target)

        def run(given: NDArray[Any]) -> NDArray[Any]:
            with torch.inference_mode():
                answer = network(torch.from_numpy(given).to(target))
            return answer.cpu().numpy()  # type: ignore[no-any-return]

        return run

    return make


def _load_script(path: Path, _: Recipe, device: Any) -> Any:  # noqa: ANN401 - torch on demand
    from openeo_cloudmask.models.state_dict import load_torchscript

    return load_torchscript(path, device)


def _load_exported(path: Path, _: Recipe, device: Any) -> Any:  # noqa: ANN401
    import torch

    try:
        return torch.export.load(path).module().to(device)
    except Exception as err:  # zip, JSON, schema and graph each have errors of their own
        raise WeightsError(
            f"{path} cannot be read as torch.export.save writes it: "
            f"{(str(err).splitlines() or [type(err).__name__])[0]}"
        ) from err


def _load_safetensors(path: Path, recipe: Recipe, device: Any) -> Any:  # noqa: ANN401
    from openeo_cloudmask.models.networks import unet
    from openeo_cloudmask.models.state_dict import load_state_dict_strict

    if recipe.architecture is None:
        raise WeightsError(f"{path} holds tensors alone, and the network they belong to is unknown")
    network = unet.build(dict(recipe.architecture))
    load_state_dict_strict(network, path)
    return network.to(device)


_RUNNERS: Mapping[str, Callable[[Path, Recipe, str], Run]] = {
    "onnx": _run_onnx,
    "torchscript": _run_torch(_load_script),
    "exported": _run_torch(_load_exported),
    "safetensors": _run_torch(_load_safetensors),
}
