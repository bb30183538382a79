"""Photographs to train on and to evaluate with, from packages that ship freely licensed pictures.

`python -m demo.photos DIR` downloads the Debian packages and wheels below, unpacks them under DIR and writes
`DIR/photos/{train,scenery,held_out}/*.png`, RGB, shorter side at most 512. Nothing of it is committed; licences are
listed in `demo/README.md`. Which pictures are held out is fixed here, by name, so that no training ever sees one.

Knows nothing of edits or models.
"""

import argparse
import fnmatch
import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.progress import track

Picture = npt.NDArray[np.float32]
"""(H, W, 3) in [0, 1]."""

DEBIAN_PACKAGES = (
    "gcompris-qt-data",
    "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04",
    "lxqt-themes",
    "mate-backgrounds",
    "plasma-workspace-wallpapers",
    "tuxpaint-stamps-default",
)
WHEELS = ("scikit-image", "scikit-learn")

PHOTOS = (
    "lomiri-wallpapers-16.04/*_by_*.jpg",
    "lomiri-wallpapers-20.04/*Kleiber*.jpg",
    "lomiri-wallpapers-20.04/*Fossa*.jpg",
    "lxqt-themes/*/wallpapers/Butterfly-Kenneth-Wimer.jpg",
    "lxqt-themes/*/wallpapers/Valendas.png",
    "lxqt-themes/*/wallpapers/after-the-rain.jpg",
    "lxqt-themes/*/wallpapers/appleflower.png",
    "lxqt-themes/*/wallpapers/beam.png",
    "lxqt-themes/*/wallpapers/butterfly.png",
    "lxqt-themes/*/wallpapers/cloud.png",
    "lxqt-themes/*/wallpapers/drop.png",
    "lxqt-themes/*/wallpapers/flowers.png",
    "lxqt-themes/*/wallpapers/fog.jpg",
    "lxqt-themes/*/wallpapers/this-is-not-windows.jpg",
    "mate-backgrounds/*/nature/*.jpg",
    "plasma-workspace-wallpapers/*/Autumn/*2560x1600.jpg",
    "plasma-workspace-wallpapers/*/BytheWater/*2560x1600.jpg",
    "plasma-workspace-wallpapers/*/ColdRipple/*2560x1600.jpg",
    "plasma-workspace-wallpapers/*/ColorfulCups/*2560x1600.jpg",
    "plasma-workspace-wallpapers/*/EveningGlow/*2560x1600.jpg",
    "plasma-workspace-wallpapers/*/FallenLeaf/*2560x1600.jpg",
    "plasma-workspace-wallpapers/*/Grey/*2560x1600.jpg",
    "plasma-workspace-wallpapers/*/Kite/*2560x1600.jpg",
    "plasma-workspace-wallpapers/*/OneStandsOut/*2560x1600.jpg",
    "plasma-workspace-wallpapers/*/Path/*2560x1600.jpg",
    "gcompris-qt-data/carved/details_*.webp",
    "gcompris-qt-data/carved/erase_*.webp",
    "gcompris-qt-data/carved/explore_*.webp",
    "wheels/skimage/data/astronaut.png",
    "wheels/skimage/data/chelsea.png",
    "wheels/skimage/data/coffee.png",
    "wheels/skimage/data/rocket.jpg",
    "wheels/sklearn/datasets/images/*.jpg",
)
SCENERY = (
    "mate-backgrounds/*/abstract/*.png",
    "plasma-workspace-wallpapers/*/screenshot.png",
    "tuxpaint-stamps-default/*/stamps/*.png",
)
"""Drawings and cut-out objects: they only widen the training set (`scenes.py` composes them)."""

HELD_OUT = (
    "gcompris-qt-data/carved/erase_11.webp",
    "gcompris-qt-data/carved/erase_15.webp",
    "gcompris-qt-data/carved/erase_25.webp",
    "gcompris-qt-data/carved/erase_27.webp",
    "gcompris-qt-data/carved/erase_31.webp",
    "gcompris-qt-data/carved/erase_40.webp",
    "gcompris-qt-data/carved/erase_7.webp",
    "gcompris-qt-data/carved/explore_farm_animals_16.webp",
    "gcompris-qt-data/carved/explore_farm_animals_30.webp",
    "gcompris-qt-data/carved/explore_monuments_14.webp",
    "gcompris-qt-data/carved/explore_monuments_15.webp",
    "gcompris-qt-data/carved/explore_monuments_41.webp",
    "gcompris-qt-data/carved/explore_monuments_50.webp",
    "gcompris-qt-data/carved/explore_monuments_55.webp",
    "gcompris-qt-data/carved/explore_world_animals_12.webp",
    "gcompris-qt-data/carved/explore_world_animals_17.webp",
    "gcompris-qt-data/carved/explore_world_animals_7.webp",
    "lomiri-wallpapers-16.04/*/picosdeeuropa_by_*.jpg",
    "lomiri-wallpapers-16.04/*/seeding_by_*.jpg",
    "lomiri-wallpapers-16.04/*/sunset_by_*.jpg",
    "lomiri-wallpapers-20.04/*/Kleiber_by_*.jpg",
    "mate-backgrounds/*/nature/LadyBird.jpg",
    "mate-backgrounds/*/nature/YellowFlower.jpg",
    "plasma-workspace-wallpapers/*/EveningGlow/*2560x1600.jpg",
    "wheels/skimage/data/astronaut.png",
    "wheels/skimage/data/chelsea.png",
    "wheels/skimage/data/coffee.png",
    "wheels/sklearn/datasets/images/china.jpg",
    "wheels/sklearn/datasets/images/flower.jpg",
)


