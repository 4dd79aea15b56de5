"""What the page New job says of the scenes a back end has."""

import datetime as dt
from types import SimpleNamespace

from openeo_cloudmask.viewer.areas import list_scenes


def item(name: str, **properties: object) -> dict[str, object]:
    return {"id": name, "properties": {"datetime": "2024-05-01T10:20:00Z", **properties}}


def test_scenes_are_listed_as_people_read_them():
    found = {"features": [item("one", **{"eo:cloud_cover": 12.6}), item("two", datetime=None)]}
    connection = SimpleNamespace(get=lambda *_, **__: SimpleNamespace(json=lambda: found))
    days = (dt.date(2024, 5, 1), dt.date(2024, 5, 2))
    assert list_scenes(connection, "S2", (0, 0, 1, 1), days) == [
        {"scene": "one", "date (UTC)": "2024-05-01 10:20", "cloud cover": "13 %"},
        {"scene": "two", "date (UTC)": "", "cloud cover": "not stated"},
    ]
