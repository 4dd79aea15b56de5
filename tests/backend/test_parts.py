"""Passwords, tokens, links, keys, URLs, the database and the result storage."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy.exc import OperationalError

from openeo_cloudmask.backend.api import security
from openeo_cloudmask.backend.api.accounts import ProcessStore, UserStore
from openeo_cloudmask.backend.api.errors import ApiError, describe_error
from openeo_cloudmask.backend.api.logins import LoginGate
from openeo_cloudmask.backend.api.oidc import OidcIssuer
from openeo_cloudmask.backend.cubes.collections import CollectionStore
from openeo_cloudmask.backend.jobs.database import _MIGRATING, Database
from openeo_cloudmask.backend.jobs.journal import Journal
from openeo_cloudmask.backend.jobs.lease import SILENCE_S, Lease
from openeo_cloudmask.backend.jobs.states import JobStore
from openeo_cloudmask.backend.jobs.storage import (
    BucketStorage,
    DiskStorage,
    check_private,
    deliver_private,
)
from openeo_cloudmask.backend.jobs.tables import LeaseRow
from openeo_cloudmask.backend.settings import Settings, read_environment
from openeo_cloudmask.errors import BackendError, OptionError
from tests.backend.conftest import PASSWORD, S3Server, wait_for
from tests.backend.oidc_issuer import make_server as make_issuer
from tests.backend.oidc_issuer import make_token
from tests.ports import free_port

SECRET = b"s" * 32


def test_passwords_are_hashed() -> None:
    stored = security.hash_password(PASSWORD)
    assert stored.startswith("$argon2id$")
    assert PASSWORD not in stored
    assert security.verify_password(stored, PASSWORD)
    assert not security.verify_password(stored, PASSWORD + "x")
    assert not security.verify_password("nonsense", PASSWORD)
    with pytest.raises(OptionError, match="shorter"):
        security.hash_password("short")


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65, "-x", "a\n"])
def test_bad_user_names(name: str) -> None:
    with pytest.raises(OptionError, match="not allowed"):
        security.check_user_name(name)


def test_links_are_signed() -> None:
    signature = security.sign(SECRET, "job", "file", "1")
    assert security.signature_holds(SECRET, signature, "job", "file", "1")
    for parts in (("job", "file", "2"), ("jobfile", "", "1"), ("job", "other", "1")):
        assert not security.signature_holds(SECRET, signature, *parts)
    assert not security.signature_holds(b"x", signature, "job", "file", "1")
    assert not security.signature_holds(SECRET, "ä", "job", "file", "1")


def test_keys_are_sealed() -> None:
    text = security.seal(SECRET, {"secret_key": "abc123"})
    assert "abc123" not in text
    assert security.unseal(SECRET, text) == {"secret_key": "abc123"}
    with pytest.raises(ApiError, match="another secret"):
        security.unseal(b"other", text)


def test_settings_from_the_environment(tmp_path: Path) -> None:
    env = {"OPENEO_CLOUDMASK_WORKERS": "3", "OPENEO_CLOUDMASK_ALLOW_ANY_UDF": "yes",
           "OPENEO_CLOUDMASK_STAC_HOSTS": "a, b", "OPENEO_CLOUDMASK_SECRET": "k" * 32}  # fmt: skip
    found = read_environment(tmp_path, env, workers=None, threads_per_worker=2)
    assert (found.workers, found.threads_per_worker) == (3, 2)
    assert found.allow_any_udf
    assert found.stac_hosts == ("a", "b")
    assert found.prepare().secret == b"k" * 32
    with pytest.raises(OptionError, match="not understood"):
        read_environment(tmp_path, {"OPENEO_CLOUDMASK_WORKERS": "many"})
    with pytest.raises(OptionError, match="1 or more"):
        Settings(data_dir=tmp_path, workers=0)
    for memory in ("lots", "1", "0"):
        with pytest.raises(OptionError, match=f"worker_memory is '{memory}'; expected auto, or an"):
            Settings(data_dir=tmp_path, worker_memory=memory)
    assert Settings(data_dir=tmp_path, worker_memory="900MiB").worker_memory == "900MiB"
    with pytest.raises(OptionError, match="public_url is 'masks'; expected an address such as"):
        Settings(data_dir=tmp_path, public_url="masks")
    with pytest.raises(OptionError, match="scheduler is 'dask'; expected an address such as tcp:"):
        Settings(data_dir=tmp_path, scheduler="dask")


def test_secret_is_made_once_and_private(tmp_path: Path) -> None:
    first = Settings(data_dir=tmp_path).prepare()
    assert first.secret == Settings(data_dir=tmp_path).prepare().secret
    assert (tmp_path / "secret.key").stat().st_mode & 0o077 == 0
    assert first.secret.decode() not in repr(first)


def test_secret_that_a_full_disk_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="no space"):
            Settings(data_dir=tmp_path).prepare()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []
    (tmp_path / "secret.key").write_bytes(b"")
    with pytest.raises(OptionError, match="0 bytes; expected a key of 32"):
        Settings(data_dir=tmp_path).prepare()
    (tmp_path / "secret.key").unlink()
    assert len(Settings(data_dir=tmp_path).prepare().secret) == 64


def test_data_is_the_owners_own(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data").prepare()
    database = Database(settings.database_url)
    database.migrate()
    for path in (settings.data_dir, *settings.data_dir.glob("cloudmask.db*")):
        assert path.stat().st_mode & 0o077 == 0, path
    database.close()


@pytest.mark.parametrize("name", ["..", ".", "a/b", "", "x" * 200])
def test_collections_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ApiError, match="does not exist; ids are up to 128 letters"):
        CollectionStore(tmp_path).get(name)


def test_unknown_errors_say_nothing() -> None:
    assert describe_error(RuntimeError("/secret/path"))[0] == "Internal"
    assert "/secret" not in describe_error(RuntimeError("/secret/path"))[1]
    assert "/secret" not in describe_error(FileNotFoundError(2, "gone", "/secret"))[1]


# -- the database ------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a PostgreSQL server of its own."""
    server = _find_postgresql()
    if server is None:
        pytest.skip("no PostgreSQL server is installed (Debian: postgresql)")
    found = PostgreSQL(server, tmp_path_factory.mktemp("pg"))
    found.start()
    yield found.url
    found.stop()
    found.remove()


