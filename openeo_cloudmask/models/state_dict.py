"""Reading weights files without trusting them, and loading them into networks strictly."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.errors import WeightsError
from openeo_cloudmask.models.networks.segformer_names import published_key

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from openeo_cloudmask.models.entry import LoadRequest

_SHOWN = 5
_WRAPPERS = ("state_dict", "model_state_dict")
_PREFIXES = ("model.", "module.")
_ZIP_MAGIC = b"PK\x03\x04"


def load_state_dict_strict(
    network: nn.Module, path: str | Path, *, training_only: str | None = None
) -> None:
    """Load a weights file into ``network``, which has to have exactly its keys and shapes.

    Args:
        network: Is changed in place.
        path: ``.safetensors``, or what ``torch.save`` wrote of a state dict; checkpoints that keep
            it under ``state_dict`` and keys that begin with ``model.`` are unwrapped.
        training_only: Prefix of the keys of a part that was used in training alone; they may be
            there and are left out.

    Raises:
        WeightsError: The file cannot be read, holds other things than tensors, its keys or shapes
            are not the network's, or it holds values that are no finite numbers.
    """
    path = Path(path)
    own = set(network.state_dict())
    given = {
        key if key in own else published_key(key): tensor
        for key, tensor in read_tensors(path).items()
    }
    given = _strip_prefixes(given, own)
    if training_only is not None:
        given = {key: item for key, item in given.items() if not key.startswith(training_only)}
    load_tensors_strict(network, given, path)


def load_tensors_strict(network: nn.Module, given: dict[str, Tensor], path: Path) -> None:
    """Load tensors into ``network``, which has to have exactly their names and shapes.

    Args:
        network: Is changed in place.
        given: Name -> tensor.
        path: The file they are from, for messages.

    Raises:
        WeightsError: Names or shapes are not the network's, or values are no finite numbers.
    """
    _check_keys(network.state_dict(), given, path)
    _check_values(given, path)
    network.load_state_dict(given, strict=True)


def load_network_strict(request: LoadRequest) -> nn.Module:
    """The network of a model's settings, with the weights of its file.

    Raises:
        WeightsError: As ``load_state_dict_strict``.
    """
    network = request.entry.kind.build(request.entry.config)
    load_state_dict_strict(network, request.weights_file)
    return network


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file, by name.

    Raises:
        WeightsError: The file cannot be read or holds other things than tensors.
    """
    head = _read_head(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if head == _ZIP_MAGIC:
        _check_zip(path)
    content = _unpickle(path)
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    return _only_tensors(content, path)


def load_torchscript(path: str | Path, device: torch.device) -> torch.jit.ScriptModule:
    """The network in a TorchScript file, in eval mode on ``device``.

    Raises:
        WeightsError: The file is damaged or is no TorchScript.
    """
    import torch

    path = Path(path)
    if _read_head(path) != _ZIP_MAGIC:
        raise WeightsError(
            f"{path} is no TorchScript file (it is no zip archive); expected one that "
            "torch.jit.save wrote, as published for this model"
        )
    if not _check_zip(path):
        raise WeightsError(
            f"{path} is no TorchScript file (it holds no code); expected one that torch.jit.save "
            "wrote, as published for this model. It may be a state dict of another model"
        )
    try:
        with warnings.catch_warnings():
            # torch advises authors to publish in another format; readers have no choice.
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            script: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call]
                str(path), map_location=device
            )
    except (RuntimeError, ValueError, OSError) as err:
        raise WeightsError(f"{path} cannot be read as TorchScript: {_first_line(err)}") from err
    script.eval()
    return script


