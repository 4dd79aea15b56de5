"""What a detector does that no reference is needed to judge: pixels that flip when they should not.

The same scene is masked again after a change that leaves clouds where they are. A pixel flips where
its class of the four is another one than before; shares are of the pixels seen in both masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS, NODATA, map_labels, mapping
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.inference import Detector, predict, predict_strips
from openeo_cloudmask.options import DEFAULT_STRIDE_PX

DOUBTFUL_SHARE = 0.05
"""Flips above this share are pointed out. It is a choice of this package, not a norm."""
GAIN = 0.03
NOISE = 0.003
"""Standard deviation of the noise that is added, reflectance."""
SUM_TOLERANCE = 1e-3
_MIN_SIDE_PX = 64

Labels = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that is tried."""

    id: str
    title: str
    limit: float
    """Share of flips that is still in order; 0 where nothing at all may flip."""


CHECKS = (
    Check(id="repeat", title="once more", limit=0),
    Check(id="batch", title="other batch", limit=0),
    Check(id="cut", title="other cut", limit=0),
    Check(id="sums", title="probabilities that do not sum to 1", limit=0),
    Check(id="leak", title="classes where nothing was seen", limit=0),
    Check(id="shift", title="shifted by a pixel", limit=DOUBTFUL_SHARE),
    Check(id="mirror", title="mirrored", limit=DOUBTFUL_SHARE),
    Check(id="neighbour", title="no data next door", limit=DOUBTFUL_SHARE),
    Check(id="brighter", title=f"{GAIN:.0%} brighter", limit=DOUBTFUL_SHARE),
    Check(id="darker", title=f"{GAIN:.0%} darker", limit=DOUBTFUL_SHARE),
    Check(id="noise", title=f"noise of {NOISE:g}", limit=DOUBTFUL_SHARE),
    Check(id="band", title="worst band lost", limit=DOUBTFUL_SHARE),
    Check(id="coarser", title="pixels twice as large", limit=DOUBTFUL_SHARE),
)


@dataclass(slots=True, kw_only=True)
class Audit:
    """Pixels that flipped and pixels compared, by check, over all scenes."""

    flips: dict[str, int]
    pixels: dict[str, int]
    worst_band: str = ""
    """The band whose loss changes most in the last scene."""

    def share(self, check: str) -> float:
        """Return the share of flips; NaN where nothing could be compared."""
        pixels = self.pixels[check]
        return self.flips[check] / pixels if pixels else float("nan")

    def found(self) -> tuple[str, ...]:
        """Return the checks whose limit is passed."""
        return tuple(check.id for check in CHECKS if self.share(check.id) > check.limit)

    def __add__(self, other: Audit) -> Audit:
        """Return the counts of both."""
        return Audit(
            flips={key: self.flips[key] + other.flips[key] for key in self.flips},
            pixels={key: self.pixels[key] + other.pixels[key] for key in self.pixels},
            worst_band=other.worst_band,
        )


def audit_detector(
    detector: Detector, cubes: Iterable[Floats], *, stride: int = DEFAULT_STRIDE_PX, seed: int = 0
) -> Audit:
    """Return what flips.

    Args:
        detector: what is tried.
        cubes: scenes, (band, y, x) float32, the detector's bands, reflectance 0-1, no no-data.
        stride: step of the moving window, pixels.
        seed: of the noise.

    Raises:
        OptionError: there is no scene, one is too small, or the detector's classes are not known in
            the four.
    """
    mapping(detector.scheme, FOUR_CLASS)
    audits = [_audit_scene(_Runs(detector, stride), cube, seed) for cube in cubes]
    if not audits:
        raise OptionError("no scene to audit on; expected one or more")
    total = audits[0]
    for audit in audits[1:]:
        total = total + audit
    return total


@dataclass(frozen=True, slots=True)
class _Runs:
    detector: Detector
    stride: int

    def probabilities(self, cube: Floats, **how: int) -> Floats:
        return predict(np.ascontiguousarray(cube), self.detector, stride=self.stride, **how)  # type: ignore[arg-type]

    def labels(self, cube: Floats, **how: int) -> Labels:
        return self.decide(self.probabilities(cube, **how))

    def decide(self, probabilities: Floats) -> Labels:
        """Return the four classes, (y, x); 255 where no-data or of no class."""
        nodata = np.isnan(probabilities).any(axis=0)
        values = np.asarray(self.detector.scheme.values, np.uint8)
        best = values[np.where(nodata, 0, probabilities).argmax(axis=0)]
        best[nodata] = NODATA
        return map_labels(best, self.detector.scheme, FOUR_CLASS)


