"""Cubes as back ends pass them, and a small detector that sees its whole window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import xarray as xr

from openeo_cloudmask import datacube
from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.inference import Window
from openeo_cloudmask.models import registry
from openeo_cloudmask.models.entry import Licence, ModelEntry
from openeo_cloudmask.models.families.hollstein import RULE

BANDS = ("B02", "B03", "B04")
TINY = ModelEntry(
    id="tiny",
    title="A detector for tests",
    family="tests",
    kind=RULE,
    summary="Looks at the whole window.",
    inputs={"sentinel-2-l1c": BANDS},
    window=Window(size_px=96, multiple_px=32),
    licence=Licence(spdx="Apache-2.0", url="https://www.apache.org/licenses/LICENSE-2.0"),
    citation="-",
    source_url="https://example.org",
)


class TinyDetector:
    """Mixes the pixel, its place in the window, and the mean of the window's valid pixels."""

    band_names = BANDS
    scheme = FOUR_CLASS
    window = TINY.window

    def predict_windows(self, windows: np.ndarray, valid: np.ndarray) -> np.ndarray:
        size = self.window.size_px
        ramp = np.linspace(0, 1, size, dtype=np.float32)
        mean = windows.sum(axis=(1, 2, 3)) / np.maximum(valid.sum(axis=(1, 2)), 1)
        logits = np.stack(
            [
                6 * windows[:, 0] + mean[:, None, None],
                4 * windows[:, 1] + ramp[:, None],
                5 * windows[:, 2] + ramp[None, :],
                np.broadcast_to(3 * mean[:, None, None], valid.shape),
            ],
            axis=1,
        )
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def tiny() -> Iterator[str]:
    """Register the detector under the name ``tiny`` and return the name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.MODELS, "tiny", TINY)
        real = datacube.mask_datacube
        loaded = partial(real, load=lambda *_, **__: TinyDetector())
        patch.setattr(datacube, "mask_datacube", loaded)
        yield "tiny"


@pytest.fixture(scope="session")
def cut_by_client() -> Callable[[dict[str, Any]], None]:
    """Return a function that has a graph's UDF run on the neighbourhoods the graph asks for.

    The back end masks cubes whole where it knows the function: it does not know this text of it.
    """

    def change(graph: dict[str, Any]) -> None:
        process = graph["applyneighborhood1"]["arguments"]["process"]["process_graph"]
        process["runudf1"]["arguments"]["udf"] += "# cut as the graph says\n"

    return change


@pytest.fixture(scope="session")
def make_cube() -> Callable[..., xr.DataArray]:
    """Return a function that makes a (t, bands, y, x) cube of noise from a seed."""

    def make(
        height: int = 150,
        width: int = 170,
        *,
        bands: tuple[str, ...] = BANDS,
        dates: int = 1,
        seed: int = 0,
        origin: tuple[float, float] = (5_000_005.0, 300_005.0),
    ) -> xr.DataArray:
        rng = np.random.default_rng(seed)
        return xr.DataArray(
            rng.random((dates, len(bands), height, width), np.float32),
            dims=("t", "bands", "y", "x"),
            coords={
                "t": np.datetime64("2026-06-01", "ns") + np.arange(dates) * np.timedelta64(5, "D"),
                "bands": list(bands),
                "y": (origin[0] - 10.0 * np.arange(height)).astype(np.float32),
                "x": (origin[1] + 10.0 * np.arange(width)).astype(np.float32),
            },
        )

    return make
