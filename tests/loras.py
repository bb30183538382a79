"""LoRA files for InstructPix2Pix's tiny checkpoint, in the forms that people have. Random, strong enough to be seen."""

import fcntl
import hashlib
import json
import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
from diffusers.utils.state_dict_utils import convert_state_dict_to_kohya
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from transformers import CLIPTextModel

ATTENTION = ["attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"]
CONVOLUTIONS = ["proj_in", "conv_shortcut"]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
STRENGTH = 1.0
Weights = dict[str, torch.Tensor]
ALPHA = 4.0


def weights(model: torch.nn.Module, targets: Sequence[str], rank: int, seed: int) -> Weights:
    """A random LoRA on every layer whose name ends in one of `targets`, in peft's naming."""
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets), init_lora_weights=False)
    injected = inject_adapter_in_model(config, model)
    shapes = get_peft_model_state_dict(injected)
    return {name: STRENGTH * torch.randn(tensor.shape) / tensor.shape[1] ** 0.5 for name, tensor in shapes.items()}


def of_unet(checkpoint: Path, targets: Sequence[str], rank: int, seed: int) -> Weights:
    return weights(UNet2DConditionModel.from_pretrained(checkpoint / "unet"), targets, rank, seed)


def of_text_encoder(checkpoint: Path, targets: Sequence[str], rank: int, seed: int) -> Weights:
    model = CLIPTextModel.from_pretrained(checkpoint / "text_encoder", torch_dtype=torch.float32)
    return weights(model, targets, rank, seed)


def save_diffusers(
    folder: Path,
    unet: Weights | None = None,
    text_encoder: Weights | None = None,
    settings: dict[str, Any] | None = None,
) -> None:
    """As diffusers' training scripts save it; `settings` are peft's for the UNet, kept in the file's metadata."""
    StableDiffusionInstructPix2PixPipeline.save_lora_weights(
        folder,
        unet_lora_layers=unet,
        text_encoder_lora_layers=text_encoder,
        unet_lora_adapter_metadata=settings,
    )


def save_kohya(file: Path, unet: Weights, text_encoder: Weights, alpha: float) -> None:
    """In the naming of kohya's scripts, every layer with its alpha."""
    peft = {f"unet.{name}": tensor for name, tensor in unet.items()}
    peft |= {f"text_encoder.text_model.{name}": tensor for name, tensor in text_encoder.items()}
    save_as_kohya(file, peft, alpha)


def save_as_kohya(file: Path, peft: Weights, alpha: float) -> None:
    """peft's names, each after its network's, in kohya's naming."""
    named = convert_state_dict_to_kohya(peft)
    alphas = {name: torch.tensor(alpha) for name in named if name.endswith(".alpha")}
    tensors = {name: tensor.contiguous() for name, tensor in (named | alphas).items()}
    safetensors.torch.save_file(tensors, file, {"format": "pt"})


def save_under(file: Path, shapes: Mapping[str, tuple[int, int]], rank: int, alpha: float, seed: int) -> None:
    """A random LoRA of layers under the names of kohya's scripts, each with its outputs and inputs, and its alpha."""
    torch.manual_seed(seed)
    tensors = {}
    for name, (out, width) in shapes.items():
        tensors[f"{name}.lora_down.weight"] = STRENGTH * torch.randn(rank, width) / width**0.5
        tensors[f"{name}.lora_up.weight"] = STRENGTH * torch.randn(out, rank) / rank**0.5
        tensors[f"{name}.alpha"] = torch.tensor(alpha)
    safetensors.torch.save_file(tensors, file)


def save_lokr(file: Path, shapes: Mapping[str, tuple[int, int]], rank: int, alpha: float, seed: int) -> None:
    """A random LoKr, whose left matrix is whole and whose right one is of a rank, under LyCORIS' names."""
    torch.manual_seed(seed)
    tensors = {}
    for name, (out, width) in shapes.items():
        tensors[f"{name}.lokr_w1"] = STRENGTH * torch.randn(4, 4) / 2
        tensors[f"{name}.lokr_w2_a"] = torch.randn(out // 4, rank) / rank**0.5
        tensors[f"{name}.lokr_w2_b"] = torch.randn(rank, width // 4) / (width // 4) ** 0.5
        tensors[f"{name}.alpha"] = torch.tensor(alpha)
    safetensors.torch.save_file(tensors, file)


def write(checkpoint: Path, folder: Path) -> None:
    """The adapters of `tests.conftest.ROUTES`: two ranks, two with text encoder layers, one of kohya's, one with peft's
    settings."""
    folder.mkdir(parents=True, exist_ok=True)
    save_diffusers(folder / "oil", of_unet(checkpoint, ATTENTION, 4, seed=1))
    save_diffusers(folder / "ink", text_encoder=of_text_encoder(checkpoint, TEXT, 8, seed=2))
    convolutions, text = of_unet(checkpoint, CONVOLUTIONS, 8, seed=3), of_text_encoder(checkpoint, TEXT, 8, seed=4)
    save_kohya(folder / "kohya.safetensors", convolutions, text, ALPHA)
    targets = ["attn1.to_v", "ff.net.2"]
    settings = {"r": 4, "lora_alpha": 8, "target_modules": targets}
    save_diffusers(folder / "settings", of_unet(checkpoint, targets, 4, seed=5), settings=settings)


def keep(checkpoint: Path, folder: Path) -> None:
    """What `write` leaves, written once for a checkpoint: safetensors orders a file's metadata anew at every writing,
    and a file that changes while a repository made from it is in use is one that the next export builds again."""
    made = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    origin, stamp = folder / "written-for", f"{checkpoint.name} {made}"
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not origin.exists() or origin.read_text("utf-8") != stamp:
            shutil.rmtree(folder, ignore_errors=True)
            write(checkpoint, folder)
            origin.write_text(stamp, "utf-8")


def mislabel(file: Path) -> None:
    """Gives a tensor of a safetensors file a shape that its bytes do not fill; header and data stay whole."""
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    name = next(name for name in header if name != "__metadata__")
    header[name]["shape"] = [7, 7, 7]
    changed = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(changed)) + changed + content[8 + length :])
