"""Models that cannot tell some class are neither listed nor scored with it."""

import json

import numpy as np
import pytest

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.models.registry import MODELS
from openeo_cloudmask.viewer.cards import read_cards
from openeo_cloudmask.viewer.charts import class_rows, score_rows, untold_text
from openeo_cloudmask.viewer.comparison import compare_masks

BINARY = ("s2cloudless", "kristollari-cnn", "dl-l8s2-uv-rgbi", "dl-l8s2-uv-rgbiswir")


@pytest.fixture(scope="module")
def cards():
    return {card.id: card for card in read_cards()}


@pytest.mark.parametrize("model", BINARY)
def test_a_model_of_cloud_or_not_is_listed_with_these_two(cards, model):
    assert [item.name for item in cards[model].classes] == ["clear", "thick-cloud"]
    assert [item.name for item in cards[model].untold] == ["thin-cloud", "cloud-shadow"]


def test_the_catalog_says_what_the_registry_says(cards):
    for model, card in cards.items():
        assert tuple(item.name for item in card.untold) == MODELS[model].untold
    assert cards["hollstein"].untold == ()


@pytest.fixture
def compare(write_classes, tmp_path):
    labels = np.arange(64 * 64).reshape(64, 64) % 4

    def run(model: str):
        tags = {"CLASS_SCHEME": "4-class"}
        mask = write_classes(labels, f"{model}.tif", MODEL=model, STRIDE="256", **tags)
        other = write_classes(labels, "other.tif", **tags)
        return compare_masks(mask, other, tmp_path, name=model)

    return run


def test_no_scores_in_classes_that_the_model_cannot_tell(compare):
    blind, seeing = compare("s2cloudless"), compare("hollstein")
    views = {row["classes"] for row in score_rows([("a", "b", blind)])}
    assert views == {"valid-invalid", "cloud-noncloud"}
    assert "4-class" in {row["classes"] for row in score_rows([("a", "b", seeing)])}
    assert "cannot tell thin cloud and cloud shadow" in str(untold_text("a", blind))
    assert untold_text("a", seeing) is None
    result = next(
        item for item in blind.evaluation.result.results if item.case.view.value == "4-class"
    )
    rows = class_rows(result, blind.untold)
    told = [row["class"] for row in rows if row["recall"] is not None]
    assert told == [FOUR_CLASS.classes[0].title, FOUR_CLASS.classes[1].title]


def test_the_band_axis_names_every_band(app):
    app.run()
    page = app.switch_page("screens/models.py").run()
    assert not page.exception
    drawn = [json.loads(item.proto.spec) for item in page.get("vega_lite_chart")]
    charts = [chart for chart in drawn if chart["encoding"]["y"].get("field") == "band"]
    assert charts
    assert all(chart["encoding"]["y"]["axis"]["labelOverlap"] is False for chart in charts)
