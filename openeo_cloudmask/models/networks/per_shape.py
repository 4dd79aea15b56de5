"""What a CPU library prepares for an input's shape and for a number of threads."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Generic, TypeVar

import torch

KEPT = 4

Prepared = TypeVar("Prepared")

# One for all: preparing may turn a switch of the whole process, and is rare.
_preparing = RLock()


class PerShape(Generic[Prepared]):
    """Prepared things by input shape and number of threads; no part of a state dict.

    Of more than a few the oldest are forgotten, so that images of ever new sizes do not fill the
    memory.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[torch.Size, int], Prepared] = {}

    def find(self, shape: torch.Size, prepare: Callable[[], Prepared]) -> Prepared:
        """Return what ``prepare`` gave for this shape and this thread's number of threads."""
        key = (shape, torch.get_num_threads())
        if key not in (found := self._found):
            with _preparing:
                if key not in (found := self._found):
                    # A new dict: other threads may be reading this one.
                    found = {**dict(list(found.items())[1 - KEPT :]), key: prepare()}
                    self._found = found
        return found[key]
