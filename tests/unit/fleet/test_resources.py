"""What a host says that it has: the machine's, or what its control group leaves of it."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from fleet.agent.resources import Meter

MB = 1 << 20


def meter(folder: Path, own: str, files: dict[str, str]) -> Meter:
    for name, text in files.items():
        path = folder / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "own").write_text(own)
    return Meter(folder, folder / "groups", folder / "own")


def test_without_limits_it_is_the_machine(tmp_path: Path) -> None:
    seen = meter(tmp_path, "0::/\n", {"memory.max": "max\n", "cpu.max": "max 100000\n"}).look()
    assert seen.cpus == os.cpu_count()
    assert seen.memory_bytes == psutil.virtual_memory().total
    assert 0 < seen.memory_available <= seen.memory_bytes
    assert 0 <= seen.cpu_used <= seen.cpus
    assert seen.disk_free > 0


def test_a_group_of_version_2_limits_it(tmp_path: Path) -> None:
    seen = meter(
        tmp_path,
        "0::/unit\n",
        {
            "unit/memory.max": f"{64 * MB}\n",
            "unit/memory.current": f"{40 * MB}\n",
            "unit/memory.stat": f"anon 1\ninactive_file {10 * MB}\n",
            "unit/cpu.max": "150000 100000\n",
        },
    ).look()
    assert seen.cpus == 1
    assert seen.memory_bytes == 64 * MB
    assert seen.memory_available == 34 * MB


def test_a_group_of_version_1_limits_it_and_may_be_mounted_as_the_root(tmp_path: Path) -> None:
    seen = meter(
        tmp_path,
        "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/\n",
        {
            "memory/memory.limit_in_bytes": f"{64 * MB}\n",
            "memory/memory.usage_in_bytes": f"{70 * MB}\n",
            "memory/memory.stat": "total_inactive_file 0\n",
            "cpu/cpu.cfs_quota_us": "50000\n",
            "cpu/cpu.cfs_period_us": "100000\n",
        },
    ).look()
    assert seen.cpus == 1
    assert seen.memory_bytes == 64 * MB
    assert seen.memory_available == 0


def test_no_limit_of_version_1_is_a_number_too(tmp_path: Path) -> None:
    seen = meter(
        tmp_path,
        "4:memory:/\n",
        {
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
            "cpu/cpu.cfs_quota_us": "-1\n",
            "cpu/cpu.cfs_period_us": "100000\n",
        },
    ).look()
    assert seen.memory_bytes == psutil.virtual_memory().total
    assert seen.cpus == os.cpu_count()
