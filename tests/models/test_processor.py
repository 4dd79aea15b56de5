"""What the processor can do is read once and decides what `auto` takes."""

from __future__ import annotations

import logging

import pytest

from openeo_cloudmask.models import processor
from openeo_cloudmask.models.processor import Processor, count_threads, parse_cpu_info

X86 = """processor\t: 0
model name\t: A server
siblings\t: 8
cpu cores\t: 4
flags\t\t: fpu avx2 avx512f {more}

processor\t: 1
model name\t: A server
flags\t\t: fpu
"""


def test_vnni_without_bf16():
    found = parse_cpu_info(X86.format(more="avx512_vnni"))
    assert (found.name, found.threads_per_core) == ("A server", 2)
    assert (found.fast_int8, found.fast_bf16) == (True, False)
    assert found.describe() == "A server (AVX2, AVX-512, VNNI)"


def test_bf16_pays_with_amx_alone():
    found = parse_cpu_info(X86.format(more="avx512_bf16"))
    assert (found.bf16, found.fast_bf16) == (True, False)
    assert "1.4 times" in found.slow_bf16
    found = parse_cpu_info(X86.format(more="avx512_bf16 amx_tile amx_bf16 amx_int8"))
    assert (found.fast_bf16, found.slow_bf16) == (True, None)


def test_avx2_alone_has_neither():
    found = parse_cpu_info("model name : Old\nflags : fpu avx2\n")
    assert found == Processor(name="Old", avx2=True)
    assert (found.fast_int8, found.fast_bf16) == (False, False)


def test_arm_is_read_but_decides_nothing():
    found = parse_cpu_info("processor : 0\nFeatures : fp asimd asimddp bf16\n")
    assert (found.arm_dot, found.arm_bf16, found.slow_bf16) == (True, True, None)
    assert (found.fast_int8, found.fast_bf16) == (False, False)  # nothing was measured there
    assert "ARM bf16 (unmeasured)" in found.describe()


def test_where_nothing_can_be_read_nothing_is_claimed(tmp_path):
    found = processor.read_processor(tmp_path / "none")
    assert (found.fast_int8, found.fast_bf16) == (False, False)


def test_bf16_by_name_without_hardware_warns_with_the_figure(monkeypatch, caplog):
    from openeo_cloudmask.models.networks.prepare import resolve_precision

    torch = pytest.importorskip("torch")
    for found, said in ((Processor(name="Old"), 1), (Processor(name="New", amx=True), 0)):
        monkeypatch.setattr(processor, "read_processor", lambda found=found: found)
        processor.warn_of_slow_bf16.cache_clear()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                assert resolve_precision("bf16", torch.device("cpu")) == "bf16"
        assert caplog.text.count("2.5 times with SEnSeIv2") == said
    processor.warn_of_slow_bf16.cache_clear()


def test_int8_by_name_where_sums_overflow_warns(monkeypatch, caplog):
    for found, said in (
        (Processor(name="Old", avx2=True), 1),
        (Processor(vnni=True), 0),
        (Processor(arm_dot=True), 0),
    ):
        monkeypatch.setattr(processor, "read_processor", lambda found=found: found)
        processor.warn_of_wrong_int8.cache_clear()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                processor.warn_of_wrong_int8()
        assert caplog.text.count("on Old products of 8 bit integers") == said
    processor.warn_of_wrong_int8.cache_clear()


def test_threads_are_those_that_are_allowed(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert count_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert count_threads() >= 1