def _find_postgresql() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if found:
        return found[-1].parent
    path = shutil.which("postgres")
    return Path(path).resolve().parent if path else None


class PostgreSQL:
    """A server of its own; as the user postgres where we are root, whom it refuses to serve."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._log = programs, folder / "log"
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self.port = free_port()
        self.url = f"postgresql://test@127.0.0.1:{self.port}/postgres"
        # A folder that postgres can reach.
        self._data = Path(tempfile.mkdtemp(prefix="cloudmask-pg-", dir="/tmp"))
        if self._as_user:
            shutil.chown(self._data, "postgres")
        self._run("initdb", "-U", "test", "-A", "trust", "-N", "--wal-segsize=1")

    def start(self) -> None:
        """Start serving and wait until it does."""
        options = f"-p {self.port} -k '' -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-w", "-l", str(self._data / "server.log"), "-o", options, "start")

    def stop(self) -> None:
        """Stop at once, whoever is connected."""
        self._run("pg_ctl", "-m", "immediate", "stop")

    def remove(self) -> None:
        """Delete its files."""
        shutil.rmtree(self._data)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._programs / program), "-D", str(self._data), *arguments]
        with self._log.open("ab") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, cwd="/", timeout=60)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'x.db'}"
    else:
        pytest.importorskip("psycopg", reason="needs the extra 'postgresql'")
        url = request.getfixturevalue("postgresql")
    found = Database(url)
    found.migrate()
    found.migrate()  # nothing to do the second time
    yield found
    with found.session() as session:
        from openeo_cloudmask.backend.jobs.tables import Base

        for table in reversed(Base.metadata.sorted_tables):
            session.execute(table.delete())
    found.close()


def test_one_server_at_a_time_makes_the_tables(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that started on a new database at once made the same table; one of them ended."""
    other = Database(database.engine.url.render_as_string(hide_password=False))
    tried: list[bool] = []

    def try_beside(*_: Any) -> None:
        with other.engine.connect() as second:
            if not other.is_sqlite:
                lock = f"SELECT pg_try_advisory_xact_lock({_MIGRATING})"
                tried.append(bool(second.exec_driver_sql(lock).scalar()))
                return
            second.exec_driver_sql("PRAGMA busy_timeout = 0")
            with pytest.raises(OperationalError, match="database is locked"):
                second.exec_driver_sql("BEGIN IMMEDIATE")
            tried.append(False)

    with monkeypatch.context() as patch:
        patch.setattr("alembic.command.upgrade", try_beside)
        database.migrate()
    assert tried == [False]
    other.migrate()
    other.close()


