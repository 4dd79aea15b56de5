"""Files of a training: checkpoints to go on from, and weights; each written whole or not at all."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.errors import WeightsError
from openeo_cloudmask.publish import publish_file

if TYPE_CHECKING:
    from torch import Tensor


def save_checkpoint(content: Mapping[str, Any], path: Path) -> None:
    """Write ``content``, which holds the ``options`` of the run, as a checkpoint."""
    import torch

    with publish_file(path) as part:
        torch.save(content, part)


def read_checkpoint(
    path: Path, options: Mapping[str, Any], *, may_differ: Collection[str] = ()
) -> dict[str, Any]:
    """Return what a checkpoint holds.

    Args:
        path: the checkpoint.
        options: those of the run that is to go on.
        may_differ: names of options that do not make it another run.

    Raises:
        WeightsError: it cannot be read, or was made with other options.
    """
    import pickle

    import torch

    try:
        content: dict[str, Any] = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as err:
        raise WeightsError(f"cannot read the checkpoint {path}: {err}") from err
    theirs = dict(content.get("options", {}))
    if theirs | {name: options[name] for name in may_differ} != dict(options):
        raise WeightsError(
            f"the checkpoint {path} was made with {theirs}; expected {dict(options)}. "
            "Give the same options, or another folder"
        )
    return content


def write_safetensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]
) -> None:
    """Write weights as safetensors, readable for all."""
    from safetensors.torch import save_file

    with publish_file(path) as part:
        save_file(dict(tensors), part, metadata=dict(metadata))
        part.chmod(0o644)  # safetensors makes files for their owner alone
