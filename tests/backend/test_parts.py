"""Passwords, tokens, links, keys, URLs, the database and the result storage."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openeo_cloudmask.backend.api import security
from openeo_cloudmask.backend.api.accounts import ProcessStore, UserStore
from openeo_cloudmask.backend.api.errors import ApiError, describe_error
from openeo_cloudmask.backend.api.oidc import OidcIssuer
from openeo_cloudmask.backend.cubes.collections import CollectionStore
from openeo_cloudmask.backend.jobs.database import Database
from openeo_cloudmask.backend.jobs.states import JobStore
from openeo_cloudmask.backend.jobs.storage import (
    BucketStorage,
    DiskStorage,
    check_private,
    deliver_private,
)
from openeo_cloudmask.backend.settings import Settings, read_environment
from openeo_cloudmask.errors import BackendError, OptionError
from tests.backend.conftest import PASSWORD, S3Server, free_port
from tests.backend.oidc_issuer import make_server as make_issuer

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


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "/etc/passwd", "http://127.0.0.1/x", "http://localhost:1/x",
     "http://169.254.169.254/latest", "http://10.0.0.1/", "ftp://example.com/x", "http://[::1]/"],
)  # fmt: skip
def test_private_addresses_are_not_read(url: str) -> None:
    with pytest.raises(ApiError, match=r"cannot be read|inside the server's network"):
        security.check_public_url(url, ())


def test_allowed_host_is_read() -> None:
    url = "http://127.0.0.1:8000/item.json"
    assert security.check_public_url(url, ("127.0.0.1",)) == url


def test_settings_from_the_environment(tmp_path: Path) -> None:
    env = {"OPENEO_CLOUDMASK_WORKERS": "3", "OPENEO_CLOUDMASK_ALLOW_ANY_UDF": "yes",
           "OPENEO_CLOUDMASK_STAC_HOSTS": "a, b", "OPENEO_CLOUDMASK_SECRET": "k"}  # fmt: skip
    found = read_environment(tmp_path, env, workers=None, threads_per_worker=2)
    assert (found.workers, found.threads_per_worker) == (3, 2)
    assert found.allow_any_udf
    assert found.stac_hosts == ("a", "b")
    assert found.prepare().secret == b"k"
    with pytest.raises(OptionError, match="not understood"):
        read_environment(tmp_path, {"OPENEO_CLOUDMASK_WORKERS": "many"})
    with pytest.raises(OptionError, match="1 or more"):
        Settings(data_dir=tmp_path, workers=0)


def test_secret_is_made_once_and_private(tmp_path: Path) -> None:
    first = Settings(data_dir=tmp_path).prepare()
    assert first.secret == Settings(data_dir=tmp_path).prepare().secret
    assert (tmp_path / "secret.key").stat().st_mode & 0o077 == 0
    assert first.secret.decode() not in repr(first)


@pytest.mark.parametrize("name", ["..", ".", "a/b", "", "x" * 200])
def test_collections_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ApiError, match="does not exist"):
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
        self._data = Path(f"/tmp/cloudmask-pg-{self.port}")  # a folder that postgres can reach
        self._data.mkdir(mode=0o700)
        if self._as_user:
            shutil.chown(self._data, "postgres")
        self._run("initdb", "-U", "test", "-A", "trust", "-N")

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
    users.set_password("ann", PASSWORD + "2")
    fresh = UserStore(database, token_hours=1)  # without what the first one remembers
    with pytest.raises(ApiError, match="unknown or has expired"):
        fresh.check_token(token)
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
def issuer() -> Iterator[str]:
    server = make_issuer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_oidc_tokens(issuer: str) -> None:
    import requests

    answer = requests.post(f"{issuer}/token", data={"client_id": "carol"}, timeout=10)
    provider = OidcIssuer(issuer)
    assert provider.check_token(answer.json()["access_token"]) == ("carol", "carol")
    with pytest.raises(ApiError, match="unknown or has expired"):
        provider.check_token("nonsense")
    with pytest.raises(ApiError, match="cannot be reached"):
        OidcIssuer(f"http://127.0.0.1:{free_port()}").check_token("x")
