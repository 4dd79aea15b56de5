"""Thresholds and a buffer, tried on the percentages that were kept; map and scores follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from openeo_cloudmask.cleaning import scheme_kinds
from openeo_cloudmask.viewer.bench import Tried
from openeo_cloudmask.viewer.charts import score_rows
from openeo_cloudmask.viewer.comparison import Comparison
from openeo_cloudmask.viewer.probabilities import how_made
from openeo_cloudmask.viewer.trial import Trial, score_trial
from openeo_cloudmask.viewer.web import session, told

MAX_BUFFER_M = 500
STEP_M = 20
_KEY = "trial"


def current_trial(masks: Sequence[str]) -> tuple[Tried, str] | None:
    """Return the trial of one of these masks and its title, or None where nothing is tried."""
    name, trial = st.session_state.get(_KEY, (None, Trial()))
    if name not in masks or not trial:
        return None
    with told():
        return session().findings.try_mask(name, trial), f"{name} with {describe(trial)}"


def describe(trial: Trial) -> str:
    """Return a trial as the options of the command line."""
    return " ".join(f"--{name} {value}" for name, value in trial.options().items())


def draw_trial(
    found: Mapping[str, Comparison], restrict: Callable[[Comparison], Comparison]
) -> None:
    """Draw the sliders, and the scores with and without what they are set to.

    Args:
        found: the masks that are compared.
        restrict: what limits a comparison to the drawn area, where there is one.
    """
    current = session()
    names = [name for name in found if current.masks[name].percentages is not None]
    if not names:
        st.info(
            "None of these masks has its percentages beside it. Masks that the viewer makes have "
            "them, and so have jobs of a back end that offers them."
        )
        return
    before, trial = st.session_state.get(_KEY, (names[0], Trial()))
    name = st.selectbox(
        "Mask", names, index=names.index(before) if before in names else 0, key="trial_mask"
    )
    if name != before:
        trial = Trial()
    kinds = scheme_kinds(current.masks[name].scheme)
    columns = st.columns(3)
    given = {
        kind: columns[place].slider(
            f"{kind.capitalize()} from a probability of, %", 0, 100,
            value=round(100 * (getattr(trial, kind) or 0)), step=5, key=f"trial_{kind}_{name}",
            help="0: the most probable class wins, as the mask is made",
        )
        for place, kind in enumerate(kinds)
    }  # fmt: skip
    buffer = columns[2].slider(
        "Buffer around cloud and shadow, m", 0, MAX_BUFFER_M, value=trial.buffer_m, step=STEP_M,
        key=f"trial_buffer_{name}",
    )  # fmt: skip
    wanted = Trial(
        cloud=given.get("cloud", 0) / 100 or None, shadow=given.get("shadow", 0) / 100 or None,
        buffer_m=buffer,
    )  # fmt: skip
    if (name, wanted) != (before, trial):
        st.session_state[_KEY] = (name, wanted)
        st.rerun()  # the map is above
    _draw_scores(name, found[name], wanted, restrict)


def _draw_scores(
    name: str,
    comparison: Comparison,
    trial: Trial,
    restrict: Callable[[Comparison], Comparison],
) -> None:
    pairs = [(name, restrict(comparison))]
    current = current_trial([name])
    tried = None if current is None else current[0]
    if tried is not None:
        with told():
            evaluation = score_trial(tried.mask, comparison.evaluation.reference)
        made = comparison.of_trial(tried.mask, evaluation)
        pairs.append((f"with {describe(trial)}", restrict(made)))
    reference = comparison.evaluation.reference.name
    rows: list[dict[str, Any]] = [
        {
            key: row[key]
            for key in ("mask", "classes", "balanced accuracy", "mean F1", "cover error")
        }
        for title, item in pairs
        for row in score_rows([(title, reference, item)])
        if row["mask dilated"] == "no"
    ]
    rows.sort(key=lambda row: str(row["classes"]))
    st.dataframe(rows, hide_index=True)
    if tried is None:
        st.caption("Move a slider: the mask on the map and the scores follow; no model runs.")
        return
    st.code(f"cloudmask run SCENE --model {_model(name)} {describe(trial)}", language="shell")
    coarse = (
        "" if tried.step == 1
        else f" The mask is large: it is tried on means of {tried.step} x {tried.step} pixels."
    )  # fmt: skip
    st.caption(f"From whole percents: pixels at the very threshold may differ from a run.{coarse}")


def _model(name: str) -> str:
    made = how_made(session().masks[name].path)
    return "MODEL" if made is None else made[0]
