"""The file of a third-party model: its place, its download, and whether it may be run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urljoin, urlsplit

from openeo_cloudmask.errors import CatalogError, WeightsError
from openeo_cloudmask.models.weights import cache_folder, sha256_of
from openeo_cloudmask.publish import scratch_beside

_FORMATS = {
    # mlm:artifact_type -> how it is run; what is missing here follows from the suffix.
    "onnx": "onnx",
    "torch.jit.save": "torchscript",
    "torch.export.save": "exported",
    "safetensors.torch.save_file": "safetensors",
}
_SUFFIXES = {".onnx": "onnx", ".pt2": "exported", ".safetensors": "safetensors"}
PROGRAMS = ("torchscript", "exported")
"""Formats that hold a program, not only numbers."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MULTIHASH = re.compile("1220([0-9a-f]{64})")  # SHA2-256, 32 bytes
_MOST_BYTES = 4 << 30
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A model's file on this machine."""

    path: Path
    format: str
    """``onnx``, ``torchscript``, ``exported`` (.pt2) or ``safetensors``."""
    sha256: str
    """Of the file as it was when the item was taken up; it is compared when it is loaded."""


def find_artifact(
    item: Mapping[str, Any],
    base: str,
    *,
    weights: Path | None,
    trust: bool,
    programs: bool = True,
) -> Artifact:
    """Return the file of an item's model, downloaded where it lies elsewhere.

    Args:
        item: as JSON.
        base: path or URL of the item; its file may lie beside it or below.
        weights: the file itself, in place of the asset's address.
        trust: the user's word that the publisher may run a program here.
        programs: whether a program may be run at all.

    Raises:
        CatalogError: the item names no file that can be run here, or a program without the word.
        WeightsError: the file cannot be had, or is another one.
    """
    asset, place = _model_asset(item)
    href = str(asset.get("href", ""))
    kind = _FORMATS.get(str(asset.get("mlm:artifact_type"))) or _SUFFIXES.get(
        PurePosixPath(urlsplit(href).path).suffix.lower()
    )
    if kind is None:
        raise CatalogError(
            f"{place} is {href!r} of the type {asset.get('mlm:artifact_type')!r}; expected one of "
            f"{', '.join(_FORMATS)}, as other files need their authors' code"
        )
    digest = _parse_checksum(asset.get("file:checksum"), place)
    if kind in PROGRAMS:
        _check_program(href, place, has_digest=digest is not None, trust=trust, allowed=programs)
    path = weights or _locate(href, base, place, digest, asset.get("file:size"))
    found = sha256_of(path)
    if digest is not None and found != digest:
        raise WeightsError(
            f"{path} is not the file the item means: its SHA-256 is {found}, expected {digest} "
            f"({place}.file:checksum)"
        )
    return Artifact(path=path.absolute(), format=kind, sha256=found)


def _model_asset(item: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    assets = item.get("assets")
    if not isinstance(assets, Mapping):
        raise CatalogError(f"assets is {assets!r}; expected an object")
    found = {
        key: asset
        for key, asset in assets.items()
        if isinstance(asset, Mapping) and "mlm:model" in (asset.get("roles") or ())
    }
    if not found:
        raise CatalogError("assets: none has the role 'mlm:model'; expected one")
    known = [key for key, asset in found.items() if str(asset.get("mlm:artifact_type")) in _FORMATS]
    key = (known or list(found))[0]
    return found[key], f"assets.{key}"


def _parse_checksum(given: object, place: str) -> str | None:
    if given is None:
        return None
    match = _MULTIHASH.fullmatch(str(given))
    if match is None:
        raise CatalogError(
            f"{place}.file:checksum is {given!r}; expected a multihash of SHA2-256: 1220 and 64 "
            "hexadecimal digits"
        )
    return match[1]


def _check_program(href: str, place: str, *, has_digest: bool, trust: bool, allowed: bool) -> None:
    if not allowed:
        raise CatalogError(
            f"{place} is {href!r}, a program; only ONNX and safetensors are run here"
        )
    if not has_digest:
        raise CatalogError(
            f"{place} has no file:checksum; expected one, as {href!r} holds a program"
        )
    if not trust:
        raise CatalogError(
            f"{place} is {href!r}, a program that would run with your rights; if you trust whoever "
            "published it, pass --trust (trust=True)"
        )


def _locate(href: str, base: str, place: str, digest: str | None, size: object) -> Path:
    """Return the file at ``href``, which lies beside the item, below it, or at an https address."""
    if not urlsplit(href).scheme:
        parts = PurePosixPath(href).parts
        if not parts or not all(part == "." or _NAME.fullmatch(part) for part in parts):
            raise CatalogError(
                f"{place}.href is {href!r}; expected a file beside the item or below it, whose "
                "names have letters, digits and ._- only, or an https address"
            )
        if not _is_url(base):
            path = Path(base).parent / href
            if not path.is_file():
                raise WeightsError(
                    f"{place}.href is {href!r}, and {path} is not there; put the file there, or "
                    "name it with --weights"
                )
            return path
        href = urljoin(base, href)
    url = urlsplit(href)
    if url.scheme != "https" or "\\" in href or "%" in url.path or ".." in url.path.split("/"):
        raise CatalogError(f"{place}.href is {href!r}; expected a plain https address")
    return _download(href, digest, size)


def _is_url(base: str) -> bool:
    return urlsplit(base).scheme in ("http", "https")


def _download(url: str, digest: str | None, size: object) -> Path:
    """Return the file at ``url`` in the cache, where it is kept under its digest."""
    import requests

    folder = cache_folder() / "items"
    suffix = PurePosixPath(urlsplit(url).path).suffix
    if digest is not None and (kept := folder / f"{digest}{suffix}").is_file():
        return kept
    most = size if isinstance(size, int) and not isinstance(size, bool) else _MOST_BYTES
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with requests.get(url, timeout=_TIMEOUT_S, stream=True) as answer:
            answer.raise_for_status()
            if urlsplit(answer.url).scheme != "https":
                raise WeightsError(f"{url} leads to {answer.url}, which is no https address")
            return _keep(answer.iter_content(_CHUNK_BYTES), folder, suffix, most, url)
    except (requests.RequestException, OSError) as err:
        if isinstance(err, WeightsError):
            raise
        raise WeightsError(
            f"{url} cannot be downloaded ({type(err).__name__}); fetch it by hand and name the "
            "file with --weights"
        ) from err


def _keep(chunks: Any, folder: Path, suffix: str, most: int, url: str) -> Path:  # noqa: ANN401
    with scratch_beside(folder) as scratch:
        part, total = scratch / f"file{suffix}", 0
        with part.open("wb") as file:
            for chunk in chunks:
                total += file.write(chunk)
                if total > most:
                    raise WeightsError(f"{url} has more than {most} bytes")
        return part.replace(folder / f"{sha256_of(part)}{suffix}")
