"""``cloudmask references`` and ``cloudmask score``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openeo_cloudmask.classes import SCHEMES, ClassScheme
from openeo_cloudmask.cli import shared_options as shared
from openeo_cloudmask.cli.references_fetch import fetch
from openeo_cloudmask.errors import OptionError

if TYPE_CHECKING:
    from openeo_cloudmask.alcd.types import AlcdScene
    from openeo_cloudmask.evaluation.reference_format import ReferenceFormat
    from openeo_cloudmask.evaluation.report import ScoreReport
    from openeo_cloudmask.fetch.files import Progress, RemoteFile


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="References: ALCD's (doi:10.5281/zenodo.1460961), and the formats of others.",
        no_args_is_help=True,
    )
    group.command("list")(list_references)
    group.command("show")(show_reference)
    group.command("download")(download_references)
    group.command("fetch")(fetch)
    group.command("formats")(list_formats)
    app.add_typer(group, name="references")
    app.command("score")(score)


ArchiveOption = Annotated[
    Path | None,
    typer.Option(help="The archive (folder or .tgz) or a scene's folder, instead of the table."),
]


def list_references(archive: ArchiveOption = None, *, as_json: shared.Json = False) -> None:
    """List the 37 scenes: tile, date, place, product, name and place in the archive.

    With --archive, list the folders there: name, group, product, and the folder that holds the
    same scene already.
    """
    rows = _table_rows() if archive is None else _archive_rows(archive)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    typer.echo("\t".join(rows[0]))
    for row in rows:  # a line each, so that grep and cut are of use
        typer.echo("\t".join(value or "-" for value in row.values()))


def show_reference(
    scene: Annotated[str, typer.Argument(help="Old or new name of the product.")],
    archive: ArchiveOption = None,
    *,
    as_json: shared.Json = False,
) -> None:
    """Show what is known of a scene, and with --archive what its files hold."""
    from openeo_cloudmask.alcd.archive import AlcdArchive
    from openeo_cloudmask.alcd.scenes import find_scene_info

    info = find_scene_info(scene)
    if info is None and archive is None:
        raise OptionError(
            f"{scene!r} is not one of the 37 scenes; list them with 'cloudmask references list', "
            "or name the archive it is in with --archive"
        )
    about: dict[str, Any] = {}
    if info is not None:
        about = {
            "product": info.product_name,
            "folder": info.archive_name,
            "in": list(info.groups),
            "tile": info.tile,
            "date": info.date,
            "location": info.location,
        }
    if archive is not None:
        with AlcdArchive(archive) as opened:
            about |= describe_scene(opened.read(opened.find(scene)))
    if as_json:
        typer.echo(json.dumps(about, indent=2))
        return
    for key, value in about.items():
        typer.echo(f"{key}: {_as_text(value)}")


def download_references(
    folder: Annotated[Path, typer.Argument(help="Where the files are to lie.")] = Path(),
    of: Annotated[
        str, typer.Option(help="alcd, or a format (`cloudmask references formats`).")
    ] = "alcd",
    files: Annotated[
        str | None, typer.Option(help="Only files whose name fits, such as '*l1c*'.")
    ] = None,
) -> None:
    """Fetch references; continues where it stopped, and checks sizes and published digests."""
    from openeo_cloudmask.alcd.scenes import ALCD_ARCHIVE
    from openeo_cloudmask.evaluation.reference_format import get_format
    from openeo_cloudmask.fetch.files import fetched_bytes
    from openeo_cloudmask.fetch.products import check_room, fetch_patiently
    from openeo_cloudmask.fetch.records import record_files

    remote: tuple[RemoteFile, ...] = (ALCD_ARCHIVE,)
    if of != "alcd":
        form = get_format(of)
        if not form.record:
            raise OptionError(f"{form.title} has no public files; get it by hand: {form.get}")
        remote = record_files(form.record, files)
        typer.echo(f"terms of {form.title}: {form.terms}", err=True)
    check_room(sum(max(0, (f.size or 0) - fetched_bytes(f, folder)) for f in remote), folder)
    for file in remote:
        if file.digest is None:
            typer.echo(f"nobody publishes a digest of {file.name}; its size is checked", err=True)
        with _download_bar(file.name) as progress:
            path = fetch_patiently(file, folder, None, progress)
        typer.echo(str(path))


def list_formats(
    name: Annotated[str | None, typer.Argument(help="A format; none lists all.")] = None,
    *,
    as_json: shared.Json = False,
) -> None:
    """List the formats of references that are read, or show one: codes, layout, terms, source."""
    from openeo_cloudmask.evaluation.reference_format import formats, get_format

    chosen = list(formats().values()) if name is None else [get_format(name)]
    rows = [describe_format(item) for item in chosen]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    if name is None:
        for row in rows:
            typer.echo("\t".join(str(row[key]) for key in ("id", "kind", "sensor", "title")))
        return
    for key, value in rows[0].items():
        typer.echo(f"{key}: {_as_text(value)}")


def describe_format(item: ReferenceFormat) -> dict[str, Any]:
    """Return what is known of a format, as JSON values."""
    codes = {str(code.code): f"{code.meaning} = {code.target or '-'}" for code in item.codes}
    keys = ("id", "title", "kind", "sensor", "layout", "images", "terms", "get", "citation", "doi")
    download = f"cloudmask references download --of {item.id}" if item.record else "by hand"
    about = {key: getattr(item, key) for key in keys}
    return about | {"download": download, "codes": codes, "seen": item.seen}


def score(
    mask: Annotated[Path, typer.Argument(help="A mask, or a folder of masks named by scene.")],
    reference: Annotated[
        Path,
        typer.Argument(help="ALCD archive or scene, raster(s), or references of another format."),
    ],
    output: Annotated[
        Path | None, typer.Option(help="Folder for scores.html, .csv, .json and error maps.")
    ] = None,
    scene: Annotated[str | None, typer.Option(help="Only this scene of the archive.")] = None,
    reference_format: Annotated[
        str | None, typer.Option(help="Format of the references (`cloudmask references formats`).")
    ] = None,
    split: shared.Split = None,
    mask_classes: Annotated[
        str | None, typer.Option(help=f"Classes of the mask: {', '.join(SCHEMES)}.")
    ] = None,
    reference_classes: Annotated[
        str | None, typer.Option(help="Classes of a reference that is a raster.")
    ] = None,
    regrid: Annotated[
        str,
        typer.Option(
            help="How a finer mask is brought to the reference's grid: fractions or majority."
        ),
    ] = "fractions",
    threshold: Annotated[
        float, typer.Option(help="With fractions: share of a cell from which on it is cloud.")
    ] = 0.5,
    dilate: shared.Dilate = None,
    ignore_rim: shared.Rim = None,
    weighted: Annotated[
        bool, typer.Option("--weighted", help="Also weighted by the reference's confidence.")
    ] = False,
    protocol: Annotated[
        bool,
        typer.Option(
            "--protocol",
            help="With --output: also strata, clouds as objects, a text on methods, BibTeX.",
        ),
    ] = False,
    keep_going: shared.KeepGoing = False,
    as_json: shared.Json = False,
) -> None:
    """Score MASK against REFERENCE on the reference's grid."""
    from openeo_cloudmask.evaluation.cases import parse_distance, plan_cases
    from openeo_cloudmask.evaluation.evaluate import ScoreSettings
    from openeo_cloudmask.evaluation.grids import parse_regrid
    from openeo_cloudmask.evaluation.report import to_json
    from openeo_cloudmask.evaluation.report_html import write_report
    from openeo_cloudmask.evaluation.score_files import ScoreRequest, score_files

    if protocol and output is None:
        raise OptionError("--protocol writes files; say where to with --output")
    cases = plan_cases(
        dilate=parse_distance(dilate) if dilate else None,
        ignore_rim=parse_distance(ignore_rim) if ignore_rim else None,
        weighted=weighted,
    )
    request = ScoreRequest(
        mask=mask,
        reference=reference,
        settings=ScoreSettings(cases=cases, method=parse_regrid(regrid), threshold=threshold),
        mask_scheme=_scheme(mask_classes),
        reference_scheme=_scheme(reference_classes),
        scene=scene,
        reference_format=reference_format,
        split=split,
        keep_going=keep_going,
        protocol=output if protocol else None,
        error_maps=output / "error_maps" if output is not None else None,
    )
    report = score_files(request, on_scene=lambda item: typer.echo(f"scored {item.name}", err=True))
    if output is not None:
        for path in write_report(output, report):
            typer.echo(f"wrote {path}", err=True)
    if as_json:
        typer.echo(to_json(report.to_dict()), nl=False)
    else:
        print_report(report)


