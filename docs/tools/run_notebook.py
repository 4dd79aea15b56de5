"""Run the notebook from top to bottom and keep its outputs.

    python docs/tools/run_notebook.py [IN.ipynb [OUT.ipynb]]

Without arguments it renews ``docs/notebooks/first_mask.ipynb``.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

from openeo_cloudmask.publish import publish_file

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "first_mask.ipynb"


def main() -> None:
    """Run it in an empty folder; an error in a cell is an error here."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else NOTEBOOK
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else source
    notebook = nbformat.read(source, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}
        )
        client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times, which differ from run to run
        for output in cell.get("outputs", []):
            shrink_pictures(output.get("data", {}))
    notebook.metadata["language_info"] = {"name": "python"}
    with publish_file(target) as part:
        nbformat.write(notebook, part)


def shrink_pictures(data: dict[str, Any]) -> None:
    """Keep one picture an output, with a palette: a notebook is read in full by all its tools."""
    data.pop("image/jpeg", None)
    if "image/png" not in data:
        return
    with Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) as picture:
        small = picture.convert("RGB").quantize(128)
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    data["image/png"] = base64.b64encode(buffer.getvalue()).decode()


if __name__ == "__main__":
    main()
