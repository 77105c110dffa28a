"""The peak of memory: as the system counts it, and on Windows, which has no `resource`."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from weitiao.engine.runtime import monitor


def test_the_peak_is_no_less_than_what_is_resident() -> None:
    assert monitor.peak_memory_bytes() >= 0.9 * psutil.Process().memory_info().rss


def test_windows_has_no_resource_and_is_asked_for_its_peak() -> None:
    """In a process of its own, in which the module cannot be imported."""
    script = """
import sys
import psutil, torch
sys.modules["resource"] = None
from weitiao.engine.runtime.monitor import Monitor
print(Monitor().read().memory_bytes > 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr


def test_the_peak_on_windows_is_that_of_the_working_set(monkeypatch: pytest.MonkeyPatch) -> None:
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=12345))
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(psutil, "Process", lambda: process)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert monitor.peak_memory_bytes() == 12345


def test_without_the_package_that_reads_it_the_use_of_the_gpu_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert monitor.gpu_percent() is None