def _read_head(path: Path) -> bytes:
    """The first 4 bytes, after a look for what else lands under the name of a weights file."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as err:
        raise WeightsError(f"cannot read the weights file {path}: {err.strerror}") from err
    if not head:
        raise WeightsError(f"the weights file {path} is empty; download it again")
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(
            f"{path} is a Git LFS pointer, not the weights themselves; download the file itself"
        )
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise WeightsError(f"{path} is a web page, not a weights file; download the file itself")
    return head[:4]


def _check_zip(path: Path) -> bool:
    """Check that a zip archive is whole; return whether it is TorchScript."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError) as err:
        raise WeightsError(
            f"the weights file {path} is truncated or damaged ({path.stat().st_size} bytes, "
            f"{_first_line(err)}); download it again"
        ) from err


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as err:
        raise WeightsError(
            f"the weights file {path} is truncated or is no safetensors file: {_first_line(err)}"
        ) from err
    return tensors


def _unpickle(path: Path) -> Any:  # noqa: ANN401 - what it is, is found out next
    import torch

    if _is_torchscript(path):
        raise WeightsError(
            f"{path} is a TorchScript file, expected a state dict; it belongs to another model"
        )
    try:
        with warnings.catch_warnings():
            # A pickle of another protocol than torch's own fails or loads; either says enough.
            warnings.filterwarnings("ignore", category=UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as err:
        if "Unsupported" in str(err) or "GLOBAL" in str(err):
            raise WeightsError(
                f"the weights file {path} holds other objects than tensors, which are not loaded "
                f"because they could run code ({_culprit(err)}); expected a state dict of tensors"
            ) from err
        raise WeightsError(
            f"the weights file {path} is truncated, damaged or no weights file; download it again"
        ) from err
    except (RuntimeError, EOFError, KeyError, ValueError, OSError, AttributeError) as err:
        raise WeightsError(
            f"the weights file {path} is truncated, damaged or no weights file "
            f"({type(err).__name__}); download it again"
        ) from err


def _is_torchscript(path: Path) -> bool:
    return zipfile.is_zipfile(path) and _check_zip(path)


def _only_tensors(content: object, path: Path) -> dict[str, Tensor]:
    import torch

    if not isinstance(content, Mapping) or not content:
        raise WeightsError(
            f"the weights file {path} holds a {type(content).__name__}; "
            "expected a state dict (names with tensors)"
        )
    strange = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise WeightsError(
            f"the weights file {path} holds things that are no tensors: {_some(strange)}; "
            "expected a state dict (names with tensors)"
        )
    return {str(key): value for key, value in content.items()}


def _strip_prefixes(given: dict[str, Tensor], own: set[str]) -> dict[str, Tensor]:
    """Take off a prefix that training frameworks put before every name."""
    for prefix in _PREFIXES:
        if given.keys() != own and all(key.startswith(prefix) for key in given):
            given = {key.removeprefix(prefix): value for key, value in given.items()}
    return given


def _check_keys(own: dict[str, Tensor], given: dict[str, Tensor], path: Path) -> None:
    problems = []
    if missing := [key for key in own if key not in given]:
        problems.append(f"{len(missing)} keys are missing: {_some(missing)}")
    if extra := [key for key in given if key not in own]:
        problems.append(f"{len(extra)} keys are not expected: {_some(extra)}")
    shapes = [
        f"{key} is {tuple(given[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in given and given[key].shape != own[key].shape
    ]
    if shapes:
        problems.append(f"{len(shapes)} shapes differ: {_some(shapes)}")
    if problems:
        raise WeightsError(
            f"the weights in {path} are not of this network: {'; '.join(problems)}. "
            "Choose the model that the file belongs to"
        )


def _check_values(given: dict[str, Tensor], path: Path) -> None:
    broken = [key for key, tensor in given.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise WeightsError(
            f"the weights in {path} hold values that are no finite numbers, in {len(broken)} keys: "
            f"{_some(broken)}. The file is damaged, or its training failed; take another one"
        )


def _some(items: list[str]) -> str:
    rest = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _culprit(err: pickle.UnpicklingError) -> str:
    """The line of torch's long message that says what was met; the rest gives unsafe advice."""
    lines = (line.strip() for line in str(err).splitlines())
    found = next((line for line in lines if "Unsupported" in line or "GLOBAL" in line), "")
    return found.split(" was not")[0][:200]


def _first_line(err: BaseException) -> str:
    return (str(err).strip().splitlines() or [type(err).__name__])[0][:300]
