"""``cloudmask references fetch``: the images that references were made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openeo_cloudmask.errors import CloudMaskError, OptionError, ReferenceDataError

if TYPE_CHECKING:
    from rich.progress import TaskID

    from openeo_cloudmask.fetch.products import RemoteProduct

SETS = ("alcd", "l8-biome")


def fetch(
    scenes: Annotated[
        list[str] | None,
        typer.Argument(help="Names of products or scenes, such as `references list` prints."),
    ] = None,
    folder: Annotated[Path, typer.Option("--folder", help="Where products go.")] = Path("products"),
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="All scenes of --of, or of --references.")
    ] = False,
    of: Annotated[str, typer.Option(help=f"What --all means: {', '.join(SETS)}.")] = "alcd",
    references: Annotated[
        Path | None,
        typer.Option(help="References on disk (SPARCS, WHUS2-CD, ...) whose scenes --all means."),
    ] = None,
    archive: Annotated[
        str,
        typer.Option(
            help="google (no account), or copernicus (CDSE_USERNAME and CDSE_PASSWORD are set)."
        ),
    ] = "google",
    bands: Annotated[
        str | None, typer.Option(help="Only these bands: B02,B03,...; none for all.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only the bands that this model takes.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be fetched, and how much it is.")
    ] = False,
) -> None:
    """Fetch the images of references: Level-1 products, whole or some bands; goes on if stopped.

    Each file is checked against the digest that the archive gives. A product that was processed
    again is taken by its tile and time, which is said.
    """
    from openeo_cloudmask.fetch.archives import open_archive
    from openeo_cloudmask.fetch.names import parse_scene_name
    from openeo_cloudmask.fetch.products import check_space

    names = _names(scenes or [], everything=everything, of=of, references=references)
    source = open_archive(archive)
    products: list[RemoteProduct] = []
    failed: list[str] = []
    for name in names:
        try:
            wanted = parse_scene_name(name)
            product = source.find(wanted, _bands(wanted.name, bands, model))
        except ReferenceDataError as err:
            failed.append(str(err))
            typer.echo(f"{name}: {err}", err=True)
            continue
        products.append(product)
        left = product.left_bytes(folder) / 2**20
        typer.echo(f"{name}: {len(product.files)} files, {left:.0f} MB to fetch", err=True)
        if product.note:
            typer.echo(f"  {product.note}", err=True)
    needed = check_space(products, folder)
    if dry_run and products:
        typer.echo(f"{needed / 2**30:.2f} GB of {len(products)} products would be fetched")
    else:
        failed += _fetch_all(products, folder)
    if failed:
        raise ReferenceDataError(
            f"{len(failed)} of {len(names)} scenes could not be fetched; the same command tries "
            "them again and keeps the rest"
        )


def _names(
    scenes: Sequence[str], *, everything: bool, of: str, references: Path | None
) -> tuple[str, ...]:
    """Return the names of products to look for, each once."""
    from openeo_cloudmask.alcd.scenes import ALCD_SCENES, find_scene_info
    from openeo_cloudmask.fetch.biome import BIOMES

    if bool(scenes) == everything:
        raise OptionError("expected either names of scenes, or --all")
    if not everything:
        known = ((name, find_scene_info(name)) for name in scenes)
        return tuple(
            dict.fromkeys(name if info is None else info.product_name for name, info in known)
        )
    if references is not None:
        return _names_of(references)
    if of not in SETS:
        raise OptionError(f"--of is {of!r}; expected one of {', '.join(SETS)}, or --references")
    return tuple(BIOMES) if of == "l8-biome" else tuple(item.product_name for item in ALCD_SCENES)


def _names_of(references: Path) -> tuple[str, ...]:
    from openeo_cloudmask.evaluation.reference_format import find_scenes
    from openeo_cloudmask.fetch.names import parse_scene_name

    found = find_scenes(references, split="all")
    if found is None:
        raise ReferenceDataError(
            f"{references} holds no references of a format that is read; list these with "
            "`cloudmask references formats`"
        )
    try:  # several scenes may be parts of one product
        return tuple(dict.fromkeys(parse_scene_name(scene.name).name for scene in found[1]))
    except OptionError as err:
        raise ReferenceDataError(
            f"{references} ({found[0].title}) does not name its products: {err}"
        ) from err


def _bands(name: str, bands: str | None, model: str | None) -> tuple[str, ...] | None:
    """Return the names of the bands to fetch of a product; None for all."""
    from openeo_cloudmask.fetch.archives import bands_for_model, sensor_of

    if bands is not None and model is not None:
        raise OptionError("--bands and --model say the same; give one of them")
    if model is not None:
        return bands_for_model(name, model)
    if bands is None:
        return None
    wanted = (band.strip() for band in bands.split(","))
    return tuple(sensor_of(name).band(band).name for band in wanted if band)


def _fetch_all(products: Iterable[RemoteProduct], folder: Path) -> list[str]:
    """Fetch one product after the other; return what went wrong."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    from openeo_cloudmask.fetch.archives import describe_product
    from openeo_cloudmask.fetch.products import fetch_product

    failed = []
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress("{task.description}", *columns, console=Console(stderr=True)) as bar:
        for product in products:
            total = sum(file.size or 0 for file in product.files)
            task = bar.add_task(product.found.name, total=total)

            def tell(done: int, task: TaskID = task) -> None:
                bar.update(task, completed=done)

            try:
                path = fetch_product(product, folder, progress=tell)
            except CloudMaskError as err:
                failed.append(str(err))
                bar.console.print(f"{product.found.name}: {err}", highlight=False)
                continue
            bar.console.print(f"{path}: {describe_product(path)}", highlight=False)
            typer.echo(str(path))
    return failed
