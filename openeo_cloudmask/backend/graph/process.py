"""A predefined process as a value."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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
