"""Google's public buckets of Sentinel-2 and Landsat: no account, single files, MD5 of each.

Sentinel-2 lies in ``tiles/<zone>/<band>/<square>/<product>.SAFE`` (Level-2A below ``L2``), Landsat
in ``LC08/PRE/<path>/<row>/<scene>`` and ``LC08/01/<path>/<row>/<product>``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.fetch.files import RemoteFile, read_json
from openeo_cloudmask.fetch.names import (
    LandsatName,
    SceneName,
    SentinelName,
    choose_landsat,
    choose_sentinel,
)
from openeo_cloudmask.fetch.products import RemoteProduct, choose_files

_SENTINEL_BUCKET, _LANDSAT_BUCKET = "gcp-public-data-sentinel-2", "gcp-public-data-landsat"
_FOLDER_MARK = "_$folder$"
_COLLECTIONS = ("01", "PRE")
"""The better first; that of the product asked for goes before."""
_PAGES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class GoogleArchive:
    """Both buckets."""

    url: str = "https://storage.googleapis.com"

    @property
    def title(self) -> str:
        """Its name in messages."""
        return "Google's public data"

    def find(self, wanted: SceneName, bands: Collection[str] | None) -> RemoteProduct:
        """Return the product of a scene; see ``Archive``."""
        found: SceneName | None
        if isinstance(wanted, SentinelName):
            bucket = _SENTINEL_BUCKET
            found, prefix = self._find_sentinel(wanted)
        else:
            bucket = _LANDSAT_BUCKET
            found, prefix = self._find_landsat(wanted)
        if found is None:
            raise ReferenceDataError(
                f"{self.title} has no product of {wanted.name}: none of its tile (or path and row) "
                "and time. Try --archive copernicus (Sentinel-2), or get it by hand"
            )
        files = [
            self._file(bucket, prefix, item)
            for item in self._list(bucket, prefix, "items")
            if not item["name"].endswith(("/", _FOLDER_MARK))
        ]
        return RemoteProduct(
            wanted=wanted,
            found=found,
            archive=self.title,
            files=choose_files(files, bands, found.name),
        )

    def _find_sentinel(self, wanted: SentinelName) -> tuple[SentinelName | None, str]:
        zone, square = wanted.tile[:2].lstrip("0"), wanted.tile[2:]
        top = "tiles" if wanted.level == "L1C" else "L2/tiles"
        place = f"{top}/{zone}/{square[0]}/{square[1:]}/"
        day = f"{wanted.platform}_MSI{wanted.level}_{wanted.sensed:%Y%m%d}T"
        names = self._folders(_SENTINEL_BUCKET, f"{place}{day}")
        found = choose_sentinel(wanted, (name.removesuffix(".SAFE") for name in names))
        return found, "" if found is None else f"{place}{found.name}.SAFE/"

    def _find_landsat(self, wanted: LandsatName) -> tuple[LandsatName | None, str]:
        sensor = f"{wanted.sensor}0{wanted.satellite}"
        for collection in sorted(_COLLECTIONS, key=lambda item: item != wanted.collection):
            place = f"{sensor}/{collection}/{wanted.path}/{wanted.row}/"
            start = {
                "PRE": f"{wanted.sensor}{wanted.satellite}{wanted.path}{wanted.row}"
                f"{wanted.day:%Y%j}"
            }.get(collection, f"{sensor}_")
            found = choose_landsat(wanted, self._folders(_LANDSAT_BUCKET, f"{place}{start}"))
            if found is not None:
                return found, f"{place}{found.name}/"
        return None, ""

    def _folders(self, bucket: str, prefix: str) -> list[str]:
        """Return the names of the folders whose path begins with ``prefix``."""
        found = self._list(bucket, prefix, "prefixes", delimiter="/")
        return [path.rstrip("/").rpartition("/")[2] for path in found]

    def _list(self, bucket: str, prefix: str, what: str, **query: str) -> list[Any]:
        """Return ``items`` or ``prefixes`` of a listing, all its pages."""
        url = f"{self.url}/storage/v1/b/{bucket}/o"
        found: list[Any] = []
        token = ""
        for _ in range(_PAGES):
            more = {"pageToken": token} if token else {}
            page = read_json(url, query={"prefix": prefix, **query, **more})
            try:
                found += page.get(what, [])
                token = page.get("nextPageToken", "")
            except (AttributeError, TypeError) as err:
                raise ReferenceDataError(f"{url} sent no listing of a bucket") from err
            if not token:
                return found
        raise ReferenceDataError(f"{url} lists more than {_PAGES} pages below {prefix}")

    def _file(self, bucket: str, prefix: str, item: dict[str, Any]) -> RemoteFile:
        try:
            name, size = str(item["name"]), int(item["size"])
            packed = item.get("md5Hash")
            digest = None if packed is None else f"md5:{base64.b64decode(packed).hex()}"
        except (KeyError, TypeError, ValueError, binascii.Error) as err:
            raise ReferenceDataError(f"{self.url} lists a file that is not told: {item}") from err
        return RemoteFile(
            url=f"{self.url}/{bucket}/{quote(name)}",
            name=name.removeprefix(prefix),
            digest=digest,
            size=size,
        )
