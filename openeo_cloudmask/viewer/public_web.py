"""HTTP for addresses that visitors name: public https only, and the very address that was checked.

It is what ``load_stac`` reads with (``backend/cubes/outside.py``), in the form that the openEO
client takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from openeo_cloudmask.errors import BackendError, CloudMaskError

if TYPE_CHECKING:
    import requests

SCHEMES = ("https",)
MAX_DOCUMENT_BYTES = 64 * 2**20
"""Of an answer that is read into memory, unpacked."""
MAX_FILE_BYTES = 2 * 2**30
"""Of one that is written to a file."""


def check_public(url: str) -> None:
    """Make sure that a visitor may have this machine reach an address.

    Raises:
        BackendError: it is no public https address.
    """
    from openeo_cloudmask.backend.cubes.outside import find_place

    try:
        find_place(url, (), SCHEMES)
    except CloudMaskError as err:
        raise BackendError(
            f"{err}. Visitors of this viewer reach public https addresses; whoever runs it can "
            "name a back end with --backend, or allow every address with --allow-paths"
        ) from err


def _limited(read: Callable[..., Iterator[bytes]], limit: int, url: str) -> Any:  # noqa: ANN401
    """Return ``read`` (``stream`` of an answer of urllib3), which ends with an error at a limit."""
    import requests

    def stream(*args: Any, **options: Any) -> Iterator[bytes]:  # noqa: ANN401
        total = 0
        for block in read(*args, **options):
            total += len(block)
            if total > limit:
                raise requests.ConnectionError(f"{url} sends more than {limit >> 20} MB")
            yield block

    return stream


def public_session() -> requests.Session:
    """Return a session whose requests, redirects among them, go to public https addresses.

    Other addresses, and answers that are too large, raise ``requests.ConnectionError``.
    """
    import requests
    from requests.adapters import HTTPAdapter

    from openeo_cloudmask.backend.cubes.outside import connect_to, find_place, host_header

    class PublicAdapter(HTTPAdapter):
        """Connects to the address that was checked, and reads no more than is sensible."""

        def send(
            self,
            request: requests.PreparedRequest,
            stream: bool = False,  # noqa: FBT001, FBT002 - as requests has it
            *args: Any,  # noqa: ANN401
            **options: Any,  # noqa: ANN401
        ) -> requests.Response:
            """Return the answer, whose body ends with an error where it is too large."""
            answer = super().send(request, stream, *args, **options)
            limit = MAX_FILE_BYTES if stream else MAX_DOCUMENT_BYTES
            answer.raw.stream = _limited(answer.raw.stream, limit, str(request.url))
            return answer

        def get_connection_with_tls_context(
            self, request: requests.PreparedRequest, *_: object, **__: object
        ) -> Any:  # noqa: ANN401 - a pool of urllib3
            """Return connections to where a request goes."""
            try:
                place = find_place(str(request.url), (), SCHEMES)
            except CloudMaskError as err:
                raise requests.ConnectionError(str(err)) from err
            request.headers["Host"] = host_header(place)
            return connect_to(place)

        def cert_verify(self, *_: object, **__: object) -> None:
            """Leave the connections as they are: they check certificates."""

    session = requests.Session()
    session.trust_env = False  # a proxy would look up names by itself
    for prefix in ("https://", "http://"):
        session.mount(prefix, PublicAdapter())
    return session
