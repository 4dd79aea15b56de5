"""STAC items beside the masks of batch jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from openeo_cloudmask.backend.jobs import runtime
from openeo_cloudmask.backend.jobs.clock import now_s
from openeo_cloudmask.backend.jobs.runtime import InputItem, Run
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products.publish import publish_file

ITEM_TYPE = "application/geo+json"


def add_mask_items(run: Run, graph: Mapping[str, Any]) -> None:
    """Write an item for each mask among the files of ``run``, and note it as a file of the run.

    A mask whose cube had no date gets none: an item has to say when.

    Args:
        run: its GeoTIFF masks say in ``about`` what they are of.
        graph: the process graph that made them.
    """
    for file in list(run.files):
        mask, times = file["about"].get("mask"), _times(file["about"])
        if mask is None:
            continue
        if times is None:
            runtime.log(run.spec, "info", f"{file['name']} has no date, so it gets no STAC item")
            continue
        _write_item(run, file, _options(mask), times, graph)


def _write_item(
    run: Run,
    file: Mapping[str, Any],
    options: MaskOptions,
    times: tuple[datetime, datetime],
    graph: Mapping[str, Any],
) -> None:
    from openeo_cloudmask.stac.mask_item import MaskOrigin, describe_mask

    path = run.spec.output_dir / file["name"]
    inputs = _inputs(run, times)
    item = describe_mask(
        path,
        options,
        item_id=f"{run.spec.job_id}-{path.stem}",
        time=times,
        href=f"./{path.name}",
        origin=MaskOrigin(
            model_href=_model_href(run, options.model),
            input_hrefs=tuple(given.href for given in inputs),
            platform=_platform(inputs),
            process_graph=graph,
            created=datetime.fromtimestamp(now_s(), UTC),
        ),
    )
    content = item.to_dict(include_self_link=False)
    target = path.with_suffix(".json")
    with publish_file(target) as part:
        part.write_text(json.dumps(content, indent=2), encoding="utf-8")
    run.files.append(
        {
            "name": target.name,
            "type": ITEM_TYPE,
            "size": target.stat().st_size,
            "roles": ["metadata"],
            "about": {},
        }
    )


def _inputs(run: Run, times: tuple[datetime, datetime]) -> list[InputItem]:
    """Return the loaded items that were taken on the days of a mask, each once."""
    first, last = (str(time.date()) for time in times)
    return list(dict.fromkeys(item for item in run.inputs if first <= item.day <= last))


def _platform(inputs: Sequence[InputItem]) -> str | None:
    """Return the satellite that took all inputs; None where it is not known, or not one."""
    found = {item.platform for item in inputs}
    return found.pop() if len(found) == 1 else None


def _model_href(run: Run, model: str) -> str | None:
    """Return where the server's catalog describes the model, if its address is known."""
    from openeo_cloudmask.models import get_model

    if run.spec.public_url is None:
        return None
    entry = get_model(model)
    return f"{run.spec.public_url.rstrip('/')}/stac/collections/{entry.family}/items/{entry.id}"


def _times(about: Mapping[str, Any]) -> tuple[datetime, datetime] | None:
    found = [about["datetime"]] if "datetime" in about else sorted(about.get("dates", ()))
    if not found:
        return None
    return datetime.fromisoformat(found[0]), datetime.fromisoformat(found[-1])


def _options(mask: Mapping[str, Any]) -> MaskOptions:
    return MaskOptions(
        model=mask["model"],
        output_style=mask["style"],
        stride=mask["stride"],
        categorise=mask["categorise"],
        precision=mask["precision"],
        sensor=mask["sensor"],
    )
