"""Reading STAC catalogs: of whoever runs the viewer as they are, of visitors from public https."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from openeo_cloudmask.errors import CatalogError, CloudMaskError

MAX_DOCUMENTS = 1000
"""Of one catalog of a visitor: its author decides how many there are."""
MAX_BYTES = 64 * 2**20
"""Of all its documents together; that of the package has less than 1 MB."""


def read_items(href: str, *, public: bool) -> list[Any]:
    """Return the items (``pystac.Item``) of a catalog and of the catalogs in it, in their order.

    Args:
        href: path or URL of ``catalog.json``.
        public: read nothing but public https addresses, here and wherever its links lead.

    Raises:
        CatalogError: something of it cannot be read.
    """
    import pystac
    from pystac.errors import STACError, STACTypeError

    try:
        root = pystac.Catalog.from_file(href, stac_io=_public_io() if public else None)
        return list(_walk(root))
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError),
        *(STACError, STACTypeError, CloudMaskError),
    ) as err:
        reason = err.__cause__ if isinstance(err.__cause__, CloudMaskError) else err
        where = "https address of a public" if public else "path or address of a"
        raise CatalogError(
            f"cannot read the catalog {href}: {reason}. Expected the {where} STAC catalog.json "
            "with items of the MLM and cloudmask extensions"
        ) from err


def _walk(root: Any) -> Iterator[Any]:  # noqa: ANN401 - pystac.Catalog
    """Yield items; catalogs that hold each other are visited once."""
    waiting, seen = [root], {root.self_href}
    while waiting:
        catalog = waiting.pop(0)
        yield from catalog.get_items()
        for child in catalog.get_children():
            if child.self_href not in seen:
                seen.add(child.self_href)
                waiting.append(child)


def _public_io() -> Any:  # noqa: ANN401 - pystac.StacIO
    """Return what reads public https addresses, ``MAX_DOCUMENTS`` of them."""
    import json

    import pystac

    from openeo_cloudmask.backend.cubes.outside import Outside

    outside = Outside(schemes=("https",))

    class PublicIO(pystac.StacIO):
        """Reads through ``Outside``; writes nothing."""

        left = MAX_DOCUMENTS
        left_bytes = MAX_BYTES

        def read_text(self, source: Any, *_: object, **__: object) -> str:  # noqa: ANN401
            """Return a document."""
            self.left -= 1
            if self.left < 0:
                raise CatalogError(f"it has more than {MAX_DOCUMENTS} documents")
            text = json.dumps(outside.read_json(str(source)))
            self.left_bytes -= len(text)
            if self.left_bytes < 0:
                raise CatalogError(f"its documents have more than {MAX_BYTES >> 20} MB")
            return text

        def write_text(self, dest: Any, *_: object, **__: object) -> None:  # noqa: ANN401
            """Refuse to write."""
            raise CatalogError(f"{dest} cannot be written")

    return PublicIO()
