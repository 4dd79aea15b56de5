"""Corrupted products and rasters: each has to be read, or refused with a sentence.

Inputs of all kinds are simulated, copied and corrupted at random: bytes changed, files cut off,
put in each other's place, removed or blown up, numbers and names in metadata replaced, a VRT in
a raster's place. Each is opened and read whole in a process of its own kind, as ``cloudmask
run`` and ``cloudmask score`` read it. It is a failure if the process dies, takes too long,
raises anything but an error of the package, or if a pixel comes out infinite.

    python benchmarks/campaigns/mutate_inputs.py --seed 1 --count 200

Prints how many were read and refused, and each failure with the number that repeats it
(``--only N``). The exit status is 1 if there was one.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

TIME_LIMIT_S = 120
"""For one input; a good one takes a second."""
SIZE_PX = 192
WORDS = (
    b"nan", b"inf", b"-1", b"0", b"1e300", b"99999999999999999999", b"", b"\xff\xfe", b"../../x",
    b"/etc/passwd", b"<a>", b"&lol;", b"TRUE", b"\x00",
)  # fmt: skip
VRT = (
    b'<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1" '
    b'subClass="VRTRawRasterBand"><SourceFilename>/etc/passwd</SourceFilename>'
    b"<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>64</LineOffset>"
    b"</VRTRasterBand></VRTDataset>"
)
TEXTS = (".xml", ".txt", ".json", ".prj")


def make_inputs(folder: Path) -> list[str]:
    """Write one good input of each kind into ``folder`` and return their names."""
    from openeo_cloudmask.alcd.writer import write_alcd_scene
    from openeo_cloudmask.simulator.products import (
        make_reference,
        write_geotiff,
        write_product,
        write_truth,
    )
    from openeo_cloudmask.simulator.scene import simulate_scene

    scene = simulate_scene(1, size=SIZE_PX)
    landsat = simulate_scene(1, size=SIZE_PX, sensor="landsat-8-9-l1")
    write_geotiff(scene, folder / "scene.tif")
    write_truth(scene, folder / "mask.tif")
    pack_zip(write_product(scene, folder / "safe"), folder / "product.zip")
    pack_tar(write_product(landsat, folder / "landsat"), folder / "product.tar")
    write_alcd_scene(folder, make_reference(scene, "reference"))
    try:
        import h5netcdf  # noqa: F401
        import xarray as xr
    except ImportError:
        pass
    else:
        cube = xr.DataArray(
            scene.cube, dims=("bands", "y", "x"), coords={"bands": list(scene.band_names)},
            name="reflectance",
        )  # fmt: skip
        cube.to_netcdf(folder / "scene.nc", engine="h5netcdf")
    for name in ("safe", "landsat"):
        (product,) = (folder / name).iterdir()
        product.rename(folder / product.name)
        (folder / name).rmdir()
    return sorted(item.name for item in folder.iterdir())


def pack_zip(source: Path, target: Path) -> None:
    """Write the folder ``source`` into a zip."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(source.rglob("*")):
            archive.write(path, Path(source.name) / path.relative_to(source))


def pack_tar(source: Path, target: Path) -> None:
    """Write the files of the folder ``source`` into a tar."""
    with tarfile.open(target, "w") as archive:
        for path in sorted(source.iterdir()):
            archive.add(path, path.name)


def spoil(path: Path, draw: random.Random) -> str:
    """Spoil an input and return what was done to it."""
    done = []
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else []
        target = draw.choice(files) if files else path
        texts = [item for item in files if item.suffix.lower() in TEXTS]
        if texts and draw.random() < 0.5:
            target = draw.choice(texts)
        name, change = draw.choice(list(CHANGES.items()))
        if target.is_file():
            change(target, files or [target], draw)
            done.append(f"{name} {target.name}")
    return ", ".join(done) or "nothing"


def change_bytes(target: Path, _: list[Path], draw: random.Random) -> None:
    """Change up to 20 bytes, most of them in the header."""
    content = bytearray(target.read_bytes())
    for _ in range(draw.randint(1, 20)):
        if content:
            reach = min(len(content), draw.choice((16, 512, len(content))))
            content[draw.randrange(reach)] = draw.randrange(256)
    target.write_bytes(content)


def cut_off(target: Path, _: list[Path], draw: random.Random) -> None:
    """Leave the first part only, perhaps nothing."""
    content = target.read_bytes()
    target.write_bytes(content[: int(len(content) * draw.choice((0, draw.random(), 0.99)))])


def blow_up(target: Path, _: list[Path], draw: random.Random) -> None:
    """Repeat a part many times."""
    content = target.read_bytes()
    part = content[: draw.randint(1, 200)] * draw.randint(1, 2000)
    place = draw.randrange(len(content) + 1)
    target.write_bytes(content[:place] + part + content[place:])


def swap(target: Path, files: list[Path], draw: random.Random) -> None:
    """Put another file of the product in its place."""
    shutil.copyfile(draw.choice(files), target.with_name("other"))
    target.with_name("other").replace(target)


def remove(target: Path, _: list[Path], __: random.Random) -> None:
    """Remove it."""
    target.unlink()


