"""Installs engines so that a crash or a full disk at any moment leaves the previous repository serving.

    DIR/edit/.tritouch/store/<component>-<fingerprint>/   one engine model, whole or absent
    DIR/edit/.tritouch/releases/<digest>/                 links to its engines, the ensembles around them, `edit`'s
                                                          configuration, and what the Python models read
    DIR/edit/.tritouch/current -> releases/<digest>       the one switch: replaced by one rename
    DIR/edit/.tritouch/caches/                            what engine kinds keep to compile faster the next time
    DIR/denoiser -> edit/.tritouch/current/denoiser       and so on

The store lies inside `edit/` because Triton takes every other folder of a repository for a model.
Knows nothing of engines, families or checkpoints.
"""

import errno
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from export.errors import BadInputError, ExportError

SOURCE = Path(__file__).resolve().parents[1] / "model_repository"
HAND_WRITTEN = ("edit", "edit_stream", "preprocess", "postprocess")
UNFINISHED = ".unfinished-"
NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems say that have no symbolic links, as those of memory cards and some of networks."""
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "pipeline")


@dataclass(frozen=True)
class Release:
    """What an export installs. `digest`: of all that is in it. `ensembles` and `edit`: config.pbtxt, by name.

    `write_pipeline` fills the folder that the Python models read.
    """

    digest: str
    engines: Mapping[str, Path]
    ensembles: Mapping[str, str]
    edit: str
    write_pipeline: Callable[[Path], None]


class Store:
    """The repository in `folder`, held by one export at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._in_place = folder.resolve() == SOURCE.resolve()
        self._root = folder / "edit" / ".tritouch"
        self._engines, self._releases, self._current = (self._root / n for n in ("store", "releases", "current"))
        self._new_link, self._lock = self._root / f"{UNFINISHED}link", self._root / "lock"
        self.caches = self._root / "caches"

    def require_free(self, models: Iterable[str]) -> None:
        """Raises BadInputError when something that no export has written stands where `install` links its models."""
        for link in self._links(models):
            self._require_ours(link)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the repository. Raises ExportError when it cannot be written, or another export holds it.

        What was made for it goes again where nothing came into it: an export that is refused leaves no trace.
        """
        try:
            made = self._make_folders()
            lock = self._lock.open("w")
        except OSError as error:
            raise BadInputError(f"{self.folder} cannot be written: {error.strerror}") from error
        with lock:
            self._hold(lock)
            self._sweep()
            try:
                self._require_links()
                yield
            finally:
                self._sweep()
                self._unmake(made)

    def _make_folders(self) -> list[Path]:
        """Returns those that were not there, each after the one that it lies in."""
        made = []
        for folder in (self._engines, self._releases, self.caches):
            made += [path for path in reversed((folder, *folder.parents)) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
        return made

    def _unmake(self, made: Sequence[Path]) -> None:
        kept = (self._engines, self._releases, self.caches)
        with suppress(OSError):  # where something else came into a folder meanwhile
            if self._root in made and not any(any(folder.iterdir()) for folder in kept):
                self._lock.unlink()
                for folder in reversed(made):
                    folder.rmdir()

    def _hold(self, lock: TextIO) -> None:
        """Raises ExportError where another export holds the lock, or has taken it away since it was opened."""
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = os.path.samestat(os.fstat(lock.fileno()), self._lock.stat())
        except (BlockingIOError, FileNotFoundError):
            held = False
        if not held:
            raise ExportError(f"another export is writing {self.folder}")

    def _require_links(self) -> None:
        """Raises BadInputError where no symbolic links can be, before hours of work that nothing could install."""
        try:
            self._new_link.symlink_to("nowhere")
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            raise BadInputError(f"{self.folder} can hold no symbolic links: {error.strerror}") from error
        self._new_link.unlink()

    def engine(self, component: str, fingerprint: str) -> Path | None:
        """A component built before from the same things, if there is one."""
        folder = self._engines / f"{component}-{fingerprint}"
        return folder if folder.is_dir() else None

    @contextmanager
    def building(self, component: str, fingerprint: str) -> Iterator[Path]:
        """An empty folder to build a component in; it joins the store, whole, when the block ends well."""
        with self._whole(self._engines / f"{component}-{fingerprint}") as folder:
            yield folder

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder that is gone when the block ends."""
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=self._engines) as folder:
            yield Path(folder)

    def install(self, release: Release) -> None:
        """Makes `release` the repository's."""
        target = self._releases / release.digest
        if not target.is_dir():
            with self._whole(target) as folder:
                self._fill(folder, release)
        links = self._links((*release.engines, *release.ensembles))
        for link in links:
            self._require_ours(link)
        _overlook(self._current, (link.name for link in links if link.parent == self.folder))
        _overlook(target, (entry.name for entry in self.folder.iterdir() if self._is_ours(entry)))
        for link, points_at in links.items():
            self._replace_link(link, points_at)
        self._replace_link(self._current, Path("releases") / release.digest)
        # From here on the release is the repository's, whatever becomes of those before it.
        with suppress(OSError, KeyboardInterrupt):
            self._forget_others(release)

    def _fill(self, folder: Path, release: Release) -> None:
        for component, engine in release.engines.items():
            (folder / component).symlink_to(os.path.relpath(engine, self._releases / release.digest))
        for name, config in release.ensembles.items():
            (folder / name / "1").mkdir(parents=True)
            (folder / name / "config.pbtxt").write_text(config, "utf-8")
        (folder / "pipeline").mkdir()
        release.write_pipeline(folder / "pipeline")
        if not self._in_place:
            _copy_models(folder)
        (folder / "edit").mkdir(exist_ok=True)
        (folder / "edit" / "config.pbtxt").write_text(release.edit, "utf-8")

    def _links(self, written: Iterable[str]) -> dict[Path, Path]:
        """Every link by which Triton finds the release, and what it points at.

        `edit` itself is a folder, as it holds the store; in the checkout its code is there already.
        """
        models, parts = [*written], ["config.pbtxt"]
        if not self._in_place:
            models += [model for model in HAND_WRITTEN if model != "edit"]
            parts.append("1")
        links = {self.folder / model: Path("edit/.tritouch/current") / model for model in models}
        return links | {self.folder / "edit" / part: Path(".tritouch/current/edit") / part for part in parts}

    def _require_ours(self, link: Path) -> None:
        if (link.is_symlink() or link.exists()) and not self._is_ours(link):
            raise BadInputError(f"{link} is in the way: it was not written by export")

    def _is_ours(self, path: Path) -> bool:
        return path.is_symlink() and (path.parent / path.readlink()).is_relative_to(self._root)

    def _replace_link(self, link: Path, target: Path) -> None:
        """Points `link` at `target` in one step, from the store: beside it Triton would take a new one for a model."""
        if link.is_symlink() and link.readlink() == target:
            return
        self._new_link.symlink_to(target)
        self._new_link.replace(link)
        _flush_folder(link.parent)

    def _forget_others(self, release: Release) -> None:
        for entry in self.folder.iterdir():
            if self._is_ours(entry) and not entry.is_dir():
                entry.unlink()
        kept = {self._releases / release.digest, *release.engines.values()}
        for folder in (*self._releases.iterdir(), *self._engines.iterdir()):
            if folder not in kept:  # renamed first: what is left of a folder half deleted would be taken for whole
                gone = folder.rename(folder.with_name(f"{UNFINISHED}{secrets.token_hex(4)}"))
                shutil.rmtree(gone, ignore_errors=True)

    def _sweep(self) -> None:
        """Removes what an export that was cut off had begun, or had not removed. What cannot be deleted yet, as where a
        Triton holds files of NFS open, is left to the next."""
        self._new_link.unlink(missing_ok=True)
        for folder in (*self._engines.glob(f"{UNFINISHED}*"), *self._releases.glob(f"{UNFINISHED}*")):
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _whole(self, target: Path) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=target.parent))
        try:
            folder.chmod(0o755)
            yield folder
            _flush(folder)
            folder.rename(target)
            _flush_folder(target.parent)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _copy_models(release: Path) -> None:
    """The hand-written models with the families they import, so that the repository stands without this checkout."""
    for model in HAND_WRITTEN:
        shutil.copytree(SOURCE / model, release / model, ignore=_left_out)
        if (SOURCE / model / "1" / "pipeline").is_symlink():
            (release / model / "1" / "pipeline").symlink_to("../../pipeline")


def _left_out(folder: str, names: list[str]) -> set[str]:
    """What is not copied; also `edit`'s configuration where the checkout's own export was deleted, and its link leads
    nowhere."""
    return {*LEFT_OUT(folder, names), *(name for name in names if not Path(folder, name).exists())}


def _overlook(release: Path, models: Iterable[str]) -> None:
    """Gives a release a file in the place of each model that it lacks, so that a link leads there for as long as the
    repository is switched over: Triton overlooks a file, and where one link leads nowhere it finds no models at all."""
    if release.is_dir():
        for model in {*models} - {entry.name for entry in release.iterdir()}:
            (release / model).touch()


def _flush(folder: Path) -> None:
    """Writes a folder's files through to the disk, so that a rename never outruns their bytes."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
