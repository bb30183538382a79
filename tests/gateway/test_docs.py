"""`docs/api.md` against the code: its tables are the code's, and its examples run."""

import base64
import json
import logging
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import KINDS
from gateway.generation_schemas import ContainerImageGenerationBody, ImageGenerationBody
from gateway.openai_schemas import ImageEditBody, ImageEditForm
from gateway.schemas import ContainerImageEditBody
from gateway.settings import Settings
from tests.gateway.asking import get, picture, post
from tests.gateway.fake_triton import JPEG, FakeTriton
from tests.gateway.serving import Gateway

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


def rows(heading: str, number: int = 0) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = re.findall(r"(?:^\|.*\|\n)+", section, re.MULTILINE)[number]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def _shown(value: Any) -> str:
    if value is None:
        value = ""
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, float):
        value = f"{value:g}"
    return f"`{value}`" if value != "" else ""


def test_settings() -> None:
    expected = [
        [f"`TRITOUCH_{name.upper()}`", _shown(field.default), field.description]
        for name, field in Settings.model_fields.items()
    ]
    assert rows("Settings") == expected


def test_errors() -> None:
    assert rows("Errors") == [[f"`{code}`", str(kind.status), kind.message] for code, kind in KINDS.items()]


def test_metrics(gateway: Gateway, triton: FakeTriton) -> None:
    assert post(gateway).status_code == 200
    served = get(gateway, "/metrics").text
    labels = {name.strip("`"): set(re.findall(r"`(\w+)`", named)) for name, named, _ in rows("Metrics")}
    names = re.findall(r"^# TYPE (tritouch_\w+) ", served, re.MULTILINE)
    assert labels.keys() == {name for name in names if not name.endswith("_created")}
    seen = re.findall(r"^(tritouch_\w+?)(?:_bucket|_sum|_count)?\{(.*)\} ", served, re.MULTILINE)
    for name, written in seen:
        if name in labels:
            assert set(re.findall(r'(\w+)="', written)) - {"le"} == labels[name], name
    assert {"tritouch_gateway_requests_total", "tritouch_gateway_triton_ready"} <= {name for name, _ in seen}


def test_fields() -> None:
    body, form = ContainerImageEditBody.model_fields, ImageEditForm.model_fields
    documented = {name.strip("`"): default.strip("`") for name, _, default in rows("As Friendli's clients do")}
    assert documented.keys() == body.keys()
    assert documented["num_inference_steps"] == "the model repository's own"
    for name in ("guidance_scale", "image_guidance_scale", "response_format"):
        assert documented[name] == _shown(body[name].default).strip("`")
    documented |= {name.strip("`"): default.strip("`") for name, _, default in rows("As OpenAI's clients do")}
    assert documented.keys() == form.keys() | {"image", "mask"}
    for name in form.keys() - body.keys() - {"output_compression"} | {"response_format"}:
        assert documented[name] == _shown(form[name].default).strip("`")
    assert ImageEditBody.model_fields.keys() == form.keys() | {"images", "mask"}


def test_fields_of_generations() -> None:
    ours, friendlis = ImageGenerationBody.model_fields, ContainerImageGenerationBody.model_fields
    documented = {
        name.strip("`"): default.strip("`")
        for names, _, default in rows("Pictures from text alone")
        for name in names.split(", ")
    }
    assert documented.keys() == ours.keys() - friendlis.keys() | {"response_format"}
    for name in documented.keys() - {"output_compression", "user", "safety_identifier"}:
        assert documented[name] == _shown(ours[name].default).strip("`")


@pytest.mark.parametrize(
    "block",
    blocks("python"),
    ids=["friendli", "openai", "stream", "friendli without a picture", "openai without a picture"],
)
def test_python(
    gateway: Gateway, triton: FakeTriton, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FRIENDLI_TEAM", "none")
    Path("photo.jpg").write_bytes(picture("JPEG"))
    exec(compile(block.replace("http://localhost:8000", gateway.url), "docs/api.md", "exec"), {})
    assert [*tmp_path.glob("edited.*"), *tmp_path.glob("made.*")]
    assert len(triton.requests) == 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(gateway: Gateway, triton: FakeTriton, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(picture("JPEG").ljust(1_000_000, b"\0"))  # more than an argument may hold
    friendlis, openais = (block.replace("http://localhost:8000", gateway.url) for block in blocks("bash"))
    done = subprocess.run(["bash", "-c", friendlis], cwd=tmp_path, capture_output=True, check=True)
    assert base64.b64encode(JPEG) in done.stdout
    done = subprocess.run(["bash", "-c", openais], cwd=tmp_path, capture_output=True, check=True)
    assert json.loads(done.stdout)["data"][0]["b64_json"]