def replace_word(target: Path, _: list[Path], draw: random.Random) -> None:
    """Put something else in the place of a number or a word between other signs."""
    import re

    content = target.read_bytes()
    found = list(re.finditer(rb"[A-Za-z0-9_.+-]{1,40}", content[:200_000]))
    if found:
        spot = draw.choice(found)
        word = draw.choice(WORDS)
        target.write_bytes(content[: spot.start()] + word + content[spot.end() :])


def point_elsewhere(target: Path, _: list[Path], __: random.Random) -> None:
    """Write a VRT in its place, which would read another file of the machine."""
    target.write_bytes(VRT)


def respell(target: Path, _: list[Path], draw: random.Random) -> None:
    """Spoil a file within a zip, whose directory stays right otherwise."""
    if not zipfile.is_zipfile(target):
        change_bytes(target, [], draw)
        return
    with zipfile.ZipFile(target) as archive:
        members = [(item.filename, archive.read(item)) for item in archive.infolist()]
    number = draw.randrange(len(members))
    name, content = members[number]
    members[number] = draw.choice(
        [(name, VRT), (name, content[: len(content) // 2]), (f"../{name}", content), (name, b"")]
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for each in members:
            archive.writestr(*each)
    target.write_bytes(buffer.getvalue())


CHANGES: dict[str, Callable[[Path, list[Path], random.Random], None]] = {
    "bytes of": change_bytes,
    "cut off": cut_off,
    "blown up": blow_up,
    "another file as": swap,
    "no": remove,
    "a word of": replace_word,
    "another word of": replace_word,
    "a VRT as": point_elsewhere,
    "within": respell,
}


def read_input(path: Path, kind: str) -> str:
    """Read all of an input; return ``read`` or ``refused: why``.

    Raises:
        Exception: anything but an error of the package, which is a failure.
    """
    import numpy as np

    from openeo_cloudmask.alcd.archive import AlcdArchive
    from openeo_cloudmask.errors import CloudMaskError
    from openeo_cloudmask.evaluation.evaluate import reference_of_scene
    from openeo_cloudmask.evaluation.grids import read_mask
    from openeo_cloudmask.products import open_product

    try:
        if kind == "mask.tif":
            read_mask(path)
        elif kind == "reference":
            with AlcdArchive(path) as archive:
                for entry in archive.distinct():
                    reference_of_scene(archive.read(entry))
        else:
            with open_product(path) as scene:
                pixels = scene.cube()[:, :, :]
            if np.isinf(pixels).any():
                raise ArithmeticError("a pixel is infinite")
    except CloudMaskError as err:
        return f"refused: {err}"
    return "read"


def work(inputs: Path, seed: int, numbers: range) -> None:
    """Spoil and read inputs, and print a line of JSON before and after each."""
    names = sorted(item.name for item in inputs.iterdir())
    for number in numbers:
        draw = random.Random(f"{seed}-{number}")
        name = draw.choice(names)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            good = inputs / name
            shutil.copytree(good, path) if good.is_dir() else shutil.copyfile(good, path)
            about = {"number": number, "kind": name, "done": spoil(path, draw)}
            print(json.dumps(about | {"outcome": "died"}), flush=True)
            start = time.monotonic()
            try:
                outcome = read_input(path, name)
            except Exception as err:  # noqa: BLE001 - whatever it is, it is a failure
                outcome = f"failed: {type(err).__name__}: {err}"
            seconds = time.monotonic() - start
            if seconds > TIME_LIMIT_S:
                outcome = f"failed: took {seconds:.0f} s"
            print(json.dumps(about | {"outcome": outcome}), flush=True)


def run_all(inputs: Path, seed: int, numbers: range) -> Iterator[dict[str, object]]:
    """Yield the last line of each number; a process that dies is followed by another."""
    start = numbers.start
    while start < numbers.stop:
        command = [sys.executable, __file__, "--seed", str(seed), "--work", str(inputs)]
        command += ["--first", str(start), "--count", str(numbers.stop - start)]
        found: dict[int, dict[str, object]] = {}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                about = json.loads(line)
                found[about["number"]] = about
                if about["outcome"] != "died":
                    yield about
        if process.returncode == 0:
            return
        last = max(found, default=start)
        if not found or found[last]["outcome"] != "died":
            raise SystemExit(f"the process ended with {process.returncode} at number {last}")
        yield found[last] | {"outcome": f"failed: died with status {process.returncode}"}
        start = last + 1


def main() -> None:
    """Read the command line and run the campaign."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", type=int, help="repeat the input of this number")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    first, count = (options.first, options.count) if options.only is None else (options.only, 1)
    numbers = range(first, first + count)
    if options.work is not None:
        work(options.work, options.seed, numbers)
        return
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        kinds = make_inputs(Path(folder))
        print(f"{count} corrupted inputs of {len(kinds)} kinds, seed {options.seed}")
        for about in run_all(Path(folder), options.seed, numbers):
            outcome = str(about["outcome"])
            counts[outcome.partition(":")[0]] += 1
            if outcome.startswith("failed") or options.only is not None:
                print(f"{about['number']}: {about['kind']}, {about['done']}: {outcome}")
    print(", ".join(f"{number} {name}" for name, number in sorted(counts.items())))
    raise SystemExit(1 if counts["failed"] else 0)


if __name__ == "__main__":
    main()
