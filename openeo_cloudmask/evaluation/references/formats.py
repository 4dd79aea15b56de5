"""The formats of references, and the one way to open any of them."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Protocol

from openeo_cloudmask.classes import ClassScheme
from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.evaluation import references
from openeo_cloudmask.evaluation.evaluate import Reference


class References(Protocol):
    """The references at one place."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scenes, each once."""

    def find(self, scene: str) -> str:
        """Return the name under which the reference of a scene or product stands.

        Raises:
            ReferenceDataError: there is none, or there are several.
        """

    def read(self, name: str) -> Reference:
        """Return the reference of that name.

        Raises:
            ReferenceDataError: it cannot be read.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFormat:
    """A format; the file that holds it calls it ``FORMAT``."""

    title: str
    """What is expected at the path, for errors."""
    matches: Callable[[Path], bool]
    """Whether something of this format is at a path that exists."""
    open: Callable[[Path, ClassScheme | None], AbstractContextManager[References]]
    """Opens it; the scheme is that of rasters whose tags do not say it."""


@cache
def find_formats() -> tuple[ReferenceFormat, ...]:
    """Return all formats, by the names of their files."""
    names = sorted(item.name for item in pkgutil.iter_modules(references.__path__))
    modules = [import_module(f"{references.__name__}.{name}") for name in names]
    return tuple(module.FORMAT for module in modules if hasattr(module, "FORMAT"))


@contextmanager
def open_references(path: Path, scheme: ClassScheme | None = None) -> Iterator[References]:
    """Yield the references at ``path``.

    Raises:
        ReferenceDataError: nothing is there, or nothing of a format that is known.
    """
    if not path.exists():
        raise ReferenceDataError(f"there is no reference {path}")
    known = find_formats()
    for item in known:
        if item.matches(path):
            with item.open(path, scheme) as found:
                yield found
            return
    expected = ", or ".join(item.title for item in known)
    raise ReferenceDataError(f"{path} is no reference; expected {expected}")


def read_reference(
    path: Path, scene: str | None = None, *, scheme: ClassScheme | None = None
) -> Reference:
    """Return the only reference at ``path``, or that of ``scene`` among several.

    Raises:
        ReferenceDataError: there is none, there are several, or it cannot be read.
    """
    with open_references(path, scheme) as found:
        if scene is not None:
            return found.read(found.find(scene))
        if len(found.names) != 1:
            raise ReferenceDataError(
                f"{path.name} holds {len(found.names)} scenes; choose the folder of one"
            )
        return found.read(found.names[0])
