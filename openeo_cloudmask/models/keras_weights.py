"""Reading the arrays of a Keras weights file (HDF5) without trusting it.

Of the file only arrays are read: no model is built from its settings, and links to other files are
refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import MissingExtraError, WeightsError

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_ROOT = "model_weights"
_DEPTH = 3
"""Layer, the layer once more, array."""
_MOST_VALUES = 100_000_000


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 does.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(HDF5_MAGIC)) == HDF5_MAGIC
    except OSError as err:
        raise WeightsError(f"cannot read the weights file {path}: {err.strerror}") from err


def read_keras(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of a model that Keras saved: ``layer/array`` -> values.

    Raises:
        WeightsError: it is damaged, no such file, or refers to other files.
        MissingExtraError: h5py is not installed.
    """
    try:
        import h5py
    except ModuleNotFoundError as err:
        raise MissingExtraError.for_extra("torch", "Reading Keras weights (with h5py)") from err
    try:
        with h5py.File(path, "r") as file:
            group = file.get(_ROOT)
            if not isinstance(group, h5py.Group):
                raise WeightsError(
                    f"{path} holds no group {_ROOT!r}; expected a model that Keras saved as HDF5"
                )
            return {name: _values(data, path) for name, data in _datasets(group, path)}
    except (OSError, RuntimeError, KeyError, ValueError) as err:
        if isinstance(err, WeightsError):
            raise
        reason = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise WeightsError(
            f"the weights file {path} is truncated, damaged or no HDF5 ({reason}); "
            "download it again"
        ) from err


def _datasets(group: Any, path: Path, depth: int = _DEPTH) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """Yield (``layer/array``, data set) of a group, which may hold links to nothing else."""
    import h5py

    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise WeightsError(f"{path} holds {name!r}, a link; expected arrays alone")
        item = group[name]
        if isinstance(item, h5py.Dataset):
            layer = item.name.split("/")[2]
            yield f"{layer}/{name.partition(':')[0]}", item
        elif depth > 1:
            yield from _datasets(item, path, depth - 1)


def _values(data: Any, path: Path) -> NDArray[np.float32]:  # noqa: ANN401
    if data.external or data.is_virtual:
        raise WeightsError(f"{path} keeps {data.name} in another file; expected one whole file")
    if data.dtype.kind != "f" or data.size > _MOST_VALUES:
        raise WeightsError(
            f"{path} holds {data.name} of type {data.dtype} with {data.size} values; expected "
            f"floats, at most {_MOST_VALUES}"
        )
    values: NDArray[np.float32] = np.asarray(data[()], np.float32)
    return values
