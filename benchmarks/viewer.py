"""The viewer on a large scene: start, tile latency, first map, changes without a reload, memory.

    python benchmarks/viewer.py --size 10980

It prints how long opening such a scene takes, too, which is most of what it does.
Simulates nothing: the scene is a mosaic of one simulated scene, large enough to measure with. Needs
the extra ``viewer``, Playwright's package and Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

TILES = 60
INTERACTIONS = 200
PAN_STEPS = 120
CALM_LOOKS = 3
CLICK_LOOKS = 100
ACTS = ("click", "ArrowRight", "+", "click", "h", "p", "p", "-", "ArrowLeft", "o", "h", "click",
        "p", "p", "p", "o", "2", "2", "f", "s", "s")  # fmt: skip
"""Of the measurement of memory; keys are those of the map, and a round of them changes nothing."""
MAP = ".cloudmask-map"
SOURCE_PX = 1024


def write_mosaic(folder: Path, size: int) -> tuple[Path, Path, Path]:
    """Write a scene of ``size`` pixels with all bands, a mask and a reference at 60 m."""
    from openeo_cloudmask.classes import FOUR_CLASS
    from openeo_cloudmask.products import Grid
    from openeo_cloudmask.products.cog import write_cog
    from openeo_cloudmask.simulator.products import write_geotiff
    from openeo_cloudmask.simulator.scene import simulate_scene

    small = folder / "small.tif"
    write_geotiff(simulate_scene(2, size=SOURCE_PX), small)
    with rasterio.open(small) as source:
        bands, profile = source.read(), source.profile
        names, tags = source.descriptions, source.tags()
        crs, transform = source.crs, source.transform
        scales, offsets = source.scales, source.offsets
    scene = folder / "scene.tif"
    profile.update(
        height=size, width=size, tiled=True, blockxsize=512, blockysize=512, BIGTIFF="YES"
    )
    across = -(-size // SOURCE_PX)
    with rasterio.open(scene, "w", **profile) as out:
        out.descriptions = names
        wide = np.tile(bands, (1, 1, across))[:, :, :size]
        # All bands at once: blocks hold all of them and would be written anew for each.
        for row in range(0, size, SOURCE_PX):
            rows = min(SOURCE_PX, size - row)
            out.write(wide[:, :rows], window=rasterio.windows.Window(0, row, size, rows))
        out.scales, out.offsets = scales, offsets
        out.update_tags(**tags)
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.integers(0, 4, (size // 60, size // 60), np.uint8), np.ones((60, 60)))
    labels = np.zeros((size, size), np.uint8)
    labels[: coarse.shape[0], : coarse.shape[1]] = coarse
    mask = folder / "mask.tif"
    grid = Grid(shape_yx=(size, size), crs=crs, transform=transform)
    write_cog(mask, [(0, labels[np.newaxis])], grid=grid, scheme=FOUR_CLASS)
    reference = folder / "reference.tif"
    shrunk = np.ascontiguousarray(labels[::6, ::6])
    grid = Grid(shape_yx=shrunk.shape, crs=crs, transform=transform @ Affine.scale(6))
    write_cog(reference, [(0, shrunk[np.newaxis])], grid=grid, scheme=FOUR_CLASS)
    return scene, mask, reference


def measure_tiles(path: Path, *, bands: tuple[int, ...], classes: bool) -> dict[str, float]:
    """Return the latency of tiles drawn anew, over the zooms at which a scene is looked at."""
    from openeo_cloudmask.classes import FOUR_CLASS
    from openeo_cloudmask.products.xyz import Tile
    from openeo_cloudmask.viewer.layers import LayerStore, class_colors, open_layer
    from openeo_cloudmask.viewer.tiles import render_tile

    colors = class_colors(FOUR_CLASS) if classes else None
    layer = open_layer(path, title="t", indexes=bands, colors=colors, store=LayerStore())
    west, south, east, north = layer.bounds
    rng, times = np.random.default_rng(1), []
    while len(times) < TILES:
        zoom = int(rng.integers(9, 16))
        longitude, latitude = rng.uniform(west, east), rng.uniform(south, north)
        x = int((longitude + 180) / 360 * 2**zoom)
        y = int((1 - np.arcsinh(np.tan(np.radians(latitude))) / np.pi) / 2 * 2**zoom)
        begin = time.perf_counter()
        if render_tile(layer, Tile(z=zoom, x=x, y=y)) is not None:
            times.append((time.perf_counter() - begin) * 1000)
    return {
        "median_ms": round(statistics.median(times), 1),
        "p95_ms": round(sorted(times)[int(0.95 * len(times))], 1),
    }


def measure_start(folder: Path) -> dict[str, float]:
    """Return when ``cloudmask viewer`` answers, and when it prints its address."""
    import threading
    import urllib.request

    from openeo_cloudmask.cli.children import free_port

    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    command = [sys.executable, "-c", "from openeo_cloudmask.cli import main; main()", "viewer"]
    command += [f"--data={folder / 'start'}", f"--port={port}"]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    printed: queue.SimpleQueue[float] = queue.SimpleQueue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if url in line:
                printed.put(time.perf_counter() - begin)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise
                time.sleep(0.05)
        answered = time.perf_counter() - begin
        told = printed.get(timeout=60)
    finally:
        process.terminate()
        process.wait(60)
        reader.join()
    return {"answers_s": round(answered, 1), "prints_its_address_s": round(told, 1)}


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


APP = """
import os, streamlit as st
from pathlib import Path
from openeo_cloudmask.viewer.web import session
current = session()
if not current.scenes:
    current.add_scene(Path(os.environ["SCENE"]), title="big", sensor="sentinel-2-l1c")
    current.add_reference(Path(os.environ["REFERENCE"]), title="reference")
    current.add_mask(Path(os.environ["MASK"]), title="mask", scene="big")
