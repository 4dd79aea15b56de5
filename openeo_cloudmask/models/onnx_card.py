"""The card inside an exported ONNX file: all that is needed to use it without the registry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openeo_cloudmask.classes import SCHEMES, ClassScheme
from openeo_cloudmask.errors import OptionError, WeightsError
from openeo_cloudmask.inference import Window
from openeo_cloudmask.models.calibration import Calibration, parse_calibration

CARD_KEY = "openeo_cloudmask"
"""Key of the card in the file's ``metadata_props``; its value is JSON."""

SCALING = (
    "optical bands: reflectance 0-1; thermal bands: brightness temperature normalised to 0-1; "
    "pixels that are not valid: 0"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxCard:
    """What an exported file says of itself."""

    model: str
    title: str
    sensor: str
    bands: tuple[str, ...]
    """Planes of the input ``windows``, in order, as the sensor calls them. Where the sensor is
    ``any``, they are common names."""
    descriptors: tuple[Mapping[str, Any], ...]
    """One per band: kind and wavelengths (nm) for which the file was made."""
    scheme: str
    classes: tuple[str, ...]
    """Planes of the output ``probabilities``, in order."""
    window_px: int
    multiple_px: int
    pixelwise: bool = False
    rim_px: int = 0
    mirrored: bool = True
    optional: tuple[str, ...] = ()
    """Bands that may be missing: their planes are 0, and so are they in the input ``present``."""
    percentiles: tuple[float, ...] = ()
    """Fractions 0-1: which percentiles of each band the input ``percentiles`` holds, over the
    valid pixels of a window, interpolated linearly; 0 where no pixel is valid."""
    precision: str = "fp32"
    """Number format of its products: ``fp32`` or ``int8``."""
    equal_classes: float | None = None
    """Of an int8 file: the share of the pixels of the guard's scenes whose class is that of the
    file it was made from, 0-1."""
    made_from: str | None = None
    """Of an int8 file: SHA-256 of the file it was made from."""
    calibration: Calibration | None = None
    """How its percentages were brought to what references say (``cloudmask calibrate``)."""
    scaling: str
    licence: str
    licence_url: str
    citation: str
    doi: str | None
    source_url: str

    @property
    def class_scheme(self) -> ClassScheme:
        """The classes as the package knows them."""
        return SCHEMES[self.scheme]

    @property
    def window(self) -> Window:
        """The window the file takes."""
        return Window(
            size_px=self.window_px,
            multiple_px=self.multiple_px,
            pixelwise=self.pixelwise,
            rim_px=self.rim_px,
            mirrored=self.mirrored,
        )

    def to_json(self) -> str:
        """Return the card as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


def parse_card(metadata: Mapping[str, str], path: Path) -> OnnxCard:
    """Return the card in the metadata of an ONNX file.

    Raises:
        WeightsError: There is no card, or it does not say what is needed.
    """
    text = metadata.get(CARD_KEY)
    if text is None:
        raise WeightsError(
            f"{path} carries no card of a model; expected a file that `cloudmask export` wrote"
        )
    try:
        content = json.loads(text)
        for name in ("bands", "descriptors", "classes", "optional", "percentiles"):
            content[name] = tuple(content.get(name, ()))
        content["calibration"] = parse_calibration(content.get("calibration"))
        card = OnnxCard(**content)
        names = card.class_scheme.names
        card.window  # noqa: B018 - checks the sizes
    except (ValueError, TypeError, KeyError, AttributeError, OptionError) as err:
        raise WeightsError(f"the card in {path} cannot be read: {err}; export it anew") from err
    if card.classes != names or len(card.descriptors) != len(card.bands):
        raise WeightsError(
            f"the card in {path} contradicts itself: classes {', '.join(card.classes)}, expected "
            f"{', '.join(names)}; {len(card.descriptors)} descriptors for {len(card.bands)} bands"
        )
    return card
