"""All models, by name, collected from the files in ``families``."""

from __future__ import annotations

import difflib
import logging
import os
import pkgutil
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.errors import CloudMaskError, OptionError, UnknownModelError
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


MODELS_VARIABLE = "OPENEO_CLOUDMASK_MODELS"
"""Environment variable with a folder of STAC items of third-party models, files beside them."""
_log = logging.getLogger(__name__)
_ADOPTED: dict[str, ModelEntry] = {}
"""Third-party models registered in this process: id -> entry."""


def adopt(entry: ModelEntry) -> ModelEntry:
    """Make ``get_model`` know a model that is not in the registry; return it.

    Raises:
        OptionError: its name is that of a model of the registry.
    """
    if entry.id.lower() in {name.lower() for name in (*MODELS, *ALIASES)}:
        raise OptionError(
            f"the item's id is {entry.id!r}, the name of a model of this package; expected another"
        )
    _ADOPTED[entry.id] = entry
    return entry


def other_models() -> dict[str, ModelEntry]:
    """Third-party models, by id: those whose STAC items lie in ``OPENEO_CLOUDMASK_MODELS``.

    And those taken up in this process. Whoever fills that folder decides what runs; programs
    (TorchScript, ``.pt2``) in it do not.
    """
    if folder := os.environ.get(MODELS_VARIABLE):
        items = sorted(Path(folder).expanduser().glob("*.json"))
        _adopt_all(tuple((path, path.stat().st_mtime_ns) for path in items))
    return _ADOPTED


@lru_cache(maxsize=1)
def _adopt_all(items: tuple[tuple[Path, int], ...]) -> None:
    from openeo_cloudmask.models.mlm import read_model

    for path, _ in items:
        try:
            adopt(read_model(path, programs=False))
        except CloudMaskError as err:
            _log.warning("the model of %s is left out: %s", path, err)


def get_model(name: str) -> ModelEntry:
    """Return the model called ``name`` (or known by that alias; case does not matter).

    Raises:
        UnknownModelError: No model has that name; the message lists the nearest names.
    """
    if (other := other_models().get(str(name))) is not None:
        return other
    names = {key.lower(): key for key in MODELS} | {
        key.lower(): target for key, target in ALIASES.items()
    }
    wanted = str(name).strip().lower()
    if wanted in names:
        return MODELS[names[wanted]]
    known = [*ALIASES, *MODELS, *other_models()]
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
