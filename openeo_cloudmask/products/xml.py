"""Metadata in XML."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from openeo_cloudmask.errors import ProductError


def parse_xml(content: bytes, name: str) -> ET.Element:
    """Return the root element.

    Args:
        content: the file.
        name: its name, for the error.

    Raises:
        ProductError: it is no well-formed XML.
    """
    try:
        # Expat refuses entities that blow up (since 2.4.1) and ElementTree fetches nothing.
        return ET.fromstring(content)  # noqa: S314
    except ET.ParseError as err:
        raise ProductError(
            f"{name} is not readable XML: {err}. The file may be cut off; download it again"
        ) from err


def parse_percent(text: str | None) -> float | None:
    """Return a share that metadata give in percent; None where it is missing or none (-1)."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value <= 100 else None


def find_text(root: ET.Element, tag: str) -> str | None:
    """Return the text of the first element called ``tag``, whatever its namespace, or None."""
    for item in root.iter():
        if isinstance(item.tag, str) and item.tag.rsplit("}", 1)[-1] == tag:
            text = (item.text or "").strip()
            return text or None
    return None