def main() -> None:
    """Fetch, unpack and sort the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    fetch_packages(folder)
    carve_gcompris(folder / "packages" / "gcompris-qt-data")
    write_photos(folder / "packages", folder / "photos")


def fetch_packages(folder: Path) -> None:
    """Download the Debian packages and wheels into `folder` and unpack them under `folder/packages`."""
    downloads = folder / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", *DEBIAN_PACKAGES], cwd=downloads, check=True)  # noqa: S607
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*pip, *WHEELS], cwd=downloads, check=True)
    for package in downloads.glob("*.deb"):
        target = folder / "packages" / package.name.split("_")[0]
        target.mkdir(parents=True, exist_ok=True)  # dpkg makes the last folder only
        subprocess.run(["dpkg", "-x", package, target], check=True)  # noqa: S607
    for wheel in downloads.glob("*.whl"):
        subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, folder / "packages/wheels"], check=True)


def carve_gcompris(package: Path) -> None:
    """Write the pictures inside GCompris' Qt resource files to `package/carved`.

    Layout: https://doc.qt.io/qt-6/resources.html; the data section is a run of big-endian length, content.
    """
    carved = package / "carved"
    carved.mkdir(exist_ok=True)
    for resource in track(sorted(package.rglob("*.rcc")), "carve"):
        content = resource.read_bytes()
        tree, data, names = struct.unpack(">III", content[8:20])
        end = min(offset for offset in (tree, names, len(content)) if offset > data)
        position = index = 0
        while data + position + 4 <= end:
            start = data + position + 4
            (length,) = struct.unpack(">I", content[start - 4 : start])
            entry = content[start : start + length]
            if length > 20_000 and entry[8:12] == b"WEBP" and min(Image.open(io.BytesIO(entry)).size) >= 250:
                (carved / f"{resource.stem}_{index}.webp").write_bytes(entry)
            position, index = position + 4 + length, index + 1


def write_photos(packages: Path, folder: Path) -> None:
    """Sort the packages' pictures into `train`, `scenery` and `held_out` under `folder`, as PNG."""
    files = {path.relative_to(packages).as_posix(): path for path in packages.rglob("*.*") if path.is_file()}
    photos, scenery, held_out = (_matching(files, patterns) for patterns in (PHOTOS, SCENERY, HELD_OUT))
    for split, names in (("train", photos - held_out), ("scenery", scenery), ("held_out", held_out)):
        (folder / split).mkdir(parents=True, exist_ok=True)
        for name in track(sorted(names), split):
            package, _, rest = name.partition("/")
            unique = "_".join(part for part in rest.split("/") if part not in ("usr", "share", "contents", "images"))
            _shrunk(files[name], split == "scenery").save(folder / split / f"{package}_{unique}.png")


def load_photos(folder: Path) -> dict[str, Picture]:
    """All pictures of one split, by name."""
    return {path.stem: load_picture(path) for path in sorted(folder.glob("*.png"))}


def load_picture(path: Path) -> Picture:
    """One picture, (H, W, 3) in [0, 1]."""
    return np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255


def _matching(files: dict[str, Path], patterns: tuple[str, ...]) -> set[str]:
    matches = [fnmatch.filter(files, pattern) for pattern in patterns]
    for pattern, names in zip(patterns, matches, strict=True):
        if not names:
            raise FileNotFoundError(f"no picture matches {pattern}: has the package changed?")
    return {name for names in matches for name in names}


def _shrunk(path: Path, keep_alpha: bool, side: int = 512) -> Image.Image:
    file = Image.open(path)
    file.draft("RGB", (2 * side, 2 * side))
    picture = file.convert("RGBA" if keep_alpha else "RGB")
    scale = min(1.0, side / min(picture.size))
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
