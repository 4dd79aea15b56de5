"""A picture to see at a glance what a mask is worth: image, masks, legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from openeo_cloudmask.classes import NODATA, NODATA_CLASS, ClassScheme
from openeo_cloudmask.errors import InputError, OutputError
from openeo_cloudmask.publish import publish_file

PANEL_PX = 512
_GAP, _TITLE, _CAPTION, _LEGEND = 20, 46, 30, 44
_PAPER, _INK, _SOFT = (255, 255, 255), (24, 24, 24), (96, 96, 96)
_NODATA_RGB = NODATA_CLASS.rgba[:3]
_STRETCH_PERCENT = (1.0, 97.0)
_LEAST_RANGE = 0.5
"""Reflectance from black to white at least: an overcast sky or snow stays light and shows shape."""
_GAMMA = 1.6


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskPanel:
    """A mask, and what stands above it."""

    caption: str
    labels: NDArray[np.uint8]
    """(y, x) uint8, class values; 255 is no-data."""


def stretch_rgb(rgb: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return an image to look at.

    Args:
        rgb: (3, y, x) float32 red, green, blue, reflectance 0-1, NaN where no-data.

    Returns:
        (y, x, 3) uint8; light grey where no-data. One stretch for the three bands keeps the hues.
    """
    nodata = ~np.isfinite(rgb).all(axis=0)
    if nodata.all():
        return np.full((*nodata.shape, 3), _NODATA_RGB[0], np.uint8)
    low, high = np.percentile(rgb[:, ~nodata], _STRETCH_PERCENT)
    low = min(low, max(0.0, high - _LEAST_RANGE))
    scaled = np.clip((np.nan_to_num(rgb) - low) / max(high - low, 1e-6), 0.0, 1.0)
    image = np.rint(255.0 * scaled ** (1.0 / _GAMMA)).astype(np.uint8)
    image[:, nodata] = np.asarray(_NODATA_RGB, np.uint8)[:, np.newaxis]
    return np.moveaxis(image, 0, -1)


def paint_mask(labels: NDArray[np.uint8], scheme: ClassScheme) -> NDArray[np.uint8]:
    """Return (y, x, 3) uint8: each class in its colour, no-data light grey."""
    table = np.full((256, 3), _NODATA_RGB, np.uint8)
    for item in scheme.classes:
        table[item.value] = item.rgba[:3]
    painted: NDArray[np.uint8] = table[labels]
    return painted


def draw_quicklook(
    rgb: NDArray[np.float32],
    panels: Sequence[MaskPanel],
    scheme: ClassScheme,
    *,
    title: str,
    note: str = "",
) -> Image.Image:
    """Return the picture: the image, one panel for each mask, a legend with shares of the scene.

    Args:
        rgb: (3, y, x) float32 red, green, blue, reflectance 0-1, NaN where no-data.
        panels: masks of the same y and x.
        scheme: classes of all masks.
        title: headline.
        note: a line below the headline's right end, e.g. scores.

    Raises:
        InputError: a mask has not the image's shape.
    """
    for panel in panels:
        if panel.labels.shape != rgb.shape[1:]:
            raise InputError(
                f"mask {panel.caption!r} has shape {panel.labels.shape}; expected that of the "
                f"image, {rgb.shape[1:]}"
            )
    height, width = rgb.shape[1:]
    factor = PANEL_PX / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    pictures = [
        ("Image (red, green, blue)", _shown(stretch_rgb(rgb), size, Image.Resampling.LANCZOS))
    ]
    pictures += [
        (panel.caption, _shown(paint_mask(panel.labels, scheme), size, Image.Resampling.NEAREST))
        for panel in panels
    ]
    total = (
        _GAP + len(pictures) * (size[0] + _GAP),
        _TITLE + _CAPTION + size[1] + _LEGEND,
    )
    sheet = Image.new("RGB", total, _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 14), title, fill=_INK, font=_font(20))
    if note:
        draw.text((total[0] - _GAP, 19), note, fill=_SOFT, font=_font(15), anchor="ra")
    for index, (caption, picture) in enumerate(pictures):
        left = _GAP + index * (size[0] + _GAP)
        draw.text((left, _TITLE + 6), caption, fill=_INK, font=_font(15))
        sheet.paste(picture, (left, _TITLE + _CAPTION))
    _draw_legend(draw, panels, scheme, top=_TITLE + _CAPTION + size[1] + 14)
    return sheet


def write_quicklook(path: Path, picture: Image.Image) -> Path:
    """Write the picture as PNG, atomically, and return ``path``.

    Raises:
        OutputError: it cannot be written there.
    """
    try:
        with publish_file(path) as part:
            picture.save(part, "PNG", optimize=True)
    except OSError as err:
        raise OutputError(f"cannot write the picture {path}: {err}") from err
    return path


def _draw_legend(
    draw: ImageDraw.ImageDraw, panels: Sequence[MaskPanel], scheme: ClassScheme, *, top: int
) -> None:
    font, left = _font(15), _GAP
    entries = [(item.title, item.rgba[:3], item.value) for item in scheme.classes]
    if any((panel.labels == NODATA).any() for panel in panels):
        entries.append(("No data", _NODATA_RGB, NODATA))
    for label, color, value in entries:
        shares = " / ".join(f"{100 * np.mean(panel.labels == value):.0f}" for panel in panels)
        text = f"{label}  {shares} %"
        draw.rectangle((left, top, left + 18, top + 18), fill=color, outline=_SOFT)
        draw.text((left + 26, top), text, fill=_INK, font=font)
        left += round(draw.textlength(text, font=font)) + 26 + 2 * _GAP
    names = " / ".join(panel.caption for panel in panels)
    draw.text((left, top), f"(share of the image: {names})", fill=_SOFT, font=font)


def _shown(
    pixels: NDArray[np.uint8], size: tuple[int, int], resampling: Image.Resampling
) -> Image.Image:
    return Image.fromarray(pixels, "RGB").resize(size, resampling)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
