"""What pages share: this browser's session, errors as sentences, parameters of a mask."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from openeo_cloudmask.amounts import EXAMPLES, UNITS
from openeo_cloudmask.classes import OutputStyle
from openeo_cloudmask.errors import CloudMaskError
from openeo_cloudmask.models.registry import MODELS, get_model, other_models
from openeo_cloudmask.options import DEFAULT_STRIDE_PX, STRIDES_PX, MaskOptions, option_help
from openeo_cloudmask.viewer import backends
from openeo_cloudmask.viewer.cards import ModelCard, read_cards
from openeo_cloudmask.viewer.cookies import find_name
from openeo_cloudmask.viewer.local import State, Task, plain_text
from openeo_cloudmask.viewer.names import (
    ALLOW_PATHS_VARIABLE,
    BACKEND_DATA_VARIABLE,
    BACKEND_VARIABLE,
    CATALOG_VARIABLE,
    LOGIN_VARIABLE,
)
from openeo_cloudmask.viewer.session import Session, begin_session
from openeo_cloudmask.viewer.session_store import SESSIONS
from openeo_cloudmask.viewer.speeds import data_folder

if TYPE_CHECKING:
    import openeo
    from streamlit.delta_generator import DeltaGenerator


def paths_allowed() -> bool:
    """Return whether visitors may open files and addresses that this machine reaches."""
    return bool(os.environ.get(ALLOW_PATHS_VARIABLE))


def session() -> Session:
    """Return what this browser has opened; it outlives a reload of the page."""
    if "session" not in st.session_state or st.session_state.session.is_over():
        key = find_name(st.context.cookies)
        st.session_state.session = SESSIONS.find(key, lambda: begin_session(data_folder()))
    current: Session = st.session_state.session
    return current


@st.cache_data(show_spinner=False, ttl="10m", max_entries=50)
def _cards(catalog: str | None, *, public: bool) -> tuple[ModelCard, ...]:
    return read_cards(catalog, public=public)


def cards() -> tuple[ModelCard, ...]:
    """Return the model cards of the chosen catalog.

    Where visitors may not open files of this machine, theirs is read from public https addresses,
    and so is whatever it refers to.
    """
    chosen = st.session_state.get("catalog_href")
    catalog = chosen or os.environ.get(CATALOG_VARIABLE)
    return _cards(catalog or None, public=bool(chosen) and not paths_allowed())


@contextmanager
def told(*, stop: bool = True) -> Iterator[None]:
    """Show an error raised on purpose as a sentence, and stop the page there, unless told not."""
    try:
        yield
    except CloudMaskError as err:
        st.error(plain_text(err), icon=":material/error:")
        if stop:
            st.stop()


def mask_form(key: str) -> MaskOptions:
    """Draw the parameters of a mask, with the names and help of the processor."""
    names = [name for name in (card.id for card in cards()) if name in MODELS] + [*other_models()]
    chosen = st.session_state.get("chosen_model") or MaskOptions().model
    model = st.selectbox(
        "Model",
        names,
        index=names.index(chosen) if chosen in names else 0,
        key=f"{key}_model",
        help="See the page Models for what each needs and tells.",
    )
    st.session_state.chosen_model = model  # the choice outlives the page
    entry = get_model(model)
    if entry.licence.non_commercial:
        st.warning(f"{entry.licence.spdx}: not for commercial use.", icon=":material/gavel:")
    left, middle, right = st.columns(3)
    style = left.selectbox(
        "output_style",
        [item.value for item in OutputStyle],
        key=f"{key}_style",
        help=option_help("output_style"),
    )
    stride = middle.selectbox(
        "stride",
        STRIDES_PX,
        index=STRIDES_PX.index(DEFAULT_STRIDE_PX),
        key=f"{key}_stride",
        help=option_help("stride"),
    )
    categorise = right.toggle(
        "categorise", value=True, key=f"{key}_categorise", help=option_help("categorise")
    )
    with told():
        return MaskOptions(
            model=model,
            output_style=OutputStyle(style),
            stride=stride,
            categorise=categorise,
            **(_cleaning_form(key) if categorise else {}),
        )


def _cleaning_form(key: str) -> dict[str, Any]:
    """Draw what is done to a mask after it is made; an empty field is nothing."""
    with st.expander("Threshold, smallest area, buffer", icon=":material/tune:"):
        columns = st.columns(len(UNITS))
        given = {
            name: column.text_input(
                name,
                key=f"{key}_{name}",
                placeholder=EXAMPLES[name],
                help=option_help(name),
            )
            for column, name in zip(columns, ("threshold", "min_area", "buffer"), strict=True)
        }
    return {name: text.strip() or None for name, text in given.items()}


def rerun_here() -> None:
    """Run the fragment again, or the page where the whole page is being run."""
    from streamlit.errors import StreamlitAPIException

    try:
        st.rerun(scope="fragment")
    except StreamlitAPIException:
        st.rerun()


def keep_address(wanted: Mapping[str, str | Sequence[str]]) -> None:
    """Let the page's address say what is chosen; what does not change is not written again.

    A browser gives up a download that has just begun when the address is written.
    """
    asked = st.query_params
    lists = {
        name: [value] if isinstance(value, str) else [*value] for name, value in wanted.items()
    }
    lists = {name: values for name, values in lists.items() if values}
    if {name: asked.get_all(name) for name in asked} != lists:
        asked.from_dict(lists)


def empty_state(text: str) -> None:
    """Say that there is nothing yet, and how to get started."""
    st.info(text, icon=":material/lightbulb:")
    if st.button("Make a demo scene", icon=":material/auto_awesome:", key="empty_demo"):
        make_demo()
        st.rerun()


def make_demo() -> None:
    """Simulate a scene with its reference, with a progress bar."""
    bar = st.progress(0.0, text="Simulating a Sentinel-2 scene with clouds and its reference")
    with told():
        entry = session().make_demo(report=lambda share: _set(bar, share))
        if backend_data := os.environ.get(BACKEND_DATA_VARIABLE):
            bar.progress(1.0, text="Registering it with the back end")
            backends.register_scene(entry.path, Path(backend_data), sensor=entry.sensor_id)
    bar.empty()


def _set(bar: DeltaGenerator, share: float) -> None:
    bar.progress(min(max(share, 0.0), 1.0))


def embedded_login() -> tuple[str, str] | None:
    """Return name and password of the embedded back end's local user, where there is one."""
    path = os.environ.get(LOGIN_VARIABLE)
    if not path or not Path(path).is_file():
        return None
    name, _, password = Path(path).read_text(encoding="utf-8").strip().partition("\n")
    return name, password


