"""The options of a mask, each once: name, type, default, description and JSON schema.

The openEO process, the command line, the viewer, the docs and the functions of this package take
names and texts from here.
"""

# ruff: noqa: RUF009 - the calls are fields
from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from inspect import Parameter, cleandoc, signature
from numbers import Real
from typing import Any, TypeVar

from openeo_cloudmask.amounts import UNITS, Amount, parse_amounts
from openeo_cloudmask.classes import OutputStyle
from openeo_cloudmask.errors import OptionError

STRIDES_PX = (64, 128, 256, 384, 512)
DEFAULT_STRIDE_PX = 384
DEFAULT_MODEL = "mini"
PRECISIONS = ("auto", "fp32", "bf16", "int8")
_DEVICE = r"auto|cpu|cuda(:[0-9]+)?"
_TEXT_OR_NULL = {"type": ["string", "null"]}
_AMOUNTS = {"type": ["string", "number", "null"]}
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _option(default: Any, help_text: str, **schema: Any) -> Any:  # noqa: ANN401 - a dataclass field
    return field(default=default, metadata={"help": " ".join(help_text.split()), "schema": schema})


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskOptions:
    """What to run and how to write it down; every field is a key of the UDF's context.

    Raises:
        OptionError: a value is not allowed.
    """

    model: str = _option(
        DEFAULT_MODEL,
        """Name of the model, e.g. `mini`, `cloudsen12`, `senseiv2`, `hollstein`. The catalog of
        models (`cloudmask models`) says which bands each needs and under which licence it may be
        used.""",
        type="string",
        minLength=1,
    )
    output_style: OutputStyle = _option(
        OutputStyle.FOUR_CLASS,
        """`4-class`: 0 clear, 1 thick cloud, 2 thin cloud, 3 cloud shadow. `cloud-noncloud`: 0
        non-cloud, 1 cloud. `valid-invalid`: 0 valid, 1 cloud or shadow. `native`: the model's own
        classes. No-data is 255 in all of them.""",
        type="string",
        enum=[item.value for item in OutputStyle],
    )
    stride: int = _option(
        DEFAULT_STRIDE_PX,
        """Step of the moving window in pixels. Smaller strides average more predictions for each
        pixel and cost more.""",
        type="integer",
        enum=list(STRIDES_PX),
    )
    categorise: bool = _option(
        True,
        """`true`: one band `mask` of class values. `false`: one band of percentages (0-100) for
        each class.""",
        type="boolean",
    )
    scale: float = _option(
        1.0,
        """Reflectance is `value * scale + offset`. Pass 0.0001 for data that hold reflectance
        times 10000.""",
        type="number",
    )
    offset: float = _option(
        0.0,
        """See `scale`. -0.1 only where the offset of Sentinel-2 products from baseline 04.00 on is
        not applied yet.""",
        type="number",
    )
    sensor: str | None = _option(
        None,
        """Sensor of the bands, e.g. `sentinel-2-l1c`, or on one's own machine a YAML or JSON file
        that describes one; `null` finds it from the bands.""",
        **_TEXT_OR_NULL,
    )
    weights: str | None = _option(
        None,
        """Path of a weights file or folder where the mask is computed, in place of the published
        weights.""",
        **_TEXT_OR_NULL,
    )
    device: str = _option(
        "auto",
        """Where networks run: `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:1` and so
        on.""",
        type="string",
        pattern=f"^({_DEVICE})$",
    )
    precision: str = _option(
        "auto",
        """Number format of networks: `fp32` is exact, `bf16` faster on some hardware, `int8` on
        more, from a file that `cloudmask export --precision int8` wrote; `auto` takes what the
        device is fast with where it changes next to no class.""",
        type="string",
        enum=list(PRECISIONS),
    )
    threshold: str | None = _option(
        None,
        """Probability from which on a pixel is cloud (all its classes together) or cloud shadow:
        `cloud=0.4`, `cloud=0.4,shadow=0.3`, or a number for both; `null` takes the most probable
        class.""",
        **_AMOUNTS,
    )
    min_area: str | None = _option(
        None,
        """Groups of cloud or shadow pixels that are smaller become the most probable class that
        is neither: `1ha`, `5000m2`, `50px`, or `cloud=1ha,shadow=50px`; a number is square metres.
        Pixels that touch at a corner belong together. At most 2500 pixels.""",
        **_AMOUNTS,
    )
    buffer: str | None = _option(
        None,
        """Widens cloud and cloud shadow, after `threshold` and `min_area`: `120m`, `12px`, or
        `cloud=120m,shadow=60m`; a number is metres, rounded up to whole pixels. Cloud covers
        shadow; no-data stays.""",
        **_AMOUNTS,
    )

    def __post_init__(self) -> None:
        """Check every value."""
        for name in ("model", "sensor", "weights"):
            _check_text(name, getattr(self, name), optional=name != "model")
        try:
            style = OutputStyle(self.output_style)
        except ValueError:
            styles = [item.value for item in OutputStyle]
            raise _not_among("output_style", self.output_style, styles) from None
        object.__setattr__(self, "output_style", style)
        if isinstance(self.stride, bool) or self.stride not in STRIDES_PX:
            raise _not_among("stride", self.stride, STRIDES_PX)
        object.__setattr__(self, "stride", int(self.stride))  # 384.0, as JSON may give it
        if not isinstance(self.categorise, bool):
            raise OptionError(f"categorise is {self.categorise!r}; expected true or false")
        for name in ("scale", "offset"):
            object.__setattr__(self, name, _check_number(name, getattr(self, name)))
        if self.scale <= 0:
            raise OptionError(f"scale is {self.scale:g}; expected a number above 0, e.g. 0.0001")
        if not re.fullmatch(_DEVICE, str(self.device)):
            raise _not_among("device", self.device, ("auto", "cpu", "cuda", "cuda:<number>"))
        if self.precision not in PRECISIONS:
            raise _not_among("precision", self.precision, PRECISIONS)
        for name in UNITS:
            value = _check_amounts(name, getattr(self, name), categorise=self.categorise)
            object.__setattr__(self, name, value)

    def amounts(self, name: str) -> dict[str, Amount]:
        """Return ``cloud`` and ``shadow`` -> amount of the option ``name``, a key of ``UNITS``."""
        text = getattr(self, name)
        return {} if text is None else parse_amounts(name, text)

    def to_context(self) -> dict[str, Any]:
        """Return the UDF context that gives these options: only what differs from the defaults."""
        defaults = default_context() | {"model": None}
        values = {item.name: to_json(getattr(self, item.name)) for item in fields(self)}
        return {name: value for name, value in values.items() if value != defaults[name]}


