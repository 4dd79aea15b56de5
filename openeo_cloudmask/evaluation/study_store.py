"""The rows of a study on disk: Parquet, each file there whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from openeo_cloudmask.errors import MissingExtraError, ReferenceDataError
from openeo_cloudmask.publish import publish_file

FILE_NAME = "matrices.parquet"
_PARTS = "parts"
Row = dict[str, Any]


class Store:
    """Rows on disk: one file, and a part for each scene of the run at work."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts = folder / _PARTS
        self._new: list[Row] = []
        whole = folder / FILE_NAME
        self.rows = read_rows(whole) if whole.is_file() else []
        """What was there at first, parts of a run that was stopped included."""
        for path in sorted(self._parts.glob("*.parquet")):
            self.rows = _replaced(self.rows, read_rows(path))

    def add(self, rows: list[Row]) -> None:
        """Write the rows of a scene down."""
        self._new += rows
        name = hashlib.sha256(f"{rows[0]['references']}/{rows[0]['scene']}".encode()).hexdigest()
        part = self._parts / f"{name[:20]}.parquet"
        # A run that was stopped may have left those of other models there.
        write_rows(part, _replaced(read_rows(part) if part.is_file() else [], rows))

    def finish(self) -> list[Row]:
        """Write everything to one file, remove the parts, and return the rows."""
        rows = _replaced(self.rows, self._new)
        write_rows(self._folder / FILE_NAME, rows)
        for path in self._parts.glob("*.parquet"):
            path.unlink()
        if self._parts.is_dir():
            self._parts.rmdir()
        return rows


def _replaced(old: list[Row], new: list[Row]) -> list[Row]:
    def key(row: Row) -> tuple[str, str, str]:
        return row["references"], row["scene"], row["model"]

    fresh = {key(row) for row in new}
    return [row for row in old if key(row) not in fresh] + new


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file.

    Raises:
        ReferenceDataError: it holds something else.
        MissingExtraError: pyarrow is not installed.
    """
    parquet = _parquet()
    import pyarrow as pa

    try:
        rows: list[Row] = parquet.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as err:
        raise ReferenceDataError(f"{path} cannot be read as Parquet: {err}") from err
    if rows and not {"references", "scene", "model", "fingerprint", "counts"} <= rows[0].keys():
        raise ReferenceDataError(
            f"{path} holds no study; expected what `cloudmask leaderboard` wrote"
        )
    return rows


def write_rows(path: Path, rows: list[Row]) -> Path:
    """Write rows to a file in one step.

    Raises:
        OutputError: it cannot be written.
        MissingExtraError: pyarrow is not installed.
    """
    parquet = _parquet()
    import pyarrow as pa

    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("references", "scene", "model", "fingerprint")),
            *((name, pa.string()) for name in ("view", "kind", "stratum")),
            ("counts", pa.list_(pa.int64())),
            ("unclassed", pa.int64()),
            ("cover", pa.float64()),
            ("sun_elevation_deg", pa.float64()),
            ("digest", pa.string()),
            ("pixels", pa.int64()),
            ("cpu_seconds", pa.float64()),
        ]
    )
    with publish_file(path) as part:
        parquet.write_table(pa.Table.from_pylist(rows, schema=schema), part)
    return path


def _parquet() -> Any:  # noqa: ANN401 - a module without types
    try:
        from pyarrow import parquet
    except ModuleNotFoundError as err:
        raise MissingExtraError.for_extra("server", "A file of confusion matrices") from err
    return parquet
