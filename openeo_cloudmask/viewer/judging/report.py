"""One report over all masks that are compared, to download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from openeo_cloudmask.evaluation.report import to_json
from openeo_cloudmask.viewer.comparison import Comparison
from openeo_cloudmask.viewer.entries import MaskEntry
from openeo_cloudmask.viewer.judgement import (
    DOUBTS,
    Judged,
    judgement_csv,
    judgement_dict,
    provenance,
    render_judgement,
)
from openeo_cloudmask.viewer.judging.area import drawn_area
from openeo_cloudmask.viewer.judging.choose import Chosen, doubt
from openeo_cloudmask.viewer.scenes import thumbnail
from openeo_cloudmask.viewer.web import session, told


def draw_provenance(masks: Sequence[str]) -> None:
    """Draw how each mask was made, as its file and its STAC item say."""
    current = session()
    with told():
        made = {
            name: provenance(current.masks[name].path, current.masks[name].item) for name in masks
        }
    rows = list(dict.fromkeys(key for found in made.values() for key in found))
    if not rows:
        st.info("The files of these masks do not say how they were made.")
        return
    table = pd.DataFrame(
        {name: [found.get(key, "") for key in rows] for name, found in made.items()}
    )
    st.table(table.set_index(pd.Index(rows, name="")), border="horizontal")
    for name in masks:
        item = current.masks[name].item
        if item is not None:
            with st.expander(f"STAC item of {name}"):
                st.json(
                    {key: value for key, value in item.items() if key not in ("assets", "links")}
                )


def _made(mask: MaskEntry, reference: str) -> dict[str, str]:
    """Return how a mask was made, and why its comparison is doubtful, if it is."""
    made = provenance(mask.path, mask.item)
    doubts = [text for text in (made.get(DOUBTS), doubt(mask.title, reference)) if text]
    return {**made, DOUBTS: "; ".join(doubts)} if doubts else made


def draw_report(chosen: Chosen, found: Mapping[str, Comparison]) -> None:
    """Draw the downloads: a page, a table and numbers, each of all masks."""
    masks = session().masks
    with told():
        judged = [
            Judged(name=name, comparison=item, made=_made(masks[name], str(chosen.reference)))
            for name, item in found.items()
        ]
        image = None if chosen.scene is None else thumbnail(chosen.scene.picture)
    restricted = any(item.inside for item in found.values())
    area = drawn_area() if restricted else None
    title = f"{chosen.key}, compared with {chosen.reference}"
    page, table, numbers = st.columns(3)
    # Pressed, they draw nothing anew: that writes the page's address, and browsers then give up a
    # download that has just begun.
    page.download_button(
        "Page (HTML)", render_judgement(title, judged, image, area), f"{chosen.key}.html",
        "text/html", icon=":material/article:", on_click="ignore",
    )  # fmt: skip
    table.download_button(
        "Table (CSV)", judgement_csv(judged), f"{chosen.key}.csv", "text/csv",
        icon=":material/table:", on_click="ignore",
    )  # fmt: skip
    numbers.download_button(
        "Numbers (JSON)", to_json(judgement_dict(title, judged, area)), f"{chosen.key}.json",
        "application/json", icon=":material/data_object:", on_click="ignore",
    )  # fmt: skip
    st.caption(
        "Of all masks above in one: the image, scores, matrices and error maps, how each mask was "
        "made, and how they were compared."
    )