def to_json(value: object) -> Any:  # noqa: ANN401 - any JSON
    """Return the value of an option as JSON has it."""
    return value.value if isinstance(value, OutputStyle) else value


def default_context() -> dict[str, Any]:
    """Return every option with its default, as JSON has them."""
    return {item.name: to_json(item.default) for item in option_fields()}


def option_fields() -> tuple[Field[Any], ...]:
    """Return the options; ``metadata`` of each holds ``help`` and ``schema``."""
    return fields(MaskOptions)


def option_help(name: str) -> str:
    """Return what the option ``name`` does."""
    text: str = next(item.metadata["help"] for item in option_fields() if item.name == name)
    return text


def options_table() -> str:
    """Return the options as the table (Markdown) that the docs show."""
    rows = [
        f"| `{item.name}` | {item.metadata['help']} | {_in_words(item.metadata['schema'])} "
        f"| {_code(to_json(item.default))} |"
        for item in option_fields()
    ]
    return "\n".join(["| option | what it does | values | default |", "|---|---|---|---|", *rows])


def takes_options(function: _Function) -> _Function:
    """Give a function with ``**options`` the signature and docstring that name each option.

    ``{options}`` in its docstring is replaced by what each option does.
    """
    parameters = dict(signature(function).parameters)
    rest = next(name for name, item in parameters.items() if item.kind is Parameter.VAR_KEYWORD)
    del parameters[rest]
    named = [
        Parameter(item.name, Parameter.KEYWORD_ONLY, default=item.default, annotation=item.type)
        for item in option_fields()
        if item.name not in parameters
    ]
    function.__signature__ = signature(function).replace(  # type: ignore[attr-defined]
        parameters=[*parameters.values(), *named]
    )
    lines = [f"{item.name}: {item.metadata['help']}" for item in option_fields()]
    function.__doc__ = cleandoc(function.__doc__ or "").replace(
        "{options}", "\n        ".join(lines)
    )
    return function


