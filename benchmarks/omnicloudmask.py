"""OmniCloudMask here and in its authors' package, side by side on one synthetic scene.

    python benchmarks/omnicloudmask.py --size 3000           # time, memory, equal pixels
    python benchmarks/omnicloudmask.py --golden FILE.npz     # write the vectors of the tests

Needs both packages (``pip install omnicloudmask==1.8.1``). Weights are synthetic, from
``tests/data/golden/fill.py``, so nothing is downloaded. Each runs in a process of its own, with the
layout of the package: patches of 1000 pixels that overlap by 300. Seconds of processor time tell
more than the clock where other programs run beside it. The logits are those of the first patch.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
# This file has the package's name, and Python looks beside the script first.
sys.path[:] = [place for place in sys.path if Path(place).resolve() != Path(__file__).parent]
Masker = Callable[[np.ndarray], np.ndarray]
MEMBERS = ("regnety_004", "edgenext_small")
SEED, SHAPE = 11, (3, 96, 128)
SCENE_SEED, SCENE_SHAPE, PATCH_PX, OVERLAP_PX = 12, (3, 230, 190), 96, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--golden", type=Path)
    parser.add_argument("--child", choices=("package", "here"))
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.golden:
        write_golden(options.golden)
    elif options.child:
        run_child(options.child, options.folder)
    else:
        compare(options.size, options.threads)


def fill_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fill", ROOT / "tests/data/golden/fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package_networks() -> list[torch.nn.Module]:
    import segmentation_models_pytorch as smp

    networks = []
    for name in MEMBERS:
        network = smp.Unet(
            encoder_name=f"tu-{name}", encoder_weights=None, in_channels=3, classes=4
        ).eval()
        fill_module().fill_state_dict(network)
        networks.append(network)
    return networks


def own_network() -> torch.nn.Module:
    from openeo_cloudmask.models.networks.omnicloudmask import build

    ensemble = build({})
    for member in ensemble.members:
        fill_module().fill_state_dict(member)
    return ensemble


def scene_with_holes(seed: int, shape: tuple[int, int, int]) -> np.ndarray:
    pixels = fill_module().reflectance(seed, shape) + np.float32(0.01)
    pixels[:, :25], pixels[:, :, -15:] = 0, 0
    pixels[:, 100:112, 50:70], pixels[1, 150:155, 80:90] = 0, 0
    return pixels


def write_golden(path: Path) -> None:
    """Write what the package answers: the mean logits of a window, and the mask of a scene."""
    import omnicloudmask
    from omnicloudmask.model_utils import channel_norm, infer_batch

    networks = package_networks()
    window = fill_module().reflectance(SEED, SHAPE)
    window[:, 40:50, 60:70] = 0
    fed = torch.from_numpy(channel_norm(window, 0))[None]
    biases = []
    for network in networks:  # centres the classes, so that the mask has all of them
        with torch.no_grad():
            bias = network.segmentation_head[0].bias
            bias -= network(fed).mean(dim=(0, 2, 3))
            biases.append(bias.numpy().copy())
    logits = infer_batch(networks, fed)[0].numpy()
    scene = scene_with_holes(SCENE_SEED, SCENE_SHAPE)
    mask = omnicloudmask.predict_from_array(
        scene, custom_models=networks, patch_size=PATCH_PX, patch_overlap=OVERLAP_PX,
        batch_size=1, inference_device="cpu", no_data_value=0, apply_no_data_mask=False,
    )[0]  # fmt: skip
    np.savez_compressed(path, logits=logits, biases=np.stack(biases), mask=mask)


def compare(size: int, threads: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tile = fill_module().reflectance(3, (3, 500, 500)) + np.float32(0.01)
        repeats = -(-size // 500)
        np.save(folder / "scene.npy", np.tile(tile, (1, repeats, repeats))[:, :size, :size])
        found = {}
        for child in ("package", "here"):
            command = [sys.executable, __file__, "--child", child, "--folder", name,
                       "--threads", str(threads)]  # fmt: skip
            path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
            subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path})
            found[child] = json.loads((folder / f"{child}.json").read_text())
            print(
                f"{child:8} {found[child]['seconds']:7.1f} s   {found[child]['cpu']:7.1f} s of "
                f"processor time   "
                f"{found[child]['peak_mb']:7.0f} MB at most"
            )
        masks = [np.load(folder / f"{child}.npy") for child in found]
        logits = [np.load(folder / f"{child}-logits.npy") for child in found]
    ratio, of_cpu = (found["package"][key] / found["here"][key] for key in ("seconds", "cpu"))
    print(
        f"{size} x {size} pixels, {threads} threads: here {ratio:.2f} times as fast, with "
        f"{of_cpu:.2f} times less processor time; {(masks[0] == masks[1]).mean():.4%} of the "
        f"pixels are equal; logits differ by {np.abs(logits[0] - logits[1]).max():.1e}, with a "
        f"standard deviation of {logits[0].std():.1f}"
    )


def run_child(child: str, folder: Path) -> None:
    scene = np.load(folder / "scene.npy", mmap_mode="r")
    mask_it, logits = (package_masker if child == "package" else own_masker)()
    begin, cpu = time.perf_counter(), time.process_time()
    mask = mask_it(scene)
    found = {"seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.save(folder / f"{child}.npy", mask)
    np.save(folder / f"{child}-logits.npy", logits(np.array(scene[:, :1000, :1000])))
    (folder / f"{child}.json").write_text(json.dumps(found))


def package_masker() -> tuple[Masker, Masker]:
    """What makes a scene's mask, and a patch's logits."""
    import omnicloudmask
    from omnicloudmask.model_utils import channel_norm, infer_batch

    warnings.simplefilter("ignore")
    networks = package_networks()
    return (
        lambda scene: omnicloudmask.predict_from_array(
            np.asarray(scene), custom_models=networks, batch_size=1, inference_device="cpu",
            no_data_value=0, apply_no_data_mask=False,
        )[0],
        lambda patch: infer_batch(networks, torch.from_numpy(channel_norm(patch, 0))[None])[0],
    )  # fmt: skip


def own_masker() -> tuple[Masker, Masker]:
    """What makes a scene's mask, and a patch's logits."""
    from openeo_cloudmask.models.networks.prepare import prepare
    from openeo_cloudmask.models.omnicloudmask_layout import mask_scene, network_logits

    logits = network_logits(prepare(own_network(), "cpu", "fp32"))
    return (
        lambda scene: mask_scene(scene, logits, batch=torch.get_num_threads()),
        lambda patch: logits(patch[np.newaxis])[0],
    )


if __name__ == "__main__":
    main()
