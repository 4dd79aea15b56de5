"""Names of products, and which of those that an archive holds shows the same scene.

A product that was processed again has another name: another baseline and another time of
processing. Satellite, tile and time of the image stay, and are what products are matched by.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from openeo_cloudmask.errors import OptionError

OFFSET_BASELINE = "0400"
"""From this baseline on, counts of Sentinel-2 have an offset."""
_SENTINEL = re.compile(
    r"(?P<platform>S2[A-D])_MSI(?P<level>L1C|L2A)_(?P<sensed>\d{8}T\d{6})_N(?P<baseline>\d{4})"
    r"_R\d{3}_T(?P<tile>\d\d[A-Z]{3})_(?P<made>\d{8}T\d{6})"
)
_LANDSAT = re.compile(
    r"(?P<sensor>L[COETM])(?P<satellite>\d)(?P<path>\d{3})(?P<row>\d{3})(?P<day>\d{7})[A-Z]{3}\d\d"
)
_LANDSAT_PRODUCT = re.compile(
    r"(?P<sensor>L[COETM])0(?P<satellite>\d)_L1\w\w_(?P<path>\d{3})(?P<row>\d{3})_(?P<date>\d{8})"
    r"_(?P<made>\d{8})_(?P<collection>\d\d)_(?P<tier>T1|T2|RT)"
)
_TIERS = ("RT", "T2", "T1")
_SAME_PASS = timedelta(hours=1)
"""A tile is not seen twice within this time, and one pass has several times in names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentinelName:
    """What the name of a Sentinel-2 product tells."""

    name: str
    """Without ``.SAFE``."""
    platform: str
    level: str
    sensed: datetime
    baseline: str
    """Four digits: 0205 is 02.05."""
    tile: str
    made: str
    """When it was processed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LandsatName:
    """What the name of a Landsat scene or product tells."""

    name: str
    sensor: str
    """``LC`` (OLI and TIRS), ``LO``, ``LE``, ``LT``, ``LM``."""
    satellite: str
    path: str
    row: str
    day: date
    collection: str
    """``PRE`` before there were collections, then ``01`` and ``02``."""
    rank: tuple[int, str]
    """Of several products of a scene the highest is the best: tier, then when it was made."""


SceneName = SentinelName | LandsatName


def parse_scene_name(text: str) -> SceneName:
    """Return what the name of a product or scene tells.

    Args:
        text: name of a Sentinel-2 product since December 2016, or of a Landsat scene or product;
            what follows it, such as ``.SAFE`` or the number of a part, does not count.

    Raises:
        OptionError: it names something else.
    """
    if match := _SENTINEL.match(text):
        parts = match.groupdict()
        sensed = datetime.strptime(parts.pop("sensed"), "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        return SentinelName(name=match[0], sensed=sensed, **parts)
    if match := _LANDSAT.match(text):
        parts = match.groupdict()
        day = datetime.strptime(parts.pop("day"), "%Y%j").replace(tzinfo=UTC).date()
        return LandsatName(name=match[0], day=day, rank=(0, ""), collection="PRE", **parts)
    if match := _LANDSAT_PRODUCT.match(text):
        parts = match.groupdict()
        day = datetime.strptime(parts.pop("date"), "%Y%m%d").replace(tzinfo=UTC).date()
        rank = (_TIERS.index(parts.pop("tier")), parts.pop("made"))
        return LandsatName(name=match[0], day=day, rank=rank, **parts)
    raise OptionError(
        f"{text!r} names no scene; expected a Sentinel-2 product such as "
        "S2B_MSIL1C_20171009T102009_N0205_R065_T32TMR_20171009T102008, a Landsat scene such as "
        "LC80010112014080LGN00, or one of `cloudmask references list`"
    )


def choose_sentinel(wanted: SentinelName, names: Iterable[str]) -> SentinelName | None:
    """Return the product of the same scene: the very one, else the one processed last, or None.

    Args:
        wanted: the product asked for.
        names: of products that an archive holds; names of other kinds are passed over.
    """
    found = [
        other
        for name in names
        if _SENTINEL.match(name)
        and isinstance(other := parse_scene_name(name), SentinelName)
        and (other.platform, other.level, other.tile)
        == (wanted.platform, wanted.level, wanted.tile)
        and abs(other.sensed - wanted.sensed) < _SAME_PASS
    ]
    exact = [other for other in found if other.name == wanted.name]
    return max(exact or found, key=lambda other: (other.baseline, other.made), default=None)


def choose_landsat(wanted: LandsatName, names: Iterable[str]) -> LandsatName | None:
    """Return the product of the same scene: the very one, else the one of the best tier, or None.

    Args:
        wanted: the scene or product asked for.
        names: of products that an archive holds; names of other kinds are passed over.
    """

    def key(item: LandsatName) -> tuple[str, str, str, str, date]:
        return item.sensor, item.satellite, item.path, item.row, item.day

    found = []
    for name in names:
        if _LANDSAT.match(name) or _LANDSAT_PRODUCT.match(name):
            other = parse_scene_name(name)
            if isinstance(other, LandsatName) and key(other) == key(wanted):
                found.append(other)
    exact = [other for other in found if other.name == wanted.name]
    return max(exact or found, key=lambda other: (other.collection, other.rank), default=None)


def is_same_scene(wanted: str, product: str) -> bool:
    """Return whether a product is of the scene of another's name, processed again or not.

    The name of a part of a product does not count.
    """
    try:
        scene = parse_scene_name(wanted)
    except OptionError:
        return False
    if scene.name != wanted:
        return False
    if isinstance(scene, SentinelName):
        return choose_sentinel(scene, [product]) is not None
    return choose_landsat(scene, [product]) is not None


def describe_match(wanted: SceneName, found: SceneName) -> str:
    """Return what is other about the product found, in words; empty for the very one."""
    if found.name == wanted.name:
        return ""
    if isinstance(wanted, SentinelName) and isinstance(found, SentinelName):
        text = (
            f"{found.name} takes its place: the same tile and pass, baseline "
            f"{_dotted(found.baseline)} instead of {_dotted(wanted.baseline)}"
        )
        if wanted.baseline < OFFSET_BASELINE <= found.baseline:
            text += "; its counts have an offset, which is read from its metadata"
        return text
    return f"{found.name} takes its place: the same path, row and day"


def _dotted(baseline: str) -> str:
    return f"{baseline[:2]}.{baseline[2:]}"
