"""The Copernicus Data Space: OData finds a product, its manifest lists files, sizes and digests.

Each file of a product is fetched by itself; that takes a (free) account, whose name and password
are ``CDSE_USERNAME`` and ``CDSE_PASSWORD`` of the environment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import quote
from xml.etree import ElementTree as ET

from openeo_cloudmask.errors import OptionError, ProductError, ReferenceDataError
from openeo_cloudmask.fetch.files import RemoteFile, read_bytes, read_json
from openeo_cloudmask.fetch.names import SceneName, SentinelName, choose_sentinel
from openeo_cloudmask.fetch.products import RemoteProduct, choose_files
from openeo_cloudmask.products.xml import parse_xml

USER_VARIABLE, PASSWORD_VARIABLE = "CDSE_USERNAME", "CDSE_PASSWORD"
_CLIENT = "cdse-public"
_RENEW_S = 60.0
_MANIFEST_BYTES = 8 << 20
_MANIFEST = "manifest.safe"
_DIGESTS = {
    "MD5": "md5",
    "SHA-1": "sha1",
    "SHA-256": "sha256",
    "SHA-512": "sha512",
    "SHA3-256": "sha3_256",
}


@dataclass(slots=True, kw_only=True)
class Account:
    """Gets access tokens and renews them before they end."""

    url: str = (
        "https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token"
    )
    _token: str = field(default="", init=False, repr=False)
    _ends: float = field(default=0.0, init=False, repr=False)

    def headers(self) -> Mapping[str, str]:
        """Return what a request needs.

        Raises:
            OptionError: name or password is not in the environment.
            ReferenceDataError: they are refused.
        """
        if time.monotonic() > self._ends - _RENEW_S:
            self._renew()
        return {"Authorization": f"Bearer {self._token}"}

    def _renew(self) -> None:
        user, password = (os.environ.get(key, "") for key in (USER_VARIABLE, PASSWORD_VARIABLE))
        if not user or not password:
            raise OptionError(
                f"the Copernicus Data Space needs an account: set {USER_VARIABLE} and "
                f"{PASSWORD_VARIABLE} (free, at https://dataspace.copernicus.eu), or use "
                "--archive google"
            )
        form = {
            "client_id": _CLIENT,
            "grant_type": "password",
            "username": user,
            "password": password,
        }
        answer = read_json(self.url, form=form)
        try:
            self._token, lasts = str(answer["access_token"]), float(answer["expires_in"])
        except (KeyError, TypeError, ValueError) as err:
            raise ReferenceDataError(f"{self.url} sent no access token") from err
        self._ends = time.monotonic() + lasts


@dataclass(frozen=True, slots=True, kw_only=True)
class CopernicusArchive:
    """Sentinel-2 in the Copernicus Data Space."""

    catalogue: str = "https://catalogue.dataspace.copernicus.eu/odata/v1"
    download: str = "https://download.dataspace.copernicus.eu/odata/v1"
    account: Account = field(default_factory=Account)

    @property
    def title(self) -> str:
        """Its name in messages."""
        return "the Copernicus Data Space"

    def find(self, wanted: SceneName, bands: Collection[str] | None) -> RemoteProduct:
        """Return the product of a scene; see ``Archive``."""
        if not isinstance(wanted, SentinelName):
            raise ReferenceDataError(
                f"{wanted.name} is a Landsat scene, which is fetched with --archive google alone"
            )
        ids = self._search(wanted)
        found = choose_sentinel(wanted, ids)
        if found is None:
            raise ReferenceDataError(
                f"{self.title} has no product of {wanted.name}: none of its tile and time"
            )
        product = f"{self.download}/Products({ids[found.name]})/Nodes({found.name}.SAFE)"
        url = _node(product, _MANIFEST)
        headers = self.account.headers()
        listed = parse_manifest(read_bytes(url, limit=_MANIFEST_BYTES, headers=headers), url)
        files = [
            RemoteFile(url=url, name=_MANIFEST),
            *(
                RemoteFile(url=_node(product, name), name=name, digest=digest, size=size)
                for name, (digest, size) in listed.items()
            ),
        ]
        return RemoteProduct(
            wanted=wanted,
            found=found,
            archive=self.title,
            files=choose_files(files, bands, found.name),
            headers=self.account.headers,
        )

    def _search(self, wanted: SentinelName) -> dict[str, str]:
        """Return name -> id of the products of the tile on that day."""
        first = wanted.sensed - timedelta(hours=1)
        last = wanted.sensed + timedelta(hours=1)
        conditions = (
            "Collection/Name eq 'SENTINEL-2'",
            f"contains(Name,'MSI{wanted.level}')",
            f"contains(Name,'_T{wanted.tile}_')",
            f"ContentDate/Start ge {first:%Y-%m-%dT%H:%M:%S}.000Z",
            f"ContentDate/Start le {last:%Y-%m-%dT%H:%M:%S}.000Z",
        )
        url = f"{self.catalogue}/Products"
        answer = read_json(url, query={"$filter": " and ".join(conditions), "$top": "100"})
        try:
            return {row["Name"].removesuffix(".SAFE"): row["Id"] for row in answer["value"]}
        except (AttributeError, KeyError, TypeError) as err:
            raise ReferenceDataError(f"{url} sent no list of products") from err


def parse_manifest(content: bytes, name: str) -> dict[str, tuple[str | None, int | None]]:
    """Return file -> (digest, bytes) of the manifest of a SAFE; None where it does not say.

    Raises:
        ReferenceDataError: it is no manifest.
    """
    try:
        root = parse_xml(content, name)
    except ProductError as err:
        raise ReferenceDataError(str(err)) from err
    files: dict[str, tuple[str | None, int | None]] = {}
    for stream in root.iter("byteStream"):
        place, sum_of = stream.find("fileLocation"), stream.find("checksum")
        href = "" if place is None else place.get("href", "")
        size = stream.get("size", "")
        files[href.removeprefix("./")] = (
            None if sum_of is None else _digest(sum_of),
            int(size) if size.isdecimal() else None,
        )
    files.pop("", None)
    if not files:
        raise ReferenceDataError(f"{name} lists no files; expected the manifest of a SAFE product")
    return files


def _digest(sum_of: ET.Element) -> str | None:
    algorithm = _DIGESTS.get(sum_of.get("checksumName", "").upper())
    return None if algorithm is None else f"{algorithm}:{(sum_of.text or '').strip().lower()}"


def _node(product: str, name: str) -> str:
    return f"{product}/{'/'.join(f'Nodes({quote(part)})' for part in name.split('/'))}/$value"
