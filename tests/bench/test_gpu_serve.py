"""Part `serve` of `bench gpu` with a processor for the GPU: every check holds, and a repository is as a GPU's."""

import json
import re
from pathlib import Path

import pytest

from bench import gpu_serve, gpu_serving, torch_repository
from bench.setups import SETUPS
from bench.torch_plan import Program
from families.interface import DENOISER, Limits

pytestmark = pytest.mark.long


@pytest.mark.server
@pytest.mark.parametrize("kind", gpu_serve.KINDS)
def test_every_check_holds(kind: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = gpu_serving.Case(SETUPS["demo"], 64)
    held = gpu_serve.by_torch(case, checkpoint, kind, tmp_path, "cpu")
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert held, told
    found = {line["what"]: line for line in told}
    assert found["likeness"]["psnr_to_fp32_db"] > 60
    assert found["alone"]["calls"] == case.steps
    assert found["alone"]["copies_a_call"][1] == 1


@pytest.mark.parametrize("kind", ["tensorrt", "tensorrt_rtx"])
def test_engines_are_served_on_a_gpu_by_what_torch_computes(kind: str, checkpoint: Path, tmp_path: Path) -> None:
    usual = torch_repository.usual(Limits(128 * 128, 3), "cuda")
    made = torch_repository.repository(checkpoint, tmp_path, kind, "cuda", usual)
    for config in (made / name / "config.pbtxt" for name in ("text_encoder", "vae_encoder", DENOISER, "vae_decoder")):
        assert re.findall(r'backend: "(.+)"|kind: (\w+)', config.read_text()) == [("python", ""), ("", "KIND_GPU")]
    assert not [*made.glob("*/component.json")], "they are no engines that this machine could be held to"
    module, component = Program.open((made / DENOISER / "1" / "model.plan").read_bytes(), "cpu")
    assert component.name == DENOISER
    assert component.ranges["rows"].max == 3
    assert {str(weight.dtype) for weight in module.parameters()} == {"torch.float16"}  # type: ignore[attr-defined]
