"""What is done to a mask after it is made: thresholds, smallest areas, buffers.

Each step is exact under cuts: a pixel's class depends on its surroundings up to ``margin_px``
pixels away, so strips and parts of a scene that see so far give the very mask of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.amounts import KINDS, Amount
from openeo_cloudmask.classes import NODATA, ClassScheme, kind_values
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.options import MaskOptions

MAX_AREA_PX = 2500
"""Largest ``min_area``: to be exact under cuts, each part is computed that many pixels further."""
SizeM = tuple[float, float]
"""Height and width of a pixel, metres."""
_Labels = NDArray[np.uint8]
_EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaning:
    """The steps for masks of one scheme on one grid."""

    scheme: ClassScheme
    thresholds: Mapping[str, float]
    """Kind -> probability from which on a pixel is of that kind, 0-1."""
    areas_px: Mapping[str, int]
    """Kind -> pixels that a group has at least; smaller ones become the surface."""
    radii_px: Mapping[str, tuple[int, int]]
    """Kind -> how far it is widened along y and x."""

    @property
    def active(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.thresholds or self.areas_px or self.radii_px)

    @property
    def margin_px(self) -> int:
        """Pixels around a part that its classes depend on."""
        return self._area_margin + self._buffer_margin

    @property
    def _area_margin(self) -> int:
        # A group of fewer than n pixels reaches at most n - 1 pixels from any of its own, and of a
        # larger one at least n pixels are connected within that distance.
        return max(self.areas_px.values(), default=1) - 1

    @property
    def _buffer_margin(self) -> int:
        return max((max(radius) for radius in self.radii_px.values()), default=0)

    def classify(self, styled: NDArray[np.float32]) -> _Labels:
        """Return class values by the thresholds, and what lies below cloud and shadow.

        Args:
            styled: (class, y, x) float32 0-1, in the order of ``scheme``, NaN where no-data.

        Returns:
            (2, y, x) uint8: class values, and the most probable class that is neither cloud nor
            shadow; 255 where no-data.
        """
        values = np.asarray(self.scheme.values, np.uint8)
        kinds = scheme_kinds(self.scheme)
        below = [item for item in values if not any(item in own for own in kinds.values())]
        surface = _most_probable(styled, values, below)
        labels = surface if self.thresholds else values[np.argmax(styled, axis=0)]
        # Cloud is decided first, so it is laid on last.
        for kind in reversed(kinds) if self.thresholds else ():
            own = kinds[kind]
            if (least := self.thresholds.get(kind)) is None:
                there = np.isin(_most_probable(styled, values, [*below, *own]), own)
            else:
                there = styled[np.isin(values, own)].sum(axis=0) >= np.float32(least)
            labels = np.where(there, _most_probable(styled, values, own), labels)
            below += own
        planes = np.stack([labels, surface])
        planes[:, np.isnan(styled[0])] = NODATA
        return planes

    def finish(self, strips: Iterator[tuple[int, _Labels]]) -> Iterator[tuple[int, _Labels]]:
        """Yield (1, rows, x) class values of what ``classify`` gave, top to bottom, no gaps."""
        if self.areas_px:
            strips = _with_margin(strips, self._area_margin, self._drop_small)
        strips = ((row, planes[:1]) for row, planes in strips)
        if self.radii_px:
            strips = _with_margin(strips, self._buffer_margin, self._widen)
        return strips

    def _drop_small(self, planes: _Labels) -> _Labels:
        from scipy import ndimage

        labels: _Labels = planes[0].copy()
        surface = planes[1]
        for kind, least in self.areas_px.items():
            own = np.isin(planes[0], scheme_kinds(self.scheme)[kind])
            groups, _ = ndimage.label(own, structure=_EIGHT)
            small = np.bincount(groups.ravel()) < least
            small[0] = False  # what is in no group
            gone = small[groups]
            labels[gone] = surface[gone]
        return labels[np.newaxis]

    def _widen(self, planes: _Labels) -> _Labels:
        before, kinds = planes[0], scheme_kinds(self.scheme)
        labels: _Labels = before.copy()
        taken = [NODATA, *kinds["cloud"]]
        for kind in reversed(kinds):  # cloud covers shadow
            free = ~np.isin(before, [*taken, *kinds[kind]])
            for value in reversed(kinds[kind]):  # the first class of a kind covers the others
                if kind in self.radii_px:
                    labels[dilate(before == value, self.radii_px[kind]) & free] = value
        return labels[np.newaxis]


def scheme_kinds(scheme: ClassScheme) -> dict[str, tuple[int, ...]]:
    """Return ``cloud`` and ``shadow`` -> their values; ``cloud`` alone where they are one class."""
    found = {kind: kind_values(scheme, kind) for kind in KINDS}
    return {
        kind: values
        for kind, values in found.items()
        if values and (kind == "cloud" or values != found["cloud"])
    }


def plan_cleaning(
    options: MaskOptions, scheme: ClassScheme, pixel_m: SizeM | None = None
) -> Cleaning:
    """Return the steps that ``options`` ask for.

    Args:
        options: what is wanted.
        scheme: classes of the mask.
        pixel_m: size of a pixel; None where it is not known in metres.

    Raises:
        OptionError: the scheme has no such class, or only one for both, an area is too large, or
            metres are given and the size of a pixel is not known.
    """
    wanted = {
        name: _of_scheme(name, options, scheme) for name in ("threshold", "min_area", "buffer")
    }
    sides = {
        kind: (_pixels(options, amount, pixel_m, axis=0), _pixels(options, amount, pixel_m, axis=1))
        for kind, amount in wanted["buffer"].items()
    }
    areas = {
        kind: _area_px(options, amount, pixel_m) for kind, amount in wanted["min_area"].items()
    }
    return Cleaning(
        scheme=scheme,
        thresholds={kind: amount.value for kind, amount in wanted["threshold"].items()},
        areas_px={kind: pixels for kind, pixels in areas.items() if pixels > 1},
        radii_px={kind: radius for kind, radius in sides.items() if any(radius)},
    )


def dilate(there: NDArray[np.bool_], radius_yx: tuple[int, int]) -> NDArray[np.bool_]:
    """Return (y, x) bool: where a True pixel of ``there`` lies within an ellipse.

    Args:
        there: (y, x) bool.
        radius_yx: half axes in pixels; a pixel that lies on the ellipse counts.
    """
    if not there.any():
        return there
    high, wide = radius_yx
    height, width = there.shape
    # Pixels that are True up to each column; a row of them has one where the count grows.
    counts = np.zeros((height, width + 2 * wide + 1), np.int32)
    np.cumsum(there, axis=1, out=counts[:, wide + 1 : wide + 1 + width])
    counts[:, wide + 1 + width :] = counts[:, wide + width, np.newaxis]
    out = np.zeros_like(there)
    for step in range(min(high, height - 1) + 1):
        # dy**2 / high**2 + dx**2 / wide**2 <= 1, in whole numbers
        reach = math.isqrt(wide * wide * (high * high - step * step)) // high if high else wide
        right = counts[:, wide + reach + 1 : wide + reach + 1 + width]
        near = right > counts[:, wide - reach : wide - reach + width]
        out[step:] |= near[: height - step]
        out[: height - step] |= near[step:]
    return out


def _with_margin(
    strips: Iterator[tuple[int, _Labels]], margin: int, work: Callable[[_Labels], _Labels]
) -> Iterator[tuple[int, _Labels]]:
    """Yield ``work`` of the strips, of which it sees ``margin`` rows more on both sides."""
    held: _Labels | None = None
    first = done = 0
    for row, planes in strips:
        if held is None:
            held, first, done = planes, row, row
        else:
            held = np.concatenate([held, planes], axis=1)
        ready = first + held.shape[1] - margin
        if ready - done >= max(margin, 1):  # not row by row, or the margin is worked on ever again
            yield done, work(held)[:, done - first : ready - first]
            kept = max(first, ready - margin)
            held, first, done = held[:, kept - first :].copy(), kept, ready
    if held is not None and done < first + held.shape[1]:
        yield done, work(held)[:, done - first :]


def _most_probable(styled: NDArray[np.float32], values: _Labels, among: Sequence[int]) -> _Labels:
    chosen = np.isin(values, among)
    found: _Labels = values[chosen][np.argmax(styled[chosen], axis=0)]
    return found


def _of_scheme(name: str, options: MaskOptions, scheme: ClassScheme) -> dict[str, Amount]:
    """Return kind -> amount for the kinds that the scheme has; one for both stands once."""
    amounts = options.amounts(name)
    there = scheme_kinds(scheme)
    one_class = kind_values(scheme, "cloud") == kind_values(scheme, "shadow")
    if amounts and one_class and (len(amounts) < len(KINDS) or len(set(amounts.values())) > 1):
        raise OptionError(
            f"{name} is {getattr(options, name)!r}, but {scheme.name} has one class for cloud and "
            "shadow; expected one amount for both, or another output_style"
        )
    found = {kind: amount for kind, amount in amounts.items() if kind in there}
    if amounts and not found:
        raise OptionError(
            f"{name} is {getattr(options, name)!r}, but a mask of {scheme.name} has no such class; "
            f"it has {', '.join(scheme.names)}"
        )
    return found


def _pixels(options: MaskOptions, amount: Amount, pixel_m: SizeM | None, *, axis: int) -> int:
    if amount.pixels:
        return math.ceil(amount.value)
    return math.ceil(amount.value / _size_m("buffer", options, pixel_m)[axis] - 1e-6)


def _area_px(options: MaskOptions, amount: Amount, pixel_m: SizeM | None) -> int:
    pixels = amount.value
    if not amount.pixels:
        pixels /= math.prod(_size_m("min_area", options, pixel_m))
    if pixels > MAX_AREA_PX:
        raise OptionError(
            f"min_area is {options.min_area!r}, {pixels:.0f} pixels here; expected at most "
            f"{MAX_AREA_PX} pixels"
        )
    return math.ceil(pixels - 1e-6)


def _size_m(name: str, options: MaskOptions, pixel_m: SizeM | None) -> SizeM:
    if pixel_m is None:
        raise OptionError(
            f"{name} is {getattr(options, name)!r}, but the size of a pixel in metres is unknown "
            "(no coordinates, or degrees); expected an amount in pixels, such as 12px"
        )
    return pixel_m
