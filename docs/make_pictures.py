"""Draw the pictures of the documentation, with the code that makes masks.

    python docs/make_pictures.py [FOLDER]     # default: docs/images

Needs matplotlib. Where windows sit, how they are filled and what they add up to comes from
``openeo_cloudmask.inference``; nothing is drawn from memory.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.cli.demo_run import run_demo
from openeo_cloudmask.evaluation.quicklook import stretch_rgb
from openeo_cloudmask.inference import Layout, Window, predict
from openeo_cloudmask.inference.windows import fill_window, plan_axis
from openeo_cloudmask.publish import publish_file
from openeo_cloudmask.simulator.scene import simulate_scene

SIZE, STRIDE = 512, 384
_STYLE = {"font.size": 9, "axes.titlesize": 10, "savefig.dpi": 110, "svg.hashsalt": "cloudmask"}


class Uneven:
    """A detector that is unsure towards a window's edge, as networks are: it shows blending."""

    band_names = ("B04",)
    scheme = FOUR_CLASS

    def __init__(self, size_px: int) -> None:
        self.window = Window(size_px=size_px, multiple_px=1)
        ramp = np.minimum(np.arange(size_px), np.arange(size_px)[::-1]) / (size_px / 2)
        self._sure = np.minimum(ramp[:, np.newaxis], ramp).astype(np.float32)

    def predict_windows(
        self, windows: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return cloud where it is bright, the less sure the nearer the window's edge."""
        bright = np.clip((windows[:, 0] - 0.12) / 0.2, 0, 1)
        cloud = 0.5 + (bright - 0.5) * self._sure
        out = np.zeros((len(windows), 4, *valid.shape[1:]), np.float32)
        out[:, 0], out[:, 1] = 1 - cloud, cloud
        return out


def draw_windows(path: Path) -> None:
    """Windows over a scene of 1200 x 1200 pixels, and how many cover each pixel."""
    length = 1200
    plan = plan_axis(length, size_px=SIZE, stride_px=STRIDE, layout=Layout.ANCHORED)
    starts = plan.needed(length)
    along = sum(
        (np.arange(length) >= start) & (np.arange(length) < start + SIZE) for start in starts
    )
    cover = np.outer(along, along)
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.4), layout="constrained")
    for axis in axes:
        axis.set(xlim=(-100, 1400), ylim=(1400, -100), aspect="equal", xlabel="column, pixels")
    axes[0].set(title=f"Windows of {SIZE} pixels, stride {STRIDE}", ylabel="row, pixels")
    axes[0].add_patch(Rectangle((0, 0), length, length, facecolor="#dfe8ef", edgecolor="black"))
    colours = mpl.colormaps["tab10"]
    for i, top in enumerate(starts):
        for j, left in enumerate(starts):
            axes[0].add_patch(
                Rectangle((left, top), SIZE, SIZE, fill=False, lw=1.4, ec=colours((i + 2 * j) % 10))
            )
    image = axes[1].imshow(
        cover, extent=(0, length, length, 0), cmap=mpl.colormaps["Blues"].resampled(4),
        vmin=0.5, vmax=4.5,
    )  # fmt: skip
    axes[1].set(title="Windows that cover each pixel", xlim=(-100, 1400), ylim=(1400, -100))
    figure.colorbar(image, ax=axes[1], ticks=sorted(set(cover.ravel().tolist())), shrink=0.7)
    save(figure, path)


def draw_anchoring(path: Path) -> None:
    """Windows of a scene and of a chunk of it: anchored, and centred on what is available."""
    scene, first, last = 2400, 700, 1900
    figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharey=True)
    titles = {Layout.ANCHORED: "Anchored (used here)", Layout.CENTRED: "Centred on the array"}
    for axis, (layout, title) in zip(axes, titles.items(), strict=True):
        rows = (("scene", 0, scene), ("chunk", first, last - first))
        for height, (name, origin, length) in enumerate(rows):
            plan = plan_axis(
                length, size_px=SIZE, stride_px=STRIDE, origin_px=origin, layout=layout
            )
            axis.barh(-height * 5, length, left=origin, height=3.6, color="#dfe8ef", ec="black")
            axis.text(scene + 470, -height * 5, name, va="center")
            for number, start in enumerate(plan.needed(length)):
                low = -height * 5 + 1.2 - (number % 3) * 1.2
                place = origin + start
                colour = f"C{place // 64 % 10}"  # the same for windows at the same place
                axis.plot([place, place + SIZE], [low, low], lw=2.5, marker="|", ms=7, c=colour)
        axis.set(title=title, xlabel="absolute pixel index", yticks=[], xlim=(-450, 3300))
    save(figure, path)


