"""Runs stac-check on files without a network: ``python check_offline.py SCHEMAS FILE...``.

Prints, as JSON, what it says of each file. Schemas of extensions are those of the folder by their
``$id``; another address is an error of the file that declares it, and never taken for valid.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import requests
from stac_check.lint import Linter


def main() -> None:
    folder, *files = map(Path, sys.argv[1:])
    schemas = {}
    for path in folder.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        schemas[json.loads(text)["$id"].rstrip("#")] = text

    def answer(url: str, **_: Any) -> requests.Response:
        found = requests.Response()
        text = schemas.get(url.rstrip("#"))
        found.status_code = 404 if text is None else 200
        found.url, found._content = url, (text or "").encode()
        return found

    requests.get = answer  # type: ignore[assignment]
    sys.stdout.write(json.dumps({str(path): _check(path) for path in files}))


def _check(path: Path) -> dict[str, Any]:
    found = Linter(str(path), assets_open_urls=False)
    return {
        "valid": found.valid_stac,
        "error": found.error_msg,
        "schemas": found.schema,
        "advice": found.create_best_practices_dict(),
        "geometry": found.geometry_errors_msg,
    }


if __name__ == "__main__":
    main()
