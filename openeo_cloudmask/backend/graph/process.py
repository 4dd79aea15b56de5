"""A predefined process as a value."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Spec = dict[str, Any]
"""A process as openEO describes it."""
Describe = Callable[[Spec], Spec]
"""From the description that the library has, or an empty one, to the one that is served."""
_Function = TypeVar("_Function", bound=Callable[..., Any])


def openeo_process(describe: Describe = lambda found: found) -> Callable[[_Function], _Function]:
    """Make a function in ``backend/processes/`` the openEO process of its name; see ``registry``.

    Args:
        describe: returns its description; by default that of openeo-processes-dask.
    """

    def mark(function: _Function) -> _Function:
        function.describe = describe  # type: ignore[attr-defined]
        return function

    return mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A predefined process: its openEO description and the function that does it."""

    spec: dict[str, Any]
    function: Callable[..., Any]
    accepts: frozenset[str]
    """Names of the function's parameters."""

    @classmethod
    def of(cls, spec: dict[str, Any], function: Callable[..., Any]) -> Process:
        """Return the process whose implementation is ``function``."""
        return cls(
            spec=spec,
            function=function,
            accepts=frozenset(inspect.signature(function).parameters),
        )