def _audit_scene(runs: _Runs, cube: Floats, seed: int) -> Audit:
    if cube.ndim != 3 or min(cube.shape[1:]) < _MIN_SIDE_PX:
        raise OptionError(
            f"a scene of shape {cube.shape}; expected (band, y, x) of {_MIN_SIDE_PX} pixels or more"
        )
    audit = Audit(flips={}, pixels={})

    def note(check: str, one: Labels, other: Labels) -> None:
        both = (one != NODATA) & (other != NODATA)
        audit.pixels[check] = int(both.sum())
        audit.flips[check] = int((one != other)[both].sum())

    first = runs.probabilities(cube)
    base = runs.decide(first)
    note("repeat", base, runs.labels(cube))
    note("batch", *(runs.labels(cube, batch_size=size) for size in (1, 3)))
    note("cut", base, _cut(runs, cube))
    sums = np.abs(first.sum(axis=0) - 1)
    audit.flips["sums"] = int((~(sums <= SUM_TOLERANCE)).sum())
    audit.pixels["sums"] = sums.size
    # One axis at a time: a chequered fault is the same after a step along both.
    shifted = (
        (base[1:], runs.labels(cube[:, 1:])),
        (base[:, 1:], runs.labels(cube[:, :, 1:])),
    )
    note("shift", *(np.concatenate([pair[k].ravel() for pair in shifted]) for k in (0, 1)))
    note("mirror", base, runs.labels(cube[:, :, ::-1])[:, ::-1])
    holed, hole = _with_hole(cube)
    masked = runs.labels(holed)
    note("neighbour", base, np.where(hole, np.uint8(NODATA), masked))
    audit.flips["leak"] = int((masked[hole] != NODATA).sum())
    audit.pixels["leak"] = int(hole.sum())
    note("brighter", base, runs.labels(cube * np.float32(1 + GAIN)))
    note("darker", base, runs.labels(cube * np.float32(1 - GAIN)))
    grain = np.random.default_rng(seed).normal(0, NOISE, cube.shape).astype(np.float32)
    note("noise", base, runs.labels(cube + grain))
    note("coarser", *_coarser(runs, cube, base))
    _lose_bands(runs, cube, base, audit, note)
    return audit


def _cut(runs: _Runs, cube: Floats) -> Labels:
    """Return the mask put together of parts that were computed by themselves."""
    height, width = cube.shape[1:]
    out = np.full((height, width), NODATA, np.uint8)
    for rows in ((0, height // 3), (height // 3, height)):
        for columns in ((0, width // 2 + 1), (width // 2 + 1, width)):
            for row, strip in predict_strips(
                cube, runs.detector, stride=runs.stride, part=rows, part_columns=columns
            ):
                out[row : row + strip.shape[1], slice(*columns)] = runs.decide(strip)
    return out


def _with_hole(cube: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the scene without a disk in its middle, and where that is.

    A straight border would say little: the kernel mirrors what lies beside it.
    """
    height, width = cube.shape[1:]
    rows, columns = np.indices((height, width))
    radius = min(height, width) / 4
    hole: NDArray[np.bool_] = np.hypot(rows - height / 2, columns - width / 2) < radius
    holed = cube.copy()
    holed[:, hole] = np.nan
    return holed, hole


def _coarser(runs: _Runs, cube: Floats, base: Labels) -> tuple[Labels, Labels]:
    """Return the mask, and that of pixels averaged two by two, on the same pixels."""
    height, width = (side // 2 * 2 for side in cube.shape[1:])
    blocks = cube[:, :height, :width].reshape(len(cube), height // 2, 2, width // 2, 2)
    coarse = runs.labels(blocks.mean(axis=(2, 4)).astype(np.float32))
    return base[:height, :width], coarse.repeat(2, axis=0).repeat(2, axis=1)


def _lose_bands(
    runs: _Runs,
    cube: Floats,
    base: Labels,
    audit: Audit,
    note: Callable[[str, Labels, Labels], None],
) -> None:
    """Note the band that changes most where it is 0 throughout, as a failed detector line is."""
    worst = (-1, base, "")
    for place, name in enumerate(runs.detector.band_names):
        lost = cube.copy()
        lost[place] = 0
        labels = runs.labels(lost)
        flips = int(((labels != base) & (labels != NODATA)).sum())
        worst = max(worst, (flips, labels, name), key=lambda item: item[0])
    note("band", base, worst[1])
    audit.worst_band = worst[2]
