"""The parameters of a mask, as the openEO process, the command line and the viewer share them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from openeo_cloudmask.classes import OutputStyle
from openeo_cloudmask.errors import OptionError

STRIDES_PX = (64, 128, 256, 384, 512)
DEFAULT_STRIDE_PX = 384
DEFAULT_MODEL = "mini"
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskOptions:
    """What to run and how to write it down; every field is a key of the UDF's context.

    Raises:
        OptionError: a value is not allowed.
    """

    model: str = DEFAULT_MODEL
    """Name of a model in the registry."""
    output_style: OutputStyle = OutputStyle.FOUR_CLASS
    stride: int = DEFAULT_STRIDE_PX
    """Step of the moving window, pixels: 64, 128, 256, 384 or 512; smaller costs more."""
    categorise: bool = True
    """True: class values. False: one band of percentages (0-100) a class."""
    scale: float = 1.0
    """Reflectance = value * scale + offset; 0.0001 for the usual integer products."""
    offset: float = 0.0
    sensor: str | None = None
    """Sensor of the bands, or None for the model's own."""
    weights: str | None = None
    """Path of a weights file (or ONNX file) or folder that replaces the published one."""
    device: str = "auto"
    precision: str = "auto"

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
        if self.scale == 0:
            raise OptionError("scale is 0, which makes all pixels equal; expected e.g. 0.0001")
        if str(self.device).split(":")[0] not in DEVICES:
            raise _not_among("device", self.device, DEVICES)
        if self.precision not in PRECISIONS:
            raise _not_among("precision", self.precision, PRECISIONS)

    def to_context(self) -> dict[str, Any]:
        """Return the UDF context that gives these options: only what differs from the defaults."""
        default = type(self)(model=self.model)
        context: dict[str, Any] = {"model": self.model}
        for item in fields(self):
            value = getattr(self, item.name)
            if value != getattr(default, item.name):
                context[item.name] = value.value if isinstance(value, OutputStyle) else value
        return context


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
    known = [item.name for item in fields(MaskOptions)]
    for key in context:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise OptionError(f"unknown option {key!r}{hint} Known are: {', '.join(known)}")
    return MaskOptions(**{key: value for key, value in context.items() if value is not None})


def parse_udf_context(
    context: Mapping[str, Any] | None,
) -> tuple[MaskOptions, tuple[int, int] | None]:
    """Return the options in a UDF's ``context``, and size and overlap of the neighbourhood.

    The key ``neighborhood`` holds ``{"size": pixels, "overlap": pixels}`` of the
    ``apply_neighborhood`` that the UDF runs in; with it the UDF leaves out what is dropped.

    Raises:
        OptionError: as ``parse_context``, or the neighbourhood is none.
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


def _check_text(name: str, value: object, *, optional: bool) -> None:
    if (value is None and optional) or (isinstance(value, str) and value):
        return
    raise OptionError(f"{name} is {value!r}; expected a non-empty text")


def _check_number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise OptionError(f"{name} is {value!r}; expected a finite number")
    return float(value)


def _not_among(name: str, value: object, allowed: Iterable[object]) -> OptionError:
    choices = ", ".join(map(str, allowed))
    return OptionError(f"{name} is {value!r}; expected one of {choices}")
