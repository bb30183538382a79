"""What the images hold, and what they do not; built from files that only their owner may read (umask 077)."""

import json
import subprocess

import pytest

from tests.conftest import ROOT
from tests.containers import images
from tests.containers.stack import Stack, tags

LARGEST_GATEWAY = 250_000_000
"""Bytes on top of its base image."""
GPU_OR_MODELS = ("torch", "tensorrt", "nvidia", "cuda", "cupy", "triton-", "openvino", "diffusers", "transformers")
NATIVE = ("libtorch", "libcu", "libnv", "libnccl", "libopenvino", "libtriton")
LIST_LIBRARIES = "import pathlib; print(*(p.name for p in pathlib.Path('/').glob('usr/**/*.so*')), sep='\\n')"
LIST_LEFT = """
import pathlib
places = ["root/.cache", "home/*/.cache", "tmp", "var/tmp", "app/**/__pycache__", "var/cache/apt/archives/*.deb"]
found = [path for place in places for path in pathlib.Path("/").glob(place)]
files = [file for path in found for file in [path, *path.rglob("*")] if file.is_file() and file.stat().st_size]
print(*files, sep="\\n")
"""
CALLED = {
    "trt": ("nptype", "Runtime", "TensorIOMode", "ExecutionContextAllocationStrategy.USER_MANAGED"),
    "trt.ICudaEngine": ("create_execution_context", "device_memory_size_v2", "get_tensor_profile_shape"),
    "trt.IExecutionContext": ("set_device_memory", "set_input_shape", "set_tensor_address", "execute_async_v3"),
    "cuda": (
        *("cuMemAlloc", "cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphLaunch"),
        *("cuGraphDestroy", "cuGraphExecDestroy", "CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL"),
    ),
}
LIST_CALLED = f"""
import sys
from operator import attrgetter
from pathlib import Path
import cuda.bindings.driver as cuda
import tensorrt_bindings as trt
names = [f"{{place}}.{{name}}" for place, names in {CALLED!r}.items() for name in names]
def there(name):
    module, _, rest = name.partition(".")
    try:
        return attrgetter(rest)(globals()[module]) is not None
    except AttributeError:
        return False
assert Path("/opt/tritonserver/backends/tensorrt_in_place/backends/launches.py").exists()
assert not hasattr(trt, "CudaGraphStrategy"), "it captures graphs by itself"
print(*(name for name in names if not there(name)), sep="\\n")
"""


def python(stack: Stack, image: str, source: str) -> list[str]:
    """The lines that an image's Python prints, as root."""
    command = ["run", "--rm", "--user=0:0", "--network=none", "--entrypoint=python3", image, "-c", source]
    return stack.engine.docker(*command).splitlines()


def bill(stack: Stack, image: str) -> dict[str, str]:
    """Package -> version, from the bill of materials that the guide's command prints."""
    with (ROOT / "deploy" / "sbom.py").open() as source:
        command = ["docker", "run", "--rm", "-i", "--network=none", "--entrypoint=python3", image, "-", image]
        done = subprocess.run(command, env=stack.engine.env, stdin=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert (made["bomFormat"], made["metadata"]["component"]["name"]) == ("CycloneDX", image)
    assert len({component["bom-ref"] for component in made["components"]}) == len(made["components"])
    return {component["purl"].partition("@")[0]: component["version"] for component in made["components"]}


def pins(name: str) -> dict[str, str]:
    """What a lock pins, as the bill calls it."""
    lines = (ROOT / "requirements" / f"{name}.lock").read_text().splitlines()
    pinned = [line.split("==") for line in lines if "==" in line]
    return {f"pkg:pypi/{name}": version for name, version in pinned}


def test_every_service_has_an_image_and_another_build_changes_none(stack: Stack) -> None:
    built = tags(stack.engine)
    assert {f"tritouch-{service}" for service in images.SERVICES} <= set(built)
    stack.compose("--profile", "*", "build", *images.SERVICES)
    assert tags(stack.engine) == built


def test_the_gateways_image_has_nothing_of_models_or_gpus(stack: Stack) -> None:
    packages = bill(stack, "tritouch-gateway")
    assert pins("gateway").items() <= packages.items()
    names = [name.removeprefix("pkg:pypi/") for name in packages if name.startswith("pkg:pypi/")]
    assert [name for name in names if name.startswith(GPU_OR_MODELS)] == []
    libraries = python(stack, "tritouch-gateway", LIST_LIBRARIES)
    assert len(libraries) > 50
    assert [name for name in libraries if name.startswith(NATIVE) and not name.startswith("libnvme")] == []


def test_the_gateway_adds_little_to_its_base(stack: Stack) -> None:
    base = images.base_images()["python"]
    sizes = stack.engine.docker("inspect", "--format={{.Size}}", "tritouch-gateway", base).split()
    assert int(sizes[0]) - int(sizes[1]) < LARGEST_GATEWAY


@pytest.mark.parametrize("image", ["triton", "triton-cpu", "export", "export-cpu"])
def test_a_bill_of_materials_names_what_the_locks_pin(stack: Stack, image: str) -> None:
    packages = bill(stack, f"tritouch-{image}")
    wanted = pins("triton") | (pins("export") if image.startswith("export") else {})
    assert wanted.items() <= packages.items()
    assert "pkg:pypi/torch" in packages
    assert ("pkg:pypi/openvino" in packages) == (image != "triton")
    assert any(name.startswith("pkg:deb/") for name in packages)


def test_the_denoisers_backend_finds_what_it_calls_of_tensorrt_and_cuda(stack: Stack) -> None:
    assert python(stack, "tritouch-triton", LIST_CALLED) == [""]


@pytest.mark.parametrize("service", images.SERVICES)
def test_an_image_keeps_nothing_of_its_building(stack: Stack, service: str) -> None:
    assert python(stack, f"tritouch-{service}", LIST_LEFT) == [""]
