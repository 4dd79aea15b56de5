"""The seam between pixels and detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import ClassScheme
from openeo_cloudmask.errors import BandError, OptionError


def check_bands(what: str, count: int, names: tuple[str, ...]) -> None:
    """Check that ``what`` has as many bands as ``names``.

    Raises:
        BandError: it has more or fewer.
    """
    if count != len(names):
        raise BandError(
            f"{what} {count} bands; expected {len(names)}, in this order: {', '.join(names)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The square of pixels that a detector looks at in one go."""

    size_px: int = 512
    multiple_px: int = 32
    """Sizes a network can take are multiples of this."""
    pixelwise: bool = False
    """True where a pixel's class depends on that pixel alone: windows need no overlap then."""
    batch: int = 1
    """Windows per call that suit the device; changes speed, never values."""
    overlaps: bool = False
    """Whether a call may begin while the one before ends, so that no thread waits for the others;
    changes speed, never values."""
    rim_px: int = 0
    """Pixels along the sides of a window whose answer is not used, because the network sees
    nothing beyond them."""
    mirrored: bool = True
    """What a window sees beyond the scene: the scene mirrored, or zeros."""

    def __post_init__(self) -> None:
        """Check the sizes."""
        if self.multiple_px < 1 or self.size_px < 1 or self.size_px % self.multiple_px:
            raise OptionError(
                f"window size {self.size_px} px is no positive multiple of {self.multiple_px} px"
            )
        if not 0 <= 2 * self.rim_px < self.size_px:
            raise OptionError(f"rim {self.rim_px} px leaves nothing of {self.size_px} px")
        if self.batch < 1:
            raise OptionError(f"batch is {self.batch}; expected 1 or more")


class Detector(Protocol):
    """What finds clouds in a window of pixels.

    A detector is stateless between calls and may be called from several threads at once, which all
    get the answers that one thread would get: ``load_detector`` gives the same detector to all
    that ask for it. It is not pickled: task graphs carry the model's name, and each worker loads
    its own.
    """

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the planes it takes, in this order, as its sensor calls them."""

    @property
    def scheme(self) -> ClassScheme:
        """Its own classes, in the order of its probability planes."""

    @property
    def window(self) -> Window:
        """The window it wants."""

    def predict_windows(
        self, windows: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return class probabilities.

        Args:
            windows: (n, band, y, x) float32, reflectance 0-1 (thermal: normalised brightness
                temperature 0-1; quality layers: codes as stored), 0 where not valid.
            valid: (n, y, x) bool, True where every band was seen.

        Returns:
            (n, class, y, x) float32 that sums to 1 over the classes. Each window's values depend
            on that window alone, whatever else is in the batch.
        """
