"""``cloudmask simulate``: a scene with its truth, from a seed."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_SEED = 324
"""At the default size: a forest with a third under thick cloud, mist and cirrus, and shadows."""


class Form(StrEnum):
    """How a scene is written."""

    GEOTIFF = "geotiff"
    PRODUCT = "product"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("simulate")(simulate)


def simulate(
    folder: Annotated[Path, typer.Argument(help="Gets the scene and its truth.")],
    seed: Annotated[
        int, typer.Option(help="The same seed gives the same scene; this one has many kinds.")
    ] = DEFAULT_SEED,
    sensor: Annotated[str, typer.Option(help="Id of a built-in sensor.")] = "sentinel-2-l1c",
    size: Annotated[int, typer.Option(help="Pixels per side; a multiple of 6 for products.")] = 510,
    form: Annotated[
        Form,
        typer.Option("--format", help="One GeoTIFF, or a SAFE (L1C, L2A) or Landsat Level-1."),
    ] = Form.GEOTIFF,
    biome: Annotated[str | None, typer.Option(help="Kind of landscape; none draws one.")] = None,
    decks: Annotated[
        str | None, typer.Option(help="Kinds of cloud, e.g. cumulus,cirrus; none draws them.")
    ] = None,
    cloud_fraction: Annotated[float | None, typer.Option(help="Cover of the decks, 0-1.")] = None,
    sun_zenith: Annotated[float | None, typer.Option(help="Degrees.")] = None,
    sun_azimuth: Annotated[float | None, typer.Option(help="Degrees from north.")] = None,
    nodata_fraction: Annotated[float, typer.Option(help="Share beyond the swath's edge.")] = 0.0,
    alcd: Annotated[bool, typer.Option(help="Also write an ALCD reference at 60 m.")] = False,
) -> None:
    """Simulate a scene: what a sensor would see, and what is really there."""
    import numpy as np

    from openeo_cloudmask.simulator.products import (
        make_reference,
        write_geotiff,
        write_product,
        write_truth,
    )
    from openeo_cloudmask.simulator.scene import simulate_scene

    scene = simulate_scene(
        seed,
        sensor=sensor,
        size=size,
        biome=biome,
        decks=None if decks is None else [name.strip() for name in decks.split(",") if name],
        cloud_fraction=cloud_fraction,
        sun_zenith_deg=sun_zenith,
        sun_azimuth_deg=sun_azimuth,
        nodata_fraction=nodata_fraction,
    )
    folder.mkdir(parents=True, exist_ok=True)
    if form is Form.PRODUCT:
        written = write_product(scene, folder)
    else:
        written = write_geotiff(scene, folder / f"scene_{seed}.tif")
    truth = write_truth(scene, folder / f"truth_{seed}.tif")
    typer.echo(f"scene  {written}\ntruth  {truth}")
    if alcd:
        from openeo_cloudmask.alcd.writer import write_alcd_scene

        name = written.name.removesuffix(".SAFE").removesuffix(".tif")
        typer.echo(f"alcd   {write_alcd_scene(folder, make_reference(scene, name))}")
    shares = ", ".join(
        f"{title} {100 * float((scene.truth == value).mean()):.1f} %"
        for value, title in enumerate(("clear", "thick cloud", "thin cloud", "shadow"))
    )
    decks_drawn = ", ".join(scene.metadata["decks"]) or "no cloud"
    typer.echo(f"{scene.metadata['biome']}, {decks_drawn}: {shares}")
    if not np.isin(scene.truth, (1, 2)).any():
        typer.echo(
            "The scene has no cloud. For one that has: another --seed, or "
            "--decks cumulus,cirrus --cloud-fraction 0.4"
        )
