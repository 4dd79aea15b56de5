"""The ``cloudmask`` STAC extension as a pystac extension class.

The fields are explained in ``stac_extension/README.md`` and defined in its JSON schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import pystac
from pystac.extensions.base import (
    ExtensionManagementMixin,
    PropertiesExtension,
    SummariesExtension,
)
from pystac.utils import get_required

PREFIX = "cloudmask:"
VERSION = "1.0.0"
SCHEMA_URI = f"https://openeo-cloudmask.github.io/stac-extension/v{VERSION}/schema.json"
"""Names the schema; ``stac.schemas`` resolves it to the copy that comes with the package."""

CLASS_SCHEME = f"{PREFIX}class_scheme"
CLASS_MAPPINGS = f"{PREFIX}class_mappings"
OUTPUT_STYLES = f"{PREFIX}output_styles"
WINDOW = f"{PREFIX}window"
STRIDES = f"{PREFIX}strides"
SENSOR_INDEPENDENT = f"{PREFIX}sensor_independent"
BAND_REQUIREMENTS = f"{PREFIX}band_requirements"
SENSORS_FIELD = f"{PREFIX}sensors"
INPUTS = f"{PREFIX}inputs"
TRAINED_ON = f"{PREFIX}trained_on"
UNTOLD_CLASSES = f"{PREFIX}untold_classes"
NON_COMMERCIAL = f"{PREFIX}non_commercial"
PUBLISHED_SCORES = f"{PREFIX}published_scores"
SCORES = f"{PREFIX}scores"
OPENEO = f"{PREFIX}openeo"
MODEL = f"{PREFIX}model"
OUTPUT_STYLE = f"{PREFIX}output_style"
PARAMETERS = f"{PREFIX}parameters"
WARNINGS = f"{PREFIX}warnings"

_T = TypeVar("_T")
_Object = dict[str, Any]


class CloudMaskExtension(
    PropertiesExtension,
    ExtensionManagementMixin[pystac.Item | pystac.Collection],
):
    """The ``cloudmask:`` fields of an item that describes a model, or of one that holds a mask.

    Example::

        item = pystac.Item.from_file("catalog/CloudSEN12/cloudsen12/cloudsen12.json")
        CloudMaskExtension.ext(item).sensors  # ["sentinel-2-l1c"]
    """

    name: Literal["cloudmask"] = "cloudmask"

    def __init__(self, item: pystac.Item) -> None:
        self.item = item
        self.properties = item.properties

    def __repr__(self) -> str:
        return f"<CloudMaskExtension Item id={self.item.id}>"

    @classmethod
    def get_schema_uri(cls) -> str:
        """Return the URI of this version's JSON schema."""
        return SCHEMA_URI

    @classmethod
    def ext(cls, obj: pystac.Item, add_if_missing: bool = False) -> CloudMaskExtension:  # noqa: FBT001, FBT002 - pystac's own signature
        """Return the extended item.

        Args:
            obj: the item.
            add_if_missing: declare the extension where the item does not.

        Raises:
            pystac.ExtensionNotImplemented: the item does not declare the extension.
            pystac.ExtensionTypeError: ``obj`` is no item.
        """
        if not isinstance(obj, pystac.Item):
            raise pystac.ExtensionTypeError(cls._ext_error_message(obj))
        cls.ensure_has_extension(obj, add_if_missing)
        return cls(obj)

    @classmethod
    def summaries(
        cls,
        obj: pystac.Collection,
        add_if_missing: bool = False,  # noqa: FBT001, FBT002 - pystac's own signature
    ) -> SummariesCloudMaskExtension:
        """Return the extended summaries of a collection."""
        cls.ensure_has_extension(obj, add_if_missing)
        return SummariesCloudMaskExtension(obj)

    def apply_model(self, fields: _Object) -> None:
        """Set the fields of a model item; keys are the attributes' names, None leaves one out."""
        for key, value in fields.items():
            self._set_property(f"{PREFIX}{key}", value)

    def apply_mask(
        self, *, model: str, output_style: str, parameters: _Object, warnings: Sequence[str] = ()
    ) -> None:
        """Set the fields of a mask item.

        Args:
            model: name of the model.
            output_style: what the mask shows.
            parameters: the UDF context it was made with.
            warnings: reasons to doubt it; the field is left out without any.
        """
        self._set_property(MODEL, model)
        self._set_property(OUTPUT_STYLE, output_style)
        self._set_property(PARAMETERS, parameters)
        self._set_property(WARNINGS, list(warnings) or None)

    @property
    def class_scheme(self) -> str:
        """Name of the model's own classes, which ``mlm:output`` lists."""
        return self._required(CLASS_SCHEME, str)

    @property
    def class_mappings(self) -> dict[str, list[int]]:
        """Output style -> for each class of the model, in order, its value there (255: none)."""
        return self._required(CLASS_MAPPINGS, dict[str, list[int]])

    @property
    def output_styles(self) -> list[str]:
        """What masks of this model can show."""
        return self._required(OUTPUT_STYLES, list[str])

    @property
    def window(self) -> _Object:
        """``multiple_px`` and ``pixelwise``; the size stands in ``mlm:input``."""
        return self._required(WINDOW, _Object)

    @property
    def strides(self) -> list[int]:
        """Steps of the moving window that the process accepts, pixels."""
        return self._required(STRIDES, list[int])

    @property
    def sensor_independent(self) -> bool:
        """True where any bands of any described sensor will do."""
        return self._required(SENSOR_INDEPENDENT, bool)

    @property
    def band_requirements(self) -> _Object | None:
        """Fewest bands and their kinds, of a sensor-independent model."""
        return self._get_property(BAND_REQUIREMENTS, _Object)

    @property
    def sensors(self) -> list[str]:
        """Ids of the sensors it works for, its own first."""
        return self._required(SENSORS_FIELD, list[str])

    @property
    def inputs(self) -> list[_Object]:
        """For each sensor: its bands in the order the model takes them."""
        return self._required(INPUTS, list[_Object])

    @property
    def trained_on(self) -> list[str] | None:
        """Data sets whose labels it has seen."""
        return self._get_property(TRAINED_ON, list[str])

    @property
    def untold_classes(self) -> list[str] | None:
        """Names of its classes that it never gives."""
        return self._get_property(UNTOLD_CLASSES, list[str])

    @property
    def non_commercial(self) -> bool:
        """True where its licence excludes commercial use."""
        return self._required(NON_COMMERCIAL, bool)

    @property
    def scores(self) -> list[_Object] | None:
        """Measured scores, each with data, command and date; None where none was measured."""
        return self._get_property(SCORES, list[_Object])

    @property
    def openeo(self) -> _Object:
        """How to run it with openEO: asset keys of UDF and process, context, dependencies."""
        return self._required(OPENEO, _Object)

    @property
    def model(self) -> str:
        """Of a mask: name of the model that made it."""
        return self._required(MODEL, str)

    @property
    def output_style(self) -> str:
        """Of a mask: what it shows."""
        return self._required(OUTPUT_STYLE, str)

    @property
    def parameters(self) -> _Object:
        """Of a mask: the UDF context it was made with."""
        return self._required(PARAMETERS, _Object)

    @property
    def warnings(self) -> list[str] | None:
        """Of a mask: reasons to doubt it; None without any."""
        return self._get_property(WARNINGS, list[str])

    def _required(self, name: str, kind: type[_T]) -> _T:
        return get_required(self._get_property(name, kind), self, name)


class SummariesCloudMaskExtension(SummariesExtension):
    """The ``cloudmask:`` summaries of a collection of models."""

    def apply(
        self, *, class_scheme: list[str], output_styles: list[str], sensors: list[str]
    ) -> None:
        """Set all summaries; each is a list of different values."""
        self._set_summary(CLASS_SCHEME, class_scheme)
        self._set_summary(OUTPUT_STYLES, output_styles)
        self._set_summary(SENSORS_FIELD, sensors)

    @property
    def sensors(self) -> list[str] | None:
        """Ids of the sensors that the collection's models work for."""
        return self.summaries.get_list(SENSORS_FIELD)