exec(compile(Path(os.environ["APP"]).read_text(), os.environ["APP"], "exec"))
"""


def measure_browser(folder: Path, files: tuple[Path, Path, Path]) -> dict[str, object]:
    """Return times in Chromium and the server's memory over many interactions."""
    from playwright.sync_api import sync_playwright

    from openeo_cloudmask import assets
    from openeo_cloudmask.cli.children import free_port, wait_until_up
    from openeo_cloudmask.viewer.launch import LaunchPlan, viewer_environment

    root = assets.path("viewer")
    app = folder / "app.py"
    app.write_text(APP)
    server = folder / "server.py"
    text = (root / "server.py").read_text().replace('HERE / "app.py"', f'Path("{app}")')
    server.write_text(text.replace("Path(__file__).parent", f'Path("{root}")'))
    (folder / "main.py").write_text((root / "app.py").read_text().replace(
        "Path(__file__).parent", f'Path("{root}")'
    ))  # fmt: skip
    port = free_port()
    scene, mask, reference = map(str, files)
    plan = LaunchPlan(data=folder / "data", embedded=False)
    env = viewer_environment(plan, backend_url=None) | {
        "SCENE": scene, "MASK": mask, "REFERENCE": reference, "APP": str(folder / "main.py"),
    }  # fmt: skip
    command = [sys.executable, "-m", "streamlit", "run", str(server)]
    command += [f"--server.port={port}", "--server.address=127.0.0.1"]
    process = subprocess.Popen(command, env=env)
    try:
        wait_until_up(f"http://127.0.0.1:{port}/_stcore/health", process, "the viewer")
        with sync_playwright() as driver:
            chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            context = browser.new_context(viewport={"width": 1280, "height": 800})
            page = context.new_page()
            page.add_init_script(COUNT_MESSAGES)
            opened = time.perf_counter()
            page.goto(f"http://127.0.0.1:{port}/compare")
            wait_for_map(page)
            cold = time.perf_counter() - opened
            page.reload()
            wait_for_map(page)
            begin = time.perf_counter()
            page.reload()
            wait_for_map(page)
            warm = time.perf_counter() - begin
            changes = change_opacity(page, process.pid)
            pan = measure_pan(page)
            click = measure_click(page)
            memory = measure_memory(page, process.pid)
            browser.close()
    finally:
        process.terminate()
        process.wait(20)
    return {
        "opening_scene_and_first_map_s": round(cold, 1),
        "first_map_warm_s": round(warm, 2),
        **changes,
        "six_panels_pan_fps": pan,
        "click_to_table_s": click,
        "memory_over_interactions": memory,
    }


def change_opacity(page: object, pid: int) -> dict[str, object]:
    """Change the opacity many times; return what that cost the server and the map."""
    root_of_map = page.locator(MAP)
    root_of_map.evaluate("root => { root.mark = 1; }")
    memory, sent = [resident_mib(pid)], count_messages(page)
    slider = page.locator(f'{MAP} .entry[data-layer^="mask"] input[name^="opacity"]')
    for step in range(INTERACTIONS):
        slider.focus()
        slider.press("ArrowLeft" if step % 20 < 10 else "ArrowRight")
        page.wait_for_timeout(100)
        if step % 50 == 49:
            memory.append(resident_mib(pid))
    return {
        "interactions": INTERACTIONS,
        "map_loaded_again": not root_of_map.evaluate("root => root.mark === 1"),
        "messages_to_python": count_messages(page) - sent,
        "server_rss_mib": [round(value) for value in memory],
    }


