"""Reading the arrays of a Keras weights file (HDF5) without trusting it.

Of the file only arrays are read: no model is built from its settings, and links to other files are
refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import InputError, MissingExtraError, WeightsError
from openeo_cloudmask.hdf5 import own_arrays

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_ROOT = "model_weights"
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
            found = {
                _key(place): _values(data, place, path)
                for place, data in own_arrays(file)
                if place.startswith(f"/{_ROOT}/")
            }
    except InputError as err:
        raise WeightsError(f"the weights file {path} {err}") from None
    except (OSError, RuntimeError, KeyError, ValueError) as err:
        if isinstance(err, WeightsError):
            raise
        reason = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise WeightsError(
            f"the weights file {path} is truncated, damaged or no HDF5 ({reason}); "
            "download it again"
        ) from err
    if not found:
        raise WeightsError(
            f"{path} holds no arrays in {_ROOT!r}; expected a model that Keras saved as HDF5"
        )
    return found


def _key(place: str) -> str:
    """Return ``layer/array`` of ``/model_weights/layer/layer/array:0``."""
    parts = place.split("/")
    return f"{parts[2]}/{parts[-1].partition(':')[0]}"


def _values(data: Any, place: str, path: Path) -> NDArray[np.float32]:  # noqa: ANN401
    if data.dtype.kind != "f" or data.size > _MOST_VALUES:
        raise WeightsError(
            f"{path} holds {place} of type {data.dtype} with {data.size} values; expected "
            f"floats, at most {_MOST_VALUES}"
        )
    values: NDArray[np.float32] = np.asarray(data[()], np.float32)
    return values
