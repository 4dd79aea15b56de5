"""Many scenes and many models: every pair once, over dask, kept in one Parquet file.

A row holds one confusion matrix: of a scene, a model, the classes it is compared in, and a stratum.
Every figure follows from these rows (``leaderboard``), so that it takes seconds to draw others. A
study that was stopped goes on; a pair is made again only where scene, weights, settings or version
changed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from openeo_cloudmask.classes import NODATA, SCHEMES, OutputStyle, map_labels
from openeo_cloudmask.errors import (
    BackendError,
    CloudMaskError,
    MissingExtraError,
    OptionError,
)
from openeo_cloudmask.evaluation.compare_scenes import ComparedModel
from openeo_cloudmask.evaluation.protocol import detail_scene
from openeo_cloudmask.evaluation.scores import count_confusion
from openeo_cloudmask.evaluation.study_scenes import Masked, StudyScene
from openeo_cloudmask.evaluation.study_store import Row, Store
from openeo_cloudmask.version import __version__

ALL, BY_CLASS, BY_DISTANCE, LEFT_OUT = "all", "class", "distance", "left out"
"""Kinds of rows; those of the last kind say why there is no mask."""

Progress = Callable[[int, int], None]
"""Called with (scenes done, scenes to do)."""


def run_study(
    folder: Path,
    scenes: Sequence[StudyScene],
    models: Sequence[ComparedModel],
    *,
    workers: int = 0,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Return the rows of all pairs, after making those that are not there yet.

    Args:
        folder: holds ``matrices.parquet``; the same one goes on.
        scenes: what to mask.
        models: what masks them.
        workers: processes on this machine; 0 works in this one.
        scheduler: address of a dask scheduler, in their place.
        progress: see ``Progress``.

    Raises:
        OptionError: two scenes of a set have one name.
        ReferenceDataError: a scene cannot be read.
        MissingExtraError: dask or pyarrow is not installed.
        BackendError: the scheduler cannot be reached.
    """
    keys = [(scene.references, scene.name) for scene in scenes]
    if doubled := [key for key, count in Counter(keys).items() if count > 1]:
        raise OptionError(f"two scenes are called {doubled[0]}; names have to differ")
    store = Store(folder)
    todo = _todo(store.rows, scenes, models)
    measured = _measure_all(todo, workers=workers, scheduler=scheduler)
    for done, found in enumerate(measured, start=1):
        store.add(found)
        if progress is not None:
            progress(done, len(todo))
    # In the order of the scenes: they come as workers finish them, and draws depend on the order.
    places = {key: place for place, key in enumerate(keys)}
    labels = {model.label for model in models}
    rows = [row for row in store.finish() if row["model"] in labels and _key(row) in places]
    return sorted(rows, key=lambda row: places[_key(row)])


def _key(row: Row) -> tuple[str, str]:
    return row["references"], row["scene"]


def _todo(
    rows: Iterable[Row], scenes: Sequence[StudyScene], models: Sequence[ComparedModel]
) -> list[tuple[StudyScene, list[tuple[ComparedModel, str]]]]:
    """Return each scene with the models, and their fingerprints, whose rows are not there."""
    there = {
        (row["references"], row["scene"], row["model"], row["fingerprint"])
        for row in rows
        if row["kind"] != LEFT_OUT  # weights or an extra may have come since
    }
    of_models = {model.label: model.fingerprint() for model in models}
    todo = []
    for scene in scenes:
        missing = []
        state = scene.state()
        for model in models:
            content = {"version": __version__, "scene": state, "model": of_models[model.label]}
            text = json.dumps(content, sort_keys=True)
            mark = hashlib.sha256(text.encode()).hexdigest()[:16]
            if (scene.references, scene.name, model.label, mark) not in there:
                missing.append((model, mark))
        if missing:
            todo.append((scene, missing))
    return todo


