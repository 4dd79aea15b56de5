"""Models that this package trains itself."""

from __future__ import annotations

from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.entry import Licence, ModelEntry

_APACHE_2 = Licence(spdx="Apache-2.0", url="https://www.apache.org/licenses/LICENSE-2.0")

MINI = ModelEntry(
    id="mini",
    title="mini, a small network for any sensor",
    family="openeo-cloudmask",
    kind="mini",
    summary="A small U-Net for any sensor with blue, green, red and near infrared; it uses cirrus "
    "and both short-wave infrared bands where they are there. Its weights (under 2 MB) come with "
    "the package. Trained on simulated scenes only: it has never seen a real image, and larger "
    "networks trained on real labels may do better.",
    inputs={
        "sentinel-2-l1c": ("B02", "B03", "B04", "B08", "B10", "B11", "B12"),
        "sentinel-2-l2a": ("B02", "B03", "B04", "B08", "B11", "B12"),
        "landsat-8-9-l1": ("B2", "B3", "B4", "B5", "B9", "B6", "B7"),
        "landsat-7-l1": ("B1", "B2", "B3", "B4", "B5", "B7"),
        "landsat-4-5-l1": ("B1", "B2", "B3", "B4", "B5", "B7"),
    },
    alternatives={
        "sentinel-2-l1c": (
            ("B02", "B03", "B04", "B08", "B11", "B12"),
            ("B02", "B03", "B04", "B08", "B10"),
            ("B02", "B03", "B04", "B08", "B11"),
            ("B02", "B03", "B04", "B08"),
        ),
        "sentinel-2-l2a": (("B02", "B03", "B04", "B08", "B11"), ("B02", "B03", "B04", "B08")),
        "landsat-8-9-l1": (
            ("B2", "B3", "B4", "B5", "B6", "B7"),
            ("B2", "B3", "B4", "B5", "B9"),
            ("B2", "B3", "B4", "B5", "B6"),
            ("B2", "B3", "B4", "B5"),
        ),
        "landsat-7-l1": (("B1", "B2", "B3", "B4", "B5"), ("B1", "B2", "B3", "B4")),
        "landsat-4-5-l1": (("B1", "B2", "B3", "B4", "B5"), ("B1", "B2", "B3", "B4")),
    },
    sensor_independent=True,
    min_bands=4,
    window=Window(size_px=512, multiple_px=32),
    config={"classes": 4},
    licence=_APACHE_2,
    citation="openeo-cloudmask, network mini, trained on scenes of its own simulator.",
    source_url="urn:openeo-cloudmask:mini",
    trained_on=("openeo-cloudmask simulated scenes",),
)

KRISTOLLARI_CNN = ModelEntry(
    id="kristollari-cnn",
    title="Patch CNN of Kristollari and Karathanassi (2020)",
    family="kristollari-cnn",
    kind="kristollari-cnn",
    summary="A convolutional network of 6,363 parameters that looks at 16 x 16 pixels of 60 m "
    "around each pixel and tells cloud or not. No weights are published: train them with "
    "`cloudmask train kristollari-cnn` and pass the file as the option 'weights'. What it calls "
    "cloud is reported as such; it has no shadow.",
    inputs={
        "sentinel-2-l1c": (
            "B01",
            "B02",
            "B03",
            "B04",
            "B05",
            "B06",
            "B07",
            "B08",
            "B09",
            "B10",
            "B11",
            "B12",
            "B8A",
        ),
    },
    window=Window(size_px=512, multiple_px=1, rim_px=8, mirrored=False),
    config={"bands": 13},
    licence=_APACHE_2,
    citation="Kristollari, V., Karathanassi, V. (2020): Convolutional neural networks for "
    "detecting challenging cases in cloud masking using Sentinel-2 imagery. Proc. SPIE 11524, "
    "115240K.",
    doi="10.1117/12.2571111",
    source_url="https://doi.org/10.1117/12.2571111",
)

OWN_MODELS = (MINI, KRISTOLLARI_CNN)
