"""Links the packages that this Python has, and a folder of packages lacks, into that folder, for `bench/gpu.sh`."""

import re
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

RECORDS = ".dist-info"


def link(machine: Path, folder: Path) -> None:
    """What `folder` has in a version of its own keeps that: of it nothing of `machine` is linked that has its name."""
    taken = {_plain(one.name) for one in distributions(path=[str(folder)])}
    for entry in machine.iterdir():
        named = _plain(entry.stem.partition("-")[0]) if entry.suffix == RECORDS else ""
        if named not in taken and not (folder / entry.name).exists():
            (folder / entry.name).symlink_to(entry)


def _plain(name: str) -> str:
    """A package's name, which is written in several ways."""
    return re.sub("[-_.]+", "-", name).lower()


if __name__ == "__main__":
    for kind in ("purelib", "platlib"):
        link(Path(sysconfig.get_path(kind)), Path(sys.argv[1]))