def measure_memory(page: object, pid: int) -> dict[str, dict[str, object]]:
    """Return what server and browser hold at the start and after each quarter of interactions.

    They are clicks, of which each runs Python, moves, zooms, panels and layers in turn. In their
    first half caches are filled; what grows in the second half would grow on.
    """
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable")
    found: dict[str, list[int]] = {"server_rss_mib": [], "browser_heap_mib": [], "dom_nodes": []}

    def look() -> None:
        devtools.send("HeapProfiler.collectGarbage")
        metrics = {
            item["name"]: item["value"]
            for item in devtools.send("Performance.getMetrics")["metrics"]
        }
        found["server_rss_mib"].append(round(resident_mib(pid)))
        found["browser_heap_mib"].append(round(metrics["JSHeapUsedSize"] / 2**20))
        found["dom_nodes"].append(int(metrics["Nodes"]))

    panel = page.locator(f"{MAP} .panel").first
    for step in range(INTERACTIONS):
        if step % (INTERACTIONS // 4) == 0:
            look()
        kind = ACTS[step % len(ACTS)]
        if kind == "click":
            box = panel.bounding_box()
            share = 0.2 + 0.6 * (step * 0.618 % 1)
            before = page.get_by_text("(latitude, longitude)").inner_text()
            page.mouse.click(box["x"] + share * box["width"], box["y"] + share * box["height"])
            for _ in range(CLICK_LOOKS):
                if page.get_by_text("(latitude, longitude)").inner_text() != before:
                    break
                page.wait_for_timeout(50)
        else:
            panel.focus()
            page.keyboard.press(kind)
        wait_for_map(page)
    look()
    return {
        name: {"values": values, "growth_in_second_half": values[-1] - values[len(values) // 2]}
        for name, values in found.items()
    }


def wait_for_map(page: object) -> None:
    page.locator(f"{MAP} .panel canvas").first.wait_for(timeout=600_000)
    calm = 0
    while calm < CALM_LOOKS:
        page.wait_for_timeout(50)
        calm = calm + 1 if page.locator(MAP).evaluate("r => r.cloudmask.pending() === 0") else 0


def count_messages(page: object) -> int:
    """Return how many messages the page has sent to Python."""
    return int(page.evaluate("window.cloudmaskMessages"))


COUNT_MESSAGES = """(() => {
    window.cloudmaskMessages = 0;
    const Plain = window.WebSocket;
    window.WebSocket = class extends Plain {
        send(data) { window.cloudmaskMessages += 1; super.send(data); }
    };
})()"""
"""Each run of Python begins with a message of the page; goes into it before it is opened."""


def measure_pan(page: object) -> float:
    """Return the frames each second while six panels are dragged, in software rendering."""
    page.locator(f"{MAP} .bar select").select_option("6")
    wait_for_map(page)
    box = page.locator(f"{MAP} .panel").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.evaluate(
        "() => { window.frames_ = 0;"
        " const next = () => { window.frames_++; requestAnimationFrame(next); };"
        " requestAnimationFrame(next); }"
    )
    page.mouse.move(x, y)
    page.mouse.down()
    begin, before = time.perf_counter(), page.evaluate("window.frames_")
    for step in range(PAN_STEPS):
        page.mouse.move(x + 60 * np.sin(step / 8), y + 60 * np.cos(step / 8))
    frames = page.evaluate("window.frames_") - before
    seconds = time.perf_counter() - begin
    page.mouse.up()
    page.locator(f"{MAP} .bar select").select_option("1")
    return round(frames / seconds, 1)


def measure_click(page: object) -> float:
    """Return the time from a click to the table of the pixel."""
    wait_for_map(page)
    box = page.locator(f"{MAP} .panel").first.bounding_box()
    page.mouse.click(box["x"] + 0.3 * box["width"], box["y"] + 0.4 * box["height"])
    page.get_by_text("(latitude, longitude)").wait_for(timeout=60_000)
    page.wait_for_timeout(2000)
    before = page.get_by_text("(latitude, longitude)").inner_text()
    page.mouse.click(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"])
    begin = time.perf_counter()
    while page.get_by_text("(latitude, longitude)").inner_text() == before:
        page.wait_for_timeout(10)
    page.locator("table").filter(has_text="verdict").last.wait_for()
    return round(time.perf_counter() - begin, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=10_980, help="pixels along each side")
    parser.add_argument("--no-browser", action="store_true", help="only tiles")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_mosaic(folder, arguments.size)
        from openeo_cloudmask.viewer.scenes import draw_picture, open_scene

        begin = time.perf_counter()
        with open_scene(files[0], sensor="sentinel-2-l1c") as scene:
            picture = draw_picture(scene, folder)
        drawn = time.perf_counter() - begin
        true_colour = picture.composites["True colour"]
        result: dict[str, object] = {
            "size_px": arguments.size,
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
            "drawing_the_picture_s": round(drawn, 1),
            "image_tile": measure_tiles(picture.path, bands=true_colour, classes=False),
            "mask_tile": measure_tiles(files[1], bands=(1,), classes=True),
        }
        result["cloudmask_viewer"] = measure_start(folder)
        if not arguments.no_browser:
            result |= measure_browser(folder, files)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
