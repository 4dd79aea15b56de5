"""All models, by name, collected from the files in ``families``."""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.errors import OptionError, UnknownModelError
from openeo_cloudmask.models import families
from openeo_cloudmask.models.entry import Family, ModelEntry, ModelKind
from openeo_cloudmask.models.kinds import SHARED_KINDS

if TYPE_CHECKING:
    from torch import nn


def find_families(places: Iterable[str] = families.__path__) -> list[Family]:
    """The families in the files of these folders, in the order they are listed to users."""
    names = [item.name for item in pkgutil.iter_modules(places)]
    found = [import_module(f"{families.__name__}.{name}").FAMILY for name in names]
    return sorted(found, key=lambda family: family.order)


_FAMILIES = find_families()

MODELS: dict[str, ModelEntry] = {entry.id: entry for family in _FAMILIES for entry in family.models}
"""Model name -> entry, in the order they are listed to users."""

ALIASES: dict[str, str] = {
    name: model for family in _FAMILIES for name, model in family.aliases.items()
}
"""Other names of models: short name -> name in ``MODELS``."""

KINDS: dict[str, ModelKind] = {
    kind.id: kind for kind in (*(entry.kind for entry in MODELS.values()), *SHARED_KINDS)
}
"""Kind name -> kind."""


def get_model(name: str) -> ModelEntry:
    """Return the model called ``name`` (or known by that alias; case does not matter).

    Raises:
        UnknownModelError: No model has that name; the message lists the nearest names.
    """
    names = {key.lower(): key for key in MODELS} | {
        key.lower(): target for key, target in ALIASES.items()
    }
    wanted = str(name).strip().lower()
    if wanted in names:
        return MODELS[names[wanted]]
    known = [*ALIASES, *MODELS]
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(repr(names[item]) for item in near)}?" if near else "."
    raise UnknownModelError(f"unknown model {name!r}{hint} Known are: {', '.join(known)}")


def build_network(kind: str, config: Mapping[str, Any]) -> nn.Module:
    """The bare torch module of ``kind``: random weights, eval mode, strict ``load_state_dict``.

    Args:
        kind: The name of a kind with a network, e.g. ``"unet-mobilenet-v2"``.
        config: The settings of that kind, e.g. ``{"bands": 13, "classes": 4}``.

    Returns:
        A module. Of a U-Net, its call on a tensor (n, band, y, x) gives logits (n, class, y, x);
        of a SegFormer, probabilities; of the SEnSeI kinds too, with one descriptor dictionary per
        band as the second argument.

    Raises:
        OptionError: Unknown kind, no settings, or settings that the kind does not take.
        MissingExtraError: torch is not installed.
    """
    networks = {name: item for name, item in KINDS.items() if item.network is not None}
    if kind not in networks:
        raise OptionError(
            f"no network of kind {kind!r}; expected one of {', '.join(sorted(networks))}"
        )
    return networks[kind].build(config)
