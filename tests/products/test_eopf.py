"""Sentinel-2 as EOPF Zarr, in both formats of Zarr."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from openeo_cloudmask.errors import BandError, OptionError, ProductError, SensorError
from openeo_cloudmask.products import open_product

zarr = pytest.importorskip("zarr")

NAME = "S2C_MSIL1C_20250610T103641_N0511_R008_T32UMD_20250610T132001"
GROUPS = {10: ("b02", "b03", "b04", "b08"), 20: ("b11", "b12"), 60: ("b10",)}
ULX, ULY, SIZE_M = 499980, 5300040, 600


def counts(resolution: int, seed: int = 0) -> NDArray[np.uint16]:
    size = SIZE_M // resolution
    pixels = np.random.default_rng((resolution, seed)).integers(1001, 9000, (size, size))
    pixels[: 60 // resolution] = 0
    return pixels.astype(np.uint16)


def write_product(
    folder: Path,
    zarr_format: int,
    *,
    bands: Mapping[str, NDArray[Any]] | None = None,
    left: float = ULX,
    **root: Any,
) -> Path:
    """Write a product as EOPF lays it out: groups by pixel size, attributes per array.

    ``bands`` are counts of 60 x 60 pixels (y, x) of those that are not random.
    """
    given = bands or {}
    path = folder / f"{NAME}.zarr"
    store = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    store.attrs["stac_discovery"] = {
        "type": "Feature",
        "id": NAME,
        "properties": {
            "datetime": "2025-06-10T10:36:41.024Z",
            "platform": "sentinel-2c",
            "product:type": "S02MSIL1C",
            "proj:epsg": 32632,
        },
    } | root
    for resolution, names in GROUPS.items():
        group = store.require_group(f"measurements/reflectance/r{resolution}m")
        for dim, first, step in (("x", left, resolution), ("y", ULY, -resolution)):
            centres = first + step * (np.arange(SIZE_M // resolution) + 0.5)
            _write(group, dim, centres, (dim,), zarr_format)
        for seed, band in enumerate(names):
            attributes = {"scale_factor": 0.0001, "add_offset": -0.1, "_FillValue": 0}
            array = _write(
                group, band, given.get(band, counts(resolution, seed)), ("y", "x"), zarr_format
            )
            array.attrs.update(attributes)
    return path


def _write(group: Any, name: str, values: Any, dims: tuple[str, ...], zarr_format: int) -> Any:
    options: dict[str, Any] = {"dimension_names": dims} if zarr_format == 3 else {}
    array = group.create_array(name, shape=values.shape, dtype=values.dtype, **options)
    array[:] = values
    if zarr_format == 2:
        array.attrs["_ARRAY_DIMENSIONS"] = list(dims)
    return array


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_product_is_the_arrays_in_it(
    zarr_format: int, tmp_path: Path, write_raster: Callable[..., Path]
) -> None:
    path = write_product(tmp_path, zarr_format)
    ten = np.stack([counts(10, seed) for seed in range(4)])
    plain = write_raster(ten, labels=["B02", "B03", "B04", "B08"], nodata=0)
    with (
        open_product(path) as scene,
        open_product(plain, scale=0.0001, offset=-0.1) as expected,
    ):
        assert scene.sensor is not None
        assert scene.sensor.id == "sentinel-2-l1c"
        assert scene.band_labels == ("B02", "B03", "B04", "B08", "B10", "B11", "B12")
        assert scene.acquired is not None
        assert scene.acquired.isoformat() == "2025-06-10T10:36:41.024000+00:00"
        assert scene.metadata["platform"] == "sentinel-2c"
        assert scene.grid == expected.grid
        four = scene.cube(["B02", "B03", "B04", "B08"])[:, :, :]
        np.testing.assert_array_equal(four, expected.cube()[:, :, :])
        whole = scene.cube()[:, :, :]
        np.testing.assert_array_equal(scene.cube()[:, 13:40, 7:51], whole[:, 13:40, 7:51])
        assert np.isnan(whole[:, :6]).all()
        assert np.isfinite(whole[:, 7:]).all()
    with open_product(path, bands=["B11", "B12"]) as coarse:
        assert coarse.grid.shape_yx == (30, 30)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    path = write_product(tmp_path, 2)
    with pytest.raises(BandError, match=r"missing bands B05 in .*; it has B02, B03"):
        open_product(path, bands=["B02", "B05"])
    with pytest.raises(OptionError, match="is an EOPF product: scale cannot be given"):
        open_product(path, scale=0.0001)
    with pytest.raises(SensorError, match="is a product of sentinel-2-l1c, but"):
        open_product(path, sensor="sentinel-2-l2a")
    nowhere = write_product(tmp_path, 2, properties={"product:type": "S02MSIL1C"})
    with pytest.raises(ProductError, match="does not say its coordinate reference system"):
        open_product(nowhere)
