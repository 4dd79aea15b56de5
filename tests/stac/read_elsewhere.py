"""Reads a published catalog with packages of others: ``python read_elsewhere.py FOLDER URL OUT``.

FOLDER holds the catalog, URL serves it. Prints, as JSON, what each package found.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any


def by_mlstac(url: str, out: Path) -> dict[str, Any]:
    """Download the model by its item, and run what came by onnxruntime."""
    import mlstac
    import numpy as np
    import onnxruntime

    loader = mlstac.download(f"{url}/openeo-cloudmask/mini/mini.json", out)
    model = loader.item.assets["model"]
    data = Path(model.href).read_bytes()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    feed = {
        each.name: np.zeros([size if isinstance(size, int) else 64 for size in each.shape], "f4")
        for each in session.get_inputs()
    }
    return {
        "id": loader.item.id,
        "checksum": "1220" + hashlib.sha256(data).hexdigest(),
        "said": model.extra_fields["file:checksum"],
        "classes": session.run(None, feed)[0].shape[1],
    }


def by_openeo_core(folder: Path) -> dict[str, Any]:
    """Read an item's description; openeo-core itself runs pickles alone."""
    from openeo_core.model.base import MLModel

    item = json.loads((folder / "openeo-cloudmask" / "mini" / "mini.json").read_text())
    model = MLModel.from_stac_properties(
        item["properties"], bbox=item["bbox"], geometry=item["geometry"]
    )
    return {"text": repr(model)}


def by_rustac(folder: Path, out: Path) -> dict[str, Any]:
    """Write all items as GeoParquet and read them again."""
    import rustac

    paths = sorted(folder.glob("*/*/*.json"))
    items = [json.loads(path.read_text()) for path in paths]
    target = str(out / "models.parquet")

    async def run() -> dict[str, Any]:
        await rustac.write(target, items)
        return await rustac.read(target)

    found = asyncio.run(run())
    return {"ids": sorted(item["id"] for item in found["features"])}


def main() -> None:
    folder, url, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    found = {
        "mlstac": by_mlstac(url, out),
        "openeo-core": by_openeo_core(folder),
        "rustac": by_rustac(folder, out),
    }
    out.joinpath("found.json").write_text(json.dumps(found))
    os._exit(0)  # rustac's threads would outlive the interpreter, and abort


if __name__ == "__main__":
    main()
