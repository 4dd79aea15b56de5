"""All scenes of a model on one picture: image, mask and label side by side, to be looked at."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.evaluation.quicklook import paint_mask, stretch_rgb

_SIDE, _GAP, _CAPTION, _HEAD, _COLUMNS = 200, 8, 36, 34, 3
_PAPER, _INK, _SOFT = (255, 255, 255), (24, 24, 24), (96, 96, 96)


@dataclass(slots=True, kw_only=True)
class ContactSheet:
    """Collects small pictures of scenes."""

    title: str
    _cells: list[tuple[str, str, Image.Image]] = field(default_factory=list)

    def add(
        self,
        name: str,
        note: str,
        rgb: NDArray[np.float32],
        mask: NDArray[np.uint8],
        label: NDArray[np.uint8],
    ) -> None:
        """Add a scene.

        Args:
            name: what stands above it.
            note: a line under the name, such as its scores.
            rgb: (3, y, x) float32 red, green, blue, reflectance 0-1, NaN where no-data.
            mask: (y, x) uint8, the four classes, 255 no data.
            label: the same, 255 not labelled.
        """
        strip = Image.new("RGB", (3 * _SIDE + 2 * _GAP, _SIDE), _PAPER)
        pictures = (stretch_rgb(rgb), paint_mask(mask, FOUR_CLASS), paint_mask(label, FOUR_CLASS))
        for place, pixels in enumerate(pictures):
            way = Image.Resampling.BOX if place == 0 else Image.Resampling.NEAREST
            small = Image.fromarray(pixels, "RGB").resize((_SIDE, _SIDE), way)
            strip.paste(small, (place * (_SIDE + _GAP), 0))
        self._cells.append((name, note, strip))

    def draw(self) -> Image.Image:
        """Return the picture: rows of scenes, each as image, mask and label."""
        cell_width, cell_height = 3 * (_SIDE + _GAP) + _GAP, _SIDE + _CAPTION + _GAP
        columns = min(_COLUMNS, max(1, len(self._cells)))
        rows = -(-len(self._cells) // columns)
        size = (columns * cell_width + _GAP, _HEAD + rows * cell_height + _GAP)
        sheet = Image.new("RGB", size, _PAPER)
        draw = ImageDraw.Draw(sheet)
        draw.text((_GAP, 6), self.title, fill=_INK, font=_font(18))
        self._draw_legend(draw, left=_GAP + round(draw.textlength(self.title, _font(18))) + 30)
        for place, (name, note, strip) in enumerate(self._cells):
            left = _GAP + place % columns * cell_width
            top = _HEAD + place // columns * cell_height
            draw.text((left, top), name, fill=_INK, font=_font(14))
            draw.text((left, top + 17), note, fill=_SOFT, font=_font(13))
            sheet.paste(strip, (left, top + _CAPTION))
        return sheet

    @staticmethod
    def _draw_legend(draw: ImageDraw.ImageDraw, *, left: int) -> None:
        for item in FOUR_CLASS.classes:
            draw.rectangle((left, 10, left + 14, 24), fill=item.rgba[:3], outline=_SOFT)
            draw.text((left + 19, 8), item.title, fill=_INK, font=_font(14))
            left += round(draw.textlength(item.title, _font(14))) + 36


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
