"""Stand-ins for the images that cannot be pulled, and this checkout's own images, built from its own Dockerfiles."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from embedded.wheel import find_triton
from tests.conftest import ROOT
from tests.containers.engine import Engine, codename, mirror, run

STANDINS = Path(__file__).with_name("standins")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
DEBIAN = (
    *("ca-certificates", "python3", "python3-pip", "libpython3.11", "libstdc++6", "libgomp1", "socat"),
    *("libbz2-1.0", "liblzma5", "libreadline8", "libncursesw6", "libgdbm6", "libsqlite3-0"),
)
SERVICES = ("gateway-cpu", "triton-cpu", "export-cpu", "triton", "gateway", "export")
"""Each builds an image of its own."""


def build_standins(engine: Engine) -> None:
    """The base images, under the names that the project's own files call them by."""
    archive = engine.folder / "root.tar"
    if not archive.exists():
        command = [str(engine.usr / "bin" / "mmdebstrap"), "--quiet", "--variant=minbase"]
        unfinished = archive.with_name("unfinished.tar")
        run([*command, f"--include={','.join(DEBIAN)}", codename(), unfinished, mirror()])
        unfinished.rename(archive)
    if not engine.docker("images", "--quiet", "standin-root"):
        engine.docker("import", archive, "standin-root")
    context = _context(engine.folder / "standins")
    for target, image in base_images().items():
        engine.docker("build", "--quiet", "--target", target, "--tag", image, *_contexts(), context)


def base_images() -> dict[str, str]:
    """Stage of the stand-ins -> the image that it stands in for, as the project's files name it."""
    triton, gateway = ((ROOT / "deploy" / f"{name}.Dockerfile").read_text() for name in ("triton", "gateway"))
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)", triton, re.MULTILINE))
    base, python = (re.findall(r"^FROM (\S+)", text, re.MULTILINE)[0] for text in (triton, gateway))
    (socat,) = re.findall(r"image: (\S*socat\S*)", (ROOT / "docker-compose.yml").read_text())
    named = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], base)
    return {"triton": named, "python": python, "socat": socat}


def _context(folder: Path) -> Path:
    """What the stand-ins are built from: what lies here, compiled, and this machine's certificates and pip settings."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(STANDINS, folder)
    (folder / "entrypoint.sh").chmod(0o755)
    shutil.copy(CERTIFICATES, folder / "certificates.crt")
    for source in folder.glob("*.c"):
        library = f"lib{source.stem}.so.11"
        run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", folder / library, source])
    pip = _pip_settings()
    kept = [f"{name} = {pip[name]}\n" for name in ("index-url", "extra-index-url", "timeout") if name in pip]
    (folder / "pip.conf").write_text("".join(["[global]\n", f"cert = {CERTIFICATES}\n", *kept]))
    index = pip.get("index-url")
    (folder / "uv.toml").write_text(f'[[index]]\nurl = "{index}"\ndefault = true\n' if index else "")
    _torch(folder / "wheels", pip.get("find-links", ""))
    return folder


def _torch(folder: Path, places: str) -> None:
    """The wheel of torch for the stand-in's Python, where this machine has one; PyTorch's index may be out of reach."""
    folder.mkdir()
    found = [wheel for place in places.split() for wheel in Path(place).glob("torch-*+cpu-cp311-*x86_64.whl")]
    for wheel in found[:1]:
        shutil.copyfile(wheel, folder / wheel.name)
    (folder / "override.txt").write_text("".join(f"torch @ file:///opt/wheels/{wheel.name}\n" for wheel in found[:1]))


def _pip_settings() -> dict[str, str]:
    """This machine's settings of pip, but for indexes that lie in its own files."""
    lines = run([sys.executable, "-m", "pip", "config", "list"]).splitlines()
    settings: dict[str, str] = {}
    for name, value in (line.split("=", 1) for line in lines):
        words = [word for word in value.strip("'").split() if not word.startswith("file:")]
        settings.setdefault(name.rpartition(".")[2], " ".join(words))
    return {name: value for name, value in settings.items() if value}


def _contexts() -> list[str]:
    """The folders that the stand-ins are copied from, as arguments of a build."""
    triton = find_triton()
    folders = {"server": triton.server.parents[1], "libraries": triton.library_folders[0], "python312": python312()}
    return [f"--build-context={name}={folder}" for name, folder in folders.items()]


def python312() -> Path:
    """Where a Python 3.12 lies that can be moved: pyenv's or uv's, which fetches one where there is none."""
    places = [Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"]
    uv = [sys.executable, "-m", "uv", "python"]
    places.append(Path(run([*uv, "dir"]).strip()))
    if not (found := _pythons(places)):
        subprocess.run([*uv, "install", "3.12"], check=True)
        found = _pythons(places)
    return found[-1]


def _pythons(places: list[Path]) -> list[Path]:
    names = ("3.12.*", "cpython-3.12.*-linux-x86_64-gnu")
    return sorted(path for place in places for name in names for path in place.glob(name) if path.is_dir())


def lay_out(tree: Path) -> Path:
    """This checkout's files as they are now, as git gives them to someone with umask 077."""
    shutil.rmtree(tree, ignore_errors=True)
    listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT)
    for source, copy in ((ROOT / name, tree / name) for name in listed.split("\0") if name):
        if source.is_symlink() or source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy, follow_symlinks=False)
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o700 if path.is_dir() else 0o600)
    return tree
