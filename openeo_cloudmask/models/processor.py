"""What this machine's processor can do, read once."""

from __future__ import annotations

import logging
import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
THREADS_VARIABLE = "OMP_NUM_THREADS"
"""What Spark, schedulers and numeric libraries limit threads with."""

_SLOWER = (
    "bfloat16 takes {unet} times as long as fp32 with the U-Net of CloudSEN12, {sensei} times with "
    "SEnSeIv2"
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """Facts that decide which arithmetic is fast. All are False where nothing could be read."""

    name: str = "unknown"
    avx2: bool = False
    avx512: bool = False
    vnni: bool = False
    """Products of 8 bit integers (AVX-512 VNNI or AVX VNNI)."""
    bf16: bool = False
    """Products of bfloat16 (AVX-512 BF16)."""
    amx: bool = False
    """Tiles of both (AMX)."""
    arm_dot: bool = False
    """Products of 8 bit integers on ARM. Read only: nothing was measured on ARM."""
    arm_bf16: bool = False
    """Products of bfloat16 on ARM. Read only: nothing was measured on ARM."""
    threads_per_core: int = 1

    @property
    def fast_bf16(self) -> bool:
        """Whether bfloat16 is faster than fp32, which AVX-512 BF16 alone does not make it."""
        return self.amx

    @property
    def slow_bf16(self) -> str | None:
        """What bfloat16 costs here; None where it pays, or where this is not known.

        Measured on one core, as ``benchmarks/performance.py`` does: with AVX-512 BF16 and without
        AMX, and the same with ``ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI``.
        """
        if self.fast_bf16 or self.arm_bf16:
            return None
        ratios = ("1.4", "1.25") if self.bf16 else ("5", "2.5")
        return _SLOWER.format(unet=ratios[0], sensei=ratios[1])

    @property
    def fast_int8(self) -> bool:
        """Whether 8 bit integers were measured to be faster, and their sums are exact.

        Without VNNI pairs of products are added in 16 bits, which overflow.
        """
        return self.vnni or self.amx

    @property
    def exact_int8(self) -> bool:
        """Whether sums of products of 8 bit integers are exact, fast or not."""
        return self.fast_int8 or self.arm_dot

    def describe(self) -> str:
        """One line for tables: the name and what it can do."""
        known = {
            "AVX2": self.avx2,
            "AVX-512": self.avx512,
            "VNNI": self.vnni,
            "bf16": self.bf16,
            "AMX": self.amx,
            "ARM dot product (unmeasured)": self.arm_dot,
            "ARM bf16 (unmeasured)": self.arm_bf16,
        }
        return f"{self.name} ({', '.join(name for name, there in known.items() if there) or '-'})"


@cache
def read_processor(path: Path = _CPU_INFO) -> Processor:
    """Return what Linux says of the processor; on other systems, a processor without gifts."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Processor(name=platform.processor() or platform.machine() or "unknown")
    return parse_cpu_info(text)


def parse_cpu_info(text: str) -> Processor:
    """Return the processor in the text of ``/proc/cpuinfo``, of x86 or ARM."""
    facts: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    flags = set(facts.get("flags", "").split())
    features = set(facts.get("Features", "").split())
    siblings, cores = facts.get("siblings", ""), facts.get("cpu cores", "")
    both = siblings.isdecimal() and cores.isdecimal() and int(cores) > 0
    return Processor(
        name=facts.get("model name") or platform.machine() or "unknown",
        avx2="avx2" in flags,
        avx512="avx512f" in flags,
        vnni=bool(flags & {"avx512_vnni", "avx_vnni"}),
        bf16="avx512_bf16" in flags,
        amx={"amx_tile", "amx_bf16", "amx_int8"} <= flags,
        arm_dot="asimddp" in features,
        arm_bf16="bf16" in features,
        threads_per_core=max(int(siblings) // int(cores), 1) if both else 1,
    )


def count_threads() -> int:
    """Return how many threads to compute with: ``OMP_NUM_THREADS``, or one for each core.

    Cores are those that this process may run on; a core's second thread has no arithmetic of its
    own.
    """
    given = os.environ.get(THREADS_VARIABLE, "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    allowed = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(allowed // read_processor().threads_per_core, 1)


@cache
def warn_of_slow_bf16() -> None:
    """Say once that bfloat16 was asked for where it is slower than fp32."""
    processor = read_processor()
    if text := processor.slow_bf16:
        _log.warning("on %s %s. Use precision 'auto' or 'fp32'", processor.name, text)


@cache
def warn_of_wrong_int8() -> None:
    """Say once that int8 was asked for where its sums overflow."""
    processor = read_processor()
    if not processor.exact_int8:
        _log.warning(
            "on %s products of 8 bit integers are added in 16 bits, which overflow: classes may "
            "change. Use precision 'auto' or 'fp32'",
            processor.name,
        )
