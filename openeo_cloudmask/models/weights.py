"""Where a model's weights are found, and whether they are what was published.

In this order: the file or folder given, the one in the environment variable
``OPENEO_CLOUDMASK_WEIGHTS``, the package's cache folder, the Hugging Face hub and its cache, or
GitHub.
A file that was named outright is taken as it is (it may be somebody's own training run); files
found under a published name are held against the published SHA-256. Where none is published, the
first download's digest is written down and every later file has to match it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from functools import lru_cache
from pathlib import Path

from openeo_cloudmask.errors import OutputError, WeightsError
from openeo_cloudmask.models.entry import ModelEntry, WeightsSource
from openeo_cloudmask.publish import publish_file, publish_text

WEIGHTS_VARIABLE = "OPENEO_CLOUDMASK_WEIGHTS"
CACHE_VARIABLE = "OPENEO_CLOUDMASK_CACHE"
DIGESTS_FILE = "digests.json"
OWN_FOLDER = Path(__file__).resolve().parent / "data"
"""Where this package keeps the weights of its own networks."""
OWN_SUFFIX = ".safetensors"

_CHUNK_BYTES = 1 << 20
_HUB_TIMEOUT_S = 5
_URL_TIMEOUT_S = 30

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The package's cache folder: ``OPENEO_CLOUDMASK_CACHE``, or one in the user's cache."""
    if own := os.environ.get(CACHE_VARIABLE):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "openeo-cloudmask"


def find_weights(entry: ModelEntry, override: str | Path | None = None) -> Path:
    """The file with the weights of ``entry``, downloaded where it is nowhere on this machine.

    Args:
        entry: A model with a weights source, or with weights in this package.
        override: A file, or a folder that holds files under their published names.

    Raises:
        WeightsError: The file is not there, cannot be downloaded, or is not the published one.
    """
    source = entry.weights
    if source is None:
        return _own_weights(entry, override)
    if override is not None:
        return _named(Path(override).expanduser(), source, "the option 'weights'")
    if variable := os.environ.get(WEIGHTS_VARIABLE):
        found = _from_variable(Path(variable).expanduser(), source)
        if found is not None:
            return found
    cached = cache_folder() / "weights" / source.repo / source.file
    for path in (cached, *(cached.with_name(name) for name in source.also_named)):
        if path.is_file():
            verify_digest(path, source, record=True)
            return path
    fetch = _from_hub if source.host == "huggingface" else _from_url
    return fetch(entry, source, cached)


def weights_here(entry: ModelEntry) -> bool:
    """Return whether the published weights of ``entry`` lie on this machine; none are fetched."""
    source = entry.weights
    if source is None:
        return False
    if variable := os.environ.get(WEIGHTS_VARIABLE):
        named = Path(variable).expanduser()
        if named.is_file() or any(path.is_file() for path in _candidates(named, source)):
            return True
    if (cache_folder() / "weights" / source.repo / source.file).is_file():
        return True
    if source.host != "huggingface":
        return False
    from huggingface_hub import try_to_load_from_cache

    kept = try_to_load_from_cache(source.repo, source.file, revision=source.revision)
    return isinstance(kept, str)


def packaged_weights(entry: ModelEntry) -> Path:
    """Where the weights of a model lie that come with the package."""
    return OWN_FOLDER / f"{entry.id}{OWN_SUFFIX}"


def _own_weights(entry: ModelEntry, override: str | Path | None) -> Path:
    """The file named, or the one that this package brings."""
    if not entry.kind.own_weights:
        raise WeightsError(f"model {entry.id!r} has no weights of its own; do not name a file")
    if override is not None:
        path = Path(override).expanduser()
        path = path / f"{entry.id}{OWN_SUFFIX}" if path.is_dir() else path
        if not path.is_file():
            raise WeightsError(
                f"the option 'weights' is {override}, and {path} is not there; expected a file "
                f"that `cloudmask train {entry.id}` wrote"
            )
        return path.resolve()
    path = packaged_weights(entry)
    if not path.is_file():
        raise WeightsError(
            f"no weights come with model {entry.id!r}; train them with `cloudmask train "
            f"{entry.id}` and pass the file as the option 'weights'"
        )
    return path


def _candidates(folder: Path, source: WeightsSource) -> tuple[Path, ...]:
    """Places in ``folder`` where a published file may lie, from exact to short.

    Files whose published name says nothing (``weights.pt``) need their own folder's name.
    """
    published = Path(source.file)
    short = published.relative_to(*published.parts[:-2]) if len(published.parts) > 2 else published
    places = [folder / source.repo / published, folder / published, folder / short]
    if folder.name == published.parent.name:  # the model's own folder was named
        places.append(folder / published.name)
    others = [path.with_name(name) for path in places for name in source.also_named]
    return tuple(dict.fromkeys([*places, *others]))


def _in_folder(folder: Path, source: WeightsSource) -> Path | None:
    found = next((path for path in _candidates(folder, source) if path.is_file()), None)
    if found is not None:
        verify_digest(found, source, record=False)
    return found


def _named(path: Path, source: WeightsSource, what: str) -> Path:
    if path.is_file():
        return path
    if path.is_dir():
        found = _in_folder(path, source)
        if found is not None:
            return found
        raise WeightsError(
            f"{what} is the folder {path}, which does not hold {source.file}; "
            f"put the file there (from {source.url}) or name a file"
        )
    raise WeightsError(
        f"{what} is {path}, which is not there; expected a weights file, or a folder that holds "
        f"{source.file} (from {source.url})"
    )


