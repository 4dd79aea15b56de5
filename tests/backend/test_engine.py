"""What becomes of jobs whose runs end in every way, on a cluster that a test plays."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from openeo_cloudmask.backend.api.errors import ApiError, describe_error
from openeo_cloudmask.backend.api.state import State
from openeo_cloudmask.backend.jobs import engine as engine_module
from openeo_cloudmask.backend.jobs import running as running_module
from openeo_cloudmask.backend.jobs import storage
from openeo_cloudmask.backend.jobs.compute import _wait_for, compute_in_order
from openeo_cloudmask.backend.jobs.lease import Lease
from openeo_cloudmask.backend.jobs.tables import Job
from openeo_cloudmask.backend.jobs.tasks import GraphAnswer, GraphRequest
from openeo_cloudmask.backend.settings import Settings
from tests.backend.conftest import PASSWORD, ingest, mask_graph, wait_for, write_scene

FILE = {"name": "a.tif", "type": "image/tiff", "size": 3, "roles": ["data"], "about": {}}


class KilledWorker(Exception):  # noqa: N818 - the name of dask's own
    """As dask raises it."""


class CommClosedError(OSError):
    """As dask raises it."""


class PlayedFuture(Future[GraphAnswer]):
    """A future of dask's."""

    late = 0
    """How often its answer is not handed over."""
    status = "error"

    def result(self, timeout: float | None = None) -> GraphAnswer:
        if self.late:
            self.late -= 1
            raise TimeoutError if self.late % 2 else UnboundLocalError("result")
        return super().result(timeout)

    def release(self) -> None:
        """Do nothing."""


class PlayedCluster:
    """Does with each run what the test says; without a word, it succeeds."""

    def __init__(self) -> None:
        self.runs: list[tuple[GraphRequest, PlayedFuture]] = []
        self.client = self
        self.outcomes: list[Any] = []
        self.hold = threading.Event()
        self.hold.set()
        self.returns: list[threading.Event] = []
        """What the next calls wait for before they return; their runs do not wait."""

    def processes(self) -> dict[str, int]:
        return {}

    def stop_work(self, word: str, closing: threading.Event) -> None:
        """Do nothing."""

    def mend(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def submit(self, function: object, request: GraphRequest, *, key: str) -> PlayedFuture:
        del function
        assert request.run.name in key
        future = PlayedFuture()
        self.runs.append((request, future))
        threading.Thread(target=self._play, args=(request, future), daemon=True).start()
        if self.returns:
            self.returns.pop(0).wait(30)
        return future

    def _play(self, request: GraphRequest, future: PlayedFuture) -> None:
        self.hold.wait(30)
        if not future.set_running_or_notify_cancel():
            return
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        elif isinstance(outcome, GraphAnswer):
            future.status = "finished"
            future.set_result(outcome)
        else:
            future.status = "finished"
            future.late = outcome or 0
            (request.run.output_dir / "a.tif").write_bytes(b"abc")
            future.set_result(GraphAnswer(files=(FILE,)))


class SlowToSend:
    """A result that takes its time on the way."""

    def __reduce__(self) -> tuple[type[SlowToSend], tuple[()]]:
        time.sleep(0.6)
        return SlowToSend, ()


@pytest.mark.slow
def test_fetching_one_result_does_not_break_another() -> None:
    """Two results are asked for in the same turn of a busy event loop, and take long."""
    from distributed import Client, LocalCluster

    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None,
               "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"},
               "silence_logs": logging.CRITICAL}  # fmt: skip
    with LocalCluster(**options) as local, Client(local) as client:
        for _ in range(2):
            one, other = (client.submit(SlowToSend, pure=False) for _ in range(2))
            wait_for(lambda pair=(one, other): all(future.done() for future in pair))
            client.loop.add_callback(time.sleep, 0.3)
            with ThreadPoolExecutor(2) as pool:
                polled, fetched = pool.submit(_wait_for, one), pool.submit(other.result)
                assert isinstance(polled.result(60), SlowToSend)
                assert isinstance(fetched.result(60), SlowToSend)


