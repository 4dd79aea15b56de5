"""The mask under the names that others have for it; each ends where ``cloud_mask`` does."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.cubes.masking import mask_cube, parse_client_options
from openeo_cloudmask.backend.cubes.outside import Outside
from openeo_cloudmask.backend.graph.process import openeo_process
from openeo_cloudmask.backend.jobs.runtime import RunSpec, current_run
from openeo_cloudmask.backend.processes.ml_descriptions import ml_specs
from openeo_cloudmask.datacube import find_dimension
from openeo_cloudmask.errors import CatalogError, UnknownModelError
from openeo_cloudmask.models import MODELS, get_model, other_models
from openeo_cloudmask.models.onnx_detector import packaged_onnx, read_card
from openeo_cloudmask.models.weights import sha256_of

PREDICTIONS = "predictions"
"""Dimension that takes the place of those that a model reduces."""
_MOST_BYTES = 1 << 30
_CHUNK_BYTES = 1 << 20
_BARE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_DISTURBANCES = {"cloud": ("thick-cloud", "thin-cloud"), "shadow": ("cloud-shadow",)}
"""Bands of ``cloud_detection`` -> classes of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlModel:
    """A model between ``load_ml_model`` and ``ml_predict``."""

    options: Mapping[str, Any]
    """Those of ``cloud_mask`` that name it."""


