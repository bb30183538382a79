"""Installing is atomic: whenever it is cut off, the repository is the old one or the new one, whole."""

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from export.errors import BadInputError, ExportError
from export.store import HAND_WRITTEN, Release, Store

COMPONENTS = ("text_encoder", "denoiser")


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for until it is on a disk: no machine loses its power here."""
    monkeypatch.setattr(os, "fsync", lambda _file: None)


def install(store: Store, tag: str, components: tuple[str, ...] = COMPONENTS) -> None:
    """A whole export of small engines and a pipeline, all of which carry `tag`."""
    store.require_free((*components, "render"))
    with store.locked():
        engines = {}
        for component in components:
            if store.engine(component, tag) is None:
                with store.building(component, tag) as folder:
                    (folder / "1").mkdir()
                    (folder / "1" / "model").write_text(tag)
                    (folder / "config.pbtxt").write_text(tag)
            engine = store.engine(component, tag)
            assert engine is not None
            engines[component] = engine
        store.install(
            Release(
                f"release-{tag}",
                engines,
                ensembles={"render": tag},
                edit=tag,
                write_pipeline=lambda folder: (folder / "settings.json").write_text(tag) and None,
            )
        )


def state(repository: Path) -> set[str]:
    """Every tag that a Triton started now would see: one, if the repository is of one piece."""
    files = [repository / component / "1" / "model" for component in COMPONENTS]
    files += [repository / component / "config.pbtxt" for component in COMPONENTS]
    files.append(repository / "edit_stream" / "1" / "pipeline" / "settings.json")
    files += [repository / model / "config.pbtxt" for model in ("edit", "render")]
    return {file.read_text() for file in files}


def test_a_repository_is_complete_and_replaced_as_a_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    install(store, "old")
    assert state(tmp_path) == {"old"}
    for model in HAND_WRITTEN:
        assert (tmp_path / model / "config.pbtxt").is_file()
        assert (tmp_path / model / "1").is_dir()
    assert (tmp_path / "edit_stream" / "1" / "families" / "instruct_pix2pix" / "denoising.py").is_file()
    install(store, "new")
    assert state(tmp_path) == {"new"}
    assert [path.name for path in (tmp_path / "edit/.tritouch/releases").iterdir()] == ["release-new"]
    assert all("new" in path.name for path in (tmp_path / "edit/.tritouch/store").iterdir())


CRASHES = ("os.fsync", "os.symlink", "os.mkdir", "os.rename", "os.replace", "shutil.copyfile", "shutil.rmtree")


@pytest.mark.slow
@pytest.mark.parametrize("nth", range(12))
@pytest.mark.parametrize("call", CRASHES)
def test_a_crash_at_any_moment_leaves_a_whole_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, nth: int
) -> None:
    store = Store(tmp_path)
    install(store, "old", (*COMPONENTS, "vae_decoder"))
    module_name, name = call.split(".")
    module = sys.modules[module_name]
    real, calls = getattr(module, name), 0

    def full_disk(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls > nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, full_disk)
        try:
            install(store, "new", (*COMPONENTS, "vae_encoder"))
            crashed = False
        except OSError:
            crashed = True
    assert state(tmp_path) in ({"old"}, {"new"})
    assert crashed or state(tmp_path) == {"new"}
    assert not list(tmp_path.glob(".*")), "Triton takes hidden folders for models too"
    assert all(entry.exists() for entry in tmp_path.iterdir()), "Triton finds no model where a link leads nowhere"
    install(store, "new")
    assert state(tmp_path) == {"new"}
    assert not (tmp_path / "vae_decoder").is_symlink()
    install(store, "old", (*COMPONENTS, "vae_decoder"))
    assert state(tmp_path) == {"old"}
    assert not list((tmp_path / "edit/.tritouch").rglob(".unfinished-*"))


@pytest.mark.slow
def test_kill_9_at_random_moments_leaves_a_whole_repository(tmp_path: Path) -> None:
    install(Store(tmp_path), "old")
    program = (
        "import sys; sys.path.insert(0, '.'); from pathlib import Path\n"
        "from tests.export.test_store import install, Store\n"
        "i = 0\n"
        "print('go', flush=True)\n"
        "while True:\n    i += 1\n    install(Store(Path(sys.argv[1])), f'run{i}')\n"
    )
    for wait in (0.02, 0.05, 0.11, 0.17):
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait)
        process.kill()
        process.wait()
        process.stdout.close()
        assert len(state(tmp_path)) == 1
    install(Store(tmp_path), "last")
    assert state(tmp_path) == {"last"}


def test_only_one_export_at_a_time(tmp_path: Path) -> None:
    with Store(tmp_path).locked(), pytest.raises(ExportError, match="another export"), Store(tmp_path).locked():
        pass


PLACED: dict[str, Callable[[Path, Path], object]] = {
    "folder": lambda users, mine: shutil.copytree(mine, users),
    "file": lambda users, _mine: users.write_text("precious"),
    "link": lambda users, mine: users.symlink_to(mine),
    "dangling link": lambda users, _mine: users.symlink_to("nowhere"),
}


@pytest.mark.parametrize("name", ["denoiser", "render", "preprocess", "edit/1", "edit/config.pbtxt"])
@pytest.mark.parametrize("place", PLACED.values(), ids=PLACED)
def test_something_of_the_users_is_never_replaced(
    tmp_path: Path, place: Callable[[Path, Path], object], name: str
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "config.pbtxt").write_text("precious")
    users = tmp_path / "repository" / name
    users.parent.mkdir(parents=True)
    place(users, mine)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInputError, match=f"{name} is in the way"):
        install(Store(tmp_path / "repository"), "new")
    assert sorted(tmp_path.rglob("*")) == before
    assert (mine / "config.pbtxt").read_text() == "precious"


def test_what_appears_while_engines_are_built_is_not_replaced_either(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.locked():
        (tmp_path / "render").write_text("precious")
        with pytest.raises(BadInputError, match="render is in the way"):
            store.install(Release("release", {}, {"render": ""}, "", lambda _folder: None))
    assert (tmp_path / "render").read_text() == "precious"


def test_a_link_into_the_store_is_replaced_and_a_right_one_left_alone(tmp_path: Path) -> None:
    install(Store(tmp_path), "old")
    (tmp_path / "denoiser").unlink()
    (tmp_path / "denoiser").symlink_to("edit/.tritouch/store/denoiser-old")
    right = (tmp_path / "text_encoder").lstat().st_ino
    install(Store(tmp_path), "new")
    assert state(tmp_path) == {"new"}
    assert (tmp_path / "text_encoder").lstat().st_ino == right


def test_the_repository_of_this_checkout_is_known_by_any_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "real" / "model_repository"
    for model in HAND_WRITTEN:
        (source / model / "1").mkdir(parents=True)
        if model != "edit":
            (source / model / "config.pbtxt").write_text(model)
    (tmp_path / "link").symlink_to("real")
    monkeypatch.setattr("export.store.SOURCE", tmp_path / "link" / "model_repository")
    Store(source).require_free(COMPONENTS)
    install(Store(tmp_path / "link" / "model_repository"), "new")
    assert (source / "preprocess" / "config.pbtxt").read_text() == "preprocess"
    assert not (source / "preprocess").is_symlink()
    assert (source / "edit" / "config.pbtxt").read_text() == "new"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(BadInputError, match="cannot be written"), Store(file).locked():
        pass


def test_while_the_repository_is_switched_over_no_link_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is when an export is killed there: Triton finds no model at all where one link leads nowhere."""
    store = Store(tmp_path)
    install(store, "old", (*COMPONENTS, "vae_decoder"))
    real = store._replace_link
    seen = list[tuple[set[str], set[str]]]()

    def look(link: Path, target: Path) -> None:
        real(link, target)
        assert all(entry.exists() for entry in tmp_path.iterdir()), link
        found = {entry.name for entry in tmp_path.iterdir() if entry.is_dir()} - {*HAND_WRITTEN, "render"}
        seen.append((state(tmp_path), found))

    monkeypatch.setattr(store, "_replace_link", look)
    install(store, "new", (*COMPONENTS, "vae_encoder"))
    assert seen[-1] == ({"new"}, {*COMPONENTS, "vae_encoder"})
    assert all(moment == ({"old"}, {*COMPONENTS, "vae_decoder"}) for moment in seen[:-1])
    assert not (tmp_path / "vae_decoder").is_symlink()


def test_a_model_that_the_new_release_lacks_goes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    install(store, "old")
    (tmp_path / "transformer").symlink_to("edit/.tritouch/current/transformer")
    install(store, "new")
    assert not (tmp_path / "transformer").is_symlink()
