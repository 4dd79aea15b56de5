"""What is compared: scene or series, masks, and what they are measured by."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

import streamlit as st

from openeo_cloudmask.errors import CloudMaskError
from openeo_cloudmask.grid import overlap
from openeo_cloudmask.viewer.comparison import Comparison, differing_days
from openeo_cloudmask.viewer.entries import MaskEntry, ReferenceEntry, SceneEntry
from openeo_cloudmask.viewer.judging.series import choose_date
from openeo_cloudmask.viewer.layers import Layer
from openeo_cloudmask.viewer.web import keep_address, session

NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What the page is about."""

    scene: SceneEntry | None
    masks: list[str]
    """Titles."""
    reference: str | None
    """Title of the reference, or of a mask that the others are compared with."""
    series: str | None = None
    """Title of the series that scene and first mask are a date of."""

    @property
    def key(self) -> str:
        """Name of what the map shows: as long as it is the same, the view is kept."""
        if self.series is not None:
            return self.series
        return self.scene.title if self.scene is not None else ", ".join(self.masks)


class Fit(IntEnum):
    """Whether a reference is of the scene that is looked at."""

    OF_THIS = 0
    MAY_BE = 1
    OF_ANOTHER = 2
    """Of another scene, or of another day: never chosen unasked."""


def near(one: Layer, other: Layer) -> bool:
    """Return whether two layers share some place."""
    return overlap(one.bounds, other.bounds)


def pick() -> Chosen:
    """Draw what to compare, and return it.

    The choice stands in the page's address, so that a reload or a bookmark finds it again.
    """
    current = session()
    first, second, third = st.columns([1, 1.4, 1])
    asked = st.query_params
    titles = [title for title, entry in current.scenes.items() if entry.series is None]
    titles += [*current.series, NOTHING]
    warn_of_link(titles)
    chosen = first.selectbox(
        "Scene",
        titles,
        index=_place(asked.get("scene"), titles, _place(current.latest, titles, 0)),
        key="compare_scene",
        help="A scene, or a series: the results of a job over several dates",
    )
    series = chosen if chosen in current.series else None
    address: dict[str, str | list[str]] = {"scene": chosen}
    address |= {"tab": asked["tab"]} if "tab" in asked else {}
    own: MaskEntry | None = None
    if series is not None:
        label = choose_date(current.series[series], asked.get("date"))
        address["date"] = label
        own = current.open_date(series, label)
    scene = current.scenes.get(own.scene or "" if own is not None else chosen)
    names = [entry.title for entry in offered_masks(scene, own)]
    wanted = [name for name in asked.get_all("mask") if name in names]
    first_masks = [own.title] if own is not None else names[-2:]
    shown = second.multiselect(
        "Masks", names, default=wanted or first_masks,
        key=f"compare_masks_{chosen}_{address.get('date', '')}_{len(names)}",
        help="Several models side by side",
    )  # fmt: skip
    ranks = rank_references(scene, shown)
    offered = [*ranks, *(name for name in names if len(names) > 1), NOTHING]
    first_choice = next(title for title in offered if ranks.get(title) is not Fit.OF_ANOTHER)
    # What the address says is of the scene and the date that it names.
    same = all(asked.get(key, "") == address.get(key, "") for key in ("scene", "date"))
    kept = same or ranks.get(asked.get("with", "")) is Fit.MAY_BE
    reference = third.selectbox(
        "Compared with",
        offered,
        index=_place(asked.get("with") if kept else None, offered, offered.index(first_choice)),
        key=f"compare_with_{chosen}_{address.get('date', '')}_{len(offered)}",
        help="A reference. Without one, another mask: two models are then compared.",
    )
    keep_address({**address, "mask": shown, "with": reference})
    return Chosen(
        scene=scene, masks=shown, reference=None if reference == NOTHING else reference,
        series=series,
    )  # fmt: skip


def warn_of_link(titles: Collection[str]) -> None:
    """Say so where the page's address is of a scene that is not open in this browser."""
    asked = st.query_params.get("scene")
    if asked is not None and asked not in titles:
        st.warning(
            f"This link shows {asked}, which is not open in this browser: a link holds no data. "
            "Open or import that scene here under the same name, and follow the link again.",
            icon=":material/link_off:",
        )


def offered_masks(scene: SceneEntry | None, own: MaskEntry | None) -> list[MaskEntry]:
    """Return the masks that may be looked at with a scene, or with the mask of a date."""
    masks = session().masks.values()
    anchor = scene.layers if scene is not None else None
    layer = next(iter(anchor.values())) if anchor else (own.layer if own is not None else None)
    if layer is None:
        return list(masks)
    day = own.day if own is not None else scene.day if scene is not None else None
    title = scene.title if scene is not None else None
    return [
        entry
        for entry in masks
        if near(layer, entry.layer)
        and (entry.scene in (None, title) or (day is not None and entry.day == day))
        and (entry.series is None or entry is own or (entry.day == day and not _same(entry, own)))
    ]


def _same(entry: MaskEntry, own: MaskEntry | None) -> bool:
    """Return whether a mask is of another date of the same series."""
    return own is not None and entry.series == own.series


def rank_references(scene: SceneEntry | None, shown: list[str]) -> dict[str, Fit]:
    """Return title of each reference of that place -> whether it is of the scene, best first.

    Args:
        scene: what is looked at, or None.
        shown: titles of masks; without a scene the first of them counts.
    """
    current = session()
    mask = current.masks[shown[0]] if shown else None
    about: tuple[Layer, str | None, str | None]
    if scene is not None:
        about = next(iter(scene.layers.values())), scene.title, scene.day
    elif mask is not None:
        about = mask.layer, mask.scene, mask.day
    else:
        return dict.fromkeys(current.references, Fit.MAY_BE)
    anchor, title, day = about

    def fit(entry: ReferenceEntry) -> Fit:
        if title is not None and title in (entry.scene, entry.title):
            return Fit.OF_THIS
        other = entry.scene in current.scenes or differing_days(entry.day, day)
        return Fit.OF_ANOTHER if other else Fit.MAY_BE

    near_by = [item for item in current.references.values() if near(anchor, item.layer)]
    return {entry.title: fit(entry) for entry in sorted(near_by, key=fit)}


def _place(wanted: str | None, names: list[str], otherwise: int) -> int:
    return names.index(wanted) if wanted in names else otherwise


def compare_all(masks: list[str], reference: str | None) -> dict[str, Comparison]:
    """Return the comparison of each mask; what cannot be compared is told."""
    found: dict[str, Comparison] = {}
    if reference is None:
        return found
    with st.spinner("Comparing"):
        for name in masks:
            if name == reference:
                continue
            if text := doubt(name, reference):
                st.warning(text, icon=":material/event_busy:")
            try:
                found[name] = session().findings.compare(name, reference)
            except CloudMaskError as err:
                st.warning(f"{name}: {err}", icon=":material/error:")
    return found


def doubt(mask: str, reference: str) -> str:
    """Say so where a mask and what it is compared with are not of one image; else nothing."""
    current = session()
    one = current.masks[mask]
    other = current.references.get(reference) or current.masks[reference]
    if differing_days(one.day, other.day):
        return (
            f"{mask} is of {one.day}, {reference} of {other.day}: clouds of different days are "
            "compared, and the scores say nothing of the mask."
        )
    known = one.scene in current.scenes and other.scene in current.scenes
    if known and one.scene != other.scene and None in (one.day, other.day):
        return (
            f"{mask} is of {one.scene}, {reference} of {other.scene}: if these are of different "
            "days, the scores say nothing of the mask."
        )
    return ""
