"""How a cube is cut so that the mask has no seams, and what that costs.

A pixel's class depends on every window that covers it. A window that covers a pixel reaches at
most ``window - 1`` pixels beyond it, so a chunk that is given ``overlap >= window - 1`` pixels on
each side sees every one of those windows whole, and, as windows sit on a grid anchored at absolute
pixel indices, they are the very windows its neighbours see.

For a window of 512 pixels: the smallest overlap is 511, taken is 512 (the next multiple of 32); a
neighbourhood of 1024 pixels is then called with ``1024 + 2 * 512 = 2048`` pixels, and one of 2048
with 3072. Pixels read for each pixel masked: ``(2048 / 1024)**2 = 4`` and ``(3072 / 2048)**2 =
2.25``. The UDF gets size and overlap and computes only the windows that touch the inner part:
16 for 1024 pixels and a stride of 384, where all windows of the 2048 pixels were 36 to 49.
Detectors that look at one pixel at a time need no overlap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.inference import Window

DEFAULT_SIZE_PX = 1024
PIXELWISE_SIZE_PX = 256
"""Without overlap nothing is read twice: the smallest that back ends store takes least memory."""
MIN_SIZE_PX = 32
"""Back ends built on openeo-geopyspark-driver refuse smaller neighbourhoods."""

_STEP_PX = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighborhood:
    """The ``size`` and ``overlap`` of ``apply_neighborhood``, pixels, equal along x and y.

    Raises:
        OptionError: the overlap is larger than the size (back ends then shift the result), or a
            value is out of range.
    """

    size_px: int = DEFAULT_SIZE_PX
    overlap_px: int = 512

    def __post_init__(self) -> None:
        """Check both values."""
        for name, value, least in (
            ("size_px", self.size_px, MIN_SIZE_PX),
            ("overlap_px", self.overlap_px, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise OptionError(f"{name} is {value!r}; expected a whole number from {least} on")
        if self.overlap_px > self.size_px:
            raise OptionError(
                f"overlap_px is {self.overlap_px}, larger than size_px {self.size_px}; expected at "
                "most size_px, because back ends shift the result otherwise"
            )

    @property
    def input_px(self) -> int:
        """Pixels along x and y that a call of the UDF gets."""
        return self.size_px + 2 * self.overlap_px

    def size_argument(self, temporal_dimension: str | None = "t") -> list[dict[str, Any]]:
        """Return ``size`` for ``apply_neighborhood``: a square of one day."""
        size: list[dict[str, Any]] = [
            {"dimension": axis, "value": self.size_px, "unit": "px"} for axis in ("x", "y")
        ]
        if temporal_dimension is not None:
            # Back ends on openeo-geopyspark-driver know two sizes in time: all dates, or one day.
            size.append({"dimension": temporal_dimension, "value": "P1D"})
        return size

    def to_context(self) -> dict[str, int]:
        """Return what the UDF gets, so that it computes no pixel that is dropped."""
        return {"size": self.size_px, "overlap": self.overlap_px}

    def overlap_argument(self) -> list[dict[str, Any]]:
        """Return ``overlap`` for ``apply_neighborhood``; zero is said, as some need the list."""
        return [{"dimension": axis, "value": self.overlap_px, "unit": "px"} for axis in ("x", "y")]


def plan_neighborhood(
    window: Window, *, size_px: int | None = None, margin_px: int = 0
) -> Neighborhood:
    """Return the neighbourhood that makes masks of a detector with ``window`` seamless.

    Args:
        window: the detector's window.
        size_px: pixels along x and y that one call answers for; larger is cheaper in all, and
            takes more memory (``job_options`` says how much). None for 1024, and for 256 where
            pixels are looked at one by one, or what the overlap needs.
        margin_px: pixels that buffer and smallest area look at around a pixel.

    Raises:
        OptionError: ``size_px`` is smaller than the overlap the window needs.
    """
    reach = margin_px + (0 if window.pixelwise else window.size_px - 1)
    overlap = _STEP_PX * math.ceil(reach / _STEP_PX)
    if size_px is None:
        size_px = max(PIXELWISE_SIZE_PX if window.pixelwise else DEFAULT_SIZE_PX, overlap)
    if isinstance(size_px, int) and not isinstance(size_px, bool) and size_px < overlap:
        raise OptionError(
            f"size_px is {size_px}; a mask that looks {reach} px around needs an overlap of "
            f"{overlap} px and so a neighbourhood of at least {overlap} px"
        )
    return Neighborhood(size_px=size_px, overlap_px=overlap)