def test_users_and_tokens(database: Database) -> None:
    users = UserStore(database, token_hours=1)
    user_id = users.add("ann", PASSWORD)
    with pytest.raises(OptionError, match="already"):
        users.add("ann", PASSWORD)
    token = users.log_in("ann", PASSWORD)
    assert users.check_token(token) == (user_id, "ann")
    for name, password in (("ann", "wrong-password"), ("nobody", PASSWORD)):
        with pytest.raises(ApiError, match="not correct"):
            users.log_in(name, password)
    with pytest.raises(ApiError, match="unknown or has expired"):
        users.check_token("nonsense")
    UserStore(database, token_hours=1).set_password("ann", PASSWORD + "2")  # as another process
    with pytest.raises(ApiError, match="unknown or has expired"):
        users.check_token(token)
    users.remove("ann")
    assert users.names() == []


def test_tokens_expire(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    users = UserStore(database, token_hours=1)
    users.add("ann", PASSWORD)
    token = users.log_in("ann", PASSWORD)
    now = time.time()
    monkeypatch.setattr("openeo_cloudmask.backend.api.accounts.now_s", lambda: now + 3601)
    with pytest.raises(ApiError, match="unknown or has expired"):
        users.check_token(token)


def test_jobs_move_once(database: Database) -> None:
    user_id = UserStore(database, token_hours=1).add("ann", PASSWORD)
    jobs = JobStore(database)
    job = jobs.create(user_id, process={"process_graph": {}}, log_level="info", options={})
    with ThreadPoolExecutor(8) as pool:
        moved = list(pool.map(
            lambda _: jobs.move(job.id, to="queued", allowed=("created",)), range(8)
        ))  # fmt: skip
    assert moved.count(True) == 1
    with pytest.raises(ApiError, match="stop it first"):
        jobs.change(user_id, job.id, {"title": "x"})
    with pytest.raises(ApiError, match="does not exist"):
        jobs.get("somebody else", job.id)
    jobs.delete(user_id, job.id)
    jobs.add_logs([{"job_id": job.id, "time": 1.0, "level": "info", "message": "late"}])


def test_progress_that_comes_late_is_not_that_of_a_job_that_is_over(database: Database) -> None:
    user_id = UserStore(database, token_hours=1).add("ann", PASSWORD)
    jobs = JobStore(database)
    job = jobs.create(user_id, process={}, log_level="info", options={}, progress=0.0)
    jobs.move(job.id, to="running", allowed=("created",))
    ended: list[bool] = []

    def end_meanwhile(event: dict[str, Any]) -> float:
        if event["last"]:
            ended.append(jobs.move(job.id, to="finished", allowed=("running",), progress=100.0))
        return 99.0

    journal = Journal(jobs)
    journal.start(end_meanwhile)
    journal.put({"kind": "progress", "job_id": job.id, "last": False})
    wait_for(lambda: jobs.get(user_id, job.id).progress == 99.0)
    journal.put({"kind": "progress", "job_id": job.id, "last": True})
    wait_for(lambda: ended)
    journal.stop()
    assert ended == [True]
    assert jobs.get(user_id, job.id).progress == 100.0


def test_users_take_turns(database: Database) -> None:
    users, jobs = UserStore(database, token_hours=1), JobStore(database)

    def queue(name: str, count: int) -> list[str]:
        user_id = users.add(name, PASSWORD)
        made = [
            jobs.create(user_id, process={"process_graph": {}}, log_level="info", options={}).id
            for _ in range(count)
        ]
        for job_id in made:
            jobs.move(job_id, to="queued", allowed=("created",))
        return made

    ann, bob = queue("ann", 5), queue("bob", 1)
    taken: list[str] = []
    while job := jobs.next_queued(without=taken, only=(), per_user=3):
        taken.append(job.id)
    assert taken == [ann[0], *bob, *ann[1:3]]  # and no fourth one of ann's
    alone = jobs.next_queued(without=taken, only=[ann[4]], per_user=3)
    assert alone is not None
    assert alone.id == ann[4]


def test_twenty_writers_and_readers(database: Database) -> None:
    user_id = UserStore(database, token_hours=1).add("ann", PASSWORD)
    jobs, processes = JobStore(database), ProcessStore(database)

    def work(number: int) -> None:
        for step in range(5):
            job = jobs.create(user_id, process={"process_graph": {}}, log_level="info", options={})
            jobs.add_logs([{"job_id": job.id, "time": 1.0, "level": "info", "message": "m"}])
            jobs.move(job.id, to="queued", allowed=("created",))
            jobs.page(user_id, limit=5, offset=0)
            processes.put(user_id, f"p{number}-{step}", {"process_graph": {}})

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(work, range(20)))
    assert jobs.page(user_id, limit=None, offset=0)[1] == 100
    assert len(processes.all(user_id)) == 100


