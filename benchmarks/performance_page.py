"""The page docs/performance.md, made of what benchmarks wrote as JSON."""

from __future__ import annotations

import statistics
from typing import Any

from openeo_cloudmask.inference import Layout, Window
from openeo_cloudmask.inference.windows import plan_axis
from openeo_cloudmask.models.onnx_detector import LEAST_EQUAL
from openeo_cloudmask.options import DEFAULT_STRIDE_PX

ROWS: dict[str, tuple[str, str]] = {
    "mini-torch": ("mini", "torch, fp32"),
    "mini-torch-bf16": ("mini", "torch, bf16"),
    "mini-onnx": ("mini", "onnxruntime, fp32"),
    "mini-openvino": ("mini", "OpenVINO, fp32"),
    "mini-onnx-int8": ("mini", "onnxruntime, int8"),
    "mini-openvino-int8": ("mini", "OpenVINO, int8 (what `auto` takes)"),
    "unet-published": ("CloudSEN12 U-Net", "as published, torch fp32"),
    "unet-onnx": ("CloudSEN12 U-Net", "exported, onnxruntime fp32"),
    "unet-openvino": ("CloudSEN12 U-Net", "exported, OpenVINO fp32"),
    "unet-fp32": ("CloudSEN12 U-Net", "ours, torch fp32"),
    "unet-bf16": ("CloudSEN12 U-Net", "ours, torch bf16"),
    "sensei-published": ("SEnSeIv2", "as published, torch fp32"),
    "sensei-fp32": ("SEnSeIv2", "ours, torch fp32"),
    "sensei-bf16": ("SEnSeIv2", "ours, torch bf16"),
}
"""Row -> the model, and what runs it; the first of a model is what the others are held against."""


def write_page(result: dict[str, Any]) -> str:
    """The page of a result, as Markdown."""
    peak = result["peak_flops"]
    lines = [
        "<!-- Written by benchmarks/performance.py; do not edit. -->",
        "# Performance\n",
        (
            f"Measured on {result['date']} on one core of {result['processor']}, "
            f"at a load of {result['load']:.0f} by all processes, "
            + ", ".join(f"{name} {number}" for name, number in result["versions"].items())
            + f"; matrix products in fp32 reach {peak / 1e9:.0f} GFLOP/s on that core. "
            "Each row is a process with one thread; the time is the processor's own, the least of "
            "some calls, for one window of 512 x 512 pixels. Weights are synthetic except "
            "`mini`'s; that changes neither time nor memory. "
            "`python benchmarks/performance.py` measures anew and writes this page.\n"
        ),
        "| model | what runs it | ms per window | against the first | share of the peak | memory |",
        "|---|---|---|---|---|---|",
    ]
    first: dict[str, float] = {}
    for row, found in result["rows"].items():
        model, form = ROWS[row]
        ratio = first.setdefault(model, found["ms"]) / found["ms"]
        share = result["flops"][model] / (found["ms"] / 1e3) / peak
        lines.append(
            f"| {model} | {form} | {found['ms']:.0f} | {ratio:.1f} | {share:.0%} "
            f"| {found['memory_mb'] / 1e3:.2f} GB |"
        )
    lines.append(
        "\nThe share is the products of the published form over the time: arithmetic that needs "
        "fewer products (Winograd's convolution) or other numbers (bf16) may exceed 100 %.\n"
    )
    if "disk" in result:
        lines += disk_section(result["disk"])
    if "int8" in result:
        lines += int8_section(list(result["int8"].values()))
    lines += gpu_section(result.get("gpu"))
    lines += workers_section(result["workers"])
    return "\n".join(lines) + "\n"


def disk_section(rows: list[dict[str, Any]]) -> list[str]:
    return [
        "## From disk to disk\n",
        (
            "`cloudmask run` on two cores (`python benchmarks/disk.py`, and the same with `--model "
            "cloudsen12`, which torch runs). The last column is the processor's time after the "
            "first window over windows x the time of a window alone: what exceeds 1 is reading, "
            "decoding, resampling, blending and writing, which are done while the network works, "
            "but need cores too. With OpenVINO the first run on a machine starts later: what it "
            "compiles is kept in the user's cache. How "
            "many windows cover a scene depends on where it lies on their grid: "
            f"{spread(rows[0]['size_px'])}.\n"
        ),
        (
            "| input | first window (processor) | s per megapixel | windows | ms per window "
            "| over the network | memory |"
        ),
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row['model']}, {row['format']}, {row['size_px']} px "
            f"| {row['first_window_s']:.2f} s ({row['first_window_cpu_s']:.2f} s) "
            f"| {row['s_per_megapixel']:.2f} | {row['windows']:.0f} | {row['window_ms']:.0f} "
            f"| {row['of_network_cpu']:.2f} | {row['peak_gb']:.2f} GB |"
            for row in rows
        ),
        "",
        *decoding(rows),
    ]


def spread(size: int) -> str:
    """Say how many windows a square scene takes, over all places it may have."""
    plans = [
        plan_axis(
            size,
            size_px=Window().size_px,
            stride_px=DEFAULT_STRIDE_PX,
            origin_px=origin,
            layout=Layout.ANCHORED,
        )
        for origin in range(DEFAULT_STRIDE_PX)
    ]
    counts = [len(plan.needed(size)) for plan in plans]
    mean = statistics.mean(rows * columns for rows in counts for columns in counts)
    return (
        f"one of {size} x {size} pixels {min(counts) ** 2} to {max(counts) ** 2}, {mean:.0f} "
        "on average"
    )


