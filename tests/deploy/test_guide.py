"""The guide to serving with containers names what is there."""

import re
from pathlib import Path

import pytest
import yaml

from embedded.settings import Settings
from tests.conftest import ROOT

GUIDE = (ROOT / "docs" / "deploy.md").read_text()


def test_its_settings_can_be_set():
    known = set(re.findall(r"^#([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    known |= {f"TRITOUCH_{name.upper()}" for name in Settings.model_fields}  # what it says of no containers
    assert set(re.findall(r"\b(?:TRITOUCH|HF)_[A-Z_]+", GUIDE)) <= known


def test_its_commands_name_profiles_services_and_images_that_exist():
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    profiles = {profile for service in compose["services"].values() for profile in service.get("profiles", [])}
    assert set(re.findall(r"--profile (\S+)", GUIDE)) <= profiles | {"'*'"}
    command = r"docker compose (?:--profile \S+ )*(?:up|logs|run|build)(?: -[\w-]+)*((?: [a-z][\w-]*)+)"
    named = re.findall(command, GUIDE)
    assert {"export", "gateway-cpu"} <= {name for names in named for name in names.split()} <= set(compose["services"])
    built = {service["image"] for service in compose["services"].values() if "build" in service}
    saved = {image for image in built if not image.endswith("-cpu")}
    for images in re.findall(r"(?:docker save|for image in) ((?:tritouch-\w+ ?)+)", GUIDE):
        assert set(images.split()) == saved
    assert set(re.findall(r"`(tritouch-[\w-]+)`", GUIDE)) <= built


@pytest.mark.parametrize(
    "words",
    [
        "compiles on the GPU it is for, and this machine shows none",
        "compiled for compute capability ",
        "compiled on ",
        "compiled by ",
        "the Python bindings of TensorRT ",
        "the Python bindings are of TensorRT ",
        " is out of tolerance: relative error ",
        "cannot be downloaded",
        "another export is writing ",
        "must be readable by uid ",
        "nothing is installed in ",
    ],
)
def test_the_messages_it_explains_are_said(words):
    assert words.strip() in GUIDE
    sources = [path for folder in ("export", "backends", "deploy") for path in (ROOT / folder).rglob("*.py")]
    assert any(words in Path(path).read_text() for path in sources)
