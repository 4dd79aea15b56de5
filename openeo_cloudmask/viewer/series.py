"""Masks of one place on many dates, and how much of it is cloud on each."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from openeo_cloudmask.viewer.job_results import JobMask
from openeo_cloudmask.viewer.places import Ring, cloud_cover


@dataclass(kw_only=True)
class Series:
    """The masks of a job; each is opened when its date is looked at."""

    title: str
    masks: tuple[JobMask, ...]
    """The earliest first."""
    opened: dict[str, str] = field(default_factory=dict)
    """Label of a date -> title of its open mask."""
    _covers: dict[tuple[str, Ring | None], float | None] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What ``st.session_state`` calls the label of the date looked at."""
        return f"date_{self.title}"

    @cached_property
    def dates(self) -> dict[str, JobMask]:
        """Label of each date -> its mask: the day, and where there are several of one the name."""
        days = [mask.day for mask in self.masks]
        return {
            mask.day if mask.day and days.count(mask.day) == 1 else mask.name: mask
            for mask in self.masks
        }

    def cover(self, label: str, ring: Ring | None = None) -> float | None:
        """Return the share of cloud on a date, 0-1, in an area or in all of the mask.

        Returns:
            None where nothing was seen there.

        Raises:
            CloudMaskError: the mask cannot be downloaded or read.
        """
        mask = self.dates[label]
        if ring is None and mask.cloud_percent is not None:
            return mask.cloud_percent / 100
        key = (label, ring)
        if key not in self._covers:
            path = mask.fetch("mask")
            found = None if path is None else cloud_cover(path, ring)
            self._covers[key] = found
        return self._covers[key]