def test_database_that_is_not_there() -> None:
    pytest.importorskip("psycopg", reason="needs the extra 'postgresql'")
    gone = Database(f"postgresql://x@127.0.0.1:{free_port()}/x")
    with pytest.raises(ApiError, match="cannot be reached"), gone.reading() as session:
        session.connection()
    with pytest.raises(BackendError, match="cannot be used"):
        Database("nonsense://x")


# -- results -----------------------------------------------------------------------------------


def test_disk_storage(tmp_path: Path) -> None:
    folder = tmp_path / "attempt"
    folder.mkdir()
    (folder / "a.tif").write_bytes(b"abc")
    storage = DiskStorage(tmp_path / "jobs")
    stored = storage.store("j-1", folder, ["a.tif"])
    assert b"".join(storage.read(stored, "a.tif", 0, 3)) == b"abc"
    assert b"".join(storage.read(stored, "a.tif", 1, 2)) == b"b"
    for name in ("../../secret", "/etc/passwd", "nope"):
        assert storage.local_path(stored, name) is None
    storage.delete("j-1", stored)
    assert storage.local_path(stored, "a.tif") is None


@pytest.fixture
def aws_keys(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # botocore and aiohttp warn of their own doings
@pytest.mark.usefixtures("aws_keys")
def test_bucket_storage(s3: S3Server, tmp_path: Path) -> None:
    folder = tmp_path / "attempt"
    folder.mkdir()
    content = bytes(range(250)) * 1000
    (folder / "a.tif").write_bytes(content)
    storage = BucketStorage("s3://results/masks", s3.url, tmp_path)
    stored = storage.store("j-1", folder, ["a.tif"])
    assert stored == "results/masks/j-1"
    assert storage.local_path(stored, "a.tif") is None
    for start, stop in ((0, 250_000), (0, 1), (777, 249_999)):
        assert b"".join(storage.read(stored, "a.tif", start, stop)) == content[start:stop]
    (folder / "b.tif").write_bytes(b"b")
    storage.store("j-1", folder, ["b.tif"])  # of the next run: the former files are gone
    assert s3.objects("results", "masks/j-1/") == ["masks/j-1/b.tif"]
    storage.delete("j-1", None)  # where they are is not known, as after a server was killed
    storage.delete("j-1", stored)
    assert s3.objects("results", "masks/j-1/") == []
    with pytest.raises(ApiError, match="does not exist"):
        storage.read(stored, "a.tif", 0, 10)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("aws_keys")
@pytest.mark.parametrize(
    ("bucket", "reason"), [("not-there", "no bucket"), ("results", "cannot be reached")]
)
def test_bucket_that_is_of_no_use(s3: S3Server, tmp_path: Path, bucket: str, reason: str) -> None:
    (tmp_path / "a.tif").write_bytes(b"abc")
    endpoint = s3.url if bucket == "not-there" else f"http://127.0.0.1:{free_port()}"
    storage = BucketStorage(f"s3://{bucket}", endpoint, tmp_path)
    with pytest.raises(ApiError, match=reason):
        storage.store("j-1", tmp_path, ["a.tif"])
    assert (tmp_path / "a.tif").exists()


@pytest.mark.filterwarnings("ignore")
def test_private_delivery(s3: S3Server, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"mask")
    good = {**s3.private("mine"), "prefix": "x/y"}
    keys = check_private(good, [s3.url])
    assert deliver_private(keys, "j-1", tmp_path, ["a.tif"]) == {"a.tif": "s3://mine/x/y/j-1/a.tif"}
    for change, reason in (
        ({"bucket": "not-there"}, "'not-there' did not take the results: there is no bucket"),
        ({"secret_key": "SECRETPRIVATE"}, "the keys are wrong"),
        ({"access_key": "AKIDPRIVATE"}, "the keys are wrong"),
    ):
        with pytest.raises(ApiError, match=reason) as caught:
            deliver_private(check_private(good | change, [s3.url]), "j-1", tmp_path, ["a.tif"])
        assert "PRIVATE" not in str(caught.value)
        assert caught.value.__cause__ is None


KEYS = {"bucket": "mine", "access_key": "AKIDPRIVATE", "secret_key": "SECRETPRIVATE"}


@pytest.mark.parametrize(
    "given",
    [None, {}, {"bucket": "mine"}, {**KEYS, "endpoint": "http://10.0.0.1"},
     {**KEYS, "bucket": "../x"}, {**KEYS, "prefix": "../.."}, {**KEYS, "more": "x"},
     {**KEYS, "secret_key": 3}],
)  # fmt: skip
def test_private_fields_are_checked(given: object) -> None:
    with pytest.raises(ApiError) as caught:
        check_private(given, ["http://127.0.0.1:9000"])
    assert "SECRETPRIVATE" not in str(caught.value)
    assert caught.value.code == "ProcessParameterInvalid"


# -- OpenID Connect ----------------------------------------------------------------------------


@pytest.fixture
def issuer() -> Iterator[Any]:
    server = make_issuer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _token(issuer: Any, client: str) -> str:
    import requests

    url = f"http://127.0.0.1:{issuer.server_port}/token"
    token: str = requests.post(url, data={"client_id": client}, timeout=10).json()["access_token"]
    return token


def test_oidc_tokens(issuer: Any) -> None:
    url = f"http://127.0.0.1:{issuer.server_port}"
    provider = OidcIssuer(url, ["other", "carol"])
    token = _token(issuer, "carol")
    assert provider.check_token(token) == ("carol", "carol")
    asked = issuer.asked
    for _ in range(3):  # what is refused is remembered, too
        with pytest.raises(ApiError, match="unknown or has expired"):
            provider.check_token(make_token("carol", "carol"))
        with pytest.raises(ApiError, match="unknown or has expired"):
            provider.check_token(token[:-1] + "~")
    assert issuer.asked <= asked + 4
    with pytest.raises(ApiError, match="cannot be reached"):
        OidcIssuer(f"http://127.0.0.1:{free_port()}", ["carol"]).check_token(token)


@pytest.mark.parametrize("client", ["game", ""])
def test_tokens_of_other_applications_are_refused(issuer: Any, client: str) -> None:
    provider = OidcIssuer(f"http://127.0.0.1:{issuer.server_port}", ["viewer"])
    for token in (_token(issuer, client), "opaque", "a.b.c", "..."):
        with pytest.raises(ApiError, match="not given to an application of this server"):
            provider.check_token(token)
    assert issuer.asked == 0


def test_issuer_with_another_name_is_refused(issuer: Any) -> None:
    issuer.calls_itself = "https://elsewhere.example"
    provider = OidcIssuer(f"http://127.0.0.1:{issuer.server_port}", ["carol"])
    with pytest.raises(ApiError, match="calls itself something else"):
        provider.check_token(_token(issuer, "carol"))


def test_issuer_needs_a_client(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--oidc-client"):
        Settings(data_dir=tmp_path, oidc_issuer="https://issuer.example")


# -- the lease of the jobs -----------------------------------------------------------------------


def test_one_server_at_a_time(database: Database) -> None:
    first, second = Lease(database), Lease(database, sleep=lambda _: first.renew() and None)
    first.take()
    with pytest.raises(BackendError, match="another server runs the jobs"):
        second.take()
    first.give_back()
    second.take()
    assert second.renew()
    assert not first.renew()


def test_silent_server_loses_the_lease(database: Database) -> None:
    slept: list[float] = []
    first, second = Lease(database), Lease(database, sleep=slept.append)
    first.take()
    second.take()  # the process of the first one runs, but no longer renews its lease
    assert sum(slept) >= SILENCE_S
    assert not first.renew()


def test_dead_server_loses_the_lease_at_once(database: Database) -> None:
    first, second = Lease(database), Lease(database, sleep=lambda _: pytest.fail("waits"))
    first.take()
    with database.session() as session:
        session.get_one(LeaseRow, "jobs").started -= 100  # so that the process is another one
    second.take()
    assert not first.renew()


def test_the_lease_of_an_older_release_is_not_taken_from_a_server_that_lives(
    database: Database,
) -> None:
    """Older releases wrote down when they began in seconds since 1970."""
    first, second = Lease(database), Lease(database, sleep=lambda _: first.renew() and None)
    first.take()
    with database.session() as session:
        session.get_one(LeaseRow, "jobs").started = psutil.Process().create_time()
    with pytest.raises(BackendError, match="another server runs the jobs"):
        second.take()
    assert first.renew()
    third = Lease(database, sleep=lambda _: None)
    third.take()  # the first one no longer renews
    assert not first.renew()


def test_who_lost_the_lease_moves_no_job(database: Database) -> None:
    user_id = UserStore(database, token_hours=1).add("ann", PASSWORD)
    jobs = JobStore(database)
    job = jobs.create(user_id, process={}, log_level="info", options={})
    first, second = Lease(database), Lease(database, sleep=lambda _: None)
    assert jobs.move(job.id, to="queued", allowed=("created",), by=first.holder)  # none has it
    first.take()
    assert not first.is_lost()
    assert jobs.move(job.id, to="running", allowed=("queued",), by=first.holder)
    second.take()
    assert first.is_lost()
    assert not jobs.move(job.id, to="finished", allowed=("running",), by=first.holder)
    assert jobs.move(job.id, to="finished", allowed=("running",), by=second.holder)


def test_a_clock_that_jumps_ends_no_server(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a process began is counted from the clock: put back, all seem to be others."""
    first, second = Lease(database), Lease(database, sleep=lambda _: first.renew() and None)
    first.take()
    began = psutil.Process().create_time()
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: began - 3600)
    with pytest.raises(BackendError, match="another server runs the jobs"):
        second.take()
    assert first.renew()


def test_tokens_are_asked_for_again_whatever_the_clock_says(
    issuer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = OidcIssuer(f"http://127.0.0.1:{issuer.server_port}", ["carol"])
    token = _token(issuer, "carol")
    provider.check_token(token)
    provider.check_token(token)
    assert issuer.asked == 1
    later = time.monotonic() + 3600
    monkeypatch.setattr(time, "monotonic", lambda: later)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    provider.check_token(token)
    assert issuer.asked == 2


# -- logins --------------------------------------------------------------------------------------


class SlowUsers:
    """Users of which ann has the password right."""

    def __init__(self) -> None:
        self.checked = 0

    def log_in(self, name: str, password: str) -> str:
        self.checked += 1
        if (name, password) != ("ann", "right"):
            raise ApiError("CredentialsInvalid", "user name or password are not correct")
        return "token"


def _codes(gate: LoginGate, *attempts: tuple[str, str, str]) -> list[str]:
    async def run() -> list[str]:
        results = await asyncio.gather(
            *(gate.log_in(*attempt) for attempt in attempts), return_exceptions=True
        )
        return [getattr(found, "code", found) for found in results]  # type: ignore[misc]

    return asyncio.run(run())


def test_guessing_slows_down() -> None:
    now = [0.0]
    users = SlowUsers()
    gate = LoginGate(users, now=lambda: now[0])  # type: ignore[arg-type]
    for _ in range(6):
        assert _codes(gate, ("ann", "wrong", "evil")) == ["CredentialsInvalid"]
    assert _codes(gate, ("ann", "right", "evil")) == ["TooManyRequests"]
    assert _codes(gate, ("ann", "right", "home")) == ["token"]  # the user is not locked out
    now[0] += 3
    assert _codes(gate, ("ann", "wrong", "evil")) == ["CredentialsInvalid"]
    now[0] += 3
    assert _codes(gate, ("ann", "right", "evil")) == ["TooManyRequests"]  # the wait doubles
    now[0] += 2
    assert _codes(gate, ("ann", "right", "evil")) == ["token"]


def test_guessing_many_names_slows_down() -> None:
    gate = LoginGate(SlowUsers(), now=lambda: 0.0)  # type: ignore[arg-type]
    found = [_codes(gate, (f"user{i}", "wrong", "evil"))[0] for i in range(40)]
    assert found.count("CredentialsInvalid") == 21
    assert _codes(gate, ("ann", "right", "home")) == ["token"]


def test_guessers_do_not_fill_the_queue() -> None:
    users = SlowUsers()
    gate = LoginGate(users)  # type: ignore[arg-type]
    guesses = [("ann", f"guess {i}", "evil") for i in range(60)]
    found = _codes(gate, *guesses, ("ann", "right", "home"))
    assert found[-1] == "token"
    assert users.checked <= 9
    assert found.count("TooManyRequests") >= 52


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"public_url": "https://a.example/x", "address": "127.0.0.1:80"}, "https://a.example/x"),
        ({"address": "127.0.0.1:8080"}, "http://127.0.0.1:8080"),
        ({"address": "0.0.0.0:8080"}, "http://localhost:8080"),
        ({}, None),
    ],
)
def test_results_refer_to_the_server_where_it_listens(
    tmp_path: Path, given: dict[str, str], expected: str | None
) -> None:
    assert Settings(data_dir=tmp_path, **given).known_url == expected  # type: ignore[arg-type]
