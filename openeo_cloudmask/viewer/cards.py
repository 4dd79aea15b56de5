"""Model cards for people, from a STAC catalog and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openeo_cloudmask import assets
from openeo_cloudmask.classes import SCHEMES
from openeo_cloudmask.errors import CatalogError
from openeo_cloudmask.viewer.catalogs import read_items

_OWN = "cloudmask:"
_NEAR_INFRARED = frozenset({"nir", "nir08"})
"""The wide band and the narrow one; which of them a sensor's is called is a matter of taste."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardBand:
    """A band a model takes."""

    name: str
    kind: str
    min_nm: float | None
    max_nm: float | None
    common_name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardClass:
    """A class a model tells."""

    value: int
    name: str
    title: str
    color: str
    """``RRGGBB``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a catalog says of one model."""

    id: str
    title: str
    family: str
    description: str
    sensors: tuple[tuple[str, str], ...]
    """Sensor id and title."""
    bands: tuple[tuple[str, tuple[CardBand, ...]], ...]
    """Sensor id and the bands taken from it."""
    sensor_independent: bool
    smaller: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    """Sensor id -> sets of its bands that do as well as all of them."""
    min_bands: int = 1
    """Bands that a sensor-independent model needs at least, whichever they are."""
    classes: tuple[CardClass, ...]
    """Those it tells."""
    untold: tuple[CardClass, ...] = ()
    """Classes of its masks to which it never gives a pixel."""
    output_styles: tuple[str, ...]
    licence: str
    licence_url: str | None
    non_commercial: bool
    citation: str
    doi_url: str | None
    scores: tuple[dict[str, Any], ...]
    parameters: int | None
    context: dict[str, Any]
    """What to pass to the openEO process."""

    def takes(self, names: Sequence[str]) -> bool:
        """Return whether bands with these common names are enough for some sensor's input."""
        given = set(names)
        for sensor, bands in self.bands:
            common = {band.name: band.common_name or band.name for band in bands}
            sets = [tuple(common), *self.smaller.get(sensor, ())]
            if any(_covers(given, {common.get(name, name) for name in names}) for names in sets):
                return True
            there = [name for name in common.values() if _covers(given, {name})]
            any_will_do = self.sensor_independent and sensor not in self.smaller
            if any_will_do and len(there) >= self.min_bands:
                return True
        return False


def _covers(given: set[str], needed: set[str]) -> bool:
    """Return whether all needed bands are given; one near infrared is as good as the other."""
    if len(needed & _NEAR_INFRARED) == 1 and given & _NEAR_INFRARED:
        needed = needed - _NEAR_INFRARED
    return needed <= given


def read_cards(catalog: str | None = None, *, public: bool = False) -> tuple[ModelCard, ...]:
    """Return the cards of all models of a catalog, in its order.

    Args:
        catalog: path or URL of ``catalog.json``; None reads the one that comes with the package.
        public: whether a visitor named it, who is shown nothing but public https addresses.

    Raises:
        CatalogError: it cannot be read, or an item does not describe a model.
    """
    if catalog is None:
        return read_cards(str(assets.path("catalog/catalog.json")))
    return tuple(_read_card(item) for item in read_items(catalog, public=public))


def _read_card(item: Any) -> ModelCard:  # noqa: ANN401 - a pystac.Item
    say = item.properties
    try:
        inputs = say[f"{_OWN}inputs"]
        never = set(say.get(f"{_OWN}untold_classes", ()))
        classes = _classes(say)
        return ModelCard(
            id=item.id,
            title=say["title"],
            family=item.collection_id or "",
            description=say.get("description", ""),
            sensors=tuple((entry["sensor"], entry["title"]) for entry in inputs),
            bands=tuple((entry["sensor"], _bands(entry["bands"])) for entry in inputs),
            sensor_independent=bool(say.get(f"{_OWN}sensor_independent", False)),
            smaller={
                entry["sensor"]: tuple(map(tuple, entry["alternatives"]))
                for entry in inputs
                if entry.get("alternatives")
            },
            min_bands=int(say.get(f"{_OWN}band_requirements", {}).get("min_bands", 1)),
            classes=tuple(item for item in classes if item.name not in never),
            untold=tuple(item for item in classes if item.name in never),
            output_styles=tuple(say[f"{_OWN}output_styles"]),
            licence=say.get("license", "unknown"),
            licence_url=_href(item, "license"),
            non_commercial=bool(say.get(f"{_OWN}non_commercial", False)),
            citation=say.get("sci:citation", ""),
            doi_url=_href(item, "cite-as"),
            scores=tuple(say.get(f"{_OWN}scores", ())),
            parameters=say.get("mlm:total_parameters"),
            context=dict(say[f"{_OWN}openeo"]["context"]),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as err:
        raise CatalogError(
            f"the item {item.id!r} does not describe a cloud-mask model: {err}"
        ) from err


def _classes(say: Mapping[str, Any]) -> tuple[CardClass, ...]:
    """Return the classes of the masks; the file itself may give fewer, in another order."""
    scheme = SCHEMES.get(str(say.get(f"{_OWN}class_scheme")))
    if scheme is not None:
        return tuple(
            CardClass(value=item.value, name=item.name, title=item.title, color=item.color)
            for item in scheme.classes
        )
    return tuple(
        CardClass(
            value=entry["value"],
            name=entry["name"],
            title=entry.get("title") or entry.get("description") or entry["name"],
            color=entry.get("color_hint", "888888"),
        )
        for entry in say["mlm:output"][0]["classification:classes"]
    )


def _bands(entries: Sequence[dict[str, Any]]) -> tuple[CardBand, ...]:
    return tuple(
        CardBand(
            name=entry["name"],
            kind=entry.get("kind", "optical"),
            min_nm=entry.get("min_nm"),
            max_nm=entry.get("max_nm"),
            common_name=entry.get("eo:common_name"),
        )
        for entry in entries
    )


def _href(item: Any, rel: str) -> str | None:  # noqa: ANN401 - a pystac.Item
    link = next((link for link in item.links if link.rel == rel), None)
    href: str | None = None if link is None else link.href
    return href