def connect_form() -> openeo.Connection | None:
    """Draw the connection to a back end; return it once it is logged in."""
    current = session()
    default = os.environ.get(BACKEND_VARIABLE, "")
    if current.connection is None and default and not st.session_state.get("disconnected"):
        login = embedded_login()
        if login is not None:
            with told():
                current.connection = backends.connect(default)
                backends.log_in(current.connection, *login)
                current.backend_url = default
    if current.connection is not None:
        left, right = st.columns([4, 1], vertical_alignment="center")
        left.success(f"Connected to {current.backend_url}", icon=":material/link:")
        if right.button("Disconnect"):
            current.connection, current.backend_url = None, ""
            st.session_state.disconnected = True
            st.rerun()
        return current.connection
    with st.form("connect"):
        url = st.text_input(
            "Address of the back end",
            default or "https://openeo.dataspace.copernicus.eu",
            help=None if paths_allowed() else "A public https address",
        )
        method = st.radio("Log in with", ["Name and password", "OpenID Connect"], horizontal=True)
        user = st.text_input("Name", autocomplete="username")
        password = st.text_input("Password", type="password", autocomplete="current-password")
        client = st.text_input(
            "Client id",
            help="For OpenID Connect, where the back end names no client of its own",
        )
        st.caption("Kept in this browser session only: not on disk, not in a log.")
        if not st.form_submit_button("Connect", type="primary"):
            return None
    with told(), st.spinner("Connecting"):
        public = url != default and not paths_allowed()
        connection = backends.connect(url, public=public)
        if method == "OpenID Connect":
            place = st.empty()
            backends.log_in_oidc(
                connection,
                lambda text: _tell(place, text),
                client=client.strip() or None,
                public=public,
            )
        else:
            backends.log_in(connection, user, password)
    current.connection, current.backend_url = connection, url
    st.rerun()
    return None


def _tell(place: DeltaGenerator, text: str) -> None:
    place.info(text)


@st.fragment(run_every=1.0)
def _follow_running() -> None:
    current = session()
    for task in current.tasks:
        if task.state is State.RUNNING:
            left, right = st.columns([5, 1])
            left.progress(task.share, text=f"{task.title}: {task.share:.0%}")
            if right.button("Cancel", key=f"cancel_{task.id}"):
                task.cancel()
    if not current.running():
        st.rerun()


def download_task(task: Task) -> None:
    """Draw the download of what a task made."""
    if task.output is not None:
        st.download_button(
            f"Download {task.title} (GeoTIFF)",
            task.output.read_bytes,  # called only when the button is pressed
            task.output.name,
            "image/tiff",
            icon=":material/download:",
            key=f"download_{task.id}",
            on_click="ignore",
        )


def follow_tasks() -> None:
    """Show what the session's own tasks do; finished masks are opened."""
    current = session()
    if current.running():
        _follow_running()
    for task in reversed(current.tasks):
        if task.state is State.ERROR:
            st.error(f"{task.title}: {task.message}", icon=":material/error:")
        elif task.state is State.CANCELED:
            st.warning(f"{task.title}: {task.message}")
        elif task.state is State.FINISHED and task.output is not None:
            with told():
                current.open_task(task)
            st.success(f"{task.title}: done", icon=":material/check_circle:")
            if task.message:
                st.warning(f"{task.title}: {task.message}", icon=":material/warning:")
            download_task(task)
    if any(task.state is State.FINISHED and task.classes for task in current.tasks):
        st.page_link("screens/compare.py", label="Look at it", icon=":material/compare:")
