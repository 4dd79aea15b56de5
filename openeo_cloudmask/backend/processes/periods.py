"""``aggregate_temporal`` and ``aggregate_temporal_period``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import xarray as xr

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.graph.execute import Callback
from openeo_cloudmask.backend.graph.process import openeo_process
from openeo_cloudmask.backend.processes.apply import reduce_dimension
from openeo_cloudmask.backend.processes.blocks import made_attributes
from openeo_cloudmask.backend.processes.dims import as_labels, find_dimension, parse_label
from openeo_cloudmask.backend.processes.labels import dates_within


@openeo_process()
def aggregate_temporal(
    data: xr.DataArray,
    intervals: list[list[str | None]],
    reducer: Callback,
    labels: list[Any] | None = None,
    dimension: str | None = None,
    context: Any = None,  # noqa: ANN401
) -> xr.DataArray:
    """Return one value for each interval, which has its beginning as label or that of ``labels``.

    Intervals may overlap; one without a date gets no data.

    Raises:
        ApiError: an interval is empty, or labels are missing or equal.
    """
    name = find_dimension(data, "temporal", dimension)
    wanted = list(labels or [interval[0] for interval in intervals])
    if len(wanted) != len(intervals):
        raise ApiError(
            "ProcessParameterInvalid",
            f"there are {len(intervals)} intervals and {len(wanted)} labels; expected as many",
        )
    if len(set(map(str, wanted))) < len(wanted):
        raise ApiError(
            "DistinctDimensionLabelsRequired",
            "two intervals have the same label; give distinct ones (labels)",
        )
    places = [dates_within(data, name, interval) for interval in intervals]
    new = as_labels([parse_label(label, temporal=True) for label in wanted])
    return _aggregate(data, name, places, new, reducer, context)


@openeo_process()
def aggregate_temporal_period(
    data: xr.DataArray,
    period: str,
    reducer: Callback,
    dimension: str | None = None,
    context: Any = None,  # noqa: ANN401
) -> xr.DataArray:
    """Return one value for each calendar period from the first date's to the last one's.

    The label of a period is its first instant, so that it is a date to every other process; a
    period without a date gets no data.
    """
    if period not in _PERIODS:
        raise ApiError(
            "ProcessParameterInvalid",
            f"period is {period!r}; expected one of {', '.join(_PERIODS)}",
        )
    name = find_dimension(data, "temporal", dimension)
    if data[name].dtype.kind != "M":
        raise ApiError("ProcessParameterInvalid", f"the labels of {name!r} are no dates")
    start, step = _PERIODS[period]
    dates = [when.astype("datetime64[s]").astype(datetime) for when in data[name].to_numpy()]
    if not dates:
        return data
    of_dates = [start(date) for date in dates]
    begins, last = [min(of_dates)], max(of_dates)
    while begins[-1] < last:  # periods without a date are there, too
        begins.append(start(begins[-1] + step))
    places = [[at for at, begin in enumerate(of_dates) if begin == wanted] for wanted in begins]
    return _aggregate(
        data, name, places, np.array(begins, "datetime64[ns]"), reducer, context
    )  # fmt: skip


def _aggregate(
    data: xr.DataArray,
    dimension: str,
    places: Sequence[list[int]],
    labels: Any,  # noqa: ANN401
    reducer: Callback,
    context: Any,  # noqa: ANN401
) -> xr.DataArray:
    parts: list[xr.DataArray | None] = [
        reduce_dimension(data.isel({dimension: part}), reducer, dimension, context)
        if part else None
        for part in places
    ]  # fmt: skip
    known = next((part for part in parts if part is not None), None)
    if known is None:
        raise ApiError("NoDataAvailable", "no interval holds a date of the cube")
    numbers = known.dtype if known.dtype.kind == "f" else np.dtype(np.float32)
    if any(part is None for part in parts):
        known = known.astype(numbers)
    empty = xr.full_like(known, np.nan) if known.dtype.kind == "f" else known
    whole = xr.concat(
        [empty if part is None else part.astype(known.dtype) for part in parts], dim=dimension,
        coords="minimal", compat="override", join="override",
    )  # fmt: skip
    whole = whole.assign_coords({dimension: labels}).transpose(*data.dims)
    whole.attrs = made_attributes(data, whole.dtype)
    return whole


def _day(date: datetime) -> datetime:
    return datetime(date.year, date.month, date.day)  # noqa: DTZ001 - labels of cubes are UTC


def _month(date: datetime, number: int | None = None, years: int = 0) -> datetime:
    return datetime(date.year + years, number or date.month, 1)  # noqa: DTZ001


def _dekad(date: datetime) -> datetime:
    return _day(date).replace(day=min((date.day - 1) // 10, 2) * 10 + 1)


def _season(date: datetime) -> datetime:
    if date.month < 3:
        return _month(date, 12, -1)
    return _month(date, date.month // 3 * 3)


def _tropical_season(date: datetime) -> datetime:
    if date.month < 5:
        return _month(date, 11, -1)
    return _month(date, 5 if date.month < 11 else 11)


_PERIODS: dict[str, tuple[Callable[[datetime], datetime], timedelta]] = {
    "hour": (lambda date: _day(date).replace(hour=date.hour), timedelta(hours=1)),
    "day": (_day, timedelta(days=1)),
    "week": (lambda date: _day(date) - timedelta(days=date.weekday()), timedelta(days=7)),
    "dekad": (_dekad, timedelta(days=11)),
    "month": (_month, timedelta(days=31)),
    "season": (_season, timedelta(days=92)),
    "tropical-season": (_tropical_season, timedelta(days=184)),
    "year": (lambda date: _month(date, 1), timedelta(days=366)),
    "decade": (lambda date: _month(date, 1, -(date.year % 10)), timedelta(days=3653)),
    "decade-ad": (lambda date: _month(date, 1, -((date.year - 1) % 10)), timedelta(days=3653)),
}
"""Period -> (the first instant of the one a date lies in, what leads from one into the next)."""
