"""Small scenes labelled by hand, one ``.npz`` file each: pixels, labels and what is labelled.

A file holds ``counts`` (band, y, x) integers, reflectance = counts / 10000, -32768 no data;
``bands``, the names of the sensor's bands; ``label`` (y, x) uint8 in the four classes, 255 not
labelled; ``sensor``, a sensor of this package; ``pixel_m``; and ``shadow_labelled`` and
``thin_labelled``, false where clear may hold shadow and where all cloud is called thick. Where
they are known, ``sun_elevation_deg``, and quality layers of a provider (``SCL``, ``QA_PIXEL``, ...)
by their names. The test scenes of ukis-csmask (``img``, ``msk``), whose files do not say their
bands, are read by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS, NODATA, UKIS_FIVE, map_labels
from openeo_cloudmask.errors import OptionError, ReferenceDataError
from openeo_cloudmask.sensors import band_decoder, get_sensor

COUNTS_NODATA = -32768
COUNTS_SCALE = np.float32(10000)
OVERCAST_SHARE = 0.95
"""A scene with more cloud than this, of what is labelled, is overcast."""
_KEYS = ("counts", "bands", "label", "sensor", "pixel_m", "shadow_labelled", "thin_labelled")
_UKIS_FILES = {
    "sentinel2": ("sentinel-2-l1c", ("B02", "B03", "B04", "B08", "B11", "B12")),
    "landsat5": ("landsat-4-5-l1", ("B1", "B2", "B3", "B4", "B5", "B7")),
}
"""File stem -> sensor and bands, as the README of ukis-csmask's test data gives them."""
_UKIS_PIXEL_M = 30.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledScene:
    """A scene and what a person says is on it."""

    name: str
    """The file's name without its ending; what comes before the first ``_`` is the group."""
    sensor: str
    bands: tuple[str, ...]
    cube: NDArray[np.float32]
    """(band, y, x) float32, reflectance 0-1, NaN where no-data."""
    label: NDArray[np.uint8]
    """(y, x) uint8, the four classes, 255 where not labelled."""
    pixel_m: float
    shadow_labelled: bool
    """False where clear may hold shadow: only cloud is scored then."""
    thin_labelled: bool
    """False where all cloud is 1."""
    layers: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Quality layer -> (y, x) float32 codes as stored, NaN where no-data."""
    sun_elevation_deg: float | None = None
    """Of the sun above the horizon; None where it is not told."""

    @property
    def group(self) -> str:
        """The scenes it belongs to."""
        return self.name.split("_")[0]

    @property
    def overcast(self) -> bool:
        """Whether nearly all that is labelled is cloud."""
        labelled = self.label[self.label != NODATA]
        return float(np.isin(labelled, (1, 2)).mean()) > OVERCAST_SHARE

    @property
    def snowy(self) -> bool:
        """Whether its name says that it shows snow."""
        return "snow" in self.name.lower()

    def rgb(self) -> NDArray[np.float32]:
        """Return (3, y, x) float32 red, green, blue, reflectance 0-1, NaN where no-data.

        Raises:
            ReferenceDataError: a colour is not among its bands.
        """
        known = {band.name: band.common_name for band in get_sensor(self.sensor).bands}
        names = [known[name] for name in self.bands]
        if missing := [colour for colour in ("red", "green", "blue") if colour not in names]:
            raise ReferenceDataError(f"{self.name} has no band for {', '.join(missing)}")
        return self.cube[[names.index(colour) for colour in ("red", "green", "blue")]]


def list_scenes(folder: Path) -> tuple[Path, ...]:
    """Return the scenes in a folder, by name.

    Raises:
        ReferenceDataError: there is no such folder, or no scene in it.
    """
    paths = tuple(sorted(folder.glob("*.npz")))
    if not paths:
        raise ReferenceDataError(
            f"{folder} holds no labelled scenes; expected a folder with .npz files, which hold "
            f"{', '.join(_KEYS)}"
        )
    return paths


def read_labelled(path: Path, *, labelled: bool = True) -> LabelledScene:
    """Return the scene in a file.

    Args:
        path: the file.
        labelled: False for files that hold ``counts``, ``bands`` and ``sensor`` alone; the label
            is 255 everywhere then.

    Raises:
        ReferenceDataError: it cannot be read, or does not hold what is expected.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {key: file[key] for key in file.files}
    except (OSError, EOFError, BadZipFile, ValueError, TypeError, AttributeError) as err:
        raise ReferenceDataError(f"{path} cannot be read as .npz: {err}") from err
    if {"img", "msk"} <= content.keys():
        return _check(path, _read_ukis(path, content["img"], content["msk"]))
    if not labelled:
        content = _without_labels(content)
    if missing := [key for key in _KEYS if key not in content]:
        raise ReferenceDataError(
            f"{path} has no {', '.join(missing)}; expected {', '.join(_KEYS)}, or img and msk"
        )
    counts = content["counts"]
    if counts.ndim != 3 or counts.dtype.kind != "i":
        raise ReferenceDataError(
            f"{path} has counts {counts.dtype} of shape {counts.shape}; expected integers of "
            "(band, y, x)"
        )
    cube = np.where(counts == COUNTS_NODATA, np.float32(np.nan), counts / COUNTS_SCALE)
    scene = LabelledScene(
        name=path.stem,
        sensor=str(content["sensor"]),
        bands=tuple(str(name) for name in np.atleast_1d(content["bands"])),
        cube=cube.astype(np.float32),
        label=content["label"],
        pixel_m=float(content["pixel_m"]),
        shadow_labelled=bool(content["shadow_labelled"]),
        thin_labelled=bool(content["thin_labelled"]),
        layers=_read_layers(str(content["sensor"]), content),
        sun_elevation_deg=_elevation(path, content),
    )
    return _check(path, scene, labelled=labelled)