def describe_scene(scene: AlcdScene) -> dict[str, Any]:
    """Return what the files of a scene hold, as JSON values."""
    import numpy as np

    from openeo_cloudmask.classes import ALCD

    counts = np.bincount(scene.labels.ravel(), minlength=8)
    return {
        "scene": scene.name,
        "group": scene.group,
        "grid": f"{scene.grid.shape_yx[1]} x {scene.grid.shape_yx[0]} px, {scene.grid.crs}",
        "pixels": {item.name: int(counts[item.value]) for item in ALCD.classes},
        "mean_confidence": round(float(scene.confidence.mean()), 1),
        "samples": {item.layer: len(item.geometries) for item in scene.samples},
        "k_fold_means": {key: round(value, 4) for key, value in scene.statistics.means.items()},
        "clear_product": scene.parameters.clear_product_name,
    }


def print_report(report: ScoreReport) -> None:
    """Print the pooled numbers and what was left out."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{report.title}: {len(report.scenes)} scene(s)")
    table.add_column("Comparison")
    for heading in ("Balanced accuracy", "Overall accuracy", "Kappa", "Mean F1", "Cover error"):
        table.add_column(heading, justify="right")
    for item in report.pooled:
        scores = item.confusion.scores()
        numbers = (scores.balanced_accuracy, scores.overall_accuracy, scores.kappa, scores.mean_f1)
        table.add_row(
            item.case.name, *(f"{value:.4f}" for value in numbers), f"{scores.cover_error:+.4f}"
        )
    # A file or a pipe is as wide as it needs to be.
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    excluded = report.pooled[0].excluded
    console.print(
        f"{report.pooled[0].case.name}: {excluded.compared} pixels compared; not compared: "
        f"{excluded.reference_nodata} no data in the reference, {excluded.mask_nodata} in the mask"
    )
    for failure in report.left_out:
        console.print(f"[red]left out[/red] {failure.name}: {failure.reason}", highlight=False)


def _scheme(name: str | None) -> ClassScheme | None:
    if name is None:
        return None
    from openeo_cloudmask.evaluation.compare_scenes import scheme_of

    return scheme_of(name)


def _table_rows() -> list[dict[str, str]]:
    from openeo_cloudmask.alcd.scenes import ALCD_SCENES

    return [
        {
            "tile": item.tile,
            "date": item.date,
            "location": item.location,
            "product": item.product_name,
            "folder": item.archive_name,
            "in": ", ".join(item.groups),
        }
        for item in ALCD_SCENES
    ]


def _archive_rows(path: Path) -> list[dict[str, str]]:
    from openeo_cloudmask.alcd.archive import AlcdArchive

    with AlcdArchive(path) as archive:
        return [
            {
                "folder": item.name,
                "in": item.group,
                "product": item.info.product_name if item.info else "",
                "same as": item.duplicate_of or "",
            }
            for item in archive.entries
        ]


def _as_text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@contextmanager
def _download_bar(name: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bar("{task.description}", *columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