def measure_scene(scene: StudyScene, models: Sequence[tuple[ComparedModel, str]]) -> list[Row]:
    """Return the rows of a scene with each model; runs on a worker.

    Args:
        scene: the scene, which is read once.
        models: models with the fingerprints of these pairs.

    Raises:
        ReferenceDataError: the scene cannot be read.
    """
    rows: list[Row] = []
    make = scene.open()
    for model, mark in models:
        about = {
            "references": scene.references,
            "scene": scene.name,
            "model": model.label,
            "fingerprint": mark,
        }
        begin = time.process_time()
        try:
            masked = make(model)
            seconds = time.process_time() - begin
            found = pair_rows(scene.name, masked)
            rows += [about | row | {"cpu_seconds": seconds} for row in found]
        except CloudMaskError as err:
            rows.append(about | _row(LEFT_OUT, str(err)))
    return rows


def pair_rows(name: str, masked: Masked) -> list[Row]:
    """Return the rows of one mask: each view, and the strata of the first two-class one."""
    pair = masked.pair
    rows = []
    for view in masked.views:
        reference, mask = pair.labels(view)
        matrix = count_confusion(reference, mask, SCHEMES[view.value])
        missing = int(((mask == NODATA) & (reference != NODATA)).sum())
        rows.append(_row(ALL, "", view, matrix.counts, unclassed=missing))
    detail = detail_scene(name, pair)
    rows += [_row(BY_DISTANCE, k, detail.view, m.counts) for k, m in detail.by_distance.items()]
    own = {item.name: item.value for item in pair.reference_scheme.classes}
    scheme = SCHEMES[detail.view.value]
    for key, counts in detail.by_class.items():
        value = np.array([own[key]], np.uint8)
        both = np.zeros((2, 2), np.int64)
        both[int(map_labels(value, pair.reference_scheme, scheme)[0])] = counts
        rows.append(_row(BY_CLASS, key, detail.view, both))
    # Of all that is labelled, so that a scene is in the same stratum whatever a mask leaves out.
    known = (labels := pair.labels(detail.view)[0])[labels != NODATA]
    scene = {
        "cover": float((known == 1).mean()) if known.size else None,
        "sun_elevation_deg": masked.sun_elevation_deg,
        "digest": masked.digest,
        "pixels": int(pair.reference.size),
    }
    return [row | scene for row in rows]


def _row(
    kind: str,
    stratum: str,
    view: OutputStyle | None = None,
    counts: Any = None,  # noqa: ANN401 - an array
    *,
    unclassed: int = 0,
) -> Row:
    return {
        "view": "" if view is None else view.value,
        "kind": kind,
        "stratum": stratum,
        "counts": [] if counts is None else np.asarray(counts).astype(np.int64).ravel().tolist(),
        "unclassed": unclassed,
        "cover": None,
        "sun_elevation_deg": None,
        "digest": "",
        "pixels": 0,
        "cpu_seconds": 0.0,
    }


def _measure_all(
    todo: Sequence[tuple[StudyScene, list[tuple[ComparedModel, str]]]],
    *,
    workers: int,
    scheduler: str | None,
) -> Iterator[list[Row]]:
    if not todo or (not workers and scheduler is None):
        for scene, models in todo:
            yield measure_scene(scene, models)
        return
    try:
        dask: Any = import_module("distributed")
    except ModuleNotFoundError as err:
        raise MissingExtraError.for_extra("server", "A study on several workers") from err
    with _client(dask, workers, scheduler) as client:
        futures = [client.submit(measure_scene, *task, pure=False) for task in todo]
        for future in dask.as_completed(futures, loop=client.loop):
            yield future.result()
            future.release()


@contextmanager
def _client(dask: Any, workers: int, scheduler: str | None) -> Iterator[Any]:  # noqa: ANN401
    """Yield a client of a scheduler, or of processes on this machine."""
    if scheduler is not None:
        try:
            client = dask.Client(scheduler, timeout=20, set_as_default=False)
        except OSError as err:
            raise BackendError(
                f"the dask scheduler {scheduler!r} cannot be reached; start it, or leave "
                "--scheduler out"
            ) from err
        with client:
            yield client
        return
    cluster = dask.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        host="127.0.0.1",
        protocol="tls",  # whoever reaches a scheduler can run code: only who has this key can
        security=dask.security.Security.temporary(),
        # Any free port: dask knows nothing of other servers on this machine.
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
        silence_logs=logging.ERROR,
    )
    with cluster, dask.Client(cluster, set_as_default=False) as client:
        yield client