def parse_context(context: Mapping[str, Any] | None) -> MaskOptions:
    """Return the options in a UDF's ``context``; a key whose value is null counts as not given.

    Raises:
        OptionError: the context is no mapping, a key is unknown or a value is not allowed.
    """
    if context is None:
        return MaskOptions()
    if not isinstance(context, Mapping):
        raise OptionError(
            f"context is of type {type(context).__name__}; expected an object with named options"
        )
    known = [item.name for item in option_fields()]
    for key in context:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise OptionError(f"unknown option {key!r}{hint} Known are: {', '.join(known)}")
    return MaskOptions(**{key: value for key, value in context.items() if value is not None})


def parse_udf_context(
    context: Mapping[str, Any] | None,
) -> tuple[MaskOptions, tuple[int, int] | None]:
    """Return the options in a UDF's ``context``, and size and overlap of the neighbourhood.

    The key ``neighborhood`` holds ``{"size": pixels, "overlap": pixels}`` of the
    ``apply_neighborhood`` that the UDF runs in; with it the UDF leaves out what is dropped.

    Raises:
        OptionError: as ``parse_context``, or the neighbourhood is invalid.
    """
    if not isinstance(context, Mapping):
        return parse_context(context), None
    options = parse_context({key: context[key] for key in context if key != "neighborhood"})
    around = context.get("neighborhood")
    if around is None:
        return options, None
    if isinstance(around, Mapping) and set(around) == {"size", "overlap"}:
        pair = (around["size"], around["overlap"])
        if all(type(value) is int for value in pair) and pair[0] > 0 and pair[1] >= 0:
            return options, pair
    raise OptionError(
        f"neighborhood is {around!r}; expected whole numbers of pixels, such as "
        '{"size": 1024, "overlap": 512}'
    )


def _in_words(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(_code(value) for value in schema["enum"])
    if "pattern" in schema:
        return f"text that fits `{schema['pattern']}`".replace("|", "\\|")
    kinds = schema["type"]
    return kinds if isinstance(kinds, str) else " or ".join(kinds)


def _code(value: object) -> str:
    if value is MISSING or value is None:
        return "`null`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _check_text(name: str, value: object, *, optional: bool) -> None:
    if (value is None and optional) or (isinstance(value, str) and value):
        return
    raise OptionError(f"{name} is {value!r}; expected a non-empty text")


def _check_number(name: str, value: object) -> float:
    # numbers.Real: attributes of NetCDF files are numbers of NumPy.
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise OptionError(f"{name} is {value!r}; expected a finite number")
    return float(value)


def _check_amounts(name: str, value: object, *, categorise: bool) -> str | None:
    """Return the text that says ``value``; a number is an amount in the first of its units."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = f"{value:g}{next(iter(UNITS[name]))}"
    if not isinstance(value, str):
        raise OptionError(f"{name} is {value!r}; expected a text or a number")
    parse_amounts(name, value)
    if not categorise:
        raise OptionError(
            f"{name} is {value!r} and changes classes, but percentages are asked for; expected "
            "categorise true"
        )
    return value


def _not_among(name: str, value: object, allowed: Iterable[object]) -> OptionError:
    choices = ", ".join(map(str, allowed))
    return OptionError(f"{name} is {value!r}; expected one of {choices}")
