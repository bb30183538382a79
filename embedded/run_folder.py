"""The folder of one run: its logs, and what Triton needs only while it runs."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKENDS = "backends"
EMPTY = "empty"
REPOSITORY = "repository"
STOP = "stop"

# Triton has a shell start its Python processes, and quotes none of their paths.
_OF_THE_SHELL = re.compile(r"""[\s"$&'()*;<>?[\\`{|]""")
_PLAIN = re.compile(r"[\w%+,./:=@-]+", re.ASCII)


@contextmanager
def run_folder(parent: Path | None) -> Iterator[Path]:
    """A new folder for one run's logs; a temporary one is removed unless the run failed.

    It is locked meanwhile: systemd-tmpfiles, which removes what is old, leaves a folder alone that it cannot lock.

    Raises:
        EmbeddedError: it cannot be made.
    """
    try:
        if parent is not None:
            parent = parent.resolve()  # Triton runs in another folder
        _require_plain(parent or Path(tempfile.gettempdir()))
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        run = Path(tempfile.mkdtemp(prefix="tritouch-", dir=parent))
    except OSError as error:
        raise EmbeddedError(f"no run folder can be made in {parent or 'the temporary folder'}: {error}") from None
    lock = os.open(run, os.O_RDONLY | os.O_DIRECTORY)
    with suppress(OSError):  # of a file system without locks
        fcntl.flock(lock, fcntl.LOCK_SH)
    try:
        yield run
    except EmbeddedError:
        _remove_scaffolding(run)
        raise
    except BaseException:
        _leave(run, keep=parent is not None)
        raise
    else:
        _leave(run, keep=parent is not None)
    finally:
        os.close(lock)


def by_a_plain_path(repository: Path, run: Path) -> Path:
    """The repository itself, or a link to it in ``run`` where a shell or a process without a locale has its path wrong.

    Raises OSError where that cannot be made.
    """
    if _PLAIN.fullmatch(str(repository)):
        return repository
    (run / REPOSITORY).symlink_to(repository)
    return run / REPOSITORY


def _require_plain(folder: Path) -> None:
    if found := _OF_THE_SHELL.search(str(folder)):
        raise EmbeddedError(
            f"no run folder can be made in {folder}: Triton hands its path to a shell, and it has {found[0]!r}: "
            "set TRITOUCH_RUN_FOLDER, or TMPDIR, to another"
        )


def _leave(run: Path, *, keep: bool) -> None:
    if keep:
        _remove_scaffolding(run)
    else:
        shutil.rmtree(run, ignore_errors=True)


def _remove_scaffolding(run: Path) -> None:
    for folder in (BACKENDS, EMPTY):
        shutil.rmtree(run / folder, ignore_errors=True)
    with suppress(OSError):
        (run / REPOSITORY).unlink()
    with suppress(OSError):  # it has logs, or was removed by others
        run.rmdir()