def detection_options(
    method: str | None = None, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the options of ``cloud_mask`` that a cloud detection method stands for.

    Raises:
        ApiError: the options name the model, which the method does.
    """
    given = dict(options or {})
    if "model" in given:
        raise ApiError("ProcessParameterInvalid", "options has 'model'; name it as the method")
    return given if method is None else {**given, "model": method}


@openeo_process(describe=lambda _: ml_specs()["cloud_detection"])
def cloud_detection(
    data: xr.DataArray, method: str | None = None, options: Mapping[str, Any] | None = None
) -> xr.DataArray:
    """Return the bands ``cloud`` and ``shadow``: probabilities 0-1, NaN where nothing was seen.

    With ``categorise`` or ``output_style`` among the options, it is what ``cloud_mask`` returns.
    """
    run = current_run().spec
    given = detection_options(method, options)
    if {"categorise", "output_style"} & set(given):
        return mask_cube(data, parse_client_options(given, run), run)
    percent = mask_cube(data, parse_client_options({**given, "categorise": False}, run), run)
    bands = find_dimension(percent, "bands")
    parts = []
    for names in _DISTURBANCES.values():
        chosen = percent.sel({bands: list(names)})
        seen = (chosen != np.uint8(255)).all(dim=bands)
        total = chosen.astype(np.float32).sum(dim=bands) / np.float32(100)
        parts.append(total.clip(max=1).where(seen))
    labels = xr.Variable(bands, list(_DISTURBANCES))
    return xr.concat(parts, dim=bands).assign_coords({bands: labels}).transpose(*percent.dims)


@openeo_process(describe=lambda _: ml_specs()["load_ml_model"])
def load_ml_model(
    uri: str | None = None,
    model_asset: str | None = None,
    id: str | None = None,  # noqa: A002 - the name in openEO's first draft
) -> MlModel:
    """Return the model that a STAC item describes, if this server has it.

    Raises:
        ApiError: the item is of no model of this server, or is named twice or not at all.
    """
    named = [name for name in (uri, id) if name is not None]
    if len(named) != 1:
        raise ApiError(
            "ProcessParameterInvalid",
            f"uri is {uri!r} and id {id!r}; give the address of the item, or the model's name, as "
            "one of them",
        )
    return MlModel(options=_find_item(named[0], model_asset, current_run().spec))


@openeo_process(describe=lambda _: ml_specs()["load_stac_ml"])
def load_stac_ml(
    uri: str, model_asset: str | None = None, input_index: int = 0, output_index: int = 0
) -> MlModel:
    """Return the model that a STAC item describes; see ``load_ml_model``."""
    if input_index or output_index:
        raise ApiError(
            "ProcessParameterInvalid",
            f"input_index is {input_index} and output_index {output_index}; models of this server "
            "have one of each, 0",
        )
    return load_ml_model(uri, model_asset)


@openeo_process(describe=lambda _: ml_specs()["ml_predict"])
def ml_predict(
    data: xr.DataArray, model: MlModel, dimensions: Sequence[str] | None = None
) -> xr.DataArray:
    """Return the mask of a cube by a loaded model.

    With ``dimensions``, which have to be the bands, these become the dimension ``predictions``.
    """
    if not isinstance(model, MlModel):
        raise ApiError(
            "ProcessParameterInvalid",
            f"model is {model!r}; expected what load_ml_model or load_stac_ml returns",
        )
    run = current_run().spec
    mask = mask_cube(data, parse_client_options(model.options, run), run)
    bands = find_dimension(mask, "bands")
    if not dimensions:
        return mask
    if list(dimensions) != [bands]:
        missing = [name for name in dimensions if name not in data.dims]
        code = "DimensionNotAvailable" if missing else "ProcessParameterInvalid"
        raise ApiError(code, f"dimensions is {list(dimensions)}; a mask reduces [{bands!r}] alone")
    return mask.rename({bands: PREDICTIONS}).assign_coords({PREDICTIONS: ["0"]})


@openeo_process(describe=lambda _: ml_specs()["predict_onnx"])
def predict_onnx(data: xr.DataArray, model: str) -> xr.DataArray:
    """Return the percentages of the classes of an ONNX file that this server has.

    Raises:
        ApiError: it has no such file.
    """
    run = current_run().spec
    options = {**_find_file(model, run), "output_style": "native", "categorise": False}
    return mask_cube(data, parse_client_options(options, run), run)


def _find_item(uri: str, model_asset: str | None, run: RunSpec) -> dict[str, Any]:
    """Return the options of the model at an address, or of one by its name or file name."""
    if "://" not in uri:
        name = uri.removesuffix(".json")
        get_model(name)
        return {"model": name}
    item = Outside(allowed_hosts=run.stac_hosts).read_json(uri)
    asset = item.get("assets", {}).get(model_asset) if model_asset else None
    if model_asset and "mlm:model" not in ((asset or {}).get("roles") or ()):
        raise ApiError(
            "ProcessParameterInvalid",
            f"model_asset is {model_asset!r}; expected an asset of {uri} with the role 'mlm:model'",
        )
    name = str(item.get("id"))
    if not (_is_registered(name, item) or _is_adopted(name, item)):
        raise ApiError(
            "CloudMaskModelUnknown",
            f"{uri} describes {name!r}, which is no model of this server; expected an item of its "
            "catalog (/stac). Whoever runs the server can add models: OPENEO_CLOUDMASK_MODELS",
        )
    return {"model": name}


def _is_registered(name: str, item: Mapping[str, Any]) -> bool:
    """Return whether an item is of the model of that name here, not only called so."""
    from openeo_cloudmask.stac.reader import read_model_item

    try:
        return name in MODELS and read_model_item(item) == MODELS[name]
    except CatalogError:
        return False


def _is_adopted(name: str, item: Mapping[str, Any]) -> bool:
    entry = other_models().get(name)
    if entry is None:
        return False
    digest = f"1220{entry.config['recipe'].artifact.sha256}"
    return any(asset.get("file:checksum") == digest for asset in item.get("assets", {}).values())


def _find_file(model: str, run: RunSpec) -> dict[str, Any]:
    """Return the options of the model in an ONNX file, by its name here or its content."""
    if "://" not in model:
        if _BARE.fullmatch(model):
            for path in _known_files(run.weights_dir):
                if path.name == model:
                    return _options_of(path)
        raise _unknown_file(model, run)
    digest = hashlib.sha256()
    with Outside(allowed_hosts=run.stac_hosts).open_file(model) as file:
        size = 0
        while chunk := file.read(_CHUNK_BYTES):
            size += len(chunk)
            if size > _MOST_BYTES:
                raise _unknown_file(model, run)
            digest.update(chunk)
    for path in _known_files(run.weights_dir):
        if sha256_of(path) == digest.hexdigest():
            return _options_of(path)
    raise _unknown_file(model, run)


def _known_files(weights_dir: Path) -> list[Path]:
    """Return the ONNX files of this server: the package's, the operator's, those of items."""
    own = [path for entry in MODELS.values() if (path := packaged_onnx(entry)).is_file()]
    artifacts = [entry.config["recipe"].artifact.path for entry in other_models().values()]
    onnx = [path for path in artifacts if path.suffix == ".onnx"]
    return [*own, *sorted(weights_dir.glob("*.onnx")), *onnx]


def _options_of(path: Path) -> dict[str, Any]:
    for entry in other_models().values():
        if entry.config["recipe"].artifact.path == path:
            return {"model": entry.id}
    model = _card_model(path)
    return {"model": model} if packaged_onnx(MODELS[model]) == path else {
        "model": model, "weights": path.name,
    }  # fmt: skip


@lru_cache(maxsize=16)
def _card_model(path: Path) -> str:
    return read_card(path).model


def _unknown_file(model: str, run: RunSpec) -> ApiError:
    names = ", ".join(path.name for path in _known_files(run.weights_dir))
    return ApiError(
        UnknownModelError.code,
        f"model is {model!r}; expected the address or name of an ONNX file that this server has: "
        f"{names}",
    )
