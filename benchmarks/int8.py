"""Products of 8 bit integers: how fast, and how many classes stay, block by block.

    python benchmarks/int8.py mini --scenes FOLDER     # the shipped weights; labelled scenes (.npz)
    python benchmarks/int8.py cloudsen12               # a U-Net trained here on simulated scenes
    python benchmarks/int8.py senseiv2 --window-px 256 # weights of the golden vectors

The network is exported in fp32 and in int8, as ``cloudmask export --precision int8`` does: blocks
stay in fp32 until next to no class changes. A second file has all blocks in int8, to show what
that would win. Each is run by onnxruntime and by OpenVINO on one core; what counts is the
processor's own time, the least of some calls; of the U-Net and SEnSeIv2 the published arithmetic
and ours in torch, fp32, are run too. Classes are compared on scenes that neither the
calibration nor the choice of blocks has seen. ``--json FILE`` keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")

from openeo_cloudmask.models import get_model
from openeo_cloudmask.models.onnx_card import OnnxCard
from openeo_cloudmask.models.onnx_detector import read_card
from openeo_cloudmask.models.onnx_export import export_onnx
from openeo_cloudmask.models.onnx_session import open_session
from openeo_cloudmask.models.openvino_session import OpenVinoSession
from openeo_cloudmask.models.processor import read_processor
from openeo_cloudmask.models.weights import packaged_weights, sha256_of
from openeo_cloudmask.sensors import ANY_SENSOR, get_sensor
from openeo_cloudmask.simulator.scene import simulate_scene
from openeo_cloudmask.training import int8

TRAINING_SEEDS = range(3000, 3024)
HELD_OUT_SEEDS = range(900, 904)
SENSOR = "sentinel-2-l1c"
_SCENE_PX, _CROP_PX, _BATCH = 256, 96, 4


def train_unet(path: Path, steps: int) -> None:
    """Write weights of a U-Net that knows simulated scenes: trained a little, to be measured."""
    import torch

    from openeo_cloudmask.models import build_network

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = build_network("unet-mobilenet-v2", {"bands": 13, "classes": 4}).train()
    rng = np.random.default_rng(0)
    scenes = [simulate_scene(seed, size=_SCENE_PX, sensor=SENSOR) for seed in TRAINING_SEEDS]
    cubes = [np.nan_to_num(scene.cube).astype(np.float32) for scene in scenes]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        pixels, labels = [], []
        for _ in range(_BATCH):
            number = rng.integers(len(scenes))
            row, column = rng.integers(0, _SCENE_PX - _CROP_PX, 2)
            place = slice(row, row + _CROP_PX), slice(column, column + _CROP_PX)
            pixels.append(cubes[number][:, *place])
            labels.append(scenes[number].truth[place])
        answer = network(torch.from_numpy(np.stack(pixels)))
        wanted = torch.from_numpy(np.stack(labels).astype(np.int64))
        loss = torch.nn.functional.cross_entropy(answer, wanted, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}", file=sys.stderr, flush=True)
    torch.save(network.state_dict(), path)


def read_windows(folder: Path | None, card: OnnxCard) -> list[np.ndarray]:
    """Windows (band, y, x) that nothing has seen: simulated, or labelled scenes for `mini`."""
    if folder is not None:
        return int8.read_scenes(folder, card)
    sensor = get_sensor(SENSOR)
    names = [sensor.band(name).name for name in card.bands]
    scenes = [
        simulate_scene(seed, size=card.window_px, sensor=SENSOR, bands=names)
        for seed in HELD_OUT_SEEDS
    ]
    places = [scenes[0].band_names.index(name) for name in names]
    return [np.nan_to_num(scene.cube[places]).astype(np.float32) for scene in scenes]


def measure(session: Any, feeds: list[dict[str, np.ndarray]], calls: int) -> float:  # noqa: ANN401
    """Milliseconds of the processor per window, the least of some calls."""
    times = []
    for _ in range(calls):
        start = time.process_time()
        session.run(None, feeds[0])
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def compare(
    exact: Path, files: dict[str, Path], windows: list[np.ndarray], calls: int
) -> list[Any]:
    """Rows of file, runtime, milliseconds, ratio to fp32 by the same runtime, equal classes."""
    card = read_card(exact)
    names = [item.name for item in open_plain(exact).get_inputs()]
    feeds = [int8.pick(int8.feed_of(card, window), names) for window in windows]
    rows: list[dict[str, Any]] = []
    for runtime, make in (("onnxruntime", open_plain), ("OpenVINO", OpenVinoSession)):
        wanted, first = [], 0.0
        for name, path in {"fp32": exact, **files}.items():
            session = make(path)
            classes = [session.run(None, feed)[0].argmax(1) for feed in feeds]
            spent = measure(session, feeds, calls)
            wanted, first = wanted or classes, first or spent
            equal = np.mean([(a == b).mean() for a, b in zip(classes, wanted, strict=True)])
            row = {"runtime": runtime, "file": name, "ms": spent, "ratio": first / spent}
            rows.append(row | {"equal": float(equal)})
            print(
                f"{runtime:12}{name:12}{spent:8.1f} ms, {first / spent:.2f} times as fast as fp32, "
                f"{equal:.2%} of classes equal"
            )
    return rows


def run_torch(model: str, weights: Path, windows: list[np.ndarray]) -> list[dict[str, Any]]:
    """Rows of the published arithmetic and of ours in torch, as ``compare`` has them."""
    import torch

    torch.set_num_threads(1)
    if model == "senseiv2":
        from sensei import make_network, make_rows

        network = make_network()
        forms = make_rows(network, "cpu", compiled=False)
        published, ours = forms["published fp32"], forms["ours fp32"]
    else:
        from unet import detector

        from openeo_cloudmask.models import build_network

        network = build_network("unet-mobilenet-v2", {"bands": 13, "classes": 4}).eval()
        network.load_state_dict(torch.load(weights, weights_only=True))
        fast = detector(network, "fp32")

        def published(pixels: torch.Tensor) -> torch.Tensor:
            return network(pixels).softmax(1)

        def ours(pixels: torch.Tensor) -> torch.Tensor:
            seen = np.ones((len(pixels), *pixels.shape[2:]), bool)
            return torch.from_numpy(fast.predict_windows(pixels.numpy(), seen))

    rows: list[dict[str, Any]] = []
    wanted: list[torch.Tensor] = []
    with torch.inference_mode():
        for name, form in (("fp32, published", published), ("fp32, ours", ours)):
            classes = [form(torch.from_numpy(window[None])).argmax(1) for window in windows]
            spent = []
            for _ in range(4):
                start = time.process_time()
                form(torch.from_numpy(windows[0][None]))
                spent.append(1e3 * (time.process_time() - start))
            wanted = wanted or classes
            equal = np.mean(
                [(a == b).float().mean().item() for a, b in zip(classes, wanted, strict=True)]
            )
            first = rows[0]["ms"] if rows else min(spent)
            rows.append(
                {"runtime": "torch", "file": name, "ms": min(spent), "ratio": first / min(spent),
                 "equal": float(equal)}
            )  # fmt: skip
            print(f"torch       {name:16}{min(spent):8.1f} ms, {equal:.2%} of classes equal")
    return rows


def open_plain(path: Path) -> Any:  # noqa: ANN401
    return open_session(path, "cpu", threads=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=["mini", "cloudsen12", "senseiv2"])
    parser.add_argument("--weights", type=Path, help="of the U-Net; else it is trained here")
    parser.add_argument("--train", type=Path, help="write weights trained here, and stop")
    parser.add_argument("--steps", type=int, default=2000, help="of training: about 20 minutes")
    parser.add_argument("--window-px", type=int, help="the model's own, if not given")
    parser.add_argument("--scenes", type=Path, help="labelled scenes to compare classes on")
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.train:
        train_unet(options.train, options.steps)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = options.weights
        if options.model == "cloudsen12" and weights is None:
            weights = folder / "weights.pt"
            train_unet(weights, options.steps)
        if options.model == "senseiv2":
            import torch
            from sensei import make_network

            weights = folder / "weights.pt"
            torch.save(make_network().state_dict(), weights)
        digest = sha256_of(weights or packaged_weights(get_model(options.model)))
        sensor = ANY_SENSOR if options.model == "mini" else SENSOR
        exact, form, guarded, every = (
            folder / f"{name}.onnx" for name in ("exact", "form", "guarded", "every")
        )
        how = {"sensor": sensor, "weights": weights, "window_px": options.window_px}
        export_onnx(options.model, exact, **how)
        export_onnx(options.model, form, for_int8=True, **how)
        blocks = int8.quantise(exact, guarded, form=form, every=every)
        card = read_card(exact)
        print(f"{read_processor().describe()}, one thread, windows of {card.window_px} px")
        for block in blocks:
            print(
                f"  {block.name:<28}{'int8' if block.int8 else 'fp32':<6}{block.products:8.0f} "
                f"million products, alone in int8 changes {block.changed:.3%}"
            )
        windows = read_windows(options.scenes, card)
        files = {"int8": guarded, "int8, all": every}
        rows = [] if options.model == "mini" else run_torch(options.model, weights, windows)
        rows += compare(exact, files, windows, options.calls)
    if options.json:
        found = {
            "model": options.model,
            "processor": read_processor().describe(),
            "date": time.strftime("%Y-%m-%d"),
            "load": os.getloadavg()[0],
            "weights_sha256": digest,
            "window_px": card.window_px,
            "rows": rows,
            "blocks": [asdict(one) for one in blocks],
        }
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