@pytest.mark.slow
def test_a_task_that_two_arrays_need_is_done_once() -> None:
    """As strips of a mask do; optimised one by one, most of these runs do some twice."""
    from distributed import Client, LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "processes": False,
               "dashboard_address": None,
               "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"},
               "silence_logs": logging.CRITICAL}  # fmt: skip
    with LocalCluster(**options) as local, Client(local) as client:
        schedulers[:] = [local.scheduler]
        for run in range(10):
            done.clear()
            known.clear()
            values = client.submit(_compute_shared, run, pure=False).result(60)
            assert values == [0, 1, 2]
            assert sorted(done) == [0, 1, 2]


done: list[int] = []
"""Numbers of the tasks that were done, in this process."""
schedulers: list[Any] = []
"""The one that these tasks are of."""
known = threading.Event()
"""Set once the scheduler knows the three arrays of a run."""


def _compute_shared(run: int) -> list[int]:
    """Compute three arrays, each of a task of its own and of what the one before hands on."""
    import dask.array as da
    from dask import delayed

    def call(function: Callable[..., Any], name: str, *arguments: Any) -> Any:
        return delayed(function, pure=False)(*arguments, dask_key_name=f"mask-{run}-{name}")

    threading.Thread(target=_note_three, args=[_wanted()]).start()
    blocks, upper = [], None
    for number in range(3):
        own = call(_fill, f"own-{uuid4().hex}", number)
        block = call(_first, f"block-{uuid4().hex}", own, upper)
        upper = call(_first, f"on-{uuid4().hex}", own)
        blocks.append(da.from_delayed(block, shape=(1, 4, 4), dtype=np.int64))
    whole = da.concatenate(blocks, axis=1)
    parts = [whole[:, row : row + 4] for row in (0, 4, 8)]
    return [int(values.mean()) for values in compute_in_order(parts)]


def _fill(number: int) -> np.ndarray[Any, Any]:
    done.append(number)
    # A task is forgotten once it is done, unless the scheduler knows what else needs it.
    assert known.wait(60)
    return np.full((1, 4, 4), number)


def _note_three(before: set[Any]) -> None:
    wait_for(lambda: len(_wanted() - before) == 3)
    known.set()


def _wanted() -> set[Any]:
    """Return the keys of what somebody waits for."""
    return {key for key, task in list(schedulers[0].tasks.items()) if task.who_wants}


def _first(values: np.ndarray[Any, Any], *_: Any) -> np.ndarray[Any, Any]:
    return values


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> PlayedCluster:
    played = PlayedCluster()
    monkeypatch.setattr(engine_module, "Cluster", lambda *_: played)
    for module in (engine_module, running_module):
        monkeypatch.setattr(module, "TICK_S", 0.05)
    return played


@pytest.fixture
def state(tmp_path: Path, cluster: PlayedCluster) -> Iterator[State]:
    ingest(write_scene(tmp_path / "scene.tif"), tmp_path / "data")
    found = State.build(Settings(data_dir=tmp_path / "data"))
    found.engine.start()
    yield found
    cluster.hold.set()
    found.engine.stop()
    found.database.close()


Make = Callable[..., Job]


@pytest.fixture
def make_job(state: State) -> Make:
    user_id = state.users.add("ann", PASSWORD)

    def make(**options: Any) -> Job:
        process = {"process_graph": mask_graph()}
        return state.jobs.create(user_id, process=process, log_level="info", options=options)

    return make


def _now(state: State, job: Job) -> Job:
    found = state.jobs.find(job.id)
    assert found is not None
    return found


def _end(state: State, job: Job) -> Job:
    ends = ("finished", "error", "canceled")
    return wait_for(lambda: (now := _now(state, job)).status in ends and now)  # type: ignore[no-any-return]


def _errors(state: State, job: Job) -> list[tuple[str | None, str]]:
    lines = state.jobs.logs(job.id, after=0, level="error", limit=None)
    return [(line.code, line.message) for line in lines]