def decoding(rows: list[dict[str, Any]]) -> list[str]:
    """Say what no run can go below where decoding takes longer than the network."""
    return [
        (
            f"Decoding the JPEG 2000 bands that `{row['model']}` takes, by GDAL and OpenJPEG and "
            f"without anything else, takes {row['decoding_cpu_s'] / row['size_px'] ** 2 * 1e6:.2f} "
            "s of a core per megapixel.\n"
        )
        for row in rows
        if "decoding_cpu_s" in row
    ]


def workers_section(rows: list[dict[str, Any]]) -> list[str]:
    return [
        "## Several workers\n",
        (
            "Workers of the back end get strips of a scene, and each window is computed by one of "
            "them: a strip hands on what its windows add to the strip below. Counted, not timed "
            "(`python benchmarks/workers.py`), for `mini` and 7 bands in 32 bit. The speed-up is "
            "all windows over those of the busiest worker: workers that share a disk or the "
            "memory of a machine reach less.\n"
        ),
        "| scene | workers | windows | computed twice | speed-up | read | handed on | written |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {row['size_px']} x {row['size_px']} | {row['workers']} | {row['windows']} "
            f"| {row['twice']} | {row['speed_up']:.2f} | {row['read_gb']:.2f} GB "
            f"| {row['handed_on_gb']:.2f} GB | {row['written_gb']:.2f} GB |"
            for row in rows
        ),
    ]


def int8_section(results: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Products of 8 bit integers\n",
        (
            "`python benchmarks/int8.py MODEL`: the exported file in fp32, in int8 as far as at "
            "most 0.5 % of the classes of simulated scenes change, but for one block that always "
            "is (what `cloudmask export --precision int8` writes), and with all convolutions in "
            "int8. One core, the "
            "processor's own time, the least of some calls; classes are compared on scenes that "
            "neither the calibration nor the choice of blocks has seen: of `mini` real ones. The "
            "U-Net is trained on simulated scenes; weights of `senseiv2` are synthetic. "
            + "; ".join(
                f"`{one['model']}`: {one['date']}, {one['processor']}, load {one['load']:.0f}, "
                f"weights of SHA-256 {one['weights_sha256'][:8]}..."
                for one in results
            )
            + ".\n"
        ),
        "| model | runtime | file | ms per window | against fp32 | classes that stay |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        lines += [
            f"| {result['model']}, {result['window_px']} px | {row['runtime']} | {row['file']} "
            f"| {row['ms']:.0f} | {row['ratio']:.2f} | {row['equal']:.2%} |"
            for row in result["rows"]
        ]
    lines += ["", *(text for result in results for text in against_torch(result))]
    for result in results:
        lines += [
            f"\nWhat a block of `{result['model']}` changes where it is the only one in int8:\n",
            "| block | million products | classes changed | in the file |",
            "|---|---|---|---|",
            *(
                f"| `{block['name']}` | {block['products']:.0f} | {block['changed']:.3%} "
                f"| {'int8' if block['int8'] else 'fp32'} |"
                for block in result["blocks"]
            ),
        ]
    return [*lines, ""]


def against_torch(result: dict[str, Any]) -> list[str]:
    """Say how the file in int8 compares with torch, where that was measured."""
    torch = {row["file"]: row["ms"] for row in result["rows"] if row["runtime"] == "torch"}
    if not torch:
        return []
    best = min((row for row in result["rows"] if row["file"] == "int8"), key=lambda row: row["ms"])
    there = {row["file"]: row["ms"] for row in result["rows"] if row["runtime"] == best["runtime"]}
    of_ours = torch["fp32, ours"] / best["ms"]
    of_published = torch["fp32, published"] / best["ms"]
    lines = [
        f"`{result['model']}` in int8 by {best['runtime']} is {of_ours:.2f} times as fast as ours",
        f"in fp32 by torch, and {of_published:.1f} times as fast as the published arithmetic.",
    ]
    if of_ours < 1:
        lines += [
            "Int8 is not what makes that difference: the same runtime takes",
            f"{there['fp32']:.0f} ms for the exported file in fp32, and {there['int8, all']:.0f}",
            "with all convolutions in int8.",
        ]
    if all(block["changed"] > 1 - LEAST_EQUAL for block in result["blocks"]):
        lines.append(
            "Each of its blocks alone changes more than 0.5 %, so `auto` does not take the file."
        )
    return [" ".join(lines)]


def gpu_section(result: dict[str, Any] | None) -> list[str]:
    if result is None:
        return [
            "## GPU\n",
            (
                "Not measured: no GPU was there. `python benchmarks/gpu.py --tile --json FILE` "
                "measures fp32, tf32, bf16 and fp16, as they are, compiled and as CUDA graphs, and "
                "a whole tile; `python benchmarks/performance.py --page --gpu FILE` puts its table "
                "here.\n"
            ),
        ]
    return [
        "## GPU\n",
        (
            f"{result['card']}, torch {result['torch']}, {result['date']}, {result['batch']} "
            f"windows of {result['size_px']} px per call (`python benchmarks/gpu.py`).\n"
        ),
        "| model | precision | form | windows per second | share of the peak | memory |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row['model']} | {row['precision']} | {row['form']} | {row['windows_per_s']:.0f} "
            f"| {row['share_of_peak']:.0%} | {row['memory_gb']:.1f} GB |"
            for row in result["rows"]
            if "failed" not in row
        ),
        *(
            f"\nA tile of {tile['tile_px']} x {tile['tile_px']} pixels with {tile['model']}, from "
            f"memory to memory: {tile['windows']} windows in {tile['seconds']:.1f} s."
            for tile in result["tiles"]
        ),
        "",
    ]
