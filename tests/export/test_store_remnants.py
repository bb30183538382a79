"""What exports leave in a repository that were refused, cut off, or could not delete what was before."""

import errno
import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pytest

from export.errors import BadInputError, ExportError
from export.store import HAND_WRITTEN, SOURCE, Store
from tests.export.test_store import install, state


@pytest.mark.parametrize("error", [OSError(errno.ENOTEMPTY, "Directory not empty"), KeyboardInterrupt(), None])
def test_what_cannot_be_deleted_is_neither_a_failure_nor_taken_for_whole_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | None
) -> None:
    """As of files of NFS that a Triton holds open, by Ctrl-C, or by a kill, which says nothing."""
    store = Store(tmp_path)
    install(store, "old")
    deleted = list[Path]()

    def half(folder: Path, **_options: object) -> None:
        for file in (*folder.rglob("model"), *folder.rglob("config.pbtxt")):
            file.unlink()
        deleted.append(folder)
        if error and len(deleted) == 1:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", half)
        install(store, "new")
    assert deleted
    assert state(tmp_path) == {"new"}
    install(store, "old")
    assert state(tmp_path) == {"old"}
    assert not list((tmp_path / "edit/.tritouch").rglob(".unfinished-*"))


@pytest.mark.parametrize("there", [(), ("repository",), ("repository/edit",), ("repository/mine",)])
def test_an_export_that_is_refused_leaves_nothing_of_its_own(tmp_path: Path, there: tuple[str, ...]) -> None:
    for folder in there:
        (tmp_path / folder).mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with suppress(BadInputError), Store(tmp_path / "repository").locked():
        assert (tmp_path / "repository/edit/.tritouch/store").is_dir()
        raise BadInputError("refused")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_engine_that_was_built_stays_though_the_export_failed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with suppress(ExportError), store.locked():
        with store.building("denoiser", "a") as folder:
            (folder / "model").write_text("a")
        raise ExportError("the next one failed")
    with store.locked():
        assert store.engine("denoiser", "a")


def test_a_lock_that_went_with_what_was_refused_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock

    def late(file: TextIO, how: int) -> None:
        Path(file.name).unlink()
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(ExportError, match="another export"), Store(tmp_path).locked():
        pass


def test_a_disk_without_symbolic_links_is_told_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_arguments: object, **_options: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", none)
    words = f"{tmp_path} can hold no symbolic links: Operation not permitted"
    with pytest.raises(BadInputError, match=words), Store(tmp_path).locked():
        raise AssertionError
    assert not list(tmp_path.iterdir())


def test_the_checkouts_own_export_may_be_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its store was deleted, say, and its links were not: another repository has nothing to do with it."""
    source = tmp_path / "checkout" / "model_repository"
    source.mkdir(parents=True)
    (source.parent / "families").symlink_to(SOURCE.parent / "families")
    for model in HAND_WRITTEN:
        shutil.copytree(SOURCE / model, source / model, symlinks=True, ignore=shutil.ignore_patterns(".tritouch"))
    (source / "edit" / "config.pbtxt").unlink(missing_ok=True)
    (source / "edit" / "config.pbtxt").symlink_to(".tritouch/current/edit/config.pbtxt")
    monkeypatch.setattr("export.store.SOURCE", source)
    install(Store(tmp_path / "repository"), "new")
    assert state(tmp_path / "repository") == {"new"}