@pytest.mark.parametrize(
    "outcome",
    [
        3,  # a busy cluster fails to hand its answer over, three times in the ways of dask
        CancelledError(),
        CommClosedError("in <TCP>: Stream is closed"),
        GraphAnswer(error=describe_error(TimeoutError())),
        GraphAnswer(error=describe_error(OSError("Timed out trying to connect to tcp://x"))),
        GraphAnswer(error=describe_error(CommClosedError("closed"))),
        GraphAnswer(error=("JobCanceled", "the job was stopped")),  # which nobody did
    ],
)
def test_busy_cluster_is_no_fault_of_the_job(
    state: State, cluster: PlayedCluster, make_job: Make, outcome: Any
) -> None:
    cluster.outcomes = [outcome]
    job = make_job()
    state.engine.submit(job)
    assert _end(state, job).status == "finished"
    assert _errors(state, job) == []
    assert len(cluster.runs) == (1 if outcome == 3 else 2)
    assert len({request.run.output_dir for request, _ in cluster.runs}) == len(cluster.runs)


def test_cluster_that_stays_busy_is_given_up(
    state: State, cluster: PlayedCluster, make_job: Make
) -> None:
    cluster.outcomes = [CancelledError() for _ in range(3)]
    job = make_job()
    state.engine.submit(job)
    assert _end(state, job).status == "error"
    ((code, message),) = _errors(state, job)  # there with the state, once
    assert code == "InfrastructureBusy"
    assert "3 times in all" in message


def test_workers_killed_beside_another_job(
    state: State, cluster: PlayedCluster, make_job: Make
) -> None:
    """Whose fault it was shows when each runs alone."""
    cluster.hold.clear()
    jobs = [make_job(), make_job()]
    for job in jobs:
        state.engine.submit(job)
    wait_for(lambda: len(cluster.runs) == 2)
    cluster.outcomes = [KilledWorker(), KilledWorker(), KilledWorker()]
    cluster.hold.set()
    statuses = sorted(_end(state, job).status for job in jobs)
    assert statuses == ["error", "finished"]  # the third death came to one that was alone
    failed = next(job for job in jobs if _now(state, job).status == "error")
    ((code, message),) = _errors(state, failed)
    assert code == "WorkersDied"
    assert "memory limit" in message
    assert len(cluster.runs) == 4


def test_workers_killed_before_the_run_is_watched(
    state: State, cluster: PlayedCluster, make_job: Make
) -> None:
    """The cluster may lose a run while the thread that handed it over still stands there."""
    cluster.hold.clear()
    cluster.returns = first, second = [threading.Event(), threading.Event()]
    cluster.outcomes = [KilledWorker(), KilledWorker()]
    jobs = [make_job(), make_job()]
    for job in jobs:
        state.engine.submit(job)
    wait_for(lambda: len(cluster.runs) == 2)
    cluster.hold.set()
    first.set()
    wait_for(lambda: {_now(state, job).status for job in jobs} == {"running", "queued"})
    second.set()
    assert [_end(state, job).status for job in jobs] == ["finished", "finished"]
    assert len(cluster.runs) == 4


def test_stopped_while_it_is_handed_over(
    state: State, cluster: PlayedCluster, make_job: Make
) -> None:
    """Nothing goes on computing for a job that nobody wants."""
    cluster.hold.clear()
    cluster.returns = [returned := threading.Event()]
    job = make_job()
    state.engine.submit(job)
    wait_for(lambda: cluster.runs)
    state.engine.cancel(job.id)
    assert not cluster.runs[0][1].cancelled()
    returned.set()
    wait_for(cluster.runs[0][1].cancelled)
    wait_for(lambda: not state.engine.runs.taken())
    assert _now(state, job).status == "canceled"


