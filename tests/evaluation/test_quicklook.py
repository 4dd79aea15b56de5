"""The picture of a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.errors import InputError, OutputError
from openeo_cloudmask.evaluation.quicklook import (
    MaskPanel,
    draw_quicklook,
    paint_mask,
    stretch_rgb,
    write_quicklook,
)

NODATA_RGB = (225, 225, 225)


def test_classes_have_their_colours() -> None:
    painted = paint_mask(np.array([[0, 1, 2, 3, 255]], np.uint8), FOUR_CLASS)
    expected = [*(item.rgba[:3] for item in FOUR_CLASS.classes), NODATA_RGB]
    assert [tuple(pixel) for pixel in painted[0].tolist()] == expected


def test_stretch_keeps_order_and_marks_what_was_not_seen() -> None:
    rgb = np.linspace(0, 1, 300, dtype=np.float32).reshape(3, 10, 10).copy()
    rgb[1, 0, 0] = np.nan
    image = stretch_rgb(rgb)
    assert image.shape == (10, 10, 3)
    assert tuple(image[0, 0].tolist()) == NODATA_RGB
    assert (np.diff(image[5, :, 1].astype(int)) >= 0).all()
    assert image.min() == 0
    assert image.max() == 255
    assert (stretch_rgb(np.full_like(rgb, np.nan)) == 225).all()
    assert stretch_rgb(np.full_like(rgb, 0.2)).dtype == np.uint8


def test_panels_show_the_masks_side_by_side(tmp_path: Path) -> None:
    rgb = np.full((3, 20, 40), 0.1, np.float32)
    cloudy = MaskPanel(caption="Mask", labels=np.ones((20, 40), np.uint8))
    clear = MaskPanel(caption="Truth", labels=np.zeros((20, 40), np.uint8))
    picture = draw_quicklook(rgb, [cloudy, clear], FOUR_CLASS, title="A scene", note="a note")
    path = write_quicklook(tmp_path / "quicklook.png", picture)
    with Image.open(path) as stored:
        assert stored.format == "PNG"
        middle = stored.height // 2
        centres = [20 + index * 532 + 256 for index in range(3)]
        colours = [stored.getpixel((x, middle)) for x in centres]
    assert colours[1] == FOUR_CLASS.classes[1].rgba[:3]
    assert colours[2] == FOUR_CLASS.classes[0].rgba[:3]
    assert [item.name for item in tmp_path.iterdir()] == ["quicklook.png"]


def test_mask_of_another_shape_is_refused() -> None:
    mask = MaskPanel(caption="Mask", labels=np.zeros((5, 5), np.uint8))
    with pytest.raises(InputError, match=r"mask 'Mask' has shape \(5, 5\); expected .*\(20, 40\)"):
        draw_quicklook(np.zeros((3, 20, 40), np.float32), [mask], FOUR_CLASS, title="-")


def test_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write the picture"):
        write_quicklook(tmp_path / "no" / "a.png", Image.new("RGB", (2, 2)))


@pytest.mark.parametrize("level", [0.6, 0.75, 1.0])
def test_overcast_and_snow_stay_light_and_show_their_shape(level: float) -> None:
    waves = 0.06 * np.sin(np.linspace(0, 20, 64, dtype=np.float32))
    # Blue a little brighter than red, as over snow: no false colour may come of it.
    rgb = np.stack([level + shift + waves[:, None] + waves for shift in (-0.03, 0.0, 0.03)])
    image = stretch_rgb(rgb.astype(np.float32)).astype(float)
    assert image.mean() > 180
    assert (image == 255).mean() < 0.2
    assert image.std() > 10
    assert np.abs(image[..., 2] - image[..., 0]).mean() < 30
