"""Giving back the memory of mapped files."""

import mmap
from pathlib import Path

from backends.pages import release

MIB = 1 << 20


def resident(path):
    """Bytes of ``path`` that are mapped and in memory."""
    found, here = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            here = line.endswith(str(path))
        elif here and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    return found


def test_a_file_that_is_only_read_leaves_memory_and_can_be_read_again(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"a" * 4 * MIB)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[:] == b"a" * 4 * MIB
        assert resident(path) == 4 * MIB
        release(path)
        assert resident(path) == 0
        assert mapped[MIB] == ord("a")


def test_a_mapping_that_was_written_to_keeps_its_changes(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"a" * MIB)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        mapped[0] = ord("b")
        release(path)
        assert mapped[0] == ord("b")