def draw_blending(path: Path) -> None:
    """What a detector that is unsure at edges says without overlap and with it."""
    scene = simulate_scene(
        7, size=300, biome="cropland", decks=("cumulus",), cloud_fraction=0.35, bands=["B04"]
    )
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
    axes[0].imshow(scene.cube[0], cmap="gray", vmin=0, vmax=0.4)
    axes[0].set_title("Red band of a simulated scene")
    for axis, stride in zip(axes[1:], (96, 48), strict=True):
        cloud = predict(scene.cube, Uneven(96), stride=stride)[1]
        image = axis.imshow(cloud, cmap="viridis", vmin=0, vmax=1)
        axis.set_title(f"Cloud: windows 96, stride {stride}")
    figure.colorbar(image, ax=axes[1:], shrink=0.8)
    for axis in axes:
        axis.set_axis_off()
    save(figure, path)


def draw_nodata(path: Path) -> None:
    """A window at the swath's edge with a hole: as it lies, as it is filled, as it is answered."""
    scene = simulate_scene(
        10, size=256, biome="cropland", decks=("cumulus",), cloud_fraction=0.3,
        bands=["B04", "B03", "B02"],
    )  # fmt: skip
    cube = scene.cube.copy()
    cube[:, 150:175, 120:150] = np.nan
    # The scene begins at pixel (0, 0) of this picture; the window begins 70 before it.
    valid = np.isfinite(cube).all(axis=0)
    filled = fill_window(np.nan_to_num(cube), valid, row=-70, column=-50, size_px=256)
    if filled is None:
        raise SystemExit("the window holds no valid pixel")
    pixels, seen = filled
    outside = np.full((3, 326, 306), np.nan, np.float32)
    outside[:, 70:, 50:] = cube
    answer = predict(cube[:1], Uneven(256), stride=256)[1]
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained")
    axes[0].imshow(stretch_rgb(outside), extent=(-50, 256, 256, -70))
    axes[0].add_patch(Rectangle((-50, -70), 256, 256, fill=False, ec="red", lw=2))
    axes[0].set_title("Scene with a hole; a window (red)")
    axes[1].imshow(stretch_rgb(np.where(seen, pixels, 0)))
    axes[1].set_title("The window: mirrored, hole zero")
    axes[2].imshow(np.ma.masked_invalid(answer), cmap="viridis", vmin=0, vmax=1)
    axes[2].set_facecolor("#e1e1e1")
    axes[2].set_title("Answer: no-data (grey) stays no-data")
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    save(figure, path)


def draw_demo(path: Path) -> None:
    """What ``cloudmask demo`` draws: the picture of the first page."""
    with tempfile.TemporaryDirectory() as folder:
        picture = run_demo(Path(folder) / "demo").quicklook
        with Image.open(picture) as drawn, publish_file(path) as part:
            drawn.convert("RGB").quantize(256).save(part, "PNG", optimize=True)


def save(figure: Any, path: Path) -> None:
    """Write the figure as PNG, atomically, without a date in it."""
    with publish_file(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})
        plt.close(figure)
        with Image.open(part) as picture:
            small = picture.convert("RGB").quantize(256)
        small.save(part, "PNG", optimize=True)


PICTURES = {
    "windows.png": draw_windows,
    "anchoring.png": draw_anchoring,
    "blending.png": draw_blending,
    "nodata.png": draw_nodata,
    "demo.png": draw_demo,
}


def main() -> None:
    """Draw all pictures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images"
    folder.mkdir(parents=True, exist_ok=True)
    mpl.use("agg")
    with mpl.rc_context(_STYLE):
        for name, draw in PICTURES.items():
            draw(folder / name)


if __name__ == "__main__":
    main()