def _from_variable(path: Path, source: WeightsSource) -> Path | None:
    """As ``_named``, but a folder may lack a model's file: it serves all models."""
    if path.is_dir():
        return _in_folder(path, source)
    return _named(path, source, f"the environment variable {WEIGHTS_VARIABLE}")


def _from_hub(entry: ModelEntry, source: WeightsSource, cached: Path) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    _log.info("looking for %s of %s", source.file, source.repo)
    try:
        path = Path(
            hf_hub_download(
                repo_id=source.repo,
                filename=source.file,
                revision=source.revision,
                local_files_only=not hub_answers(),
            )
        )
    except (RepositoryNotFoundError, RevisionNotFoundError) as err:
        raise WeightsError(_advice(entry, source, cached, "the repository is not there")) from err
    except LocalEntryNotFoundError as err:  # a subclass of EntryNotFoundError: order matters
        reason = "it is not on this machine and the Hugging Face hub cannot be reached"
        raise WeightsError(_advice(entry, source, cached, reason)) from err
    except EntryNotFoundError as err:
        raise WeightsError(_advice(entry, source, cached, "the file is not there")) from err
    except (HfHubHTTPError, OSError, ValueError) as err:
        reason = f"the download failed ({type(err).__name__})"
        raise WeightsError(_advice(entry, source, cached, reason)) from err
    verify_digest(path, source, record=True)
    return path


def _from_url(entry: ModelEntry, source: WeightsSource, cached: Path) -> Path:
    """Download the file into the cache; only a whole file that is the published one gets there."""
    import requests

    _log.info("downloading %s", source.url)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with publish_file(cached) as part:
            _download(source, part)
            verify_digest(part, source, record=True)
    except requests.ConnectionError as err:
        reason = "it is not on this machine and its host cannot be reached"
        raise WeightsError(_advice(entry, source, cached, reason)) from err
    except requests.HTTPError as err:
        status = getattr(err.response, "status_code", "unknown")
        reason = f"its host answers with status {status}"
        raise WeightsError(_advice(entry, source, cached, reason)) from err
    except (OSError, OutputError) as err:  # OSError of requests too
        reason = f"the download failed ({type(err).__name__})"
        raise WeightsError(_advice(entry, source, cached, reason)) from err
    return cached


def _download(source: WeightsSource, path: Path) -> None:
    import requests

    most = source.size_bytes
    with requests.get(source.url, timeout=_URL_TIMEOUT_S, stream=True) as answer:
        answer.raise_for_status()
        size = 0
        with path.open("wb") as file:
            for chunk in answer.iter_content(_CHUNK_BYTES):
                size += file.write(chunk)
                if most is not None and size > most:
                    raise WeightsError(f"{source.url} has more than the {most} bytes published")


def hub_answers() -> bool:
    """Whether the Hugging Face hub can be reached, known within seconds.

    Its library would try five times, for half a minute, before it says that there is no network.
    """
    import requests
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        requests.head(constants.ENDPOINT, timeout=_HUB_TIMEOUT_S, allow_redirects=False)
    except requests.RequestException:
        return False
    return True


def _advice(entry: ModelEntry, source: WeightsSource, cached: Path, reason: str) -> str:
    return (
        f"no weights for model {entry.id!r}: {reason}. Download {source.url} and put the file at "
        f"{cached}, or set {WEIGHTS_VARIABLE} to the file or to a folder that holds "
        f"{source.file}, or pass the file as the option 'weights'"
    )


@lru_cache(maxsize=64)
def _digest(path: Path, _size: int, _modified_ns: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, computed once as long as its size and time stay."""
    state = path.stat()
    return _digest(path, state.st_size, state.st_mtime_ns)


def verify_digest(path: Path, source: WeightsSource, *, record: bool) -> None:
    """Check that ``path`` is the published file.

    Args:
        path: A file found under a published name.
        source: What was published.
        record: Whether to write the digest down where none is known yet.

    Raises:
        WeightsError: It is another file.
    """
    expected = source.sha256 or _read_digests().get(_key(source))
    if expected is None:
        if record:
            _record_digest(source, sha256_of(path))
        return
    given = sha256_of(path)
    if given == expected:
        return
    size = path.stat().st_size
    whence = (
        "as published"
        if source.sha256
        else f"as recorded at the first download in {cache_folder() / DIGESTS_FILE}"
    )
    short = ""
    if source.size_bytes is not None and size < source.size_bytes:
        short = f" It has {size} of {source.size_bytes} bytes: it may be cut short."
    raise WeightsError(
        f"{path} is not the file that was published: its SHA-256 is {given}, expected {expected} "
        f"({whence}).{short} Download it again from {source.url}; if these are weights of your "
        "own, pass the file itself as the option 'weights'"
    )


def _key(source: WeightsSource) -> str:
    return f"{source.repo}@{source.revision}/{source.file}"


def _read_digests() -> dict[str, str]:
    path = cache_folder() / DIGESTS_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as err:
        raise WeightsError(
            f"the record of digests {path} cannot be read ({err}); delete it to start anew"
        ) from err
    if not isinstance(content, dict):
        raise WeightsError(f"the record of digests {path} is no object; delete it to start anew")
    return {str(key): str(value) for key, value in content.items()}


def _record_digest(source: WeightsSource, digest: str) -> None:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        content = _read_digests() | {_key(source): digest}
        publish_text(folder / DIGESTS_FILE, json.dumps(content, indent=1, sort_keys=True))
    except (OSError, OutputError) as err:
        # A read-only home must not stop a mask; the file was not compared, and the log says so.
        _log.warning("cannot record the digest of %s in %s: %s", source.file, folder, err)
