"""Maps ask no other host."""

import re

from openeo_cloudmask.viewer.maps import localize, plain_map


def test_a_map_asks_no_other_host():
    view = plain_map(center=(45.0, 3.0), zoom=8)
    localize(view)
    text = view.get_root().render()
    # Leaflet's own credit is a link, not a request.
    found = set(re.findall(r"https?://[^\s\"'<]+", text))
    assert not [url for url in found if "leafletjs.com" not in url]
    assert "/vendor/leaflet/leaflet.js" in text
