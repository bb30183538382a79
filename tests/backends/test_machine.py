"""What a machine and its control groups leave, of both versions, with and without a namespace of their own."""

import os

import pytest

from backends import machine

MIB = 1 << 20
MACHINE = 64 << 30


@pytest.fixture
def groups(monkeypatch, tmp_path):
    """Lays out files of control groups, of a process that is in these, on a machine of 64 processors."""

    def lay_out(own, files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{text}\n")
        (tmp_path / "own").write_text(own)
        monkeypatch.setattr(machine, "CGROUP", tmp_path)
        monkeypatch.setattr(machine, "OWN", tmp_path / "own")
        (tmp_path / "meminfo").write_text(f"MemFree: 1 kB\nMemAvailable:  {MACHINE >> 10} kB\n")
        monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))

    return lay_out


@pytest.mark.parametrize(
    ("own", "files", "processors"),
    [
        ("", {}, 64),
        ("0::/", {}, 64),
        ("0::/", {"cpu.max": "max 100000"}, 64),
        ("0::/", {"cpu.max": "100000 100000"}, 1),
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "5000 100000"}, 1),
        ("0::/", {"cpu.max": "12800000 100000"}, 64),
        ("0::/a.slice/b", {"a.slice/cpu.max": "200000 100000", "a.slice/b/cpu.max": "max 100000"}, 2),
        ("0::/docker/abc", {"cpu.max": "300000 100000"}, 3),
        ("0::/../outside", {"cpu.max": "300000 100000"}, 3),
        ("2:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ("2:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ("2:cpuset:/\n0::/", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 64),
    ],
)
def test_a_quota_of_time_is_so_many_processors(groups, own, files, processors):
    groups(own, files)
    assert machine.processors() == processors


def test_a_mask_counts_too(groups, monkeypatch):
    groups("0::/", {"cpu.max": "400000 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 7})
    assert machine.processors() == 2


V2 = {"memory.max": 1000 * MIB, "memory.current": 400 * MIB}
V1_STAT = f"active_file 1\ninactive_file 2\ntotal_active_file 0\ntotal_inactive_file {MIB}"
STAT = f"anon 7\nfile {300 * MIB}\nactive_file {100 * MIB}\ninactive_file {50 * MIB}"


@pytest.mark.parametrize(
    ("own", "files", "left"),
    [
        ("", {}, MACHINE),
        ("0::/", V2 | {"memory.max": "max"}, MACHINE),
        ("0::/", V2, 600 * MIB),
        ("0::/", V2 | {"memory.stat": STAT}, 750 * MIB),
        ("0::/a", V2 | {"a/memory.max": 500 * MIB, "a/memory.current": 400 * MIB}, 100 * MIB),
        (
            "4:memory:/a",
            {
                "memory/a/memory.limit_in_bytes": 1000 * MIB,
                "memory/a/memory.usage_in_bytes": 400 * MIB,
                "memory/a/memory.stat": V1_STAT,
                "memory/memory.limit_in_bytes": (1 << 63) - 4096,
                "memory/memory.usage_in_bytes": 400 * MIB,
            },
            601 * MIB,
        ),
    ],
)
def test_memory_is_what_machine_and_groups_leave(groups, own, files, left):
    groups(own, files)
    assert machine.memory_left() == left