def _elevation(path: Path, content: dict[str, Any]) -> float | None:
    if "sun_elevation_deg" not in content:
        return None
    elevation = float(content["sun_elevation_deg"])
    if not -90 <= elevation <= 90:
        raise ReferenceDataError(
            f"{path} says sun_elevation_deg {elevation}; expected degrees from -90 to 90"
        )
    return elevation


def _without_labels(content: dict[str, Any]) -> dict[str, Any]:
    """Return a file's content with what a scene without labels need not say."""
    if "counts" not in content:
        return content
    label = np.full(content["counts"].shape[1:], NODATA, np.uint8)
    return {
        "pixel_m": np.nan,
        **content,
        "label": label,
        "shadow_labelled": False,
        "thin_labelled": False,
    }


def _read_layers(sensor: str, content: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    layers = {}
    for key, values in content.items():
        if (layer := get_sensor(sensor).find_layer(key)) is not None:
            layers[layer.name] = band_decoder(layer).convert(values.astype(np.float32))
    return layers


def _read_ukis(path: Path, image: NDArray[Any], labels: NDArray[Any]) -> LabelledScene:
    if path.stem not in _UKIS_FILES:
        raise ReferenceDataError(
            f"{path} holds img and msk, but its name does not say the sensor; expected one of "
            f"{', '.join(f'{name}.npz' for name in _UKIS_FILES)}"
        )
    if image.ndim != 3 or labels.shape != (*image.shape[:2], 1):
        raise ReferenceDataError(
            f"{path} has img {image.shape} and msk {labels.shape}; expected (y, x, band) and "
            "(y, x, 1)"
        )
    sensor, bands = _UKIS_FILES[path.stem]
    try:
        label = map_labels(labels[..., 0].astype(np.uint8), UKIS_FIVE, FOUR_CLASS)
    except OptionError as err:
        raise ReferenceDataError(f"{path}: {err}") from err
    return LabelledScene(
        name=path.stem,
        sensor=sensor,
        bands=bands,
        cube=np.ascontiguousarray(np.moveaxis(image, -1, 0), dtype=np.float32),
        label=label,
        pixel_m=_UKIS_PIXEL_M,
        shadow_labelled=True,
        thin_labelled=False,
    )


def _check(path: Path, scene: LabelledScene, *, labelled: bool = True) -> LabelledScene:
    """Return the scene if its parts fit each other."""
    sensor = get_sensor(scene.sensor)
    if strange := sorted(set(scene.bands) - set(sensor.band_names)):
        raise ReferenceDataError(
            f"{path} has bands {', '.join(strange)}; {scene.sensor} has "
            f"{', '.join(sensor.band_names)}"
        )
    if len(scene.bands) != len(scene.cube):
        raise ReferenceDataError(
            f"{path} has {len(scene.cube)} planes and names {len(scene.bands)} bands"
        )
    for name, values in scene.layers.items():
        if values.shape != scene.cube.shape[1:]:
            raise ReferenceDataError(
                f"{path} has {name} of shape {values.shape}; expected {scene.cube.shape[1:]}"
            )
    check_mask(scene.label, scene.cube.shape[1:], f"the label of {path}")
    if labelled and not (scene.label != NODATA).any():
        raise ReferenceDataError(f"{path} has no labelled pixel: its label is 255 everywhere")
    return scene


def check_mask(labels: NDArray[Any], shape: tuple[int, ...], what: str) -> None:
    """Check that ``labels`` is a four-class mask of ``shape``.

    Raises:
        ReferenceDataError: it is not.
    """
    if labels.shape != shape or labels.dtype != np.uint8:
        raise ReferenceDataError(
            f"{what} is {labels.dtype} of shape {labels.shape}; expected uint8 of {shape}"
        )
    if strange := sorted(set(np.unique(labels).tolist()) - {*FOUR_CLASS.values, NODATA}):
        raise ReferenceDataError(
            f"{what} holds {strange}; expected {list(FOUR_CLASS.values)} and 255"
        )
