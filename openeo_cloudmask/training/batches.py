"""Batches for ``mini``, made by other processes, or a thread, while a step is learned."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.training.labelled import cut_labelled, mixed, read_labelled
from openeo_cloudmask.training.scenes import Example, SceneStore, cut_example, vary

_AHEAD = 6
"""Batches that are being made or wait."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples one upon another: (n, 7, y, x), (n, 7) float32 and (n, y, x) uint8."""

    planes: NDArray[np.float32]
    present: NDArray[np.float32]
    truth: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where examples come from; every batch depends on the seed and its step alone."""

    seed: int
    shapes: tuple[tuple[int, int], ...]
    """Examples and pixels a side, for one step after the other."""
    store: SceneStore
    labelled: tuple[Path, ...] = ()
    real_share: float = 0.5


class _Maker:
    """One process's way to batches: real scenes read once."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.scenes = [read_labelled(path) for path in source.labelled]
        # Scenes of a group are much alike: it counts by the root of their number.
        groups = Counter(scene.group for scene in self.scenes)
        shares = np.asarray([groups[scene.group] ** -0.5 for scene in self.scenes])
        self._shares = shares / shares.sum()
        self._size_px = 0

    def __call__(self, step: int) -> Batch:
        source = self.source
        rng = np.random.default_rng((source.seed, step, 8))
        real = self._real if self.scenes else None
        count, self._size_px = source.shapes[step % len(source.shapes)]
        examples = [
            vary(mixed(self._simulated, real, rng, real_share=source.real_share), rng)
            for _ in range(count)
        ]
        return Batch(
            np.stack([example.planes for example in examples]),
            np.stack([example.present for example in examples]),
            np.stack([example.truth for example in examples]),
        )

    def _simulated(self, rng: np.random.Generator) -> Example:
        number = int(rng.integers(self.source.store.count))
        return cut_example(self.source.store.get(number), rng, self._size_px)

    def _real(self, rng: np.random.Generator) -> Example:
        scene = self.scenes[int(rng.choice(len(self.scenes), p=self._shares))]
        return cut_labelled(scene, rng, self._size_px)


_maker: _Maker | None = None


def _start(source: Source) -> None:
    global _maker  # noqa: PLW0603 - a worker process keeps its scenes
    _maker = _Maker(source)


def _make(step: int) -> Batch:
    if _maker is None:
        raise RuntimeError("the worker was not started")
    return _maker(step)


def _pool(source: Source, workers: int) -> Executor:
    if workers == 0:
        return ThreadPoolExecutor(1, initializer=_start, initargs=(source,))
    context = get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(source,))


def batches(source: Source, first: int, last: int, *, workers: int) -> Iterator[Batch]:
    """Yield the batches of the steps from ``first`` up to, not including, ``last``.

    ``workers`` is the number of processes that make them; with 0 a thread of this one does.
    """
    with _pool(source, workers) as pool:
        waiting: deque[Future[Any]] = deque()
        step = first
        for _ in range(first, last):
            while step < last and len(waiting) < _AHEAD:
                waiting.append(pool.submit(_make, step))
                step += 1
            yield waiting.popleft().result()
