"""Products in public archives: what there is to fetch of one, room for it, and fetching it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from openeo_cloudmask.errors import OptionError, OutputError, ReferenceDataError
from openeo_cloudmask.fetch.files import (
    TRIES,
    Headers,
    Progress,
    RemoteFile,
    download_file,
    fetched_bytes,
)
from openeo_cloudmask.fetch.names import SceneName, describe_match
from openeo_cloudmask.publish import GIB, lack_of_room

SPARE_BYTES = 500 << 20
"""Room that is left free on the disk."""
_IMAGE = re.compile(r"(?!MSK_).*_(B\d[\dA]?)(?:_\d\dm)?\.(?:jp2|tiff?)", re.IGNORECASE)
_METADATA = re.compile(
    r"manifest\.safe|MTD_\w+\.xml|S2._(OPER|USER)_MTD_\w+\.xml|.*_MTL\.(txt|json|xml)",
    re.IGNORECASE,
)
_QUALITY = re.compile(
    r"MSK_CLASSI_\w+\.(jp2|gml)|.*_SCL_20m\.jp2|.*_(BQA|QA_PIXEL)\.TIF", re.IGNORECASE
)
"""Masks of the provider: small, and models of their own (``msk-classi``, ``qa-pixel``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteProduct:
    """A product in an archive."""

    wanted: SceneName
    """What was asked for."""
    found: SceneName
    """What takes its place; mostly the same."""
    archive: str
    files: tuple[RemoteFile, ...]
    """Their names are relative to the product's folder."""
    headers: Headers | None = None

    @property
    def folder_name(self) -> str:
        """The folder that it becomes."""
        ending = ".SAFE" if self.found.name.startswith("S2") else ""
        return f"{self.found.name}{ending}"

    @property
    def note(self) -> str:
        """What is other than what was asked for, and what cannot be checked."""
        # The manifest holds the digests of the others.
        unchecked = sum(f.digest is None and f.name != "manifest.safe" for f in self.files)
        notes = [describe_match(self.wanted, self.found)]
        if unchecked:
            notes.append(f"{unchecked} of {len(self.files)} files have no published digest")
        return "; ".join(note for note in notes if note)

    def left_bytes(self, folder: Path) -> int:
        """Return how much of it is still to fetch to ``folder``, as far as sizes are known."""
        place = folder / self.folder_name
        if not place.exists():
            place = _part(place)
        return sum(max(0, (file.size or 0) - fetched_bytes(file, place)) for file in self.files)


class Archive(Protocol):
    """Where products are found."""

    @property
    def title(self) -> str:
        """Its name in messages."""

    def find(self, wanted: SceneName, bands: Collection[str] | None) -> RemoteProduct:
        """Return the product of a scene with the files that are needed of it.

        Args:
            wanted: the scene.
            bands: names of bands to fetch; None for all.

        Raises:
            ReferenceDataError: the archive has no such product, or does not answer.
        """


def choose_files(
    files: Iterable[RemoteFile], bands: Collection[str] | None, name: str
) -> tuple[RemoteFile, ...]:
    """Return metadata, masks of the provider, and images of the bands asked for.

    Raises:
        ReferenceDataError: there is no image of a band.
        OptionError: no band is asked for.
    """
    if bands is not None and not bands:
        raise OptionError("no band is asked for; expected names such as B02, or none for all")
    chosen, there = [], set()
    for file in files:
        base = PurePosixPath(file.name).name
        image = _IMAGE.fullmatch(base)
        if image is not None:
            band = image[1].upper()
            if bands is None or band in bands:
                there.add(band)
                chosen.append(file)
        elif _METADATA.fullmatch(base) or _QUALITY.fullmatch(base):
            chosen.append(file)
    if missing := sorted(set(bands or ()) - there):
        raise ReferenceDataError(f"{name} has no image of {', '.join(missing)} in the archive")
    if not there:
        raise ReferenceDataError(f"the archive lists no image of a band of {name}")
    return tuple(chosen)


def check_space(products: Iterable[RemoteProduct], folder: Path) -> int:
    """Return the bytes that are still to fetch, after seeing that the disk has room for them.

    Raises:
        OutputError: it has not.
    """
    return check_room(sum(product.left_bytes(folder) for product in products), folder)


def check_room(needed: int, folder: Path) -> int:
    """Return ``needed`` bytes if the disk of ``folder`` has room for them.

    Raises:
        OutputError: it has not.
    """
    if lack := lack_of_room(folder, needed, spare=SPARE_BYTES):
        raise OutputError(
            f"{needed / GIB:.1f} GB are to be fetched to {folder}, where {lack}. Ask for less, or "
            "choose another folder"
        )
    return needed


def fetch_product(
    product: RemoteProduct, folder: Path, *, progress: Callable[[int], None] | None = None
) -> Path:
    """Return the product's folder in ``folder``, after fetching what is not there yet.

    Until it is complete its folder is called ``<name>.part``; calling again continues there. Into a
    complete one, bands are added that were not asked for before.

    Args:
        product: what to fetch.
        folder: where to.
        progress: called with the bytes of this product that are there.

    Raises:
        ReferenceDataError: a file cannot be fetched, or is not what it should be.
        OutputError: the folder cannot be written to.
    """
    target = folder / product.folder_name
    place = target if target.exists() else _part(target)
    done = 0
    for file in product.files:

        def tell(there: int, _: int | None, before: int = done) -> None:
            if progress is not None:
                progress(before + there)

        path = fetch_patiently(file, place, product.headers, tell)
        done += path.stat().st_size
        if progress is not None:
            progress(done)
    if place != target:
        try:
            place.rename(target)
        except OSError as err:
            raise OutputError(f"cannot rename {place} to {target.name}: {err}") from err
    return target


def fetch_patiently(file: RemoteFile, place: Path, headers: Headers | None, tell: Progress) -> Path:
    """Return the file; a broken connection is taken up again a few times."""
    for _ in range(TRIES - 1):
        before = fetched_bytes(file, place)
        try:
            return download_file(file, place, headers=headers, progress=tell)
        except ReferenceDataError:
            if fetched_bytes(file, place) <= before:  # nothing more came: no broken connection
                raise
    return download_file(file, place, headers=headers, progress=tell)


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")
