"""Options from a UDF's context."""

import math

import pytest

from openeo_cloudmask.classes import OutputStyle
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.options import MaskOptions, parse_context


def test_no_context_is_the_defaults():
    assert parse_context(None) == parse_context({}) == MaskOptions()
    assert MaskOptions().stride == 384


def test_json_values_are_taken():
    options = parse_context(
        {"model": "hollstein", "stride": 128.0, "scale": 1, "sensor": None, "categorise": False}
    )
    assert options.stride == 128
    assert isinstance(options.stride, int)
    assert options.scale == 1.0
    assert options.sensor is None
    assert not options.categorise


def test_context_round_trip():
    options = MaskOptions(
        model="x", output_style=OutputStyle.NATIVE, stride=64, categorise=False, scale=1e-4
    )
    assert options.to_context() == {
        "model": "x",
        "output_style": "native",
        "stride": 64,
        "categorise": False,
        "scale": 1e-4,
    }
    assert parse_context(options.to_context()) == options


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"modle": "x"}, "unknown option 'modle'; did you mean 'model'"),
        ({"model": ""}, "model is ''; expected a non-empty text"),
        ({"model": 3}, "model is 3"),
        ({"output_style": "5-class"}, "output_style is '5-class'; expected one of 4-class"),
        ({"stride": 100}, "stride is 100; expected one of 64, 128, 256, 384, 512"),
        ({"stride": True}, "stride is True"),
        ({"stride": "384"}, "stride is '384'"),
        ({"categorise": "yes"}, "categorise is 'yes'; expected true or false"),
        ({"scale": 0}, "scale is 0"),
        ({"scale": math.nan}, "scale is nan; expected a finite number"),
        ({"offset": "auto"}, "offset is 'auto'; expected a finite number"),
        ({"device": "tpu"}, "device is 'tpu'; expected one of auto, cpu, cuda"),
        ({"precision": "fp16"}, "precision is 'fp16'"),
        ({"weights": []}, r"weights is \[\]"),
        (["model"], "context is of type list"),
    ],
)
def test_wrong_options(context, message):
    with pytest.raises(OptionError, match=message):
        parse_context(context)
