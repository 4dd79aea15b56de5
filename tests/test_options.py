"""Options from a UDF's context."""

import inspect
import math
import re
from pathlib import Path

import jsonschema
import pytest

from openeo_cloudmask.classes import OutputStyle
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.options import (
    MaskOptions,
    option_fields,
    options_table,
    parse_context,
    takes_options,
)


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
        ({"device": "mps"}, "device is 'mps'; expected one of auto, cpu, cuda"),
        ({"device": "cuda:x"}, "device is 'cuda:x'"),
        ({"device": "tpu"}, "device is 'tpu'; expected one of auto, cpu, cuda"),
        ({"precision": "fp16"}, "precision is 'fp16'"),
        ({"weights": []}, r"weights is \[\]"),
        (["model"], "context is of type list"),
    ],
)
def test_wrong_options(context, message):
    with pytest.raises(OptionError, match=message):
        parse_context(context)


ROOT = Path(__file__).resolve().parents[1]
NAMES = {item.name for item in option_fields()}
TEXTS = [
    path
    for pattern in (
        "openeo_cloudmask/**/*.py",
        "udf/*.py",
        "udf/*.md",
        "viewer/**/*.py",
    )
    for path in sorted(ROOT.glob(pattern))
    if path.name != "options.py" and "_assets" not in path.parts
]
_MADE = re.compile(r"<!-- options: made by.*?<!-- end of options -->", re.DOTALL)


def _plain(path: Path) -> str:
    """Return a file's text without what is made from the options."""
    return _MADE.sub("", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1"])
def test_devices_that_pass_here_fit_the_schema(device):
    assert MaskOptions(device=device).device == device
    schema = next(item for item in option_fields() if item.name == "device").metadata["schema"]
    jsonschema.validate(device, schema)
    for wrong in ("mps", "cuda:", "cuda:x"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


_LISTED = r"`(\w+)`|[\"'](\w+)[\"']:|(\w+): (?:Annotated|str|int|bool|float)"


def _listed(line: str) -> set[str]:
    """Return the options that a line seems to list: as a key, a parameter, a code word."""
    found = set(
        re.findall(r"`(\w+)`|[\"'](\w+)[\"']:|(\w+): (?:Annotated|str|int|bool|float)", line)
    )
    return {name for names in found for name in names} & NAMES


def test_options_are_not_written_out_a_second_time():
    for path in TEXTS:
        lines = [_listed(line) for line in _plain(path).splitlines()]
        for first in range(len(lines)):
            found = set().union(*lines[first : first + 20])
            assert len(found) < 6, f"{path}:{first + 1} lists the options {sorted(found)}"


def test_texts_of_options_stand_once():
    openings = {item.name: " ".join(item.metadata["help"].split()[:8]) for item in option_fields()}
    for path in TEXTS:
        flat = " ".join(_plain(path).split())
        for name, opening in openings.items():
            assert opening not in flat, f"{path} holds what {name} does"


def test_the_udf_readme_shows_the_table():
    text = (ROOT / "udf" / "README.md").read_text(encoding="utf-8")
    assert options_table() in text


def test_functions_show_the_options():
    @takes_options
    def run(cube, *, size_px=1, **options):
        """Do.

        Args:
            cube: what.
            **options: {options}
        """
        return cube, size_px, options

    parameters = inspect.signature(run).parameters
    assert list(parameters) == ["cube", "size_px", *(item.name for item in option_fields())]
    assert parameters["stride"].default == 384
    assert all(f"{name}: " in run.__doc__ for name in NAMES)
    assert run(1, stride=64) == (1, 1, {"stride": 64})
