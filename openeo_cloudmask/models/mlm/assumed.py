"""What a user says of a model where its item does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from openeo_cloudmask.errors import CatalogError, OptionError

MEANINGS = ("clear", "thick-cloud", "thin-cloud", "cloud-shadow", "none")
"""What a class of a third-party model can mean here; ``none``: no class, such as no-data."""
IGNORE = "ignore"
_CLASS = "class:"
_WORDS = ("bands", "counts", "no-data", "platform", "preprocessing", "postprocessing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """Answers to what items leave open.

    Raises:
        OptionError: an answer is invalid.
    """

    classes: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Class of the item -> one of ``MEANINGS``."""
    bands: tuple[str, ...] | None = None
    counts: float | None = None
    """What reflectance 1 is for the model: 1, or e.g. 10000."""
    nodata: float | None = None
    """What stands where nothing was seen, before any scaling."""
    platform: str | None = None
    """Satellite or constellation whose bands are meant, e.g. ``sentinel-2``."""
    preprocessing: str | None = None
    postprocessing: str | None = None

    def __post_init__(self) -> None:
        """Check the words."""
        for name, meaning in self.classes.items():
            if meaning not in MEANINGS:
                raise OptionError(
                    f"class:{name} is {meaning!r}; expected one of {', '.join(MEANINGS)}"
                )
        for key in ("preprocessing", "postprocessing"):
            if getattr(self, key) not in (None, IGNORE):
                raise OptionError(f"{key} is {getattr(self, key)!r}; expected {IGNORE!r}")
        if self.counts is not None and not self.counts > 0:
            raise OptionError(f"counts is {self.counts}; expected a number above 0, such as 10000")


def parse_assumed(answers: Iterable[str]) -> Assumed:
    """Return the answers in texts such as ``no-data=0`` and ``class:smoke=clear``.

    Raises:
        OptionError: a text is no answer; the message says which there are.
    """
    classes: dict[str, str] = {}
    given: dict[str, str] = {}
    for answer in answers:
        key, equals, value = (part.strip() for part in answer.partition("="))
        if equals and key.startswith(_CLASS):
            classes[key.removeprefix(_CLASS)] = value
        elif equals and key in _WORDS:
            given[key] = value
        else:
            raise OptionError(
                f"assume is {answer!r}; expected KEY=VALUE with a key among class:NAME, "
                f"{', '.join(_WORDS)}, such as no-data=0 or class:smoke=clear"
            )
    bands = given.pop("bands", None)
    numbers = {
        key.replace("-", ""): _number(key, given.pop(key))
        for key in ("counts", "no-data")
        if key in given
    }
    names = None if bands is None else tuple(name.strip() for name in bands.split(","))
    return Assumed(classes=classes, bands=names, **numbers, **given)  # type: ignore[arg-type]


def ask(place: str, found: str, answer: str) -> CatalogError:
    """Return the error that asks for what an item does not say.

    Args:
        place: the field.
        found: what it says, or that it is not there.
        answer: an example of what to pass.
    """
    return CatalogError(
        f"{place} {found}; if you know it, say so with --assume '{answer}' (assume=[{answer!r}])"
    )


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise OptionError(f"{key} is {text!r}; expected a number") from None
