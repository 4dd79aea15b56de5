"""How fast models are on this machine: measured by the masks that were made here."""

from __future__ import annotations

import json
import math
import os
import tempfile
import threading
from pathlib import Path

from openeo_cloudmask.models.weights import cache_folder
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.publish import publish_text
from openeo_cloudmask.version import __version__
from openeo_cloudmask.viewer.names import DATA_VARIABLE

FILE = "speeds.json"
LEAST_PIXELS = 512 * 512
"""Of smaller images the time is mostly that of loading the model."""
TRIAL_PX = 1024
SENSOR = "sentinel-2-l1c"
_LOCK = threading.Lock()


def data_folder() -> Path:
    """Return the folder where the viewer keeps files."""
    return Path(os.environ.get(DATA_VARIABLE) or cache_folder() / "viewer")


def read_speeds(folder: Path) -> dict[str, float]:
    """Return model -> megapixels per second of the last mask it made here with this version."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        known = found[__version__]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {
        str(model): float(speed)
        for model, speed in (known.items() if isinstance(known, dict) else ())
        if isinstance(speed, int | float) and math.isfinite(speed) and speed > 0
    }


def note_speed(folder: Path, model: str, *, pixels: int, seconds: float) -> None:
    """Write down how fast a mask was made; small images say nothing.

    Raises:
        OutputError: the file cannot be written.
    """
    if pixels < LEAST_PIXELS or seconds <= 0:
        return
    with _LOCK:
        known = read_speeds(folder) | {model: pixels / seconds / 1e6}
        folder.mkdir(parents=True, exist_ok=True)
        publish_text(folder / FILE, json.dumps({__version__: known}))


def measure_speed(folder: Path, model: str) -> float:
    """Return megapixels per second of a model on a simulated scene, and write it down.

    Raises:
        CloudMaskError: the model does not run here, or takes no Sentinel-2.
    """
    from openeo_cloudmask.products import mask_product
    from openeo_cloudmask.simulator.products import write_geotiff
    from openeo_cloudmask.simulator.scene import simulate_scene

    with tempfile.TemporaryDirectory(prefix="cloudmask-speed-") as name:
        scene = write_geotiff(simulate_scene(1, size=TRIAL_PX), Path(name) / "scene.tif")
        options = MaskOptions(model=model, sensor=SENSOR)
        report = mask_product(scene, Path(name) / "mask.tif", options)
    note_speed(folder, model, pixels=TRIAL_PX**2, seconds=report.seconds)
    return TRIAL_PX**2 / report.seconds / 1e6
