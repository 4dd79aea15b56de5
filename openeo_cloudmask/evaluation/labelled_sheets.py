"""What an evaluation leaves to be looked at: each mask, a picture of it, and all on one sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.errors import OutputError
from openeo_cloudmask.evaluation.contact_sheet import ContactSheet
from openeo_cloudmask.evaluation.labelled import LabelledScene
from openeo_cloudmask.evaluation.labelled_masks import MaskSource
from openeo_cloudmask.evaluation.labelled_report import scene_note
from openeo_cloudmask.evaluation.quicklook import MaskPanel, draw_quicklook, write_quicklook
from openeo_cloudmask.evaluation.rates import Rates
from openeo_cloudmask.publish import publish_file


class SheetWriter:
    """Writes ``<model>/<scene>.npy`` and ``.png`` as masks come, and ``<model>.png`` at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sheets: dict[str, ContactSheet] = {}

    def write(
        self,
        source: MaskSource,
        scene: LabelledScene,
        mask: NDArray[np.uint8],
        rates: dict[str, Rates],
    ) -> None:
        """Write a mask and its picture.

        Raises:
            OutputError: a file cannot be written.
        """
        folder = self._folder / source.label
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise OutputError(f"cannot make the folder {folder}: {err}") from err
        note = scene_note({name: counts.to_dict() for name, counts in rates.items()})
        panels = [
            MaskPanel(caption=f"Mask ({source.label})", labels=mask),
            MaskPanel(caption="Label", labels=scene.label),
        ]
        picture = draw_quicklook(scene.rgb(), panels, FOUR_CLASS, title=scene.name, note=note)
        write_quicklook(folder / f"{scene.name}.png", picture)
        _write_mask(folder / f"{scene.name}.npy", mask)
        sheet = self._sheets.setdefault(source.label, ContactSheet(title=source.label))
        sheet.add(scene.name, note, scene.rgb(), mask, scene.label)

    def finish(self) -> tuple[Path, ...]:
        """Write the sheets and return their paths."""
        return tuple(
            write_quicklook(self._folder / f"{label}.png", sheet.draw())
            for label, sheet in self._sheets.items()
        )


def _write_mask(path: Path, mask: NDArray[np.uint8]) -> None:
    with publish_file(path) as part, part.open("wb") as file:
        np.save(file, mask, allow_pickle=False)