def test_stopped_and_started_again_before_it_runs(
    state: State, cluster: PlayedCluster, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, planned, go_on = state.planner.validate, threading.Event(), threading.Event()

    def validate(*args: Any) -> Any:
        planned.set()
        go_on.wait(30)
        return real(*args)

    monkeypatch.setattr(state.planner, "validate", validate)
    job = make_job()
    state.engine.submit(job)
    assert planned.wait(30)
    state.engine.cancel(job.id)
    state.engine.submit(_now(state, job))
    go_on.set()
    assert _end(state, job).status == "finished"
    assert len(cluster.runs) == 1


def test_error_of_the_job_is_final(state: State, cluster: PlayedCluster, make_job: Make) -> None:
    cluster.outcomes = [GraphAnswer(error=("NoDataAvailable", "all pixels are no-data"))]
    job = make_job()
    state.engine.submit(job)
    assert _end(state, job).status == "error"
    assert _errors(state, job) == [("NoDataAvailable", "all pixels are no-data")]
    assert len(cluster.runs) == 1


def test_the_log_is_whole_once_a_job_is_finished(
    state: State, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is killed right then loses no line."""
    real = state.engine._delivery.deliver
    job = make_job()

    def talking(*args: Any) -> Any:
        state.engine._journal.log(job.id, "info", "the last word of a worker")
        return real(*args)

    monkeypatch.setattr(state.engine._delivery, "deliver", talking)
    state.engine.submit(job)
    assert _end(state, job).status == "finished"
    lines = state.jobs.logs(job.id, after=0, level="info", limit=None)
    assert [line.message for line in lines][-2:] == [
        "the last word of a worker", "the job is finished: 1 files",
    ]  # fmt: skip


def test_database_away_at_the_start_of_a_run(
    state: State, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = state.planner.validate, []

    def away(*args: Any) -> Any:
        tries.append(args)
        if len(tries) < 4:
            raise ApiError("InfrastructureBusy", "the database cannot be reached")
        return real(*args)

    monkeypatch.setattr(state.planner, "validate", away)
    job = make_job()
    state.engine.submit(job)
    ended = _end(state, job)
    assert (ended.status, ended.attempts, len(tries)) == ("finished", 1, 4)


def test_end_that_could_not_be_written_down(
    state: State, cluster: PlayedCluster, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = state.engine._delivery.deliver, []

    def broken(*args: Any) -> Any:
        tries.append(args)
        if len(tries) == 1:
            raise RuntimeError("something unforeseen")
        return real(*args)

    monkeypatch.setattr(state.engine._delivery, "deliver", broken)
    job = make_job()
    state.engine.submit(job)
    wait_for(lambda: tries)
    wait_for(lambda: not state.engine.runs._running)
    assert _now(state, job).status == "running"
    state.engine._take_up_lost()
    assert _end(state, job).status == "finished"
    assert len(cluster.runs) == 2


def test_a_job_that_is_slow_to_plan_keeps_nobody_waiting(
    state: State, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processes may come from an address that answers slowly."""
    real, go_on, slow = state.planner.validate, threading.Event(), make_job()

    def validate(user_id: str, process: Any, *more: Any) -> Any:
        if process["process_graph"].get("slow"):
            go_on.wait(30)
        return real(user_id, process, *more)

    process = {"process_graph": {**mask_graph(), "slow": {"process_id": "pi", "arguments": {}}}}
    state.jobs.change(slow.user_id, slow.id, {"process": process})
    monkeypatch.setattr(state.planner, "validate", validate)
    state.engine.submit(_now(state, slow))
    quick = make_job()
    state.engine.submit(quick)
    assert _end(state, quick).status == "finished"
    assert _now(state, slow).status == "queued"
    go_on.set()
    assert _end(state, slow).status == "finished"


def test_job_stopped_and_started_again_at_once(
    state: State, cluster: PlayedCluster, make_job: Make
) -> None:
    """What is left of the first run does not meet the second one."""
    cluster.hold.clear()
    job = make_job()
    state.engine.submit(job)
    wait_for(lambda: cluster.runs)
    state.engine.cancel(job.id)
    assert _now(state, job).status == "canceled"
    state.engine.submit(_now(state, job))
    wait_for(lambda: len(cluster.runs) == 2)
    first, second = (request.run for request, _ in cluster.runs)
    assert first.name != second.name
    assert not first.output_dir.exists()
    late = {"kind": "progress", "job_id": job.id, "part": 0, "parts": 1, "share": 0.9}
    assert state.engine.runs.progress(late | {"run": first.name}) is None
    wait_for(lambda: state.engine.runs.progress(late | {"run": second.name}) == 90)
    cluster.hold.set()
    assert _end(state, job).status == "finished"


def test_results_that_cannot_be_stored_are_kept(
    state: State, cluster: PlayedCluster, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, real = type(state.storage), type(state.storage).store

    def away(*_: object) -> str:
        raise ApiError("StorageFailure", "the bucket is away")

    monkeypatch.setattr(storage, "store", away)
    job = make_job(output_storage="TEMPORARY")
    for _ in range(2):
        state.engine.submit(_now(state, job))
        assert _end(state, job).status == "error"
        assert "the bucket is away. The results are kept" in _errors(state, job)[-1][1]
        wait_for(lambda: not state.engine.runs._running)
    monkeypatch.setattr(storage, "store", real)
    state.engine.submit(_now(state, job))
    ended = _end(state, job)
    assert (ended.status, len(cluster.runs)) == ("finished", 1)
    assert ended.expires is not None
    path = state.storage.local_path(str(ended.stored_at), "a.tif")
    assert path is not None
    assert path.read_bytes() == b"abc"


def test_kept_results_are_deleted_after_14_days(
    state: State, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openeo_cloudmask.backend.jobs import clock

    def away(*_: object) -> str:
        raise ApiError("StorageFailure", "the bucket is away")

    monkeypatch.setattr(type(state.storage), "store", away)
    job = make_job()
    state.engine.submit(job)
    kept = state.settings.jobs_dir / job.id / "kept"
    assert _end(state, job).status == "error"
    now = clock.now_s()
    for days, there in ((13.9, True), (14.1, False)):
        monkeypatch.setattr(clock, "now_s", lambda t=now + days * 86400: t)
        state.engine.clean_up()
        assert kept.exists() == there


@pytest.mark.parametrize(
    "outcome", [None, GraphAnswer(error=("Internal", "no folder")), CommClosedError("lost")]
)
def test_a_server_that_slept_leaves_the_jobs_to_the_other(
    outcome: object,
    cluster: PlayedCluster,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """It finds the jobs running as it left them, but they are runs of the other one."""
    monkeypatch.setattr(engine_module, "RENEW_S", 3600.0)
    state, make_job = (request.getfixturevalue(name) for name in ("state", "make_job"))
    cluster.outcomes = [outcome]
    cluster.hold.clear()
    job = make_job()
    state.engine.submit(job)
    wait_for(lambda: _now(state, job).status == "running" and cluster.runs)
    other = Lease(state.database, sleep=lambda _: None)
    other.take()
    for to, allowed in (("queued", "running"), ("running", "queued")):
        assert state.jobs.move(job.id, to=to, allowed=(allowed,), by=other.holder, attempts=2)
    theirs = state.settings.jobs_dir / job.id / "results" / "theirs.tif"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"abc")
    cluster.hold.set()
    wait_for(lambda: not state.engine.runs.taken())
    state.engine._take_up_lost()
    assert _now(state, job).status == "running"
    assert not _errors(state, job)
    assert theirs.exists()
    waiting = make_job()
    state.engine.submit(waiting)
    wait_for(state.engine._closing.is_set)
    assert _now(state, waiting).status == "queued"
    assert len(cluster.runs) == 1


def test_jobs_leave_room_for_the_database(
    state: State, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SPARE_BYTES", 1 << 62)
    job = make_job()
    state.engine.submit(job)
    assert _end(state, job).status == "error"
    ((code, message),) = _errors(state, job)
    assert code == "StorageFailure"
    assert "the server's disk is full" in message
