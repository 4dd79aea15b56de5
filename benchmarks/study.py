"""How long 1000 small scenes take with 10 models, and figures from what was kept.

python benchmarks/study.py --scenes 1000 --workers 2 --output build/study

Scenes are simulated, with synthetic masks of providers beside them, so that ten models can run
without downloads. Prints the seconds of the study, of a second run that finds everything there, and
of the figures.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np

from openeo_cloudmask.evaluation.compare_scenes import ComparedModel
from openeo_cloudmask.evaluation.labelled import read_labelled
from openeo_cloudmask.evaluation.leaderboard import make_boards
from openeo_cloudmask.evaluation.study import run_study
from openeo_cloudmask.evaluation.study_scenes import ImageScene
from openeo_cloudmask.evaluation.study_store import FILE_NAME, read_rows
from openeo_cloudmask.simulator.scene import simulate_scene

SENSOR = "sentinel-2-l2a"
MODELS = (
    "hollstein", "scl", "msk-cldprb", "msk-classi", "fmask-4", "hls-fmask", "sentinelhub-clm",
    "sentinelhub-clp", "s2cloudless-raster", "cloud-score-plus",
)  # fmt: skip


def main() -> None:
    """Make scenes, run the study twice, draw figures, and print the seconds of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--size", type=int, default=64, help="side of a scene, pixels")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("build/study"))
    options = parser.parse_args()
    folder = options.output / "scenes"
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(1, options.scenes + 1):
        path = folder / f"seed_{seed:05d}.npz"
        if not path.is_file():
            write_scene(path, seed, options.size)
    scenes = [
        ImageScene(
            references="scenes", name=path.stem, load=partial(read_labelled, path), where=path
        )
        for path in sorted(folder.glob("*.npz"))
    ]
    models = [ComparedModel(id=name, device="cpu", precision="fp32") for name in MODELS]
    for what in ("study", "the same again"):
        begin = time.perf_counter()
        rows = run_study(options.output, scenes, models, workers=options.workers)
        seconds = time.perf_counter() - begin
        pairs = f"{len(scenes)} scenes x {len(models)} models"
        print(f"{what}: {pairs}, {len(rows)} rows, {seconds:.1f} s")
    begin = time.perf_counter()
    boards = make_boards(read_rows(options.output / FILE_NAME))
    seconds = time.perf_counter() - begin
    left = {name: next(iter(why)) for name, why in boards[0].left_out.items()}
    megabytes = (options.output / FILE_NAME).stat().st_size / 2**20
    print(f"figures of {len(boards[0].standings)} models from {megabytes:.1f} MB: {seconds:.1f} s")
    for name, why in left.items():
        print(f"left out {name}: {why}")


def write_scene(path: Path, seed: int, size: int) -> None:
    """Write a simulated scene with synthetic masks of providers: its truth, a few rows moved."""
    scene = simulate_scene(seed, sensor=SENSOR, size=size)
    moved = np.roll(scene.truth, 2, axis=0)
    cloud, thin, shadow = moved == 1, moved == 2, moved == 3
    np.savez_compressed(
        path,
        counts=np.round(np.nan_to_num(scene.cube) * 10000).astype(np.int16),
        bands=np.array(scene.band_names),
        label=scene.truth,
        sensor=SENSOR,
        pixel_m=10,
        shadow_labelled=True,
        thin_labelled=True,
        sun_elevation_deg=90 - scene.sun_zenith_deg,
        SCL=np.select([cloud, thin, shadow], [9, 10, 3], 4).astype(np.uint8),
        CLDPRB=np.where(cloud, 90, np.where(thin, 60, 5)).astype(np.uint8),
        CLM=(cloud | thin).astype(np.uint8),
        CLP=np.where(cloud, 250, np.where(thin, 150, 10)).astype(np.uint8),
        S2CLOUDLESS=np.where(cloud, 90, np.where(thin, 60, 5)).astype(np.uint8),
        CLOUD_SCORE=np.where(cloud | thin, 0.1, 0.9).astype(np.float32),
        MSK_CLASSI_OPAQUE=cloud.astype(np.uint8),
        MSK_CLASSI_CIRRUS=thin.astype(np.uint8),
        MSK_CLASSI_SNOW_ICE=np.zeros(moved.shape, np.uint8),
        FMASK4=np.select([cloud | thin, shadow], [4, 2], 0).astype(np.uint8),
        HLS_FMASK=np.select([cloud | thin, shadow], [2, 8], 0).astype(np.uint8),
    )


if __name__ == "__main__":
    main()
