import pytest

from openeo_cloudmask.errors import InputError
from openeo_cloudmask.viewer.drawing import (
    AREA_KEY,
    MAX_POINTS,
    Event,
    Shape,
    area_pen,
    read_events,
    take_area,
)

CORNERS = ((3.0, 45.0), (3.1, 45.0), (3.1, 45.1))


def shape_event(number=1, **changes):
    given = {
        "number": number,
        "kind": "shape",
        "points": [list(point) for point in CORNERS],
        "area": True,
        "radius_m": 0,
        "value": None,
    }
    return {**given, **changes}


def test_events_are_read_in_order_and_those_that_were_heard_are_left_out():
    given = {
        "events": [
            shape_event(3),
            shape_event(4, area=False, radius_m=60.5, value=2, points=[[3, 45]]),
            {"number": 5, "kind": "action", "name": "undo"},
        ]
    }
    dot = Shape(points=((3.0, 45.0),), area=False, radius_m=60.5, value=2)
    assert read_events(given, 3) == (Event(number=4, shape=dot), Event(number=5, action="undo"))
    assert read_events(given, 2)[0].shape == Shape(points=CORNERS, area=True)
    assert read_events(None, 0) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"points": [[3, 45], [3, 46]]},
        {"points": [[3, 45]] * (MAX_POINTS + 1)},
        {"points": [[3, 45], [3, 46], [3, float("nan")]]},
        {"points": [[3, 45], [3, 46], [300, 45]]},
        {"points": [[3, 45], [3, 46], [3]]},
        {"radius_m": float("inf"), "area": False},
        {"radius_m": -1, "area": False},
        {"number": "x"},
        {"value": "cloud"},
        {"points": None},
    ],
)
def test_what_is_no_shape_is_refused(changes):
    with pytest.raises(InputError, match="what was drawn cannot be understood"):
        read_events({"events": [shape_event(**changes)]}, 0)


def test_the_area_of_a_map_is_the_last_one_drawn_on_it():
    state = {}
    assert area_pen(state, "scene")["shapes"] == []
    assert take_area(state, {"events": [shape_event(7)]})
    assert state[AREA_KEY] == CORNERS
    assert not take_area(state, {"events": [shape_event(7)]}), "heard once already"
    pen = area_pen(state, "scene")
    assert pen["heard"] == 7
    assert pen["shapes"][0]["points"] == [list(point) for point in CORNERS]
    assert [item["name"] for item in pen["actions"]] == ["clear"]
    assert take_area(state, {"events": [{"number": 8, "kind": "action", "name": "clear"}]})
    assert state[AREA_KEY] is None
    take_area(state, {"events": [shape_event(9)]})
    assert area_pen(state, "another scene")["shapes"] == []
    assert state[AREA_KEY] is None
