"""The viewer as one server: Streamlit's pages, map tiles and map scripts on one port.

Run with ``cloudmask viewer``, or ``streamlit run viewer/server.py``.
"""

from pathlib import Path

import leafmap.foliumap  # noqa: F401 - takes seconds; paid at start-up, not by the first visitor
import streamlit as st

from openeo_cloudmask.viewer.cookies import build_middleware
from openeo_cloudmask.viewer.live import live_routes
from openeo_cloudmask.viewer.tiles import build_routes

HERE = Path(__file__).parent

app = st.App(
    HERE / "app.py",
    routes=[*build_routes(HERE / "vendor"), *live_routes()],
    middleware=build_middleware(),
)
